"""Templates and layers as data, and their space."""

import json
import math
from collections import Counter

import numpy as np
import pytest

from mmseg_autodeeplab.arch import (
    ZOO,
    Architecture,
    TemplateArchitecture,
    TemplateSpace,
    get_architecture,
)
from mmseg_autodeeplab.errors import UserError

# As the authors' notebooks have them: templates, then layers.
PUBLISHED = dict(
    arch0=[
        [[3, 0, 1], [4, 1, 1], [3, 1, 1]],
        [
            [0, 1, 0, 0, 1],
            [2, 1, 2, 1, 0],
            [3, 1, 1, 1, 0],
            [1, 1, 2, 0, 0],
            [3, 0, 2, 0, 0],
            [5, 3, 2, 1, 0],
            [0, 5, 0, 1, 0],
        ],
    ],
    arch1=[
        [[1, 1, 0], [1, 3, 0], [3, 4, 0]],
        [
            [1, 1, 0, 0, 0],
            [0, 1, 1, 1, 1],
            [3, 1, 2, 3, 0],
            [3, 0, 2, 2, 0],
            [0, 1, 2, 0, 0],
            [2, 1, 1, 3, 0],
            [4, 0, 2, 2, 0],
        ],
    ],
)
# Templates, then inputs, template, repeats and stride of the layers.
DECODED = dict(
    arch0=(
        [
            ('max_pool_3x3', 'sep_conv_3x3', 'cat'),
            ('sep_conv_5x5_dil6', 'sep_conv_5x5', 'cat'),
            ('max_pool_3x3', 'sep_conv_5x5', 'cat'),
        ],
        [
            ((0, 1), 0, 1, 2),
            ((2, 1), 2, 2, 1),
            ((3, 1), 1, 2, 1),
            ((1, 1), 2, 1, 1),
            ((3, 0), 2, 1, 1),
            ((5, 3), 2, 2, 1),
            ((0, 5), 0, 2, 1),
        ],
        [4, 6, 7, 8],
    ),
    arch1=(
        [
            ('sep_conv_5x5', 'sep_conv_5x5', 'psum'),
            ('sep_conv_5x5', 'max_pool_3x3', 'psum'),
            ('max_pool_3x3', 'sep_conv_5x5_dil6', 'psum'),
        ],
        [
            ((1, 1), 0, 1, 1),
            ((0, 1), 1, 2, 2),
            ((3, 1), 2, 4, 1),
            ((3, 0), 2, 3, 1),
            ((0, 1), 2, 1, 1),
            ((2, 1), 1, 4, 1),
            ((4, 0), 2, 3, 1),
        ],
        [5, 6, 7, 8],
    ),
)
SPACES = [TemplateSpace(), TemplateSpace(1, 1), TemplateSpace(2, 3)]
TEMPLATE = ['skip_connect', 'global_average_pool', 'psum']
LAYER = dict(inputs=[0, 1], template=0, repeats=1, stride=1)


def flat(values):
    if isinstance(values, int):
        return [values]
    return sum(map(flat, values), [])


def small(templates=(TEMPLATE,), layers=(LAYER,)):
    return TemplateArchitecture.from_dict(
        dict(templates=templates, layers=layers)
    )


@pytest.mark.parametrize('name', PUBLISHED)
def test_published_architectures(name, tmp_path):
    """From the authors' numbers, to them, and in a file."""
    templates, layers, loose_ends = DECODED[name]
    found = ZOO[name]
    assert list(map(tuple, found.templates)) == templates
    assert list(map(tuple, found.layers)) == layers
    assert found.loose_ends == loose_ends
    vector = flat(PUBLISHED[name])
    assert len(vector) == 44
    assert TemplateArchitecture.from_vector(vector) == found
    assert found.to_vector() == vector
    assert found.space() == TemplateSpace()

    file = str(tmp_path / 'architecture.json')
    found.dump(file)
    assert Architecture.load(file) == found
    written = json.loads((tmp_path / 'architecture.json').read_text())
    assert written['schema'] == 'mmseg_autodeeplab/templates'
    assert written['templates'] == [list(t) for t in templates]
    assert written['layers'][0] == dict(
        zip(('inputs', 'template', 'repeats', 'stride'), layers[0]),
        inputs=list(layers[0][0]),
    )
    assert get_architecture(found.content()) == found


def test_count():
    """The reference: 72^3 templates, (8!)^2 * 12^7 * 2^3 layers."""
    layers = math.factorial(8) ** 2 * 12**7 * 2**3
    assert TemplateSpace().count() == 72**3 * layers
    assert f'{TemplateSpace().count():.2e}' == '1.74e+23'
    assert TemplateSpace(1, 1).count() == 72 * 4 * 4
    assert TemplateSpace(2, 3).count() == 72**2 * 24**2 * 8**3 * 2


def test_count_is_the_number_of_draws():
    """By drawing until nothing new comes."""
    space = TemplateSpace(1, 1)
    found = {tuple(space.random(s).to_vector()) for s in range(15_000)}
    assert len(found) == space.count()


def test_decisions_are_those_of_the_reference():
    """44: their number of options, in order."""
    sizes = []

    def choose(name, options):
        sizes.append(len(options))
        return options[-1]

    last = TemplateSpace().draw(choose)
    strides = [2, 2, 2, 1, 1, 1, 1]
    expected = 3 * [6, 6, 2]
    for layer, stride in enumerate(strides):
        expected += [2 + layer, 2 + layer, 3, 4, stride]
    assert sizes == expected
    assert math.log(math.prod(sizes)) == pytest.approx(53.51, abs=0.005)
    assert [layer.stride for layer in last.layers] == strides
    assert {layer.repeats for layer in last.layers} == {4}


def test_draws_are_uniform():
    """Chi-square tests of all choices, at about 1e-4."""
    draws, space, options = 5000, TemplateSpace(), {}

    def note(name, found):
        options[name] = list(found)
        return found[0]

    space.draw(note)
    counts = {name: Counter() for name in options}
    for seed in range(draws):
        for name, value in space.choices(space.random(seed)).items():
            counts[name][value] += 1
    for name, values in options.items():
        assert set(counts[name]) == set(values)
        observed = np.array([counts[name][value] for value in values])
        expected = draws / len(values)
        chi_square = ((observed - expected) ** 2 / expected).sum()
        freedom = len(values) - 1
        # Wilson and Hilferty's quantile, 3.72 standard deviations up.
        spread = 2 / (9 * max(freedom, 1))
        limit = freedom * (1 - spread + 3.72 * spread**0.5) ** 3
        assert chi_square <= limit, name


@pytest.mark.parametrize('space', SPACES, ids=str)
def test_there_and_back(space, tmp_path):
    """As choices, as numbers, as a file."""
    for seed in range(20):
        drawn = space.random(seed)
        assert drawn == space.random(seed) and drawn.space() == space
        known = space.choices(drawn)
        assert space.draw(lambda name, *_, known=known: known[name]) == drawn
        vector = drawn.to_vector()
        assert all(type(number) is int for number in vector)
        assert (
            TemplateArchitecture.from_vector(vector, space.num_templates)
            == drawn
        )
        drawn.dump(tmp_path / 'a.json')
        assert Architecture.load(tmp_path / 'a.json') == drawn


def test_a_mutation_changes_one_choice():
    """Of any kind but the stride that has no choice."""
    space, changed = TemplateSpace(2, 3), set()
    for seed in range(300):
        before = space.random([seed, 0])
        after = space.mutate(before, [seed, 1])
        old, new = space.choices(before), space.choices(after)
        (name,) = (key for key in old if old[key] != new[key])
        changed.add(name)
    assert changed == set(old) - {'stride_1', 'stride_2'}


def test_features_are_no_loose_ends():
    """Also where no layer reads them."""
    reads = ([0, 0], [2, 0], [0, 2])
    found = small(layers=[dict(LAYER, inputs=inputs) for inputs in reads])
    assert found.loose_ends == [3, 4]


def test_a_description_has_every_part():
    lines = ZOO['arch0'].describe().splitlines()
    assert len(lines) == 3 + 7
    assert lines[0] == 'template 0: cat(max_pool_3x3, sep_conv_3x3)'
    assert lines[3] == '2: template 0 of 0 and 1, 1 times, stride 2'


def layer(**changes):
    return [LAYER, {**LAYER, **changes}, LAYER]


@pytest.mark.parametrize(
    'changes, sentence',
    [
        (dict(templates=[]), 'templates is .*a list of templates, not empty'),
        (dict(layers=5), 'layers is 5.*a list of layers'),
        (dict(templates=[TEMPLATE[:2]]), r'templates\[0\] is .*two operatio'),
        (
            dict(templates=[['conv', *TEMPLATE[1:]]]),
            r"templates\[0\]: a part is 'conv'.*one of sep_conv_3x3, .*skip",
        ),
        (
            dict(templates=[[*TEMPLATE[:2], 'skip_connect']]),
            "a part is 'skip_connect', but must be one of psum, cat",
        ),
        (dict(templates=[[[], *TEMPLATE[1:]]]), r'a part is \[\]'),
        (dict(layers=[[0, 1, 0, 1, 1]]), r'layers\[0\] is .*exactly inputs, '),
        (dict(layers=[dict(LAYER, op=1)]), r'layers\[0\] is .*exactly'),
        (dict(layers=layer(inputs=[0, 3])), r'layers\[1\].inputs .*0 to 2'),
        (dict(layers=layer(inputs=[-1, 0])), r'inputs is \[-1, 0\]'),
        (dict(layers=layer(inputs=[0])), r'inputs is \[0\].*two earlier'),
        (dict(layers=layer(inputs=[True, 0])), r'inputs is \[True, 0\]'),
        (dict(layers=layer(template=1)), 'template is 1, but must be 0'),
        (dict(layers=layer(repeats=0)), 'repeats is 0.*1 or 2 or 3 or 4'),
        (dict(layers=layer(repeats=5)), 'repeats is 5'),
        (dict(layers=layer(repeats=2.0)), 'repeats is 2.0'),
        # The first one of three may have it.
        (dict(layers=layer(stride=2)), r'layers\[1\].stride is 2.*must be 1'),
    ],
)
def test_what_an_architecture_may_not_be(changes, sentence):
    with pytest.raises(UserError, match=sentence):
        small(**changes)
    assert small(layers=[dict(LAYER, stride=2), LAYER, LAYER])


@pytest.mark.parametrize(
    'change, sentence',
    [
        (lambda v: v[:-1], 'the length is 43.*9 of 3 templates and 5 of each'),
        (lambda v: v[:9], 'the length is 9'),
        (lambda v: [6, *v[1:]], r'vector\[0\] is 6.*op_0_0, from 0 to 5'),
        (lambda v: [*v[:-1], 1], r'vector\[43\] is 1.*stride_6, from 0 to 0'),
        (lambda v: [-1, *v[1:]], r'vector\[0\] is -1'),
        (lambda v: [0.0, *v[1:]], r'vector\[0\] is 0.0'),
    ],
)
def test_what_a_vector_may_not_be(change, sentence):
    vector = ZOO['arch0'].to_vector()
    with pytest.raises(UserError, match=sentence):
        TemplateArchitecture.from_vector(change(vector))


@pytest.mark.parametrize('size', [0, -1, 2.0, True])
@pytest.mark.parametrize('name', ['num_templates', 'num_layers'])
def test_what_a_space_may_not_be(name, size):
    with pytest.raises(UserError, match=f'{name} is'):
        TemplateSpace(**{name: size})
