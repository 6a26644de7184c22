# From the weights of COCO pretraining, classifier included.
_base_ = './autodeeplab-m_4xb4-1500k_voc12aug-513x513.py'
load_from = (
    'work_dirs/autodeeplab-m_4xb4-4000k_coco-voc21-513x513/iter_4000000.pth'
)
