"""What must be installed, in which versions, checked before anything else."""

import importlib
import re

# Module, what pip calls it, lowest version, first version too new.
# Nothing of this stands in setup.py: installing the plugin must never
# replace a torch or an mmcv that works.
REQUIREMENTS = (
    ('torch', 'torch', '2.1', None),
    ('mmengine', 'mmengine', '0.10.0', '1.0'),
    ('mmcv', 'mmcv-lite', '2.0.0', '2.2.0'),
    ('mmseg', 'mmsegmentation', '1.2.0', '1.3'),
)


def check_requirements():
    """Raise an ImportError where a library is missing, or does not fit.

    One sentence says which, what was found, and what to install.
    """
    for module, name, lowest, below in REQUIREMENTS:
        found = _found_version(module)
        if (
            found is not None
            and _release(lowest) <= _release(found)
            and (below is None or _release(found) < _release(below))
        ):
            continue
        spec = f'{name}>={lowest}' + (f',<{below}' if below else '')
        command = f'pip install "{spec}"'
        if module == 'mmcv' and found:
            # Both distributions own the same files.
            command = f'pip uninstall -y mmcv mmcv-lite && {command}'
        # mmcv-lite and mmcv are equally good.
        raise ImportError(
            f'mmseg_autodeeplab needs {spec.replace("-lite", "")} but found '
            f'{found or "none"}: run {command}'
        )


def _found_version(module):
    try:
        return importlib.import_module(module).__version__
    except ModuleNotFoundError as error:
        if error.name != module:  # It is there, and lacks something itself.
            raise
        return None


def _release(version):
    """The numbers of a version, ``'2.13.0+cpu'`` giving ``(2, 13, 0)``."""
    numbers = re.match(r'[\d.]*\d', version).group().split('.')
    return tuple(int(number) for number in (*numbers, 0, 0))[:3]
