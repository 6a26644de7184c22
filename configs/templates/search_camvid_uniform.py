# What search_camvid.py is compared with: each decoder as likely as another.
_base_ = ['./search_camvid.py']
search = dict(sampler=dict(_delete_=True, type='UniformSampler'))
work_dir = 'work_dirs/templates_search_camvid_uniform'
