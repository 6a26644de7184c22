import pytest

from mmseg_autodeeplab.arch import (
    Architecture,
    get_architecture,
    signs_of_collapse,
)


def architecture(*ops, path=(4, 8)):
    pairs = zip(ops[::2], ops[1::2])
    cell = [[dict(input=i, op=op) for i, op in enumerate(p)] for p in pairs]
    return Architecture(cell, path)


SKIP, CONV = 'skip_connect', 'sep_conv_3x3'


@pytest.mark.parametrize(
    'ops,signs',
    [
        ((SKIP, CONV), []),
        ((SKIP, SKIP, CONV, CONV), []),
        ((SKIP, CONV, SKIP, SKIP), ['3 of 4 connections are skip_connect']),
        (('max_pool_3x3',) * 4, []),
    ],
)
def test_more_than_half_are_skip_connections(ops, signs):
    assert signs_of_collapse(architecture(*ops)) == signs


@pytest.mark.parametrize('rate', [4, 8])
def test_one_scale_for_all_layers(rate):
    found = signs_of_collapse(architecture(CONV, CONV, path=[rate] * 3))
    assert found == [f'all layers are at stride {rate}']
    assert not signs_of_collapse(architecture(CONV, CONV, path=[4, 4, 8]))


def test_the_published_architecture_has_no_sign():
    assert signs_of_collapse(get_architecture('autodeeplab')) == []
