"""Checkpoints as the tools read them."""

import os.path as osp

from mmengine.runner import CheckpointLoader

from ..errors import UserError, one_line


def check_checkpoint(path):
    """Raise a :class:`UserError` where a local checkpoint does not exist."""
    if '://' not in path and not osp.isfile(osp.expanduser(path)):
        raise UserError(f'the checkpoint {path} does not exist')


def load_weights(path):
    """Load what MMEngine takes for ``load_from`` onto the CPU.

    Args:
        path (str): Path or address of the file.

    Returns:
        dict: A checkpoint, or weights alone.

    Raises:
        UserError: It is missing, or cannot be read as one.
    """
    check_checkpoint(path)
    try:
        checkpoint = CheckpointLoader.load_checkpoint(path, map_location='cpu')
    except UserError:
        raise
    except Exception as error:  # Broken archives and pickles raise anything.
        raise UserError(
            f'{path} cannot be read as a checkpoint ({one_line(error)})'
        ) from error
    if not isinstance(checkpoint, dict):
        raise UserError(
            f'{path} is not a checkpoint, since it holds a '
            f'{type(checkpoint).__name__} where a dict should be'
        )
    return checkpoint


def read_checkpoint(path):
    """Load a checkpoint of MMEngine onto the CPU.

    Args:
        path (str): Path or address of the checkpoint.

    Returns:
        dict: The checkpoint; it has a ``state_dict`` and, if any, a ``meta``
        that are dicts.

    Raises:
        UserError: It is missing, cannot be read, or is none.
    """
    checkpoint = load_weights(path)
    weights = checkpoint.get('state_dict')
    if not isinstance(weights, dict) or not all(
        isinstance(name, str) for name in weights
    ):
        raise UserError(
            f'{path} is not a checkpoint of MMEngine, since it has no '
            'state_dict; give an iter_*.pth that tools/train.py wrote'
        )
    if not isinstance(checkpoint.get('meta', {}), dict):
        raise UserError(
            f'{path} is not a checkpoint of MMEngine, since its meta is no '
            'dict; give an iter_*.pth that tools/train.py wrote'
        )
    return checkpoint


def check_weights(model, path, weights):
    """Raise a :class:`UserError` unless weights are all those of a model.

    MMEngine itself would warn, and go on with random ones in their place.

    Args:
        model (nn.Module): The model, maybe in wrappers; the weights are
            loaded into it.
        path (str): Where they come from, for the message.
        weights (dict): The weights by name; others are ignored.
    """
    while hasattr(model, 'module'):
        model = model.module
    weights = {k.removeprefix('module.'): v for k, v in weights.items()}
    try:
        missing = model.load_state_dict(weights, strict=False).missing_keys
    except RuntimeError as error:
        raise UserError(
            f'{path} does not fit the model of the config ({one_line(error)})'
        ) from error
    # As MMEngine does: a count that batch norm may lack.
    missing = [key for key in missing if 'num_batches_tracked' not in key]
    if missing:
        raise UserError(
            f'{path} does not fit the model of the config, since it lacks '
            f'{len(missing)} of its weights, {missing[0]} for one'
        )
