"""The check of the tests, on a package of one line."""

import importlib.util
import json
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parents[2] / 'tools/checks/mutations.py'
PACKAGE = 'mmseg_autodeeplab/__init__.py'
TESTS = 'tests/test_sign.py'


@pytest.fixture
def tool():
    spec = importlib.util.spec_from_file_location('mutations', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def root(tmp_path):
    """A checkout."""
    for name in ('mmseg_autodeeplab', 'configs', 'tests', 'tools'):
        (tmp_path / name).mkdir()
    (tmp_path / 'pyproject.toml').touch()
    (tmp_path / PACKAGE).write_text('def sign(x):\n    return x // abs(x)\n')
    (tmp_path / TESTS).write_text(
        'from mmseg_autodeeplab import sign\n'
        'def test_four(): assert sign(4) == 1\n'
        'def test_minus_three(): assert sign(-3) == -1\n'
    )
    return tmp_path


def mistake(old, new):
    return dict(
        mistake='the sign is wrong',
        file=PACKAGE,
        old=old,
        new=new,
        tests=[TESTS],
    )


@pytest.mark.run
@pytest.mark.parametrize(
    'old,new,found',
    [
        ('x // abs(x)', '4 // abs(x)', f'{TESTS}::test_minus_three'),
        ('x // abs(x)', 'abs(x) // x - 1', f'{TESTS}::test_four'),
        ('x // abs(x)', 'abs(x) // x', 'SURVIVED'),
    ],
)
def test_the_first_test_that_fails(tool, root, old, new, found):
    """And the checkout stays as it is."""
    before = (root / PACKAGE).read_text()
    assert tool.find_test(mistake(old, new), root) == found
    assert (root / PACKAGE).read_text() == before
    assert tool.failing_tests([TESTS], root=root) == []


@pytest.mark.run
def test_a_mistake_that_does_not_even_import(tool, root):
    with pytest.raises(SystemExit, match='Error: no tests for'):
        tool.find_test(mistake('return', 'return)'), root)


@pytest.mark.parametrize('old,count', [('sign()', 0), ('x', 3)])
def test_an_old_text_that_is_not_there_once(tool, root, tmp_path, old, count):
    file = tmp_path / 'mutations.yaml'
    one = dict(mistake='it is stale', old=old, new='')
    file.write_text(
        json.dumps([dict(file=PACKAGE, tests=TESTS, mistakes=[one])])
    )
    with pytest.raises(SystemExit) as error:
        tool.read_mistakes(file, root)
    sentence = str(error.value)
    assert sentence.startswith(
        f'Error: the old text of "it is stale" is in {PACKAGE} {count} times'
    )
    assert '\n' not in sentence
    assert tool.read_mistakes(file, root, only='another') == []


def test_every_mistake_can_be_made(tool):
    """Whoever changes a line changes it there, too."""
    mistakes = tool.read_mistakes(TOOL.with_suffix('.yaml'))
    for each in mistakes:
        assert isinstance(each['new'], str) and each['new'] != each['old']
        for name in each['tests']:
            file, _, function = name.partition('::')
            assert f'def {function}' in (tool.ROOT / file).read_text()
