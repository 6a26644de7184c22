_base_ = './template-arch0_1xb16-20k_camvid-256x256.py'
model = dict(decode_head=dict(arch='arch1'))
