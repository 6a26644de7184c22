"""Gaps between the released libraries, closed where they exist.

Each function looks for its gap itself, rather than at a version, and changes
nothing where there is none.
"""

import functools
import importlib.util
import os
import os.path as osp
import pickle
import sys
from importlib import metadata
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

import mmcv
import torch
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.runner import checkpoint
from mmengine.utils import dl_utils, package_utils

from ..errors import UserError, one_line
from ..files import check_archive
from .versions import distribution

TRUE = ('1', 'y', 'yes', 'true')  # as torch reads its variables


def close_gaps():
    """Make the installed libraries work together; calling again is harmless.

    - Without compiled mmcv (mmcv-lite), names of ``mmcv.ops``, of which
      ``mmseg.models`` imports several, say what they need when they are used.
    - A local checkpoint loads whole, as MMEngine always loaded it, if its
      checksums, at which torch does not look, are right. A downloaded one may
      hold weights alone, by whatever torch.
    - ``mmseg::`` bases of configs are found without ``pkg_resources``, and
      with a fork of MMSegmentation.
    - Images of any number of channels are normalised, each channel by itself.
    """
    _stub_missing_ops()
    _load_checkpoints_by_origin()
    _find_packages_without_pkg_resources()
    _find_forks()
    _normalise_any_channels()


# mmcv.ops without compiled mmcv


class _MissingOp(type):
    """Type of the stand-ins: classes, so that ``isinstance`` answers no."""

    def __call__(cls, *args, **kwargs):
        raise UserError(
            f'{cls.__module__}.{cls.__name__} needs compiled mmcv, but mmcv '
            f'{mmcv.__version__} is installed without its ops (mmcv-lite): '
            'uninstall it and install mmcv, of that version, built with ops'
        )


class _Ops(ModuleType):
    """A module from which any name can be imported."""

    def __getattr__(self, name):
        if name.startswith('__'):
            raise AttributeError(name)
        op = _MissingOp(name, (), {'__module__': self.__name__})
        setattr(self, name, op)  # The same class at every import.
        return op


class _OpsFinder(MetaPathFinder, Loader):
    """Finds ``mmcv.ops`` and all that may be below it."""

    def find_spec(self, fullname, path=None, target=None):
        if f'{fullname}.'.startswith('mmcv.ops.'):
            return ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec):
        return _Ops(spec.name)

    def exec_module(self, module):
        # mmcv's report of the environment calls these two.
        module.get_compiler_version = lambda: 'n/a'
        module.get_compiling_cuda_version = lambda: 'n/a'


def _stub_missing_ops():
    # Where the extension exists but is broken, mmcv.ops says so better.
    if importlib.util.find_spec('mmcv._ext') is None and not any(
        isinstance(finder, _OpsFinder) for finder in sys.meta_path
    ):
        sys.meta_path.insert(0, _OpsFinder())


# Checkpoints


def load_from_local(filename, map_location):
    """Load a checkpoint of this machine, with all that MMEngine put into it.

    MMEngine prints the name of the function from its 11th letter on.
    """
    filename = osp.expanduser(filename)
    if not osp.isfile(filename):
        raise FileNotFoundError(f'{filename} can not be found.')
    try:
        check_archive(filename)
        return torch.load(
            filename, map_location=map_location, weights_only=False
        )
    except Exception as error:  # Broken archives and pickles raise anything.
        raise UserError(
            f'{filename} cannot be read as a checkpoint ({one_line(error)}): '
            'it is damaged or another kind of file, so give another one'
        ) from error


def load_url(url, **kwargs):
    """Download a checkpoint and load it, if it holds weights alone.

    torch's own function trusts every download.
    """
    try:
        return dl_utils.load_url(url, weights_only=True, **kwargs)
    except pickle.UnpicklingError as error:
        raise UserError(
            f'{url} holds more than weights, which may run code: if you trust '
            'it, download it and give its path'
        ) from error


def load_weights(file, map_location=None, weights_only=None):
    """Load weights from a file or a stream, and nothing but weights.

    OneDL's falls back to all that a pickle may hold, of storage elsewhere too.
    """
    return torch.load(file, map_location=map_location, weights_only=True)


def _load_checkpoints_by_origin():
    checkpoint.CheckpointLoader.register_scheme(
        prefixes='', loader=load_from_local, force=True
    )
    # torch's own switch for those who trust all that they load.
    if os.environ.get('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD') not in TRUE:
        checkpoint.load_url = load_url
        if hasattr(checkpoint, '_safe_torch_load'):
            checkpoint._safe_torch_load = load_weights


# Installed packages without pkg_resources (setuptools>=82)


def is_installed(package):
    """Whether a module of this name, or of this distribution, is installed."""
    return _origin(package) is not None


def get_installed_path(package):
    """The folder of a module, by its name or that of its distribution."""
    origin = _origin(package)
    if origin is None:
        raise ModuleNotFoundError(
            f'{package} is not installed, or is a namespace package'
        )
    return osp.dirname(origin)


def _origin(package):
    names = [package]
    try:
        modules = metadata.distribution(package).read_text('top_level.txt')
        names += (modules or '').split()
    except metadata.PackageNotFoundError:
        pass
    # A mere folder of that name in the current directory has no origin.
    specs = map(importlib.util.find_spec, names)
    return next((spec.origin for spec in specs if spec and spec.origin), None)


def _find_packages_without_pkg_resources():
    """Replace the two functions of MMEngine that need ``pkg_resources``."""
    if importlib.util.find_spec('pkg_resources') is not None:
        return
    for new in (is_installed, get_installed_path):
        old = getattr(package_utils, new.__name__)
        for name, module in list(sys.modules.items()):
            if (
                name.partition('.')[0] == 'mmengine'
                and vars(module).get(new.__name__) is old
            ):
                setattr(module, new.__name__, new)


def _find_forks():
    """Tell MMEngine which distribution a module belongs to."""
    for module, name in MODULE2PACKAGE.items():
        if not distribution(name) and distribution(f'onedl-{name}'):
            MODULE2PACKAGE[module] = f'onedl-{name}'


# Images of other than one or three channels


def _normalise_any_channels():
    """OneDL's preprocessor takes a mean of one or three channels alone."""
    from mmseg.models import SegDataPreProcessor  # Needs mmcv.ops.

    try:
        SegDataPreProcessor([0.0] * 4, [1.0] * 4)
    except AssertionError:
        original = SegDataPreProcessor.__init__

        @functools.wraps(original)
        def init(self, mean=None, std=None, *args, **kwargs):
            if mean is None or len(mean) in (1, 3):
                return original(self, mean, std, *args, **kwargs)
            original(self, None, None, *args, **kwargs)
            for name, value in dict(mean=mean, std=std).items():
                tensor = torch.tensor(value).view(-1, 1, 1)
                self.register_buffer(name, tensor, persistent=False)
            self._enable_normalize = True

        SegDataPreProcessor.__init__ = init
