"""Mutated files: accepted for what they are, or refused in one sentence."""

import contextlib
import copy
import io
import json
import zipfile
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from architectures import random_architecture
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

from mmseg_autodeeplab.arch import Architecture, decode
from mmseg_autodeeplab.cli import read_architecture
from mmseg_autodeeplab.errors import UserError
from mmseg_autodeeplab.search import retrain_config

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / 'configs' / 'autodeeplab' / 'search_demo.py'

fixed = settings(
    derandomize=True,
    database=None,
    deadline=timedelta(seconds=10),
    suppress_health_check=list(HealthCheck),
)


def tries(count):
    return settings(fixed, max_examples=count)


@contextlib.contextmanager
def refused_at_most(folder):
    """One bounded sentence, if any, and the folder as it was."""
    before = {path: path.read_bytes() for path in folder.rglob('*')}
    try:
        yield
    except UserError as error:
        text = str(error)
        assert text and len(text) < 700 and len(text.splitlines()) == 1, text
    after = {path: path.read_bytes() for path in folder.rglob('*')}
    assert before == after


# architecture.json

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 40)
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(
        [10**4000, 'x' * 10**5, 'none', 'skip_connect', 4, 8, 1.0, -0.0]
    ),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
        | st.fixed_dictionaries(dict(input=inner, op=inner))
    ),
    max_leaves=8,
)
VALID = st.builds(
    lambda *args: random_architecture(*args).to_dict(),
    st.integers(1, 3),
    st.integers(1, 6),
    st.integers(0, 99),
)


def places(value, path=()):
    """Ways to everything within a value of JSON, itself included."""
    yield path
    if isinstance(value, (dict, list)):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in items:
            yield from places(inner, (*path, key))


@st.composite
def restructured(draw):
    """A valid architecture with one to three changes of its structure."""
    data = [draw(VALID)]
    for _ in range(draw(st.integers(1, 3))):
        found = sorted(places(data), key=len)[1:]
        *way, last = draw(st.sampled_from(found))
        parent = data
        for key in way:
            parent = parent[key]
        kind = draw(st.sampled_from(['replace', 'delete', 'copy', 'add']))
        if kind == 'delete' and way:
            del parent[last]
        elif kind == 'copy':
            *way, key = draw(st.sampled_from(found))
            source = data
            for k in way:
                source = source[k]
            parent[last] = copy.deepcopy(source[key])
        elif kind == 'add' and isinstance(parent[last], list):
            parent[last].append(draw(JSON))
        elif kind == 'add' and isinstance(parent[last], dict):
            parent[last][draw(st.text(max_size=5))] = draw(JSON)
        else:
            parent[last] = draw(JSON)
    return json.dumps(data[0]).encode()


@st.composite
def damaged(draw, content):
    """Bytes with some of them replaced, inserted, removed or cut off."""
    data = bytearray(draw(content))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        kind = draw(st.sampled_from(['replace', 'insert', 'remove', 'cut']))
        length = draw(st.integers(1, 6)) if kind != 'insert' else 0
        if kind == 'cut':
            del data[at:]
        elif kind == 'remove':
            del data[at : at + length]
        else:
            data[at : at + length] = draw(st.binary(min_size=1, max_size=6))
    return bytes(data)


def encoded(data):
    return data.map(lambda value: json.dumps(value).encode())


@pytest.fixture(scope='module')
def file(tmp_path_factory):
    return tmp_path_factory.mktemp('architectures') / 'architecture.json'


def load(file, content):
    """Load it, if it is one, and see that it is written and read as such."""
    file.write_bytes(content)
    with refused_at_most(file.parent):
        found = Architecture.load(file)
        assert found.describe().count('\n') == 1
        aside = file.parent / 'again.json'
        found.dump(aside)
        again = Architecture.load(aside)
        aside.unlink()
        assert again == found
        # As text, since NaN differs from itself.
        assert repr(again.provenance) == repr(found.provenance)
        return found
    return None


@tries(100)
@given(content=restructured())
def test_restructured_architectures(file, content):
    load(file, content)


@tries(120)
@given(content=damaged(encoded(VALID)))
def test_damaged_architectures(file, content):
    load(file, content)


@tries(80)
@given(content=encoded(JSON) | st.binary(max_size=60))
def test_random_files(file, content):
    assert load(file, content) is None


GOOD = random_architecture(2, 4, 0).to_dict()
TEXT = json.dumps(GOOD)


@pytest.mark.parametrize(
    'content, sentence',
    [
        (b'', 'is not valid JSON'),
        (TEXT.encode('utf-8-sig'), 'Unexpected UTF-8 BOM'),
        (TEXT.encode('utf-16'), "'utf-8' codec can't decode"),
        (b'[' * 10**5, 'is not valid JSON (maximum recursion depth'),
        (TEXT.replace('"version": 1', '"version": NaN'), 'version is nan'),
        (TEXT.replace('"version": 1', f'"version": 1{"0" * 5000}'), 'version'),
        (
            json.dumps(dict(GOOD, path=[10**4000])),
            'path[0] is 10000000000000',
        ),
        (json.dumps(dict(GOOD, path=[4, 'y' * 10**5])), "path[1] is 'yyyyy"),
        (json.dumps(dict(GOOD, cell=GOOD['cell'] * 10**5)), 'is too large'),
        (json.dumps(dict(GOOD, **{'z' * 10**5: 1})), "the field 'zzzzz"),
        (
            TEXT.replace('"random_seed": 0', f'"a": {"[" * 90}{"]" * 90}'),
            'must be nested at most 32 deep',
        ),
    ],
)
def test_nonsense_that_random_trials_miss(file, content, sentence):
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UserError) as error:
        Architecture.load(file)
    text = str(error.value)
    assert sentence in text and len(text) < 500 and '\n' not in text


def test_a_folder_is_no_architecture(tmp_path):
    with pytest.raises(UserError, match=r'cannot be read \(Is a directory\)'):
        Architecture.load(tmp_path)


def test_very_many_blocks():
    # A file of so many is refused; in a config they are data like others.
    block = [dict(input=0, op='skip_connect')] * 2
    found = Architecture.from_dict(dict(cell=[block] * 10**4, path=[4]))
    assert found.num_blocks == 10**4
    with pytest.raises(UserError) as error:
        Architecture.from_dict(dict(cell=[], path=[[block] * 10**6]))
    assert len(str(error.value)) < 300


# Checkpoints


@pytest.fixture(scope='module')
def search():
    """The checkpoint of a small search, as bytes."""
    cfg = Config.fromfile(DEMO)
    cfg.model.backbone.update(
        num_layers=3, num_blocks=1, filter_multiplier=1, stem_channels=2
    )
    cfg.model.decode_head.update(in_channels=[1, 2, 4, 8], channels=4)
    del cfg.custom_hooks[0].score
    init_default_scope('mmseg')
    torch.manual_seed(0)
    content = dict(
        meta=dict(cfg=cfg.pretty_text, iter=2, epoch=0, seed=0),
        # As MMEngine has it: more than weights.
        message_hub=dict(array=np.arange(3)),
        state_dict={
            name: weight
            for name, weight in MODELS.build(cfg.model).state_dict().items()
            # Few others, for speed.
            if name.startswith(('backbone.alphas', 'backbone.betas'))
            or 'conv_seg' in name
        },
        optimizer=dict(state={}, param_groups=[dict(lr=0.1)]),
    )
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    return tmp_path_factory.mktemp('checkpoints') / 'iter_2.pth'


def decode_file(checkpoint, content):
    """Decode it, if it is that of a search, and see that it is right."""
    checkpoint.write_bytes(content)
    with refused_at_most(checkpoint.parent):
        architecture, cfg, _ = read_architecture(str(checkpoint))
        weights = torch.load(io.BytesIO(content), weights_only=False)[
            'state_dict'
        ]
        assert architecture == decode(
            *(
                weights[f'backbone.{name}'].float().numpy()
                for name in ('alphas', 'betas')
            )
        )
        init_default_scope('mmseg')
        retrain = retrain_config(cfg, architecture)[0]
        assert Architecture.from_dict(retrain.model.backbone.arch) == (
            architecture
        )
        json.dumps(dict(architecture.provenance))
        return architecture
    return None


def test_the_search_itself_decodes(checkpoint, search):
    assert decode_file(checkpoint, search).num_layers == 3


@pytest.fixture(scope='module')
def outside_of_pickles(search):
    """Where the bytes of a checkpoint are not code that loading runs."""
    with zipfile.ZipFile(io.BytesIO(search)) as archive:
        (entry,) = (e for e in archive.infolist() if 'data.pkl' in e.filename)
    begin, size = entry.header_offset, entry.file_size
    return [
        i for i in range(len(search)) if not begin <= i < begin + size + 200
    ]


@tries(30)
@given(data=st.data())
def test_checkpoints_with_other_bytes(
    checkpoint, search, outside_of_pickles, data
):
    content = bytearray(search)
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(outside_of_pickles) - 1))
        content[outside_of_pickles[at]] ^= data.draw(st.integers(1, 255))
    decode_file(checkpoint, bytes(content))


@tries(20)
@given(length=st.floats(0, 1))
def test_truncated_checkpoints(checkpoint, search, length):
    content = search[: int(length * (len(search) - 1))]
    assert decode_file(checkpoint, content) is None


TENSORS = st.builds(
    lambda shape, kind, value: torch.full(shape, value).to(kind),
    st.lists(st.integers(0, 8), max_size=4)
    | st.sampled_from([(2, 8), (5, 8), (3, 8), (3, 4, 3), (1, 4, 3)]),
    st.sampled_from(
        [
            torch.float32,
            torch.float64,
            torch.float16,
            torch.bfloat16,
            torch.int64,
            torch.bool,
            torch.complex64,
        ]
    ),
    st.sampled_from([0.0, 1.0, -1e30, 1e38, np.inf, -np.inf, np.nan]),
)
VALUES = JSON | TENSORS | st.builds(np.zeros, st.integers(0, 3))
KEYS = [
    ('state_dict', 'backbone.alphas'),
    ('state_dict', 'backbone.betas'),
    ('state_dict',),
    ('meta', 'cfg'),
    ('meta', 'iter'),
    ('meta',),
    ('optimizer',),
]


@tries(40)
@given(
    changes=st.dictionaries(
        st.sampled_from(KEYS), st.just('delete') | VALUES, min_size=1
    )
)
def test_altered_checkpoints(checkpoint, search, changes):
    loaded = torch.load(io.BytesIO(search), weights_only=False)
    for (*way, key), value in sorted(
        changes.items(), key=lambda change: -len(change[0])
    ):
        parent = loaded[way[0]] if way else loaded
        parent.pop(key)
        if not isinstance(value, str) or value != 'delete':
            parent[key] = value
    buffer = io.BytesIO()
    torch.save(loaded, buffer)
    decode_file(checkpoint, buffer.getvalue())


@pytest.mark.parametrize('value, is_valid', [(0.5, True), (np.nan, False)])
def test_what_tensors_hold(checkpoint, search, value, is_valid):
    loaded = torch.load(io.BytesIO(search), weights_only=False)
    loaded['state_dict']['backbone.alphas'][1, 2] = value
    buffer = io.BytesIO()
    torch.save(loaded, buffer)
    found = decode_file(checkpoint, buffer.getvalue())
    assert (found is not None) == is_valid
    if is_valid:
        assert found.cell[0][0] == (1, 'avg_pool_3x3')


@pytest.mark.parametrize(
    'text, sentence',
    [
        ('model = dict(', 'was never closed'),
        ('raise SystemError', "line 1 has 'raise SystemError', no literal"),
        ('model = 3', 'is not the config of a search, since it has no model.'),
        ('model = dict(decode_head=dict())', 'has no model.backbone'),
        ("custom_imports = dict(imports=['no_such'])", 'is not known here'),
        ("default_scope = 'no_such'", 'is not known here'),
        ("custom_hooks = [dict(type='no_such.Hook')]", 'is not known here'),
        ('\0', 'null bytes'),
        ('a = 1\n' * 10**5, 'more than 300000 characters'),
    ],
    ids=lambda text: text[:20],
)
def test_config_of_a_checkpoint(
    checkpoint, search, text, sentence, tmp_path, monkeypatch
):
    monkeypatch.setattr('tempfile.tempdir', str(tmp_path))
    loaded = torch.load(io.BytesIO(search), weights_only=False)
    whole = 'known here' in sentence
    loaded['meta']['cfg'] = loaded['meta']['cfg'] * whole + f'\n{text}'
    torch.save(loaded, checkpoint)
    with pytest.raises(UserError) as error:
        read_architecture(str(checkpoint))
    assert sentence.replace('line 1', 'line 2') in str(error.value)
    assert 'by --config, if you trust it' in str(error.value)
    # One that is given stands for it.
    cfg = read_architecture(str(checkpoint), str(DEMO))[1]
    assert cfg.to_dict() == Config.fromfile(DEMO).to_dict()
    assert list(tmp_path.iterdir()) == []
