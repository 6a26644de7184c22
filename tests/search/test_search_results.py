"""What is read of the files of a search."""

import json
import math
import os

import numpy as np
import pytest
from mmengine.config import Config
from search_files import parameters, write_run

from mmseg_autodeeplab.arch import decode, disagreement
from mmseg_autodeeplab.errors import UserError
from mmseg_autodeeplab.search.gradient import ArchSearchHook
from mmseg_autodeeplab.search.history import append_record, count_changes
from mmseg_autodeeplab.search.results import (
    read_search,
    search_hook_config,
    settings,
)
from mmseg_autodeeplab.visualization.report import render_report

PATH = 'mmseg_autodeeplab.search.gradient.arch_search_hook.ArchSearchHook'


class OwnSearchHook(ArchSearchHook):
    """Of a user's own."""


@pytest.mark.parametrize(
    'kind', ['ArchSearchHook', 'mmseg.ArchSearchHook', PATH, OwnSearchHook]
)
@pytest.mark.parametrize('place', ['custom_hooks', 'default_hooks'])
def test_a_search_is_known_by_the_class_of_its_hook(kind, place):
    hook = dict(type=kind, begin=3)
    others = [dict(type='EMAHook'), dict(type='no_such_module.Hook')]
    cfg = dict(
        custom_hooks=others,
        default_hooks=dict(timer=None, logger=dict(type='LoggerHook')),
    )
    assert search_hook_config(Config(cfg)) is None
    if place == 'custom_hooks':
        cfg['custom_hooks'] = [*others, hook]
    else:
        cfg['default_hooks']['search'] = hook
    assert search_hook_config(Config(cfg)) == hook
    assert search_hook_config(Config()) is None


def test_torn_and_abandoned_lines(search_dir):
    search = read_search(str(search_dir))
    assert [(x['step'], x.get('mark')) for x in search.scalars] == [
        *((10, 1), (20, 1), (30, 1), (40, 2), (50, 2), (50, None))
    ]
    assert search.curve('mIoU') == [(50, 12.345)]
    assert [record.iteration for record in search.records] == [0, 15, 30]


def test_changes_are_those_of_the_history(search_dir):
    """They need no hook that draws."""
    search = read_search(str(search_dir))
    first, second, third = (decode(r.alphas, r.betas) for r in search.records)
    changes = [count_changes(first, second), count_changes(second, third)]
    assert any(sum(pair) for pair in changes)
    for place, name in enumerate(('changed_connections', 'changed_layers')):
        assert search.curve(name) == [
            (iteration, pair[place])
            for iteration, pair in zip((15, 30), changes)
        ]


@pytest.mark.parametrize(
    'hook,name,text',
    [
        (dict(), 'Cost term', None),
        (dict(cost=dict(target=5.0)), 'Cost term', 'target 5.0'),
        (
            dict(terms=[dict(type='CostTerm', shape=(3, 4)), dict(type='B')]),
            'Terms of the loss',
            'shape 3 × 4, type CostTerm; type B',
        ),
    ],
)
def test_the_terms_are_among_the_settings(tmp_path, hook, name, text):
    write_run(tmp_path, '20260101_000000', [10], hook=hook)
    assert settings(read_search(str(tmp_path))).get(name) == text


@pytest.mark.parametrize(
    'hook,score,left_out',
    [
        (dict(), 'probability', []),
        (dict(score='lift'), 'lift', []),
        (
            dict(score=['lift']),
            'probability',
            [
                "ArchSearchHook.score is ['lift'], but must be 'probability', "
                "'lift', 'inflow', or one with an end, as in 'inflow:8'."
            ],
        ),
    ],
)
def test_all_is_decoded_by_the_score_of_the_search(
    tmp_path, hook, score, left_out
):
    write_run(tmp_path, '20260101_000000', [10], hook=hook)
    betas = np.zeros((2, 3, 4, 3))
    betas[:, 2, 1, 2] = 0.5, 0.8  # 4-8-16 is better throughout by its lift
    paths = dict(probability=[(4, 4, 4), (4, 8, 16)], lift=[(4, 8, 16)] * 2)
    for i in range(2):
        append_record(tmp_path, 10 * i, parameters(0)[0], betas[i])
    search = read_search(str(tmp_path))
    before, after = paths[score]
    assert search.architecture.path == after
    assert search.curve('changed_layers') == [
        (10, sum(a != b for a, b in zip(before, after)))
    ]
    assert search.left_out == left_out
    assert settings(search)['Score of a path'] == score
    page = render_report(search)
    framed = json.loads(page.split('id="data">')[1].split('</script>')[0])
    framed = framed['maps']['betas']['chosen']
    assert (framed[0] == framed[1]) == (score == 'lift')
    # Only the first betas leave the path open.
    assert 'do not settle' not in page
    append_record(tmp_path, 20, parameters(0)[0], betas[0])
    assert disagreement(betas[0]) in render_report(read_search(str(tmp_path)))


FIRST, LAST = (f'2026010{n}_000000/vis_data' for n in (1, 2))
ALPHAS, BETAS = (array.tolist() for array in parameters(60))


def line(**values):
    return json.dumps(dict(loss=1.0, step=60) | values).encode() + b'\n'


def record(**values):
    record = dict(iteration=60, alphas=ALPHAS, betas=BETAS) | values
    return json.dumps(record).encode() + b'\n'


@pytest.mark.parametrize(
    'text, points',
    [
        (line(), [(60, 1.0)]),
        (line(other='\xff').replace(b'\\u00ff', b'\xff'), [(60, 1.0)]),
        (line(other=[None, {}]), [(60, 1.0)]),
        *(
            (line(loss=value), [])
            for value in (
                *(None, '1', [1], {}, True, math.nan, math.inf, 1e300),
                *(10**400, -(10**400)),
            )
        ),
        *(
            (line(step=value), [])
            for value in (None, '60', [60], math.nan, math.inf, 10**400)
        ),
        (b'[' * 10**5 + b'\n', []),
        (b'{"loss": 1' + b'0' * 5000 + b', "step": 60}\n', []),
        (b'\0' * 4096 + b'\n', []),
        (b'\xff\xfe\n', []),
        (b'null\n3\n"text"\n', []),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_scalars_are_numbers(search_dir, text, points):
    with open(search_dir / LAST / 'scalars.json', 'ab') as f:
        f.write(b'\n' + text)
    search = read_search(str(search_dir))
    assert search.curve('loss')[5:] == points
    assert search.left_out == []
    assert 'Losses' in render_report(search)


@pytest.mark.parametrize(
    'text, intact',
    [
        (record(), [0, 15, 30, 60]),
        (record(config=['\ud800'], versions='<b>', a={}), [0, 15, 30, 60]),
        # Another search's: what the last line is of stays.
        (record(alphas=ALPHAS[:2]), [60]),
        (record(betas=BETAS[:2]), [60]),
        *(
            (record(alphas=value), [0, 15, 30])
            for value in (
                *(None, 'x', {}, [], [[1]], ALPHAS[:3], BETAS, ALPHAS[0]),
                [[*ALPHAS[0][:7], 'x'], *ALPHAS[1:]],
                [[*ALPHAS[0][:7], None], *ALPHAS[1:]],
                [[*ALPHAS[0][:7], 10**400], *ALPHAS[1:]],
                [ALPHAS[0][:7], *ALPHAS[1:]],
            )
        ),
        *(
            (record(iteration=value), [0, 15, 30])
            for value in (None, '60', [60], math.nan, 10**400)
        ),
        (record()[:-9] + b'\n', [0, 15, 30]),
        (b'[' * 10**5 + b'\n', [0, 15, 30]),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_records_are_of_one_search(search_dir, text, intact):
    with open(search_dir / 'arch_history.jsonl', 'ab') as f:
        f.write(text)
    search = read_search(str(search_dir))
    assert [record.iteration for record in search.records] == intact
    assert search.architecture == decode(*search.records[-1][1:3])
    assert 'id="alphas"' in render_report(search)


def folder(file):
    file.mkdir()


def loop(file):
    file.symlink_to(file)


def dangling(file):
    file.symlink_to('nothing')


def device(file):
    file.symlink_to('/dev/zero')


def nonsense(file):
    file.write_bytes(b'\xff = open(')


ENTRIES = [folder, loop, dangling, device, os.mkfifo, nonsense]
FILES = [
    *(f'{LAST}/config.py', f'{LAST}/scalars.json', 'arch_history.jsonl'),
    *('architecture.json', 'iter_30.pth'),
]


@pytest.mark.parametrize('make', ENTRIES)
@pytest.mark.parametrize('name', FILES)
def test_what_is_no_file_is_left_out(search_dir, make, name):
    decode(*parameters(45)).dump(search_dir / 'architecture.json')
    (search_dir / 'iter_15.pth').touch()
    (search_dir / name).unlink(missing_ok=True)
    make(search_dir / name)
    search = read_search(str(search_dir))
    page = render_report(search)
    # The rest of it is there, from the other run, or of the other file.
    history = name != 'arch_history.jsonl'
    assert [r.iteration for r in search.records] == [0, 15, 30] * history
    at = 30 if history else 45
    assert search.architecture == decode(*parameters(at))
    assert len(search.runs) == 2 - (name == FILES[0])
    steps = [x['step'] for x in search.scalars if 'loss' in x]
    assert steps == [10, 20, 30, 40, 50]
    last = name == 'iter_30.pth' and make is nonsense
    expected = 'iter_30.pth' if last else 'iter_15.pth'
    assert os.path.basename(search.checkpoint) == expected
    # Torn lines are no news; a checkpoint is not read, nor is a file that the
    # history makes needless.
    if name in FILES[:3] and (make is not nonsense or name == FILES[0]):
        assert len(search.left_out) == 1
        assert str(search_dir / name) in search.left_out[0]
        assert 'Left out' in page
    else:
        assert search.left_out == []


@pytest.mark.parametrize('make', ENTRIES)
def test_without_a_history_the_file_is_read(search_dir, make):
    (search_dir / 'arch_history.jsonl').unlink()
    make(search_dir / 'architecture.json')
    search = read_search(str(search_dir))
    assert search.architecture is None
    assert 'architecture.json' in search.left_out[0]
    assert 'Nothing is decoded yet' in render_report(search)


@pytest.mark.parametrize('make', ENTRIES)
def test_without_a_config_it_is_one_sentence(search_dir, make):
    for folder in (FIRST, LAST):
        (search_dir / folder / 'config.py').unlink()
        make(search_dir / folder / 'config.py')
    with pytest.raises(UserError, match='holds no search') as error:
        read_search(str(search_dir))
    assert f'{FIRST}/config.py' in str(error.value)


HOOK = 'custom_hooks = [dict(type="ArchSearchHook")]\n'


@pytest.mark.parametrize(
    'text',
    [
        HOOK,
        HOOK + 'model = 3\n',
        HOOK + 'model = dict(backbone=[], data_preprocessor=dict(size="x"))\n'
        'train_dataloader = None\noptim_wrapper = "SGD"\ntrain_cfg = 3\n'
        'retrain = 3\nrandomness = [1]\ndefault_hooks = 1\n',
        HOOK + 'retrain = dict(model=dict(backbone=dict(stem_channels="x")))',
        HOOK + 'model = dict(data_preprocessor=dict(size=(1e308, nan)))',
        'custom_hooks = ("x", 3, None, dict(type=None), dict(type=3), dict('
        'type=["a"]), dict(type="no.such"), dict(type="ArchSearchHook"))\n'
        'default_hooks = dict(a=3, b=[], c=dict(type=dict()))',
        'custom_hooks = 3\n'
        'default_hooks = dict(a=dict(type="ArchSearchHook", begin=[{}]))',
    ],
)
def test_configs_of_any_other_form(search_dir, text):
    for folder in (FIRST, LAST):
        (search_dir / folder / 'config.py').write_text(text)
    search = read_search(str(search_dir))
    assert search.hook['type'] == 'ArchSearchHook' and not search.left_out
    page = render_report(search)
    assert 'id="alphas"' in page and 'Iterations' in page
    assert 'unknown, by this config' in page


@pytest.mark.parametrize(
    'text',
    [
        'import canary_module',
        "open('canary', 'w')",
        "_base_ = 'canary.py'",
        "custom_imports = dict(imports=['canary_module'])",
        "custom_hooks = [dict(type='canary_module.Hook')]",
        "custom_hooks = [dict(type='canary_module')]",
        "default_hooks = dict(a=dict(type='canary_module.b.Hook'))",
        "default_scope = 'canary_module'",
    ],
)
def test_no_config_is_run(search_dir, tmp_path, monkeypatch, text):
    for name in ('canary_module', 'canary'):
        code = "open('canary', 'w')"
        (tmp_path / f'{name}.py').write_text(code)
        (search_dir / LAST / f'{name}.py').write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    with open(search_dir / LAST / 'config.py', 'a') as f:
        f.write(f'\n{text}\n')
    render_report(read_search(str(search_dir)))
    assert not (tmp_path / 'canary').exists()


def test_a_folder_of_any_name(search_dir):
    other = search_dir.with_name('a [b] *?')
    search_dir.rename(other)
    (other / 'iter_30.pth').touch()
    search = read_search(str(other))
    assert len(search.runs) == 2
    assert search.checkpoint == str(other / 'iter_30.pth')


def test_the_checkpoint_is_that_of_most_iterations(search_dir):
    """A copy of the folder has the files in any order of time."""
    for time, name in enumerate(['100', '30', '9', 'last']):
        file = search_dir / f'iter_{name}.pth'
        file.touch()
        os.utime(file, (time, time))
    search = read_search(str(search_dir))
    assert search.checkpoint == str(search_dir / 'iter_100.pth')
