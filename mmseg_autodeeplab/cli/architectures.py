"""Architectures as the tools read them."""

import datetime
import os
import os.path as osp
import tempfile
from pathlib import Path

import torch
from mmengine.config import Config

from ..arch import Architecture, decode
from ..errors import UserError, one_line
from .checkpoints import read_checkpoint


def read_architecture(file):
    """Read an architecture, from a file of any kind or a search checkpoint.

    Args:
        file (str): An ``architecture.json``, or an ``iter_*.pth`` that
            ``tools/train.py`` wrote with a search config.

    Returns:
        tuple[Architecture, Config | None]: What stands there, or what the
        alphas and betas decode to; and the config of the search, if it is
        its checkpoint.

    Raises:
        UserError: It is neither of them.
    """
    file = os.fspath(file)
    if file.endswith('.json'):
        return Architecture.load(file), None
    checkpoint = read_checkpoint(file)
    try:
        weights = checkpoint['state_dict']
        alphas, betas = (
            _as_array(weights[f'backbone.{name}'])
            for name in ('alphas', 'betas')
        )
        meta = checkpoint['meta']
        iteration = meta.get('iter')
        if not isinstance(iteration, (int, type(None))):
            raise TypeError(f'iter is of type {type(iteration).__name__}')
        cfg = _read_config(meta['cfg'])
    except (KeyError, TypeError) as error:
        raise UserError(
            f'{file} is not the checkpoint of a search ({one_line(error)}); '
            'give an iter_*.pth that tools/train.py wrote with a search '
            'config.'
        ) from error
    try:
        architecture = decode(alphas, betas)
    except ValueError as error:
        raise UserError(f'{file}: {error}') from error
    return architecture.with_provenance(
        checkpoint=osp.basename(file),
        iteration=iteration,
        date=datetime.datetime.now().isoformat(timespec='seconds'),
    ), cfg


def check_search(cfg):
    """Raise a :class:`UserError` where a config is not that of a search."""
    if key := _missing(cfg):
        raise UserError(
            f'{cfg.filename} is not the config of a search, since it has no '
            f'{key}; give the config that the search was started with.'
        )


def _as_array(weight):
    """A parameter as an array of floats."""
    if not isinstance(weight, torch.Tensor) or not weight.is_floating_point():
        raise TypeError('alphas and betas must be tensors of floats')
    return weight.detach().float().numpy()


def _read_config(text):
    """The config of a search, as its checkpoint has it.

    Raises:
        TypeError: It is none.
    """
    # Config.fromstring would leave a file behind where the text is broken.
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, 'search.py')
        try:
            file.write_text(text, encoding='utf-8')
            cfg = Config.fromfile(file)
        except Exception as error:  # A config is code: anything may go wrong.
            raise TypeError(f'its config has a {one_line(error)}') from error
    if key := _missing(cfg):
        raise TypeError(f'its config has no {key}')
    return cfg


def _missing(cfg):
    """The first key that every search has, and this config lacks."""
    keys = ('model.backbone', 'model.decode_head', 'train_dataloader.dataset')
    for key in keys:
        value = cfg
        for name in key.split('.'):
            value = value.get(name)
            if not isinstance(value, dict):
                return key
    return None
