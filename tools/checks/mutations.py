"""Look which test finds each of many deliberate mistakes.

One mistake of mutations.yaml at a time is put into a copy of the package, in a
temporary folder, where the tests that are listed with it run. Fails where a
mistake survives.
"""

import argparse
import json
import os
import re
import shutil
import signal
import sys
import tempfile
from pathlib import Path

# What takes longest, once for all runs; the package itself is for each of
# them to import.
import cv2  # noqa: F401
import matplotlib.pyplot  # noqa: F401
import mmcv.transforms  # noqa: F401
import mmengine.runner  # noqa: F401
import pytest
import torch
import yaml

ROOT = Path(__file__).resolve().parents[2]
COPIED = 'mmseg_autodeeplab configs docs tests tools pyproject.toml'.split()
SURVIVED = 'SURVIVED'
SECONDS = 600  # a mistake may let tests run for ever


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


def read_mistakes(file, only=''):
    """Dicts of mistake, file, old, new and tests, whose old text is there."""
    mistakes = [
        dict(mistake, file=group['file'], tests=group['tests'].split())
        for group in yaml.safe_load(Path(file).read_text())
        for mistake in group['mistakes']
        if only in f'{group["file"]} {mistake["mistake"]}'
    ]
    for mistake in mistakes:
        text = (ROOT / mistake['file']).read_text()
        if (count := text.count(mistake['old'])) != 1:
            raise SystemExit(
                f'Error: the old text of "{mistake["mistake"]}" is in '
                f'{mistake["file"]} {count} times, but must be once; mend it '
                f'in {file}: {mistake["old"]!r}'
            )
    return mistakes


def start_tests(folder, tests, mistake=None):
    """Start pytest in a copy, in a fork; returns the number of the process."""
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, f'{folder}/{name}')
    if mistake:
        file = Path(folder, mistake['file'])
        text = file.read_text().replace(mistake['old'], mistake['new'])
        file.write_text(text)
    if pid := os.fork():
        return pid
    try:
        signal.alarm(SECONDS)
        os.chdir(folder)
        output = os.open('output.txt', os.O_WRONLY | os.O_CREAT)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.path.insert(0, folder)
        # Of processes that tests start.
        os.environ.update(PYTHONPATH=folder, OMP_NUM_THREADS='1')
        torch.set_num_threads(1)
        options = '-q', '-x', '-rfE', '--tb=no', '-p', 'no:cacheprovider'
        code = pytest.main([*options, *tests])
        sys.stdout.flush()
        os._exit(code)
    finally:  # never into the caller
        os._exit(pytest.ExitCode.INTERNAL_ERROR)


def failed_test(folder, status):
    """The one that failed in a folder, or None."""
    output = Path(folder, 'output.txt').read_text()
    failed = re.search(r'^(?:FAILED|ERROR) (.+?)(?: - |$)', output, re.M)
    if os.WIFSIGNALED(status):
        return f'one that takes over {SECONDS} seconds'
    if os.WEXITSTATUS(status) not in (0, 1):
        raise SystemExit(f'Error: the tests cannot be run:\n{output}')
    return failed and failed.group(1)


def find_tests(mistakes, jobs):
    """Set `test` of each one: the first that fails, or SURVIVED."""
    waiting, running = mistakes[::-1], {}
    while waiting or running:
        if waiting and len(running) < jobs:
            mistake, folder = waiting.pop(), tempfile.TemporaryDirectory()
            pid = start_tests(folder.name, mistake['tests'], mistake)
            running[pid] = mistake, folder
            continue
        pid, status = os.wait()
        mistake, folder = running.pop(pid)
        with folder:
            mistake['test'] = failed_test(folder.name, status) or SURVIVED
        print(f'{mistake["mistake"]}: {mistake["test"]}', file=sys.stderr)


def main():
    args = parse_args()
    mistakes = read_mistakes(Path(__file__).with_suffix('.yaml'), args.only)
    find_tests(mistakes, args.jobs)
    found = {m['test'] for m in mistakes} - {SURVIVED}
    if found:
        with tempfile.TemporaryDirectory() as folder:
            pid = start_tests(folder, sorted(found))
            if failed := failed_test(folder, os.waitpid(pid, 0)[1]):
                raise SystemExit(f'Error: {failed} fails without a mistake')
    # Not before, as all runs would have this package.
    from mmseg_autodeeplab.cli.measurement import table

    columns = ('file', 'mistake', 'test')
    print(table(columns, [[m[key] for key in columns] for m in mistakes]))
    if args.json:
        Path(args.json).write_text(json.dumps(mistakes, indent=2))
    survived = sum(m['test'] == SURVIVED for m in mistakes)
    print(f'{survived} of {len(mistakes)} survived')
    raise SystemExit(survived > 0)


if __name__ == '__main__':
    main()
