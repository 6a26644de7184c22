"""The supernet of a checkpoint, with the images of its search."""

import copy
from itertools import islice

from mmengine.config import Config
from mmengine.device import get_device
from mmseg.registry import DATA_SAMPLERS
from torch import nn

from ..compat.registry import is_a
from ..datasets import SplitInfiniteSampler
from ..errors import UserError, one_line
from ..search.gradient.state import stream_of_part_b
from .benchmark import build_model
from .checkpoints import check_weights, read_checkpoint
from .data import check_data


def open_supernet(
    file: str, search: Config, batches: int
) -> tuple[nn.Module, list[dict]]:
    """Build the supernet of a checkpoint, and read batches of part B.

    These are the first ones of the search, which ``DiscretizationGapHook``
    takes. The model is in training, on the GPU if there is one. The config
    is the one that :func:`.checkpoints.read_architecture` returns.

    Raises:
        UserError: Weights or images are missing, or nothing can be built.
    """
    checkpoint = read_checkpoint(file)
    try:
        cfg = copy.deepcopy(search)
        loader = cfg.train_dataloader
        if not is_a(
            DATA_SAMPLERS, loader.get('sampler'), SplitInfiniteSampler
        ):
            raise UserError(
                f'the config of {file} has no part B of the data, since its '
                'train_dataloader.sampler is no SplitInfiniteSampler; give '
                'the config that the search was started with by --config'
            )
        check_data(cfg, 'train')
        if cfg.get('data_preprocessor'):
            cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
        model = build_model(cfg)
        check_weights(model, file, checkpoint['state_dict'])
        seeds = checkpoint.get('meta', {}), cfg.get('randomness') or {}
        seed = next((s['seed'] for s in seeds if s.get('seed') is not None), 0)
        stream = stream_of_part_b(loader, seed)
        return model.to(get_device()).train(), list(islice(stream, batches))
    except (UserError, OSError):
        raise
    except Exception as error:  # Of a config that holds anything.
        raise UserError(
            f'the supernet of {file} and its data cannot be built '
            f'({one_line(error)}): give the config that the search was '
            'started with by --config'
        ) from error
