"""Report and decode damaged and hostile searches, and count how that ends.

Each is a copy of a small search of which some files are damaged at random, or
hold what would leave a file behind if it were run. The tools run in this
process. It fails where one of them ends in a traceback or not at all, or where
that file is there.
"""

import argparse
import contextlib
import importlib.util
import io
import json
import math
import os
import random
import shutil
import signal
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

from mmseg_autodeeplab.errors import Occupied, Unavailable
from mmseg_autodeeplab.search.config_text import read_config
from mmseg_autodeeplab.search.history import append_record

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / 'configs' / 'autodeeplab' / 'search_demo.py'
SECONDS = 60  # that a tool may take
KINDS = ('fine', 'one sentence', 'traceback', 'executed')
RUN, CHECKPOINT = '20260101_000000/vis_data', 'iter_20.pth'
# Lines of a config; to import canary_module, or to run canary.py, is to leave
# a file behind.
LINES = """
import canary_module
from canary_module import *
_base_ = '{folder}/canary.py'
_base_ = ['{folder}/canary.py']
a = open({file!r}, 'w')
a = __import__('canary_module')
a = dict(b=[c for c in [open({file!r}, 'w')]])
a = (lambda: open({file!r}, 'w'))()
a = f"{{open({file!r}, 'w')}}"
a: open({file!r}, 'w') = 1
a = dict(**dict(b=open({file!r}, 'w')))
dict = __import__; a = dict('canary_module')
with read_base(): from canary_module import *
a = ((((((((((((((((((((((((((((((((((((((1,),),),),),),),),),),),),),),),),)
"""


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--count', type=int, default=200, help='searches')
    parser.add_argument('--first', type=int, default=0, help='number of one')
    parser.add_argument('--seed', type=int, default=0)
    return parser.parse_args()


def make_search(folder):
    """Leave what a search leaves, and what must not run."""
    canary = f'open({str(folder / "canary")!r}, "w")\n'
    for name in ('canary_module.py', 'canary.py'):
        (folder / name).write_text(canary)
    cfg = Config.fromfile(DEMO)
    cfg.model.backbone.update(filter_multiplier=1, stem_channels=2)
    cfg.model.decode_head.update(in_channels=[2, 4, 8, 16], channels=4)
    model = MODELS.build(cfg.model)
    work_dir = folder / 'search'
    (work_dir / RUN).mkdir(parents=True)
    cfg.dump(work_dir / RUN / 'config.py')
    lines = [dict(loss=1 / i, mIoU=3.0 * i, step=i) for i in range(1, 21)]
    text = ''.join(f'{json.dumps(line)}\n' for line in lines)
    (work_dir / RUN / 'scalars.json').write_text(text)
    arrays = [p.numpy() for p in model.backbone.arch_parameters()]
    for iteration in (10, 20):
        append_record(work_dir, iteration, *arrays, config='search.py')
    model.backbone.architecture().dump(work_dir / 'architecture.json')
    meta = dict(cfg=cfg.pretty_text, iter=20, epoch=0, seed=0)
    content = dict(meta=meta, state_dict=model.state_dict())
    torch.save(content, work_dir / CHECKPOINT)
    return work_dir


def odd_values(folder):
    """What is put in the place of something else, in JSON and in configs."""
    file = str(folder / 'canary')
    touch = dict(type='subprocess.Popen', args=['touch', file])
    layer = dict(type='ConvModule', in_channels=3, out_channels=4)
    layer.update(kernel_size=1, padding_mode='subprocess.Popen')
    layer.update(padding=['touch', file], _delete_=True)
    key = f"a': 1, 'b': open({file!r}, 'w'), 'c"
    return [
        *(None, True, -1, 0, 3.5, 10**40, 10**400, 1e308, math.nan, math.inf),
        *('', 'x', '\ud800', '<script>', '{{fileDirname}}', 'x' * 10**5),
        *([], {}, [[]], {'': {}}, [[1], [2, [3]]], ['a', None], {3: 4}),
        *(touch, dict(type='canary_module'), dict(type='canary_module.Any')),
        dict(type='os.system', command=f'touch {file}'),
        dict(type='SGD', _scope_='canary_module'),
        dict(model=dict(backbone=layer)),
        dict(model=dict(decode_head=dict(loss_decode=touch))),
        dict(custom_imports=dict(imports=['canary_module'])),
        dict(_base_=str(folder / 'canary.py')),
        dict(default_scope='canary_module'),
        {key: 1, 'x-y': {key: 2}},
        {f'a=open({file!r}, "w")': 1},
        f"{{{{$NOTHING:'+str(open({file!r},'w'))+'}}}}",
    ]


def ways(value, way=()):
    """To everything within a value."""
    if way:
        yield way
    if isinstance(value, (dict, list)):
        keys = value if isinstance(value, dict) else range(len(value))
        for key in keys:
            yield from ways(value[key], (*way, key))


def replace(rng, data, folder):
    """Put something else at a place of a random depth, or nothing."""
    found = list(ways(data))
    depth = rng.choice(sorted(set(map(len, found))))
    *way, last = rng.choice([way for way in found if len(way) == depth])
    for key in way:
        data = data[key]
    if rng.random() < 0.1:
        del data[last]
    else:
        data[last] = rng.choice(odd_values(folder))


def spoil(rng, text, folder):
    """Give a config a hostile line or value."""
    if rng.random() < 0.3:
        line = rng.choice(LINES.strip().splitlines())
        line = line.format(folder=folder, file=str(folder / 'canary'))
        lines = text.splitlines()
        lines.insert(rng.choice([0, len(lines)]), line)
        return '\n'.join(lines)
    cfg = read_config(text, 'config').to_dict()
    part = rng.choice(['retrain', 'model', 'custom_hooks', *cfg])
    value = {part: cfg.pop(part)}
    replace(rng, value, folder)
    return '\n'.join(f'{k} = {v!r}' for k, v in {**cfg, **value}.items())


def damage_values(rng, file, folder):
    if file.suffix == '.pth':
        content = torch.load(file, weights_only=False)
        if rng.random() < 0.8:
            content['meta']['cfg'] = spoil(rng, content['meta']['cfg'], folder)
        else:
            replace(rng, content, folder)
        torch.save(content, file)
    elif file.suffix == '.py':
        file.write_text(spoil(rng, file.read_text(), folder))
    else:
        text = file.read_text()
        whole = file.name == 'architecture.json'
        lines = [text] if whole else text.split('\n')
        lines = [json.loads(line) for line in lines if line]
        replace(rng, lines, folder)
        file.write_text('\n'.join(map(json.dumps, lines)))


def damage_bytes(rng, file, folder):
    content = bytearray(file.read_bytes())
    kind, at = rng.choice(['cut', 'insert', 'flip']), rng.random()
    at = int(at * len(content))
    if kind == 'cut':
        del content[at:]
    elif kind == 'insert':
        content[at:at] = rng.randbytes(9)
    else:
        content[at : at + 9] = rng.randbytes(9)
    file.write_bytes(content)


def damage_entry(rng, file, folder):
    file.unlink()
    kind = rng.choice(['none', 'folder', 'loop', 'dangling', 'fifo', 'device'])
    if kind == 'folder':
        file.mkdir()
    elif kind == 'fifo':
        os.mkfifo(file)
    elif kind != 'none':
        targets = dict(loop=file, dangling='nothing', device='/dev/zero')
        file.symlink_to(targets[kind])


def outcome(tool, *args):
    """How a tool ends, and what else it says."""
    path = ROOT / 'tools' / f'{tool}.py'
    spec = importlib.util.spec_from_file_location('fuzzed', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.argv = [path.name, *map(str, args)]
    signal.alarm(SECONDS)
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            module.main()
    except SystemExit as end:
        sentence = str(end.code)
        # With these, it is printed before.
        if end.code in (Unavailable.status, Occupied.status):
            *_, sentence = printed.getvalue().splitlines()
        if sentence.startswith('Error: ') and '\n' not in sentence:
            return 'one sentence', sentence
        return 'traceback', sentence
    except BaseException:
        return 'traceback', traceback.format_exc()
    finally:
        signal.alarm(0)
    return 'fine', ''


def outcomes(rng, work_dir, folder):
    """Damage a search and give it to the tools."""
    files = [file for file in work_dir.rglob('*') if file.is_file()]
    for file in rng.sample(sorted(files), rng.randint(1, 2)):
        kinds = [damage_values, damage_values, damage_bytes, damage_entry]
        rng.choice(kinds)(rng, file, folder)
    yield outcome('analysis_tools/search_report', work_dir)
    out = work_dir / 'decoded'
    yield outcome('decode', work_dir / CHECKPOINT, '--out-dir', out)
    if (out / 'retrain.py').exists():  # As who trains it does.
        try:
            Config.fromfile(out / 'retrain.py')
        except Exception:
            yield 'traceback', traceback.format_exc()


def end(*args):
    raise TimeoutError(f'it takes more than {SECONDS} seconds')


def main():
    args = parse_args()
    init_default_scope('mmseg')
    MMLogger.get_current_instance().setLevel('ERROR')
    signal.signal(signal.SIGALRM, end)
    counts = Counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        search, canary = make_search(folder), folder / 'canary'
        sys.path.append(name)
        for number in range(args.first, args.first + args.count):
            work_dir = folder / f'{number}'
            shutil.copytree(search, work_dir)
            rng = random.Random(f'{args.seed} {number}')
            with contextlib.redirect_stdout(io.StringIO()):
                found = list(outcomes(rng, work_dir, folder))
            if canary.exists():
                canary.unlink()
                found.append(('executed', 'what came with the data was run'))
            sys.modules.pop('canary_module', None)
            for kind, text in found:
                counts[kind] += 1
                if kind in ('traceback', 'executed'):
                    print(f'Search {number}: {kind}\n{text}', flush=True)
            shutil.rmtree(work_dir)
        sys.path.remove(name)
    print(', '.join(f'{counts[kind]} {kind}' for kind in KINDS))
    if counts['traceback'] or counts['executed']:
        raise SystemExit(1)


if __name__ == '__main__':
    main()
