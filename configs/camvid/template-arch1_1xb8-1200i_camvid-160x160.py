_base_ = ['./template-arch0_1xb8-1200i_camvid-160x160.py']
model = dict(decode_head=dict(arch='arch1'))
