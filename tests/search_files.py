"""The files that a search leaves behind, without a search."""

import json

import numpy as np
from mmengine.config import Config

from mmseg_autodeeplab.arch import num_edges

# That of a stranger.
CONFIG_NAME = '<script>alert("x")</script>.py'


def parameters(iteration, num_blocks=2, num_layers=4):
    """Alphas and betas; every iteration has its own."""
    rng = np.random.default_rng(iteration)
    return (
        rng.normal(size=(num_edges(num_blocks), 8)).astype(np.float32),
        rng.normal(size=(num_layers, 4, 3)).astype(np.float32),
    )


def write_config(folder, hook=None):
    folder.mkdir(parents=True)
    Config(
        dict(
            # Not imported: nothing of it runs.
            custom_imports=dict(imports=['no_such_module']),
            model=dict(
                data_preprocessor=dict(size=(96, 96)),
                backbone=dict(num_layers=4, num_blocks=2),
            ),
            train_dataloader=dict(
                batch_size=8, dataset=dict(type='ShapesDataset')
            ),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.025)),
            train_cfg=dict(max_iters=60),
            custom_hooks=[dict(hook or {}, type='ArchSearchHook')],
            retrain=dict(model=dict(backbone=dict(filter_multiplier=16))),
        )
    ).dump(str(folder / 'config.py'))


def write_run(work_dir, name, steps, hook=None, **values):
    """Log lines of a run whose loss is 100 minus the iteration."""
    folder = work_dir / name / 'vis_data'
    write_config(folder, hook)
    with open(folder / 'scalars.json', 'w') as f:
        for step in steps:
            line = dict(loss=100.0 - step, arch_loss=200.0 - step, **values)
            f.write(json.dumps(dict(line, step=step)) + '\n')
