"""Look which test finds each of many deliberate mistakes.

One mistake of mutations.yaml at a time is put into a copy of the package, in a
temporary folder, where the tests that are listed with it run, the quick ones
first. Fails where a mistake survives.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

from mmseg_autodeeplab.cli.measurement import table

ROOT = Path(__file__).resolve().parents[2]
COPIED = ('mmseg_autodeeplab', 'configs', 'tests', 'tools', 'pyproject.toml')
SURVIVED = 'SURVIVED'
MINUTES = 10  # a mistake may let tests run for ever


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--only', default='', help='part of the name of a file or a mistake'
    )
    parser.add_argument(
        '--jobs', type=int, default=1, help='mistakes at a time'
    )
    parser.add_argument('--json', help='write the results to a file, too')
    return parser.parse_args()


def read_mistakes(file, root=ROOT, only=''):
    """Dicts of mistake, file, old, new and tests, whose old text is there."""
    mistakes = [
        dict(mistake, file=group['file'], tests=group['tests'].split())
        for group in yaml.safe_load(Path(file).read_text())
        for mistake in group['mistakes']
        if only in f'{group["file"]} {mistake["mistake"]}'
    ]
    for mistake in mistakes:
        text = (root / mistake['file']).read_text()
        if (count := text.count(mistake['old'])) != 1:
            raise SystemExit(
                f'Error: the old text of "{mistake["mistake"]}" is in '
                f'{mistake["file"]} {count} times, but must be once; mend it '
                f'in {file}: {mistake["old"]!r}'
            )
    return mistakes


def failing_tests(tests, *options, mistake=None, root=ROOT):
    """Run pytest in a copy, with the mistake if there is one."""
    with tempfile.TemporaryDirectory() as folder:
        for name in COPIED:
            copy = shutil.copytree if (root / name).is_dir() else shutil.copy
            copy(root / name, f'{folder}/{name}')
        if mistake:
            file = Path(folder, mistake['file'])
            text = file.read_text().replace(mistake['old'], mistake['new'])
            file.write_text(text)
        command = [sys.executable, '-m', 'pytest', '-q', '-rfE', '--tb=no']
        try:
            done = subprocess.run(
                [*command, '-p', 'no:cacheprovider', *options, *tests],
                cwd=folder,
                env=dict(os.environ, PYTHONPATH=folder, OMP_NUM_THREADS='1'),
                capture_output=True,
                text=True,
                timeout=60 * MINUTES,
            )
        except subprocess.TimeoutExpired:
            return [f'one of {", ".join(tests)}, in {MINUTES} minutes']
    if done.returncode not in (0, 1):  # none failed, or some did
        raise SystemExit(f'Error: no tests for {mistake}:\n{done.stdout}')
    return re.findall(r'^(?:FAILED|ERROR) (.+?)(?: - |$)', done.stdout, re.M)


def find_test(mistake, root=ROOT):
    """The first test that fails, or SURVIVED."""
    failed = failing_tests(mistake['tests'], '-x', mistake=mistake, root=root)
    return failed[0] if failed else SURVIVED


def main():
    args = parse_args()
    file = Path(__file__).with_suffix('.yaml')
    mistakes = read_mistakes(file, only=args.only)
    with ThreadPoolExecutor(args.jobs) as pool:
        for mistake, test in zip(mistakes, pool.map(find_test, mistakes)):
            mistake['test'] = test
            print(f'{mistake["mistake"]}: {test}', file=sys.stderr, flush=True)
    columns = ('file', 'mistake', 'test')
    print(table(columns, [[m[key] for key in columns] for m in mistakes]))
    if args.json:
        Path(args.json).write_text(json.dumps(mistakes, indent=2))
    found = {m['test'] for m in mistakes} - {SURVIVED}
    if failed := found and failing_tests(sorted(found)):
        raise SystemExit(f'Error: without a mistake, too: {failed}')
    survived = sum(m['test'] == SURVIVED for m in mistakes)
    print(f'{survived} of {len(mistakes)} survived')
    raise SystemExit(survived > 0)


if __name__ == '__main__':
    main()
