"""The rule of dependencies: an import goes to what stands further left."""

import ast
import inspect
import re
import sys
from pathlib import Path

import pytest
from mmengine.runner import IterBasedTrainLoop, Runner

PACKAGE = Path(__file__).resolve().parents[1] / 'mmseg_autodeeplab'
ORDER = (
    ('errors', 'version'),
    ('files',),
    ('compat',),
    ('arch',),
    ('models', 'datasets', 'engine'),
    ('search',),
    ('visualization', 'hub'),
    ('cli',),
)
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}
# Further left, and yet not for these.
FORBIDDEN = {('engine', 'arch'), ('datasets', 'arch')}
# All that these parts need of others.
FREE = {'arch': {'numpy'}, 'files': set(), 'errors': set()}
MODULES = sorted(
    path
    for path in PACKAGE.rglob('*.py')
    if path != PACKAGE / '__init__.py' and '.mim' not in path.parts
)


def place(path):
    """The part of the package that a module belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix('.py')


def imports(path):
    """Yield what a module imports: ours as ('', PART), others' top names."""
    depth = len(path.relative_to(PACKAGE).parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (
                (alias.name.split('.')[0], None) for alias in node.names
            )
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.split('.')[0], None
        elif isinstance(node, ast.ImportFrom) and node.level == depth:
            names = (
                [node.module]
                if node.module
                else [alias.name for alias in node.names]
            )
            yield from (('', name.split('.')[0]) for name in names)


@pytest.mark.parametrize(
    'path', MODULES, ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_imports_go_leftwards_only(path):
    own = place(path)
    for _, part in imports(path):
        if part is not None and part != own:
            assert RANK[part] < RANK[own], f'{own} imports {part}'
            assert (own, part) not in FORBIDDEN


@pytest.mark.parametrize('part', FREE)
def test_the_ground_and_architectures_need_no_torch(part):
    libraries = {
        name
        for path in MODULES
        if place(path) == part
        for name, ours in imports(path)
        if ours is None
    }
    assert libraries - set(sys.stdlib_module_names) <= FREE[part]


def test_every_part_has_a_place():
    assert {place(path) for path in MODULES} <= set(RANK)


def test_optuna_stays_in_the_black_box_search():
    for path in MODULES:
        if 'blackbox' not in path.parts:
            assert 'optuna' not in {name for name, _ in imports(path)}


def test_models_never_know_the_runner():
    for path in MODULES:
        if place(path) == 'models':
            assert 'mmengine.runner' not in path.read_text()


def test_private_attributes_of_the_runner_stay_in_compat():
    """Of its loops, too: ``runner._resume``, ``loop._iter`` and the like."""
    private = re.compile(r'\b(\w*runner|\w*loop|self)\._(?!_)\w+')
    names = {
        name
        for cls in (Runner, IterBasedTrainLoop)
        for name in re.findall(r'self\.(_[a-z]\w*)', source_of(cls))
    }
    for path in MODULES:
        if place(path) == 'compat':
            continue
        for match in private.finditer(path.read_text()):
            name = match.group(0).rpartition('.')[2]
            if match.group(1) == 'self' and 'train_loop' not in path.name:
                continue
            assert name not in names, f'{path.name}: {match.group(0)}'


def source_of(cls):
    return ''.join(
        inspect.getsource(base) for base in cls.__mro__ if base is not object
    )
