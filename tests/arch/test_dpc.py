"""The dense prediction cell as data, and its space."""

import json
from collections import Counter

import numpy as np
import pytest

from mmseg_autodeeplab.arch import (
    ZOO,
    Architecture,
    AutoDeepLabSpace,
    Branch,
    DPCArchitecture,
    DPCSpace,
    get_architecture,
)
from mmseg_autodeeplab.errors import UserError

POOLING = dict(input=-1, op='pyramid_pooling', grid_size=[2, 4])
CONV = dict(input=-1, op='conv', kernel=3, rate=[1, 6])
SPACES = [
    DPCSpace(3),
    DPCSpace(1),
    AutoDeepLabSpace(4, 2),
    AutoDeepLabSpace(1, 1),
]


def test_count():
    """Sec. 3.1: 81 operations, and B! 81^B = 4.2e11 cells."""
    space = DPCSpace(5)
    assert len(set(space.operations)) == 81
    assert space.count() == 418_414_128_120
    assert DPCSpace(1).count() == 81


def test_draws_are_uniform():
    """Chi-square tests of inputs and operations, at about 1e-4."""
    draws = 20_000
    space = DPCSpace(5)
    cells = [space.random([0, k]).branches for k in range(draws)]
    for index in range(5):
        branches = [cell[index] for cell in cells]
        for found, options in (
            (Counter(b.input for b in branches), range(-1, index)),
            (Counter(b.operation for b in branches), space.operations),
        ):
            assert set(found) == set(options)
            counts = np.array([found[option] for option in options])
            expected = draws / len(options)
            chi_square = ((counts - expected) ** 2 / expected).sum()
            freedom = len(options) - 1
            # Wilson and Hilferty's quantile, 3.72 standard deviations up.
            spread = 2 / (9 * max(freedom, 1))
            limit = freedom * (1 - spread + 3.72 * spread**0.5) ** 3
            assert chi_square <= limit


@pytest.mark.parametrize('space', SPACES, ids=str)
def test_choices_are_the_inverse_of_drawing(space):
    for seed in range(30):
        drawn = space.random(seed)
        choices = space.choices(drawn)
        again = space.draw(lambda name, *_, known=choices: known[name])
        assert space.choices(again) == choices
        assert drawn == space.random(seed)
        assert type(drawn) is space.architecture


@pytest.mark.parametrize('space', SPACES[:3], ids=str)
def test_a_mutation_changes_one_choice(space):
    """And, behind it, only what it rules out."""
    changed = Counter()
    for seed in range(300):
        before = space.random([seed, 0])
        after = space.mutate(before, [seed, 1])
        old, new = space.choices(before), space.choices(after)
        name = after.provenance['mutation_of']
        assert old.keys() == new.keys()
        different = [key for key in old if old[key] != new[key]]
        assert name in different
        if not name.startswith('level'):
            assert different == [name]
        changed[name] += 1
    # The first branch, or block, has one input, or pair of them.
    assert set(changed) == set(old) - {'input_0', 'inputs_0'}


@pytest.mark.parametrize('space', [AutoDeepLabSpace(3, 1)], ids=str)
def test_count_is_the_number_of_draws(space):
    """By drawing until nothing new comes: 49 cells along 13 paths."""
    found = set()
    for seed in range(8000):
        drawn = space.random(seed)
        found.add(tuple(space.choices(drawn).items()))
    assert len(found) == space.count() == 49 * 13


def test_published_cell(tmp_path):
    """Of the authors' file, a bare list, and of ours."""
    cell = [
        dict(kernel=3, rate=[1, 6], op='conv', input=-1),
        dict(kernel=3, rate=[18, 15], op='conv', input=0),
        dict(kernel=3, rate=[6, 3], op='conv', input=1),
        dict(kernel=3, rate=[1, 1], op='conv', input=0),
        dict(kernel=3, rate=[6, 21], op='conv', input=0),
    ]
    file = tmp_path / 'authors.json'
    file.write_text(json.dumps(cell))
    assert Architecture.load(str(file)) == ZOO['dpc']
    assert get_architecture(str(file), DPCArchitecture) == ZOO['dpc']
    ZOO['dpc'].dump(str(file))
    assert Architecture.load(str(file)) == ZOO['dpc']
    assert json.loads(file.read_text())['schema'] == 'mmseg_autodeeplab/dpc'
    assert DPCArchitecture.from_dict(dict(branches=cell)) == ZOO['dpc']


@pytest.mark.parametrize('seed', range(20))
def test_round_trip(seed, tmp_path):
    drawn = DPCSpace(4).random(seed)
    file = str(tmp_path / 'architecture.json')
    drawn.dump(file)
    loaded = Architecture.load(file)
    assert loaded == drawn and loaded.provenance == drawn.provenance
    assert loaded.space() == DPCSpace(4)


def test_spellings_of_the_authors():
    """A kernel of two equal sides, and a rate that changes nothing."""
    spelled = dict(input=-1, op='conv', kernel=[1, 1], rate=[2, 2])
    assert DPCArchitecture([spelled]).branches == (Branch(-1, 'conv', 1),)


@pytest.mark.parametrize(
    'branches, sentence',
    [
        ([], 'branches is .*a list of branches, not empty'),
        (5, 'branches is 5'),
        ([3], r'branches\[0\] is 3.*an object'),
        ([{**CONV, 'op': 'conf'}], r"branches\[0\].op is 'conf'.*conv or pyr"),
        ([{**CONV, 'input': 0}], r'branches\[0\].input is 0.*-1, the feature'),
        ([CONV, {**CONV, 'input': 1}], r'branches\[1\].input is 1.*-1.* to 0'),
        ([CONV, {**CONV, 'input': True}], r'branches\[1\].input is True'),
        ([CONV, {**CONV, 'input': -2}], r'branches\[1\].input is -2'),
        ([{**CONV, 'rate': [0, 1]}], r'rate is \[0, 1\].*1 or more'),
        ([{**CONV, 'rate': [1]}], r'rate is \[1\].*two integers'),
        ([{**CONV, 'rate': None}], 'rate is None'),
        ([{**CONV, 'rate': [1.5, 1]}], r'rate is \[1.5, 1\]'),
        ([{**CONV, 'kernel': 5}], 'kernel is 5.*1 or 3'),
        ([{**CONV, 'kernel': [1, 3]}], r'kernel is \[1, 3\].*1 or 3'),
        ([{**CONV, 'kernel': True}], 'kernel is True'),
        ([{**POOLING, 'grid_size': [0, 2]}], r'grid_size is \[0, 2\]'),
        ([{**POOLING, 'rate': [1, 1]}], r"branches\[0\] is 'rate'.*grid_size"),
        ([dict(input=-1, op='pyramid_pooling')], 'grid_size is None'),
    ],
)
def test_what_a_cell_may_not_be(branches, sentence):
    with pytest.raises(UserError, match=sentence):
        DPCArchitecture(branches)


@pytest.mark.parametrize('num_branches', [0, -1, 2.0, True])
def test_what_a_space_may_not_be(num_branches):
    with pytest.raises(UserError, match='num_branches is'):
        DPCSpace(num_branches)
