"""A config whose backbone is frozen, and one that reads its features.

The proxy of DPC (Chen et al., NeurIPS 2018) trains the cell alone, on features
that were computed once. They are a function of what :func:`_key` hashes, so
trials and workers that agree in it share one cache.
"""

import copy
import glob
import hashlib
import itertools
import os
import os.path as osp
import shutil
import uuid
from collections.abc import Iterable, Iterator
from typing import Any, Optional

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import MMLogger
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmengine.runner import CheckpointLoader, Runner
from mmseg.registry import DATASETS, MODELS
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from ...datasets.cached_features import save_index, save_sample
from ...engine.randomness import ITERATION, seeded
from ...engine.sample_stream import SampleStream, seeded_loader
from ...errors import UserError, one_line
from ...files import locked, to_json

FORMAT = 1  # of the files
DTYPES = dict(float32=torch.float32, float16=torch.float16)


def cached_config(
    cfg: Config, cache_dir: str, crops: int = 1, dtype: str = 'float32'
) -> Config:
    """Compute the features of a frozen backbone, unless they are there.

    Sample number k of the training is cached, for ``crops`` passes over its
    data, and so is the validation. A training on what is returned sees the
    same crops in the same order, from the beginning again after the last one.
    Call it in one process, before others of a distributed training start.

    Args:
        cfg (Config): What trains with the backbone; its head may be any.
        cache_dir (str): Where caches are, each in a folder named by a hash.
        crops (int): How many crops of each image are cached.
        dtype (str): ``'float32'``, or ``'float16'`` for half the disk.

    Returns:
        Config: The same on cached features. ``load_from`` stays, for the
        head; there is no test, which takes images.

    Raises:
        UserError: The backbone is trained, the seed is open, or the disk too
            small.
    """
    cfg = copy.deepcopy(cfg)
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    _check(cfg, crops, dtype)
    extractor = _Extractor(cfg, dtype)
    datasets = {
        part: DATASETS.build(cfg[f'{part}_dataloader'].dataset)
        for part in ('train', 'val')
    }
    key = _key(cfg, extractor, datasets, crops)
    folder = osp.join(osp.abspath(cache_dir), key)
    with locked(f'{folder}.lock'):
        if not osp.isdir(folder):
            _write(folder, cfg, extractor, datasets, crops)
    for part in datasets:
        cfg[f'{part}_dataloader'].dataset = dict(
            type='CachedFeaturesDataset', folder=osp.join(folder, part)
        )
    # Sample number k is the one that was number k, in the first pass.
    cfg.train_dataloader.sampler = dict(type='InfiniteSampler', shuffle=False)
    cfg.model.pretrained = None
    cfg.model.backbone = dict(type='CachedFeatures')
    cfg.model.data_preprocessor = dict(type='CachedFeaturesPreProcessor')
    cfg.update(test_dataloader=None, test_cfg=None, test_evaluator=None)
    return cfg


def _check(cfg, crops, dtype):
    if not (type(crops) is int and crops > 0 and dtype in DTYPES):
        raise UserError(
            f'cache_features takes crops of 1 or more and a dtype of '
            f'{" or ".join(DTYPES)}, but got {crops=} and {dtype=}'
        )
    if (cfg.get('randomness') or {}).get('seed') is None:
        raise UserError(
            'cache_features needs a seed, on which the crops depend, but '
            'randomness.seed is not set: set randomness=dict(seed=0)'
        )
    if (cfg.model.get('test_cfg') or {}).get('mode') == 'slide':
        raise UserError(
            'cache_features needs whole images in validation, but the model '
            "has test_cfg.mode='slide': set model.test_cfg=dict(mode='whole')"
        )


class _Extractor:
    """The frozen part of a model, on the device of a training.

    Attributes:
        backbone (nn.Module): With its weights.
        positions (list[int] | None): Of features that are read; None is all.
    """

    def __init__(self, cfg: Config, dtype: str) -> None:
        model, self.dtype = cfg.model, DTYPES[dtype]
        settings = copy.deepcopy(model.backbone)
        if model.get('pretrained'):
            settings.pretrained = model.pretrained
        outside = cfg.get('data_preprocessor')  # Where MMEngine has one, too.
        preprocessor = model.get('data_preprocessor', outside)
        with seeded(cfg.randomness.seed):  # As few weights are random.
            self.backbone = revert_sync_batchnorm(MODELS.build(settings))
            self.backbone.init_weights()
            self.preprocessor = MODELS.build(preprocessor)
            self.positions = None if model.get('neck') else _positions(model)
        if cfg.get('load_from'):
            _load(self.backbone, cfg.load_from)
        self.backbone.train()  # As a training has it; then as it counts.
        _check_frozen(self.backbone)
        self.backbone.eval()

    @torch.no_grad()
    def __call__(self, batch: dict, training: bool) -> Iterator[tuple]:
        """Yield the features and the labels of each sample of a batch."""
        device = get_device()
        data = self.preprocessor.to(device)(batch, training)
        backbone = self.backbone.to(device)
        features = backbone(data['inputs'])
        if isinstance(features, torch.Tensor):
            raise UserError(
                f'cache_features needs a backbone that gives several features '
                f'for in_index to choose from, but {type(backbone).__name__} '
                'gives one: add another one to its out_indices'
            )
        read = range(len(features))
        if self.positions is not None:
            read = {read[position] for position in self.positions}
        for i, sample in enumerate(data['data_samples']):
            yield (
                [
                    feature[i].to(self.dtype) if place in read else None
                    for place, feature in enumerate(features)
                ],
                sample,
            )


def _positions(model: dict) -> Optional[list[int]]:
    """What heads read by ``in_index``; None if one of them has none."""
    found = []
    for name in ('decode_head', 'auxiliary_head'):
        heads = model.get(name) or []
        for head in heads if isinstance(heads, (list, tuple)) else [heads]:
            index = getattr(MODELS.build(head), 'in_index', None)
            if index is None:
                return None
            found += [index] if isinstance(index, int) else index
    return sorted(set(found))


def _load(backbone: nn.Module, file: str) -> None:
    """Load its part of a checkpoint of the whole model."""
    checkpoint = CheckpointLoader.load_checkpoint(file, 'cpu')
    weights = checkpoint.get('state_dict', checkpoint)
    prefix = 'backbone.'
    own = {
        name.removeprefix(prefix): value
        for name, value in weights.items()
        if name.startswith(prefix)
    }
    try:
        found = backbone.load_state_dict(own, strict=False)
    except RuntimeError as error:
        raise UserError(
            f'the backbone of load_from={file} is another one '
            f'({one_line(error)}): give a checkpoint of this one'
        ) from error
    if found.missing_keys:
        raise UserError(
            f'load_from={file} lacks {len(found.missing_keys)} weights of the '
            f'backbone, {found.missing_keys[0]} among them: give a checkpoint '
            'of this one'
        )


def _check_frozen(backbone):
    name, way_out = (
        type(backbone).__name__,
        ('or let dict(type="FrozenBackbone", backbone=...) have it'),
    )
    trained = [n for n, p in backbone.named_parameters() if p.requires_grad]
    if trained:
        raise UserError(
            f'cache_features needs a frozen backbone, but {len(trained)} '
            f'parameters of {name} are trained, {trained[0]} among them: set '
            f'frozen_stages of model.backbone to its last stage, {way_out}'
        )
    changing = [
        n
        for n, m in backbone.named_modules()
        if m.training and isinstance(m, (_BatchNorm, _DropoutNd))
    ]
    if changing:
        raise UserError(
            f'cache_features needs features that stay as they are, but '
            f'{len(changing)} layers of batch norm or dropout of {name} are '
            f'in training mode, {changing[0]} among them: set norm_eval=True '
            f'in model.backbone, {way_out}'
        )


def _key(cfg, extractor, datasets, crops):
    """Hash what the features depend on, wherever the data lie."""
    files = {part: list(_files(d)) for part, d in datasets.items()}
    settings = dict(
        format=FORMAT,
        crops=crops,
        seed=cfg.randomness.seed,
        dtype=extractor.dtype,
        positions=extractor.positions,
        backbone=cfg.model.backbone,
        preprocessor=cfg.model.get('data_preprocessor'),
        outside=cfg.get('data_preprocessor'),
        sampler=cfg.train_dataloader.sampler,
        datasets=[cfg[f'{part}_dataloader'].dataset for part in datasets],
        files=files,
    )
    digest = hashlib.sha256(to_json(_without_roots(settings)).encode())
    for name, value in sorted(extractor.backbone.state_dict().items()):
        digest.update(f'{name} {value.dtype} {tuple(value.shape)}'.encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()[:16]


def _without_roots(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: _without_roots(item)
            for key, item in value.items()
            if key != 'data_root'
        }
    if isinstance(value, (list, tuple)):
        return [_without_roots(item) for item in value]
    return value


def _files(dataset) -> Iterable[list]:
    """Path below the root, size and time of each image and label."""
    if not hasattr(dataset, 'get_data_info'):
        raise UserError(
            f'cache_features cannot tell the files of '
            f'{type(dataset).__name__}, since it has no get_data_info: use '
            'a data set, or a wrapper, that has'
        )
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    for kind in ('img_path', 'seg_map_path'):
        paths = [str(info.get(kind)) for info in infos]
        root = len(osp.commonprefix([osp.dirname(path) for path in paths]))
        for path in paths:
            stat = os.stat(path) if osp.isfile(path) else None
            yield [path[root:], stat and stat.st_size, stat and stat.st_mtime]


def _write(folder, cfg, extractor, datasets, crops):
    """Write a cache aside, then give the folder its name."""
    aside = f'{folder}-{uuid.uuid4().hex[:8]}.tmp'
    logger = MMLogger.get_current_instance()
    for left in glob.glob(f'{glob.escape(folder)}-*.tmp'):
        shutil.rmtree(left)  # Whoever wrote it was killed.
    try:
        # The shorter one first, to know early where the disk is too small.
        for part in ('val', 'train'):
            os.makedirs(osp.join(aside, part))
            batches, count = _batches(cfg, datasets[part], part, crops)
            logger.info(f'Caching {count} samples of {part} in {folder}')
            samples = itertools.chain.from_iterable(
                _seeded_batches(extractor, batches, part, cfg.randomness.seed)
            )
            _write_part(osp.join(aside, part), samples, count)
            metainfo = getattr(datasets[part], 'metainfo', {})
            save_index(osp.join(aside, part), count, metainfo)
        os.rename(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        extractor.backbone.cpu()  # The training wants the memory.
        torch.cuda.empty_cache()


def _batches(cfg, dataset, part, crops):
    """The batches of a part, and how many samples of them are cached."""
    loader = dict(cfg[f'{part}_dataloader'], dataset=dataset)
    if part == 'train':
        loader = seeded_loader(loader, 'A', cfg.randomness.seed)
        return SampleStream(loader), crops * len(loader.sampler)
    loader['sampler'] = dict(type='DefaultSampler', shuffle=False)
    # The runner copies what is built.
    loader['dataset'] = dict(type=lambda: dataset)
    return Runner.build_dataloader(loader), len(dataset)


def _seeded_batches(extractor, batches, part, seed):
    """Preprocessors may draw numbers, as in the iteration of a training."""
    for i, batch in enumerate(batches):
        with seeded(seed, ITERATION, 0, i):
            yield list(extractor(batch, training=part == 'train'))


def _write_part(folder, samples, count):
    for number, sample in enumerate(itertools.islice(samples, count)):
        file = save_sample(folder, number, *sample)
        if number == 0:
            needed = count * osp.getsize(file)
            free = shutil.disk_usage(folder).free
            if needed > free:
                raise UserError(
                    f'the cached features of {count} samples need about '
                    f'{needed / 2**30:.3g} GiB in {osp.dirname(folder)}, but '
                    f'{free / 2**30:.3g} GiB are free: make room, or cache '
                    'fewer crops'
                )
