"""The checkpoint that ``tools/train.py --resume`` goes on from."""

import glob
import os
import os.path as osp
import zipfile

from mmengine.config import Config

from .checkpoints import read_checkpoint


def latest_checkpoint(folder):
    """Find the newest complete ``iter_*.pth`` or ``epoch_*.pth``.

    MMEngine's ``last_checkpoint`` is not read: after a kill it may be empty,
    absent, or name a file that is incomplete or gone.

    Args:
        folder (str): Where to look; may be missing.

    Returns:
        tuple[str | None, list[str]]: The checkpoint, and the newer ones that
        are not complete.
    """
    files = [
        file
        for kind in ('iter', 'epoch')
        for file in glob.glob(
            osp.join(glob.escape(folder), f'{kind}_[0-9]*.pth')
        )
    ]
    incomplete = []
    # By time: iterations may be of an earlier, longer run.
    for file in sorted(files, key=osp.getmtime, reverse=True):
        if _is_complete(file):
            return file, incomplete
        incomplete.append(file)
    return None, incomplete


def resume_latest(cfg: Config):
    """Have a config go on from the newest checkpoint in its work dir.

    If there is none, the run starts anew. A seed that the config leaves open
    becomes that of the checkpoint before the data is shuffled by another.

    Args:
        cfg (Config): The config; gets ``resume`` and ``load_from``.

    Returns:
        list[str]: What was found, in sentences.
    """
    folder = cfg.work_dir
    hook = cfg.get('default_hooks', {}).get('checkpoint') or {}
    if hook.get('out_dir'):  # As CheckpointHook puts them together.
        folder = osp.join(hook['out_dir'], osp.basename(folder.rstrip(os.sep)))
    file, incomplete = latest_checkpoint(folder)
    notices = [
        f'{broken} is not complete and is left out.' for broken in incomplete
    ]
    cfg.resume = file is not None
    if file is None:
        return [
            *notices,
            f'No checkpoint to resume from in {folder}: the run starts anew.',
        ]
    cfg.load_from = file
    randomness = cfg.get('randomness') or {}
    if randomness.get('seed') is None:
        seed = read_checkpoint(file)['meta'].get('seed')
        cfg.randomness = dict(randomness, seed=seed)
    return [*notices, f'Resuming from {file}.']


def _is_complete(file):
    """Whether the directory of the archive, its end, is there."""
    try:
        with zipfile.ZipFile(file):
            return True
    except zipfile.BadZipFile:
        return False
