"""The check of the tests, on a package of one line."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
TOOL = 'tools/checks/mutations.py'
TABLE = 'tools/checks/mutations.yaml'
PACKAGE = 'mmseg_autodeeplab/__init__.py'
TESTS = 'tests/test_sign.py'
MISTAKES = {
    # What stands for `x // abs(x)`, and what finds it.
    'the sign is always 1': ('1', f'{TESTS}::test_minus_three'),
    'the sign is a number too small': (
        'x // abs(x) - 1',
        f'{TESTS}::test_four',
    ),
    'the sign is a float': ('x / abs(x)', 'SURVIVED'),
}


@pytest.fixture
def checkout(tmp_path):
    """One of a package of one line, and the tool."""
    for name in (
        'mmseg_autodeeplab',
        'configs',
        'docs',
        'tests',
        'tools/checks',
    ):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / 'pyproject.toml').touch()
    shutil.copy(ROOT / TOOL, tmp_path / TOOL)
    (tmp_path / PACKAGE).write_text('def sign(x):\n    return x // abs(x)\n')
    (tmp_path / TESTS).write_text(
        'from mmseg_autodeeplab import sign\n'
        'def test_four(): assert sign(4) == 1\n'
        'def test_minus_three(): assert sign(-3) == -1\n'
    )
    return tmp_path


def run(checkout, *options, old='x // abs(x)', new=None):
    """With one mistake, or with all."""
    mistakes = [
        dict(mistake=mistake, old=old, new=new or text)
        for mistake, (text, _) in MISTAKES.items()
    ]
    group = dict(file=PACKAGE, tests=TESTS, mistakes=mistakes)
    (checkout / TABLE).write_text(yaml.safe_dump([group]))
    return subprocess.run(
        [sys.executable, '-W', 'ignore', checkout / TOOL, *options],
        # The tool's own, behind that of a copy.
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.mark.run
def test_the_first_test_that_fails(checkout, tmp_path):
    """And the checkout stays as it is."""
    before = (checkout / PACKAGE).read_text()
    file = tmp_path / 'result.json'
    done = run(checkout, '--jobs', '2', '--json', str(file))
    assert done.returncode == 1, done.stderr
    assert '1 of 3 survived' in done.stdout
    expected = {mistake: test for mistake, (_, test) in MISTAKES.items()}
    rows = json.loads(file.read_text())
    assert {row['mistake']: row['test'] for row in rows} == expected
    for row in expected.items():
        line = r' *\| *'.join(map(re.escape, (PACKAGE, *row)))
        assert re.search(line, done.stdout)
    assert (checkout / PACKAGE).read_text() == before

    done = run(checkout, '--only', 'always')
    assert done.returncode == 0 and '0 of 1 survived' in done.stdout


@pytest.mark.run
@pytest.mark.parametrize(
    'change,error',
    [
        (dict(new='x // abs(x))'), 'Error: the tests cannot be run'),
        (
            dict(old='sign()'),
            'Error: the old text of "the sign is always 1" is in '
            f'{PACKAGE} 0 times, but must be once',
        ),
        (dict(old='x'), f'{PACKAGE} 3 times'),
    ],
)
def test_a_mistake_that_cannot_be_made(checkout, change, error):
    done = run(checkout, **change)
    assert done.returncode == 1 and error in done.stderr
    assert 'Traceback' not in done.stderr


def test_every_mistake_of_the_table_can_be_made():
    """Whoever changes a line changes it there, too."""
    for group in yaml.safe_load((ROOT / TABLE).read_text()):
        text = (ROOT / group['file']).read_text()
        for each in group['mistakes']:
            assert text.count(each['old']) == 1, each
            assert isinstance(each['new'], str) and each['new'] != each['old']
        for name in group['tests'].split():
            file, _, function = name.partition('::')
            assert f'def {function}' in (ROOT / file).read_text(), name
