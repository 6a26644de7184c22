"""Configs that come with data: what is read of them, and that nothing runs."""

import math
import sys
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import HOOKS, MODELS

from mmseg_autodeeplab.compat.registry import (
    is_a,
    known_types_only,
    registries_of,
)
from mmseg_autodeeplab.errors import UserError
from mmseg_autodeeplab.search.config_text import (
    MAX_CHARACTERS,
    check_names,
    read_config,
    write_config,
)
from mmseg_autodeeplab.search.gradient import ArchSearchHook

CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / 'autodeeplab'
ODD = dict(
    numbers=[0, -1, 2.5, -1e-5, True, None, 10**30],
    texts=['', "a'b", 'a"b', 'both \' and "', 'a\nb', '\\', 'é—✓', '{ {'],
    nested=((1, 2), [(3,), [4]], {5, 6}, dict(a=[dict(b=())])),
    keys={'a-b': 1, 'c': {'d.e': dict(f=2)}, 'class': 3},
    ints={0: 'a', 255: 'b'},
    empty=[{}, [], ()],
    raw=b'\x00',
)


@pytest.fixture
def canary(tmp_path, monkeypatch):
    """A file that is there once something was run or imported."""
    file = tmp_path / 'canary'
    for name in ('canary_module', 'canary'):
        (tmp_path / f'{name}.py').write_text(f'open({str(file)!r}, "w")')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield file
    assert not file.exists()
    assert 'canary_module' not in sys.modules


@pytest.mark.parametrize(
    'name', ['search_demo', 'search_cityscapes', 'search_camvid']
)
def test_what_mmengine_writes_is_read(name):
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    found = read_config(cfg.pretty_text, 'it')
    assert found.to_dict() == cfg.to_dict()
    check_names(found, 'it')


def test_all_kinds_of_literals():
    text = Config(ODD).pretty_text
    assert read_config(text, 'it').to_dict() == ODD
    assert Config.fromstring(text, '.py').to_dict() == ODD  # The oracle.


def test_numbers_that_mmengine_writes_and_cannot_read():
    text = Config(dict(a=[math.inf, -math.inf], b=math.nan)).pretty_text
    found = read_config(text, 'it')
    assert found.a == [math.inf, -math.inf] and math.isnan(found.b)


@pytest.mark.parametrize(
    'text',
    [
        'import canary_module',
        'from canary_module import *',
        "a = open('canary', 'w')",
        "a = dict(b=[1, (2, open('canary', 'w'))])",
        "a = dict(**open('canary', 'w'))",
        "a = {open('canary', 'w'): 1}",
        "a = [b for b in [open('canary', 'w')]]",
        "a = (lambda: open('canary', 'w'))()",
        "a = f'{open(chr(97))}'",
        "a: open('canary', 'w') = 1",
        "a[open('canary', 'w')] = 1",
        'a = b = 1',
        'a, b = 1, 2',
        'a = 1\na += 1',
        "open('canary', 'w')",
        "'text'",
        "{'a-b': 1}",
        'dict = __import__\na = dict("canary_module")',
        'a = ...',
        'a = -True',
        'a = not 1',
        'a = 1 + 1',
        "a = 'b' 'c' % 1",
        'a = c',
        'def a(): pass',
        'with read_base():\n    from canary import *',
    ],
)
def test_all_but_literals_is_refused(canary, text):
    with pytest.raises(UserError, match=r'line \d+ has .*, no literal') as e:
        read_config(f'z = 1\n{text}', 'its config')
    sentence = str(e.value)
    assert sentence.startswith('its config is read as data and never run')
    assert len(sentence) < 200 and '\n' not in sentence


@pytest.mark.parametrize(
    'text',
    [
        'a = dict(',
        'a = 1\0',
        'a = \ud800',
        r"a = '\ud800'",
        'a = [{}]'.format('[' * 40 + ']' * 40),
        'a = {}1{}'.format('dict(b=' * 150, ')' * 150),
        'a = ' + '[' * 10**5,
        'a = ' + '-' * 10**5 + '1',
        'a = 1' + '+1' * 10**5,
        'a = b' + '.c' * 10**5,
        'a = 1' + '0' * 10**4,
        'a = 0x1' + '0' * 10**4,
        f'a = {"x" * MAX_CHARACTERS!r}',
        'a = {[]: 1}',
        'a = {[]}',
        'a = dict(1)',
        "a = dict('ab')",
        "a = {**{'b': 1}}",
        'filename = 1',
        'pretty_text = 1',
        3,
        None,
    ],
    ids=lambda text: str(text)[:12].encode('ascii', 'replace').decode(),
)
def test_nonsense_is_refused_in_one_sentence(text):
    with pytest.raises(UserError, match='is read as data') as e:
        read_config(text, 'its config')
    assert len(str(e.value)) < 350 and '\n' not in str(e.value)


def test_nothing_is_substituted(canary, monkeypatch):
    monkeypatch.setenv('SECRET', 'x')
    text = "a = '{{fileDirname}} {{$SECRET:y}}'\n_base_ = 'canary.py'"
    found = read_config(text, 'it')
    assert found.a == '{{fileDirname}} {{$SECRET:y}}'
    assert found['_base_'] == 'canary.py'


KNOWN = [
    dict(type='SGD'),
    dict(type='mmseg.ArchSearchHook'),
    dict(type='mmengine.BN'),
    dict(type=f'{ArchSearchHook.__module__}.ArchSearchHook'),
    dict(type='mmseg.models.decode_heads.FCNHead'),
    dict(clip_grad=dict(type='value', clip_value=1)),
    dict(default_scope='mmseg'),
    dict(custom_imports=dict(imports='mmseg_autodeeplab')),
    dict(
        custom_imports=dict(
            imports=['mmseg_autodeeplab'], allow_failed_imports=False
        )
    ),
    dict(custom_imports=None),
    dict(ema_type='SearchEMA', norm_type=2, pool_type='max'),
]
UNKNOWN = [
    *(
        dict(type=name)
        for name in (
            *('os.system', 'subprocess.Popen', 'torch.hub.load', 'torch.load'),
            *('builtins.exec', 'mmengine.fileio.load', 'canary_module'),
            *('canary_module.Any', 'mmseg.canary_module', 'Nothing', ''),
            *(
                '.',
                '.SGD',
                'SGD.',
                'mmseg..SGD',
                'mmseg.SGD',
                'os',
                3,
                None,
                ['SGD'],
            ),
        )
    ),
    dict(type='SGD', _scope_='canary_module'),
    dict(default_scope='canary_module'),
    dict(default_scope=['mmseg']),
    dict(constructor='canary_module.Any'),
    dict(ema_type='subprocess.Popen'),
    dict(padding_mode='subprocess.Popen'),
    dict(custom_imports=dict(imports=['mmseg_autodeeplab', 'canary_module'])),
    dict(custom_imports=dict(imports='canary_module')),
    dict(custom_imports=dict(imports=('canary_module',))),
    dict(custom_imports=dict(imports=[['canary_module']])),
    dict(custom_imports='canary_module'),
    dict(custom_imports=3),
]


def places(value):
    return [dict(a=value), dict(a=[dict(b=(1, value))]), value]


@pytest.mark.parametrize('value', KNOWN, ids=str)
def test_registered_names_are_known(canary, value):
    for place in places(value):
        check_names(Config(place), 'it')


@pytest.mark.parametrize('value', UNKNOWN, ids=str)
def test_no_other_name_is_known(canary, value):
    for place in places(value):
        with pytest.raises(UserError, match='which is not known here') as e:
            check_names(Config(place), 'its config')
        assert len(str(e.value)) < 250 and '\n' not in str(e.value)


def test_registries_of_a_name(canary):
    for name in ('SGD', 'mmengine.SGD', 'torch.optim.SGD'):
        assert registries_of(name) == {'optimizer'}
    assert registries_of('IoUMetric') == {'metric'}
    assert registries_of('canary_module.Any') == set()


@pytest.mark.parametrize(
    'kind', ['canary_module', 'canary_module.Any', 'EMAHook', 'os.getcwd']
)
def test_registries_import_nothing(canary, kind):
    init_default_scope('mmseg')
    with known_types_only():
        with pytest.raises(KeyError, match='is not in the'):
            MODELS.build(dict(type=kind))
        assert not is_a(HOOKS, dict(type=kind), ArchSearchHook)
        assert MODELS.build(dict(type='mmengine.ReLU'))


def test_types_that_libraries_make_of_other_settings(canary):
    """MMCV calls the name with the padding."""
    init_default_scope('mmseg')
    layer = dict(type='ConvModule', in_channels=1, out_channels=1)
    layer.update(kernel_size=1, padding=('touch', str(canary)))
    with known_types_only(), pytest.raises(KeyError, match='Cannot find'):
        MODELS.build(dict(layer, padding_mode='subprocess.Popen'))


INJECTED = [
    {"a': open('canary', 'w'), 'b": 1},
    {"a=open('canary', 'w')": 1},
    {"a': 1, 'b": 1, 'x-y': 1},
    {'a b': {"c': 1, 'd": 2}},
]


@pytest.mark.parametrize(
    'value',
    [
        *(dict(a=value) for value in INJECTED),
        *INJECTED,
        {'x-y': 1},
        {'_base_': 'canary.py'},
        dict(a='{{fileDirname}}'),
        dict(a=[dict(b='{{$HOME:x}}')]),
        dict(a=math.inf),
        dict(a=math.nan),
        dict(a=[Path('a')]),
        dict(a=len),
        dict(a={'b': object}),
    ],
    ids=str,
)
def test_what_would_be_read_otherwise_is_not_written(canary, value):
    with pytest.raises(UserError, match='cannot be written as text, ') as e:
        write_config(Config(value), '#')
    assert len(str(e.value)) < 350 and '\n' not in str(e.value)


def test_what_is_written_is_read_by_mmengine(tmp_path):
    file = tmp_path / 'config.py'
    file.write_text(write_config(Config(ODD), '# é'), encoding='utf-8')
    assert Config.fromfile(file).to_dict() == ODD
    with pytest.raises(UserError, match='would replace'):
        write_config(Config(ODD), '# {{fileDirname}}')
