"""Round trips, and one sentence for every kind of nonsense."""

import json
import os
from dataclasses import dataclass, field

import numpy as np
import pytest

from mmseg_autodeeplab.arch import (
    ZOO,
    Architecture,
    AutoDeepLabArchitecture,
    Connection,
    decode,
    get_architecture,
    num_edges,
)


def random_architecture(seed, num_blocks=5, num_layers=12):
    rng = np.random.RandomState(seed)
    return decode(
        rng.randn(num_edges(num_blocks), 8), rng.randn(num_layers, 4, 3)
    )


def valid():
    return json.loads(json.dumps(ZOO['autodeeplab'].to_dict()))


@pytest.mark.parametrize(
    'num_blocks,num_layers', [(1, 3), (3, 8), (5, 12), (7, 20)]
)
def test_round_trip(tmp_path, num_blocks, num_layers):
    file = tmp_path / 'new' / 'architecture.json'
    for seed in range(5):
        architecture = random_architecture(
            seed, num_blocks, num_layers
        ).with_provenance(metrics={'x': 0.5})
        architecture.dump(file)
        loaded = Architecture.load(file)
        assert loaded == architecture
        assert loaded.provenance == architecture.provenance
        assert hash(loaded) == hash(architecture)
        assert Architecture.from_dict(loaded.to_dict()) == architecture
        assert Architecture.from_dict(loaded.content()) == architecture
    assert [f.name for f in file.parent.iterdir()] == ['architecture.json']


def test_the_file_is_the_documented_one(tmp_path):
    file = tmp_path / 'architecture.json'
    ZOO['autodeeplab'].dump(file)
    data = json.loads(file.read_text())
    assert list(data) == ['schema', 'version', 'cell', 'path', 'provenance']
    assert data['schema'] == 'mmseg_autodeeplab/architecture'
    assert data['version'] == 1
    assert data['cell'][0] == [
        {'input': 1, 'op': 'atrous_conv_5x5'},
        {'input': 0, 'op': 'sep_conv_3x3'},
    ]
    assert data['path'] == [4, 4, 4, 8, 16, 8, 16, 16, 32, 32, 16, 8]


def test_a_failed_write_leaves_what_was_there(tmp_path):
    class Speechless:
        def __str__(self):
            raise TypeError

    file = tmp_path / 'architecture.json'
    ZOO['autodeeplab'].dump(file)
    before = file.read_bytes()
    with pytest.raises(TypeError):
        ZOO['autodeeplab'].with_provenance(of=Speechless()).dump(file)
    assert file.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_the_published_architecture():
    """The table of hidden states of the authors' code."""
    indices = [1, 0, 1, 0, 3, 1, 4, 2, 3, 5]
    operations = [
        'atrous_5x5',
        'separable_3x3_2',
        'separable_3x3_2',
        'atrous_3x3',
        'separable_3x3_2',
        'separable_3x3_2',
        'separable_5x5_2',
        'separable_5x5_2',
        'separable_5x5_2',
        'atrous_5x5',
    ]
    names = {
        'atrous_3x3': 'atrous_conv_3x3',
        'atrous_5x5': 'atrous_conv_5x5',
        'separable_3x3_2': 'sep_conv_3x3',
        'separable_5x5_2': 'sep_conv_5x5',
    }
    flat = [c for block in ZOO['autodeeplab'].cell for c in block]
    assert [c.input for c in flat] == indices
    assert [c.op for c in flat] == [names[op] for op in operations]
    assert ZOO['autodeeplab'].levels == (0, 0, 0, 1, 2, 1, 2, 2, 3, 3, 2, 1)


@pytest.mark.parametrize(
    'path,stages',
    [
        (
            (4, 4, 4, 8, 16, 8, 16, 16, 32, 32, 16, 8),
            [(0, 2), (1, 3), (2, 4), (1, 5), (2, 7), (3, 9), (2, 10), (1, 11)],
        ),
        ((8, 16, 8), [(0, -1), (1, 0), (2, 1), (1, 2)]),
        ((4, 8, 4), [(0, 0), (1, 1), (0, 2)]),
        ((4, 4, 4), [(0, 2)]),
    ],
)
def test_stages(path, stages):
    found = AutoDeepLabArchitecture(ZOO['autodeeplab'].cell, path).stages
    assert list(map(tuple, found)) == stages


def change(**fields):
    return lambda data: data.update(fields)


def at(*keys, value):

    def edit(data):
        for key in keys[:-1]:
            data = data[key]
        data[keys[-1]] = value

    return edit


NONSENSE = {
    'schema is': change(schema='nni'),
    'version is 2': change(version=2),
    'cell is missing': lambda data: data.pop('cell'),
    'path is missing': lambda data: data.pop('path'),
    'schema is missing': lambda data: data.pop('schema'),
    'version is missing': lambda data: data.pop('version'),
    "field 'extra' is unknown": change(extra=1),
    'cell is []': change(cell=[]),
    "cell is 'abc'": change(cell='abc'),
    'cell[0] is': at('cell', 0, value=[]),
    'cell[1] is None': at('cell', 1, value=None),
    'cell[0][0] is': at('cell', 0, 0, value={'input': 0}),
    'cell[0][1] is': at(
        'cell', 0, 1, value={'input': 0, 'op': 'skip_connect', 'x': 1}
    ),
    'cell[0][0].input is 2': at('cell', 0, 0, 'input', value=2),
    'cell[4][1].input is -1': at('cell', 4, 1, 'input', value=-1),
    'cell[4][1].input is True': at('cell', 4, 1, 'input', value=True),
    "cell[4][1].input is '1'": at('cell', 4, 1, 'input', value='1'),
    "cell[2][0].op is 'none'": at('cell', 2, 0, 'op', value='none'),
    "cell[2][0].op is 'sep_conv_7x7'": at(
        'cell', 2, 0, 'op', value='sep_conv_7x7'
    ),
    'cell[2][0].op is 4': at('cell', 2, 0, 'op', value=4),
    'path is []': change(path=[]),
    'path is 4': change(path=4),
    'path[0] is 16': at('path', 0, value=16),
    'path[2] is 5': at('path', 2, value=5),
    'path[2] is 4.0': at('path', 2, value=4.0),
    'path[2] is nan': at('path', 2, value=float('nan')),
    'path[4] is 32': at('path', 4, value=32),
    'provenance is': change(provenance='me'),
}


@pytest.mark.parametrize('text', NONSENSE)
def test_a_file_that_is_no_architecture(tmp_path, text):
    data = valid()
    NONSENSE[text](data)
    file = tmp_path / 'a.json'
    file.write_text(json.dumps(data))
    with pytest.raises(ValueError) as error:
        Architecture.load(file)
    message = str(error.value)
    assert text in message and str(file) in message
    assert '\n' not in message and message.endswith('.')


@pytest.mark.parametrize(
    'content',
    [
        b'',
        b'{',
        b'\xff\xfe',
        b'nonsense',
        b'[' * 100000,
        b'1' * 5000,
        b'__import__("os").system("true")',
    ],
)
def test_a_file_that_is_not_json(tmp_path, content):
    file = tmp_path / 'a.json'
    file.write_bytes(content)
    with pytest.raises(ValueError, match='a.json'):
        Architecture.load(file)


@pytest.mark.parametrize('content', [b'[]', b'null', b'3', b'"x"'])
def test_json_that_is_no_object(tmp_path, content):
    file = tmp_path / 'a.json'
    file.write_bytes(content)
    with pytest.raises(ValueError, match='the top level is'):
        Architecture.load(file)


def test_no_such_file(tmp_path):
    with pytest.raises(ValueError, match='cannot be read'):
        Architecture.load(tmp_path / 'missing.json')
    with pytest.raises(ValueError, match='cannot be read'):
        Architecture.load(tmp_path)


@pytest.mark.parametrize('make', [os.mkfifo, os.mkdir])
def test_what_is_no_file(tmp_path, make):
    file = tmp_path / 'architecture.json'
    make(file)
    with pytest.raises(ValueError, match='architecture file cannot be read'):
        Architecture.load(file)
    file.rename(tmp_path / 'other')
    for target in ('architecture.json', 'nothing', '/dev/zero'):
        file.symlink_to(target)
        with pytest.raises(ValueError, match='cannot be read'):
            Architecture.load(file)
        file.unlink()


def test_what_arch_may_be(tmp_path):
    published = ZOO['autodeeplab']
    file = tmp_path / 'a.json'
    published.dump(file)
    assert get_architecture('autodeeplab') is published
    assert get_architecture(published) is published
    assert get_architecture(str(file)) == published
    assert get_architecture(published.to_dict()) == published
    # As it stands in a config: no schema, no version.
    bare = dict(cell=published.to_dict()['cell'], path=list(published.path))
    assert get_architecture(bare) == published


@pytest.mark.parametrize(
    'arch', ['autodeeplabs', '', 3, None, ['autodeeplab']]
)
def test_what_arch_may_not_be(arch):
    with pytest.raises(
        ValueError, match=r'name in the zoo \(autodeeplab, dpc, arch0, arch1\)'
    ):
        get_architecture(arch)


def test_it_is_frozen():
    with pytest.raises(AttributeError):
        ZOO['autodeeplab'].path = (4, 4, 4)


def test_describe_names_path_and_every_connection():
    text = AutoDeepLabArchitecture(
        [
            [Connection(1, 'skip_connect'), Connection(0, 'sep_conv_3x3')],
            [Connection(2, 'max_pool_3x3'), Connection(0, 'atrous_conv_5x5')],
        ],
        [8, 16, 8],
    ).describe()
    assert text == (
        'path 8-16-8\n'
        'cell 2: skip_connect(H[l-2]) + sep_conv_3x3(H[l-1]); '
        '3: max_pool_3x3(2) + atrous_conv_5x5(H[l-1])'
    )


@pytest.fixture
def ring(monkeypatch):
    """A second kind, of one list of numbers, for as long as a test takes."""
    monkeypatch.setattr(Architecture, 'kinds', dict(Architecture.kinds))

    @dataclass(frozen=True)
    class Ring(Architecture):
        schema = 'tests/ring'

        beads: list
        provenance: dict = field(default_factory=dict, compare=False)

        def content(self):
            return dict(beads=self.beads)

    return Ring


def test_kinds_dispatch_on_the_schema(tmp_path, ring):
    file, other = str(tmp_path / 'a.json'), str(tmp_path / 'b.json')
    red = ring([dict(color='red'), dict(color='blue')])
    red.with_provenance(where=[1, dict(x=2)]).dump(file)
    ZOO['autodeeplab'].dump(other)
    assert Architecture.load(file) == ring.load(file) == red
    assert Architecture.load(file).provenance == dict(where=[1, dict(x=2)])
    assert Architecture.load(other) == ZOO['autodeeplab']
    # One part per line.
    assert '\n    {"color": "blue"}\n' in (tmp_path / 'a.json').read_text()
    with pytest.raises(ValueError, match="schema is 'tests/ring', but must"):
        AutoDeepLabArchitecture.load(file)
    with pytest.raises(ValueError, match="'tests/ring'.$"):
        ring.load(other)


def test_what_has_no_schema_is_of_the_kind_that_is_asked_for(ring):
    for kind in (ring, Architecture):
        assert kind.from_dict(dict(beads=[1])) == ring([1])
    with pytest.raises(ValueError, match='cell is missing'):
        AutoDeepLabArchitecture.from_dict(dict(beads=[1]))
    with pytest.raises(ValueError, match="schema is None, .* or 'tests/ring'"):
        Architecture.from_dict(dict(pearls=[1]))


def test_a_network_takes_its_own_kind_alone(tmp_path, ring):
    file = str(tmp_path / 'a.json')
    red = ring([1])
    red.dump(file)
    assert get_architecture(file) == get_architecture(red) == red
    for arch in (file, red, red.to_dict(), red.content()):
        with pytest.raises(ValueError):
            get_architecture(arch, AutoDeepLabArchitecture)
    with pytest.raises(ValueError, match="'autodeeplab', but must be a name"):
        get_architecture('autodeeplab', ring)


def test_notes_join_the_provenance():
    """Those of one name replace it; the architecture noted on stays."""
    first = ZOO['autodeeplab'].with_provenance(date='today', iteration=1)
    second = first.with_provenance(iteration=2)
    assert first.provenance['iteration'] == 1
    assert second.provenance == {
        **ZOO['autodeeplab'].provenance,
        'date': 'today',
        'iteration': 2,
    }
