"""The table of the primitives, which saved files depend on."""

from mmseg_autodeeplab.arch import PRIMITIVES, decodable, index_of


def test_order_and_names_are_those_of_saved_files():
    assert list(PRIMITIVES) == [
        'none',
        'max_pool_3x3',
        'avg_pool_3x3',
        'skip_connect',
        'sep_conv_3x3',
        'sep_conv_5x5',
        'atrous_conv_3x3',
        'atrous_conv_5x5',
    ]
    assert all(name == row.name for name, row in PRIMITIVES.items())
    assert index_of('sep_conv_3x3') == 4
    assert decodable() == list(PRIMITIVES)[1:]
    assert len({row.label for row in PRIMITIVES.values()}) == 8
