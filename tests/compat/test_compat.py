import importlib.util
import os.path as osp
import pickle
import sys
from types import SimpleNamespace

import mmengine
import mmseg
import pytest
import torch
from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.logging import HistoryBuffer
from mmengine.runner import checkpoint as mmengine_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader
from mmengine.utils.dl_utils import mmcv_full_available

from mmseg_autodeeplab.compat import gaps
from mmseg_autodeeplab.compat.runner import open_loader
from mmseg_autodeeplab.errors import UserError

COMPILED = importlib.util.find_spec('mmcv._ext') is not None


@pytest.mark.skipif(COMPILED, reason='needs mmcv without its ops')
class TestMissingOps:
    def test_names_can_be_imported_from_any_depth(self):
        from mmcv.ops import DeformConv2d, point_sample
        from mmcv.ops.nms import batched_nms

        assert batched_nms.__name__ == 'batched_nms'
        assert not isinstance(torch.nn.Conv2d(1, 1, 1), DeformConv2d)
        assert point_sample is sys.modules['mmcv.ops'].point_sample

    def test_use_says_what_is_needed(self):
        from mmcv.ops import MultiScaleDeformableAttention, sigmoid_focal_loss

        class Attention(MultiScaleDeformableAttention):
            pass

        with pytest.raises(
            UserError,
            match='mmcv.ops.sigmoid_focal_loss '
            'needs compiled mmcv.* built with ops',
        ) as error:
            sigmoid_focal_loss(torch.zeros(1), gamma=2.0)
        assert '\n' not in str(error.value)
        with pytest.raises(UserError, match='Attention needs compiled mmcv'):
            Attention(embed_dims=256)

    @pytest.mark.run
    def test_ops_are_still_said_to_be_missing(self):
        from mmcv.utils import collect_env

        assert not mmcv_full_available()
        assert collect_env()['MMCV Compiler'] == 'n/a'

    def test_all_of_mmseg_can_be_imported(self):
        import mmseg.models

        assert mmseg.models.FocalLoss


@pytest.mark.skipif(not COMPILED, reason='needs mmcv with its ops')
def test_compiled_ops_are_left_alone():
    from mmcv.ops import nms

    assert mmcv_full_available()
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 9.0]])
    _, kept = nms(boxes, torch.tensor([0.9, 0.8]), iou_threshold=0.5)
    assert kept.tolist() == [0]


def test_closing_twice_is_harmless():
    before = list(sys.meta_path)
    gaps.close_gaps()
    assert sys.meta_path == before


@pytest.fixture
def checkpoint(tmp_path):
    """As MMEngine saves it: more than weights."""
    path = tmp_path / 'hub' / 'checkpoints' / 'iter_1.pth'
    path.parent.mkdir(parents=True)
    torch.save(dict(history=HistoryBuffer([1.0], [1])), path)
    return path


def test_local_checkpoint_loads_whole(checkpoint):
    loaded = CheckpointLoader.load_checkpoint(str(checkpoint), 'cpu')
    assert loaded['history'].current() == 1.0
    with pytest.raises(FileNotFoundError, match='missing.pth'):
        CheckpointLoader.load_checkpoint('missing.pth')


def test_downloaded_checkpoint_loads_weights_only(checkpoint, monkeypatch):
    # It is in torch's cache already, so that nothing is downloaded.
    monkeypatch.setenv('TORCH_HOME', str(checkpoint.parents[2]))
    url = f'https://example.invalid/{checkpoint.name}'
    with pytest.raises(UserError, match='holds more than weights'):
        CheckpointLoader.load_checkpoint(url, 'cpu')
    torch.save(dict(weight=torch.ones(1)), checkpoint)
    assert CheckpointLoader.load_checkpoint(url, 'cpu')['weight'] == 1


def test_downloads_are_trusted_where_a_user_says_so(monkeypatch):
    monkeypatch.setattr(mmengine_checkpoint, 'load_url', None)
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    gaps.close_gaps()
    assert mmengine_checkpoint.load_url is None


def test_a_fork_falls_back_to_no_pickle(checkpoint, monkeypatch):
    # Its function for what is stored elsewhere.
    name = '_safe_torch_load'
    monkeypatch.setattr(mmengine_checkpoint, name, None, raising=False)
    gaps.close_gaps()
    load = getattr(mmengine_checkpoint, name)
    with pytest.raises(pickle.UnpicklingError):
        load(checkpoint, map_location='cpu')
    torch.save(dict(weight=torch.ones(1)), checkpoint)
    assert load(checkpoint)['weight'] == 1


def test_a_fork_of_mmsegmentation_is_found(monkeypatch):
    for module in ('mmseg', 'mmdet'):
        monkeypatch.setitem(MODULE2PACKAGE, module, f'of-{module}')
    found = {'onedl-of-mmseg': '1.4.2', 'of-mmdet': '3', 'onedl-of-mmdet': '3'}
    monkeypatch.setattr(gaps, 'distribution', found.get)
    gaps.close_gaps()
    assert MODULE2PACKAGE['mmseg'] == 'onedl-of-mmseg'
    assert MODULE2PACKAGE['mmdet'] == 'of-mmdet'


def test_packages_are_found_without_pkg_resources(monkeypatch, tmp_path):
    for name in ('is_installed', 'get_installed_path'):
        for module in (
            mmengine.utils,
            mmengine.utils.package_utils,
            mmengine.config.config,
        ):
            # To be restored after the test.
            monkeypatch.setattr(module, name, getattr(module, name))
    monkeypatch.setitem(sys.modules, 'pkg_resources', None)
    gaps.close_gaps()
    assert mmengine.config.config.is_installed is gaps.is_installed

    config = tmp_path / 'config.py'
    config.write_text("_base_ = 'mmseg::_base_/models/fcn_r50-d8.py'\n")
    assert Config.fromfile(config).model.decode_head.type == 'FCNHead'


def test_distribution_and_module_have_one_path(monkeypatch, tmp_path):
    name = MODULE2PACKAGE['mmseg']
    # A clone next to the user's files is not the installed distribution.
    (tmp_path / name).mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    folder = osp.dirname(mmseg.__file__)
    assert gaps.get_installed_path(name) == folder
    assert gaps.get_installed_path('mmseg') == folder
    assert gaps.is_installed(name)
    assert not gaps.is_installed('no_such_package')
    with pytest.raises(ModuleNotFoundError, match='no_such_package'):
        gaps.get_installed_path('no_such_package')


@pytest.mark.parametrize('is_lazy', [False, True])
def test_a_lazy_loader_draws_what_another_draws(is_lazy):
    torch.manual_seed(0)
    opened = iter(torch.utils.data.DataLoader([1, 2]))
    expected = torch.rand(2)
    torch.manual_seed(0)
    if not is_lazy:
        opened = iter(torch.utils.data.DataLoader([1, 2]))
    lazy = SimpleNamespace(_iterator=None if is_lazy else opened)
    open_loader(SimpleNamespace(dataloader_iterator=lazy))
    assert torch.equal(torch.rand(2), expected)
