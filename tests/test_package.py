import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from mmseg_autodeeplab.compat.versions import check_requirements

ROOT = Path(__file__).resolve().parents[1]
MIM_FILES = (
    'model-index.yml',
    'configs/autodeeplab/metafile.yaml',
    'tools/train.py',
    'tools/dist_train.sh',
)


def test_installed_versions_are_accepted():
    check_requirements()


@pytest.mark.run
def test_architectures_need_no_torch():
    """Other tools read architectures, and want to start in no time."""
    folder = ROOT / 'mmseg_autodeeplab'
    code = (
        'import sys, types\n'
        "package = types.ModuleType('mmseg_autodeeplab')\n"
        f'package.__path__ = [{str(folder)!r}]\n'
        'sys.modules[package.__name__] = package\n'
        'import mmseg_autodeeplab.arch\n'
        "print(*{'torch', 'mmengine', 'mmcv', 'mmseg'} & set(sys.modules))"
    )
    found = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True
    )
    assert (found.stdout, found.stderr) == ('\n', '')


OPENMMLAB = dict(
    torch='2.13.0', mmengine='0.10.7', mmcv='2.1.0', mmseg='1.2.2'
)
ONEDL = dict(torch='2.4.1', mmengine='0.10.12', mmcv='2.3.6', mmseg='1.4.2')


@pytest.fixture
def install(monkeypatch):
    """Pretend that these versions are installed."""

    def install(versions, *distributions):
        for module, version in versions.items():
            monkeypatch.setattr(f'{module}.__version__', version)
        found = dict.fromkeys(distributions, '1')
        monkeypatch.setattr(
            'mmseg_autodeeplab.compat.versions.distribution', found.get
        )

    return install


@pytest.mark.parametrize(
    'module, version, sentence',
    [
        (
            'torch',
            '1.13.1+cu117',
            'needs torch>=2.1 but found 1.13.1+cu117: '
            'run pip install "torch>=2.1"',
        ),
        (
            'mmengine',
            '1.0.0rc1',
            'needs mmengine>=0.10.0,<1.0 of OpenMMLab (of OneDL, '
            'onedl-mmengine>=0.10.10,<1.0) but found 1.0.0rc1',
        ),
        (
            'mmcv',
            '2.2.0',
            'needs mmcv>=2.0.0,<2.2.0 of OpenMMLab (of OneDL, '
            'onedl-mmcv>=2.3.0,<2.4) but found 2.2.0: run pip uninstall -y '
            'mmcv mmcv-lite onedl-mmcv && pip install "mmcv-lite>=',
        ),
        (
            'mmseg',
            '1.1.2',
            'needs mmsegmentation>=1.2.0,<1.3 of OpenMMLab (of OneDL, '
            'onedl-mmsegmentation>=1.4.0,<1.5) but found 1.1.2',
        ),
        ('mmseg', '1.4.2', 'needs mmsegmentation>=1.2.0,<1.3 of OpenMMLab'),
    ],
)
def test_version_outside_of_window(install, module, version, sentence):
    install(OPENMMLAB)
    check_requirements()
    install({**OPENMMLAB, module: version})
    with pytest.raises(ImportError) as error:
        check_requirements()
    assert sentence in str(error.value) and '\n' not in str(error.value)


@pytest.mark.parametrize(
    'module, version, sentence',
    [
        ('torch', '2.3.1', 'needs torch>=2.4 but found 2.3.1'),
        (
            'mmengine',
            '0.10.7',
            'needs onedl-mmengine>=0.10.10,<1.0 of OneDL (of OpenMMLab, '
            'mmengine>=0.10.0,<1.0) but found 0.10.7: run pip uninstall -y '
            'mmengine onedl-mmengine && pip install "onedl-mmengine>=',
        ),
        ('mmcv', '2.1.0', 'needs onedl-mmcv>=2.3.0,<2.4 of OneDL'),
        ('mmseg', '1.2.2', 'needs onedl-mmsegmentation>=1.4.0,<1.5 of OneDL'),
    ],
)
def test_a_fork_is_taken_whole(install, module, version, sentence):
    install(ONEDL, 'onedl-mmcv')
    check_requirements()
    install({**ONEDL, module: version}, 'onedl-mmcv')
    with pytest.raises(ImportError) as error:
        check_requirements()
    assert sentence in str(error.value) and '\n' not in str(error.value)


def test_mmsegmentation_that_refuses_to_be_imported(
    install, monkeypatch, tmp_path
):
    """As it does beside the mmcv of the fork."""
    (tmp_path / 'mmseg.py').write_text('assert False, "MMCV is used"')
    install(ONEDL, 'onedl-mmcv', 'mmsegmentation')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, 'mmseg')
    with pytest.raises(ImportError, match='needs onedl-mmseg.* but found 1:'):
        check_requirements()


def test_missing_library(monkeypatch):
    monkeypatch.setitem(sys.modules, 'mmcv', None)
    with pytest.raises(ImportError, match='but found none: run pip install'):
        check_requirements()


def test_broken_library_speaks_for_itself(monkeypatch, tmp_path):
    (tmp_path / 'mmcv.py').write_text('import no_such_module')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, 'mmcv')
    with pytest.raises(ModuleNotFoundError, match='no_such_module'):
        check_requirements()


@pytest.fixture(scope='module')
def clone(tmp_path_factory):
    folder = tmp_path_factory.mktemp('package') / 'clone'
    shutil.copytree(
        ROOT,
        folder,
        ignore=shutil.ignore_patterns(
            '.*', 'build', 'data', 'tests', 'work_dirs', '*.egg-info'
        ),
    )
    return folder


def run(*command, cwd):
    subprocess.run([sys.executable, *command], cwd=cwd, check=True)


@pytest.fixture(scope='module')
def wheel(clone):
    run(
        '-m',
        'pip',
        'wheel',
        '-q',
        '--no-build-isolation',
        '--no-deps',
        '--no-index',
        '.',
        cwd=clone,
    )
    (wheel,) = clone.glob('*.whl')
    return wheel


@pytest.mark.run
def test_wheel(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (
            archive.read(name).decode()
            for name in names
            if name.endswith('METADATA')
        )
    for name in MIM_FILES:
        assert f'mmseg_autodeeplab/.mim/{name}' in names
    assert 'mmseg_autodeeplab/visualization/report.html' in names
    assert not any(name.startswith('tests') for name in names)
    # Installing must not replace a torch or an mmcv that works.
    assert 'Requires-Dist' not in metadata


# What a user does with an installed package, far from any clone. The image is
# narrow, as the config resizes it to a length of 2049 pixels.
INSTALLED = """
import sys
from pathlib import Path
import numpy as np
import mmseg_autodeeplab
from mmseg.apis import inference_model, init_model
package = Path(mmseg_autodeeplab.__file__).parent
assert package.parent == Path(sys.argv[1]), package
config = package / '.mim/configs/autodeeplab' / sys.argv[2]
model = init_model(config, device='cpu')
image = np.random.randint(0, 256, (24, 700, 3), np.uint8)
labels = inference_model(model, image).pred_sem_seg.data
assert labels.shape == (1, 24, 700) and 0 <= labels.min() <= labels.max() < 19
print('as expected')
"""


@pytest.mark.run
def test_an_installed_config_infers(wheel, tmp_path):
    target = tmp_path / 'installed'
    options = ['-q', '--no-deps', '--no-index', '--target', str(target)]
    run('-m', 'pip', 'install', *options, str(wheel), cwd=tmp_path)
    result = subprocess.run(
        [
            *(sys.executable, '-W', 'ignore', '-c', INSTALLED, str(target)),
            'autodeeplab-s_8xb2-80k_cityscapes-769x769.py',
        ],
        cwd=tmp_path,
        # Before an editable install of the clone, if there is one.
        env=dict(os.environ, PYTHONPATH=str(target)),
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith('as expected\n')


@pytest.mark.run
def test_editable_install_links_to_the_clone(clone):
    # torch is not there under pip's build isolation.
    run(
        '-c',
        'import sys; sys.modules["torch"] = None\n'
        'from setuptools import build_meta; build_meta.build_editable(".")',
        cwd=clone,
    )
    for name in MIM_FILES:
        link = clone / 'mmseg_autodeeplab' / '.mim' / name
        assert link.resolve() == clone / name
