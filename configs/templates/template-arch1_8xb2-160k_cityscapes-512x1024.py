_base_ = './template-arch0_8xb2-160k_cityscapes-512x1024.py'
model = dict(decode_head=dict(arch='arch1'))
