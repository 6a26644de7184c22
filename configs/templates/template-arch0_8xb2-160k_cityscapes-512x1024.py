_base_ = [
    '../_base_/models/template_mobilenet-v2.py',
    'mmseg::_base_/datasets/cityscapes.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/template_160k.py',
]
model = dict(data_preprocessor=dict(size=(512, 1024)))
