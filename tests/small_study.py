"""A black-box search whose proxy is a function."""

import functools

from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmseg_autodeeplab.search.blackbox import read_settings
from mmseg_autodeeplab.search.blackbox.study import open_study
from mmseg_autodeeplab.search.blackbox.worker import Worker

SPACE = dict(type='DPCSpace', num_branches=2)


def search_config(**search):
    """A model for cells, and the key ``search``."""
    init_default_scope('mmseg')
    return Config(
        dict(
            model=dict(
                type='EncoderDecoder',
                backbone=dict(type='ResNet', depth=18),
                decode_head=dict(
                    type='DPCHead', in_channels=8, channels=8, num_classes=2
                ),
            ),
            train_cfg=dict(max_iters=1),
            search=dict(dict(space=SPACE, trials=4), **search),
        )
    )


def score(cfg):
    """What the fake proxy measures of a cell."""
    branches = cfg.model.decode_head.arch['branches']
    total = sum(sum(b.get('rate', [7])) * (b['input'] + 3) for b in branches)
    return 50 + total % 50


def train(cfg, folder, report, held, failures={}, values={}):
    """Train nothing; fail as ``failures`` says of a trial."""
    index = int(folder.split('/')[-2])
    if index in failures:
        raise failures[index]
    value = dict(mIoU=values.get(index, score(cfg)), aAcc=60.0)
    report(1, value)
    return value


def worker(work_dir, cfg=None, train=train, url=None, name='small', **options):
    """A worker of the study in a folder, and what it says."""
    cfg = cfg or search_config()
    settings = read_settings(cfg)
    work_dir.mkdir(exist_ok=True)
    opened = open_study(name, cfg, settings, str(work_dir), url)
    said = []
    if options:
        train = functools.partial(train, **options)
    found = Worker(cfg, settings, *opened, str(work_dir), train, said.append)
    found.said = said
    return found
