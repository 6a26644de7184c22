"""tools/model_converters/publish_model.py, on the checkpoint of a search."""

import hashlib
import re
from collections import OrderedDict, UserString
from enum import IntEnum
from pathlib import Path

import mmengine
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmseg.apis import init_model

from mmseg_autodeeplab.arch import Architecture

ROOT = Path(__file__).resolve().parents[2]
TOOL = 'model_converters/publish_model'


@pytest.fixture(scope='module')
def search(tmp_path_factory):
    """Config and checkpoint of two iterations, with an average of weights."""
    folder = tmp_path_factory.mktemp('search')
    cfg = Config.fromfile(ROOT / 'configs/autodeeplab/search_demo.py')
    cfg.work_dir = str(folder)
    cfg.train_cfg.update(max_iters=2, val_interval=2)
    cfg.default_hooks.checkpoint.interval = 2
    cfg.custom_hooks[0].begin = 0
    cfg.model.backbone.update(num_layers=3, num_blocks=1)
    cfg.model.decode_head.in_channels = [4, 8, 16, 32]
    cfg.custom_hooks += [dict(type='EMAHook', ema_type='SearchEMA')]
    for part in ('train', 'val', 'test'):
        loader = cfg[f'{part}_dataloader']
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset.update(data_root=str(folder / 'shapes'), num_images=2)
    cfg.train_dataloader.batch_size = 1
    config = folder / 'config.py'
    cfg.dump(config)
    Runner.from_cfg(Config.fromfile(config)).train()
    return config, folder / 'iter_2.pth'


def load(file):
    return torch.load(file, weights_only=True)


def published(folder):
    (file,) = folder.glob('*.pth')
    return file


def save(tmp_path, **content):
    file = tmp_path / 'checkpoint.pth'
    torch.save(content, file)
    return file


@pytest.mark.run
def test_a_search(tmp_path, run_tool, capsys, search):
    config, checkpoint = search
    before = checkpoint.read_bytes()
    run_tool(TOOL, checkpoint, tmp_path / 'made' / 'demo-v1.0.pth')
    file = published(tmp_path / 'made')
    assert capsys.readouterr().out.splitlines()[-1] == str(file)
    assert checkpoint.read_bytes() == before

    name = re.fullmatch(r'demo-v1\.0_20\d{6}-([0-9a-f]{8})\.pth', file.name)
    content = file.read_bytes()
    assert hashlib.sha256(content).hexdigest().startswith(name[1])
    assert len(content) < 0.7 * len(before)

    old = torch.load(checkpoint, weights_only=False)
    assert 'ema_state_dict' in old and 'arch_search' in old
    new = load(file)
    assert set(new) == {'meta', 'state_dict'}
    assert list(new['state_dict']) == list(old['state_dict'])
    for key, tensor in old['state_dict'].items():
        assert torch.equal(new['state_dict'][key], tensor), key
    for key in ('cfg', 'dataset_meta', 'iter', 'mmengine_version'):
        assert new['meta'][key] == old['meta'][key]
    assert new['meta']['iter'] == 2
    assert mmengine.__version__ in new['meta']['mmengine_version']

    # The same content has the same name.
    run_tool(TOOL, checkpoint, tmp_path / 'made' / 'demo-v1.0')
    assert published(tmp_path / 'made') == file

    model = init_model(str(config), str(file), device='cpu')
    assert (
        model.dataset_meta['classes'] == old['meta']['dataset_meta']['classes']
    )
    weight = 'backbone.stem.to_stride2.0.weight'
    assert torch.equal(model.state_dict()[weight], old['state_dict'][weight])


@pytest.mark.run
def test_a_published_search_is_tested_and_decoded_alike(
    tmp_path, run_tool, search
):
    config, checkpoint = search
    run_tool(TOOL, checkpoint, tmp_path / 'demo')
    results = []
    for file in (checkpoint, published(tmp_path)):
        out = tmp_path / f'{file.stem}-out'
        run_tool('decode', file, '--out-dir', out)
        run_tool(
            *('test', config, file, '--work-dir', tmp_path / 'work'),
            *('--out', out / 'maps'),
        )
        maps = sorted((out / 'maps').iterdir())
        assert len(maps) == 2
        results.append(
            (
                Architecture.load(out / 'architecture.json').to_dict()['path'],
                Architecture.load(out / 'architecture.json').cell,
                [m.read_bytes() for m in maps],
            )
        )
    assert results[0] == results[1]


class Level(IntEnum):
    ONE = 1


def test_meta_becomes_plain(tmp_path, run_tool):
    """Whatever a dataset or a hook has put there."""
    dataset_meta = OrderedDict(
        classes=('a', np.str_('b')),
        palette=np.array([[0, 1, 2], [3, 4, 255]], dtype=np.uint8),
        label_map={np.int64(11): np.int32(255)},
        reduce_zero_label=np.bool_(False),
        ignored={3},
        level=Level.ONE,
        scale=np.float64(0.5),
        none=None,
        other=UserString('text'),
    )
    file = save(
        tmp_path,
        meta=dict(dataset_meta=dataset_meta, hook_msgs=np.zeros(3)),
        state_dict={'weight': torch.arange(3.0)},
    )
    run_tool(TOOL, file, tmp_path / 'out' / 'x.pth')
    new = load(published(tmp_path / 'out'))
    assert new['meta'] == dict(
        dataset_meta=dict(
            classes=('a', 'b'),
            palette=[[0, 1, 2], [3, 4, 255]],
            label_map={11: 255},
            reduce_zero_label=False,
            ignored=[3],
            level=1,
            scale=0.5,
            none=None,
            other='text',
        )
    )
    assert torch.equal(new['state_dict']['weight'], torch.arange(3.0))


def test_what_is_no_checkpoint(tmp_path, failure):
    out = tmp_path / 'out' / 'x.pth'
    assert 'none.pth does not exist' in failure(TOOL, 'none.pth', out)
    broken = tmp_path / 'broken.pth'
    broken.write_text('hello')
    assert 'cannot be read as a checkpoint' in failure(TOOL, broken, out)
    bare = save(tmp_path, weight=torch.zeros(3))
    assert 'has no state_dict' in failure(TOOL, bare, out)
    odd = save(tmp_path, state_dict=dict(extra=Path('x')))
    assert 'holds more than tensors' in failure(TOOL, odd, out)
    good = save(tmp_path, state_dict={})
    assert 'is a folder' in failure(TOOL, good, tmp_path)
    assert 'is a folder' in failure(TOOL, good, f'{tmp_path}/new/')
    assert sorted(tmp_path.glob('**/*')) == [broken, good]
