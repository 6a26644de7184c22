"""Strip a checkpoint for publication, as a file or as a folder of the hub.

Of a file, weights, config, dataset and versions stay, as types that torch
loads weights-only: so are downloaded checkpoints loaded. Its name says its
content. Of a folder, the model of the config, names and colours of the classes
and the metrics of the last validation stay as well as the weights. Optimizer,
schedulers, the state of a search and a second set of weights (EMA) go, so
training cannot be resumed from either.
"""

import argparse
import datetime
import hashlib
import io
import os.path as osp
import pickle
from collections.abc import Mapping

import numpy as np
import torch

from mmseg_autodeeplab import cli
from mmseg_autodeeplab.errors import UserError
from mmseg_autodeeplab.files import write_atomically
from mmseg_autodeeplab.search import config_text

# What stays of the meta information. The names in capitals are mmseg 0.x's.
META = (
    'cfg',
    'dataset_meta',
    'CLASSES',
    'PALETTE',
    'epoch',
    'iter',
    'seed',
    'mmengine_version',
    'mmseg_version',
)


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('checkpoint', help='checkpoint file; it is kept')
    parser.add_argument(
        'out',
        help='name of the result, NAME.pth; written is '
        'NAME_DATE-HASH.pth, with 8 digits of its SHA-256; with --format hub '
        'the name of a new folder',
    )
    parser.add_argument(
        '--format',
        choices=['pth', 'hub'],
        default='pth',
        help='a file, or a folder for huggingface_hub',
    )
    parser.add_argument(
        '--license',
        default='apache-2.0',
        help='of the weights, for the model card of a folder',
    )
    return parser.parse_args()


def plain(value):
    """The same value in types that may be loaded weights-only.

    Mappings become dicts, sets and arrays lists, subclasses of Python's types
    what they derive from, and all that is unknown its text.
    """
    if isinstance(value, Mapping):
        return {plain(k): plain(v) for k, v in value.items()}
    if isinstance(value, tuple):
        return tuple(plain(v) for v in value)
    if isinstance(value, (list, set, frozenset)):
        return [plain(v) for v in value]
    if isinstance(value, (np.ndarray, np.generic, torch.Tensor)):
        return plain(value.tolist())
    if value is None:
        return None
    for cls in (bool, int, float, str):
        if isinstance(value, cls):
            return cls(value)
    return str(value)


def strip(checkpoint):
    """What is published of a checkpoint."""
    meta = checkpoint.get('meta') or {}
    return dict(
        meta={key: plain(meta[key]) for key in META if key in meta},
        state_dict=checkpoint['state_dict'],
    )


def publish(checkpoint, out):
    """Write a checkpoint under a name that has its hash.

    Args:
        checkpoint (dict): What is to be written.
        out (str): Path to derive the name from.

    Returns:
        str: Path of the file.

    Raises:
        UserError: Its weights are not tensors alone.
    """
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    buffer.seek(0)
    try:
        torch.load(buffer, weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            'the state_dict holds more than tensors, which nobody could load '
            f'weights-only: {str(error).strip().splitlines()[-1]}'
        ) from error
    content = buffer.getvalue()
    stem = out[: -len('.pth')] if out.endswith('.pth') else out
    digest = hashlib.sha256(content).hexdigest()
    file = f'{stem}_{datetime.date.today():%Y%m%d}-{digest[:8]}.pth'
    write_atomically(file, content)
    return file


def publish_to_hub(checkpoint, out, license):
    """Write a checkpoint as a folder.

    Args:
        checkpoint (dict): With the config of its run, which is not carried
            out.
        out (str): Name of a folder that does not exist.
        license (str): Of the weights.

    Raises:
        UserError: Its config cannot be read, or is not of its weights.
    """
    from mmseg_autodeeplab import hub  # Needs huggingface_hub.

    meta = plain(checkpoint.get('meta') or {})
    cfg = config_text.read_config(str(meta.get('cfg', '')), 'its config')
    if not isinstance(cfg.get('model'), dict):
        raise UserError(
            'the config of the checkpoint has no model, so that nobody could '
            'build it: give an iter_*.pth that tools/train.py wrote'
        )
    if cfg.get('data_preprocessor'):
        # As the runner does.
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    hub.write_folder(
        out,
        cfg.model.to_dict(),
        checkpoint['state_dict'],
        meta.get('dataset_meta') or {},
        dataset_of(cfg.get('train_dataloader')),
        metrics_of(checkpoint),
        license,
    )
    return out


def dataset_of(loader):
    """The name of a data set, ``CamVidDataset`` being ``camvid``, or None."""
    dataset = (loader or {}).get('dataset')
    while isinstance((dataset or {}).get('dataset'), dict):
        dataset = dataset['dataset']  # One around another.
    name = str((dataset or {}).get('type', '')).rpartition('.')[2]
    return name.removesuffix('Dataset').lower() or None


def metrics_of(checkpoint):
    """What the last validation before a checkpoint was written has given."""
    scalars = (checkpoint.get('message_hub') or {}).get('log_scalars') or {}
    return {
        name.removeprefix('val/'): round(float(history.current()), 4)
        for name, history in scalars.items()
        if name.startswith('val/') and not name.endswith('time')
    }


@cli.user_errors()
def main():
    args = parse_args()
    if args.format == 'hub':
        checkpoint = cli.read_checkpoint(args.checkpoint)
        print(publish_to_hub(checkpoint, args.out, args.license))
        return
    if osp.isdir(args.out) or not osp.basename(args.out):
        raise UserError(
            f'{args.out} is a folder: give a name too, as in '
            f'{osp.join(args.out, "NAME.pth")}'
        )
    print(publish(strip(cli.read_checkpoint(args.checkpoint)), args.out))


if __name__ == '__main__':
    main()
