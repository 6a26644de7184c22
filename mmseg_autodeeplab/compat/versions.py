"""What must be installed, in which versions, checked before anything else."""

import importlib
import re
from importlib import metadata

# Module, what pip calls it, lowest version, first version too new; those of
# OneDL, a fork of OpenMMLab's, have the same import names.
# Nothing of this stands in setup.py: installing the plugin must never
# replace a torch or an mmcv that works.
STACKS = dict(
    OpenMMLab=(
        ('torch', 'torch', '2.1', None),
        ('mmengine', 'mmengine', '0.10.0', '1.0'),
        ('mmcv', 'mmcv-lite', '2.0.0', '2.2.0'),
        ('mmseg', 'mmsegmentation', '1.2.0', '1.3'),
    ),
    OneDL=(
        ('torch', 'torch', '2.4', None),
        ('mmengine', 'onedl-mmengine', '0.10.10', '1.0'),
        ('mmcv', 'onedl-mmcv', '2.3.0', '2.4'),
        ('mmseg', 'onedl-mmsegmentation', '1.4.0', '1.5'),
    ),
)
# Distributions that own the same files.
OWNERS = dict(
    mmengine='mmengine onedl-mmengine',
    mmcv='mmcv mmcv-lite onedl-mmcv',
    mmseg='mmsegmentation onedl-mmsegmentation',
)


def check_requirements():
    """Raise an ImportError where a library is missing, or does not fit.

    One sentence says which, what was found, what fits in its place among the
    packages of OpenMMLab and of OneDL, and what to install. All have to be of
    one of the two: of OneDL where onedl-mmcv is installed.
    """
    names = list(STACKS)
    if distribution('onedl-mmcv'):
        names.reverse()
    for ours, theirs in zip(*map(STACKS.get, names)):
        module, _, lowest, below = ours
        found = _found_version(module)
        if (
            found is not None
            and _release(lowest) <= _release(found)
            and (below is None or _release(found) < _release(below))
        ):
            continue
        command = f'pip install "{_spec(ours)}"'
        if found and module in OWNERS:
            command = f'pip uninstall -y {OWNERS[module]} && {command}'
        # mmcv-lite and mmcv are equally good.
        needed = _spec(ours).replace('-lite', '')
        if module in OWNERS:
            other = _spec(theirs).replace('-lite', '')
            needed += f' of {names[0]} (of {names[1]}, {other})'
        raise ImportError(
            f'mmseg_autodeeplab needs {needed} but found {found or "none"}: '
            f'run {command}'
        )


def distribution(name):
    """The version of an installed distribution; None where there is none."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _spec(requirement):
    _, name, lowest, below = requirement
    return f'{name}>={lowest}' + (f',<{below}' if below else '')


def _found_version(module):
    try:
        return importlib.import_module(module).__version__
    except ModuleNotFoundError as error:
        if error.name != module:  # It is there, and lacks something itself.
            raise
        return None
    except AssertionError:  # mmsegmentation does not like the mmcv it finds.
        return distribution('mmsegmentation')


def _release(version):
    """The numbers of a version, ``'2.13.0+cpu'`` giving ``(2, 13, 0)``."""
    numbers = re.match(r'[\d.]*\d', version).group().split('.')
    return tuple(int(number) for number in (*numbers, 0, 0))[:3]
