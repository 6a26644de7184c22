"""Installs the plugin, and only the plugin.

torch, mmcv, mmengine and mmsegmentation are required but not listed:
installing this must never replace those that work. Importing the package
checks them; requirements.txt has versions that work together.
"""

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
PACKAGE = 'mmseg_autodeeplab'
# What ``mim`` looks for in <package>/.mim.
MIM_FILES = ('configs', 'tools', 'model-index.yml')


class BuildWithMim(build_py):
    """Puts configs and tools into the package: a copy, or links to edit."""

    def run(self):
        super().run()
        parent = ROOT if self.editable_mode else Path(self.build_lib)
        mim = parent / PACKAGE / '.mim'
        shutil.rmtree(mim, ignore_errors=True)
        mim.mkdir(parents=True)
        for name in MIM_FILES:
            source, target = ROOT / name, mim / name
            if self.editable_mode:
                target.symlink_to(source)
            elif source.is_dir():
                shutil.copytree(
                    source, target, ignore=shutil.ignore_patterns('*.pyc')
                )
            else:
                shutil.copy(source, target)


def read_version():
    names = {}
    exec((ROOT / PACKAGE / 'version.py').read_text(), names)
    return names['__version__']


setup(
    name=PACKAGE,
    version=read_version(),
    description='Auto-DeepLab as a plugin of MMSegmentation',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    author='mmseg_autodeeplab authors',
    packages=find_packages(include=(PACKAGE, f'{PACKAGE}.*')),
    package_data={f'{PACKAGE}.visualization': ['*.html', '*.css']},
    # docs/get_started.md tells what was run of it.
    python_requires='>=3.9',
    classifiers=[
        'Development Status :: 4 - Beta',
        'Intended Audience :: Science/Research',
        'Operating System :: POSIX :: Linux',
        'Programming Language :: Python :: 3.9',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Programming Language :: Python :: 3.13',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
    install_requires=[],
    cmdclass={'build_py': BuildWithMim},
)
