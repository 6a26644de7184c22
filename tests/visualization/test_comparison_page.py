"""Tables and the picture of a comparison."""

import numpy as np
import pytest

from mmseg_autodeeplab.search.comparison import compare
from mmseg_autodeeplab.visualization.comparison import (
    comparison_tables,
    draw_comparison,
)

SEARCHED = np.array([[50, 40], [60, 44.0]])
RANDOM = np.array([[40, 30], [50, 40], [45, 35], [70, 20.0]])


def networks():
    values = {'searched': SEARCHED, 'random': RANDOM}
    return {
        f'{kind}_{i}': dict(
            multiply_adds=12_340_000, val=val, test=test, seconds=None
        )
        for kind, pairs in values.items()
        for i, (val, test) in enumerate(pairs)
    }


def test_the_tables_say_what_was_found():
    found = compare(SEARCHED, RANDOM, 9.5, dict(one=[4.0, 2.0, 3.0, 1.0]))
    text = comparison_tables(networks(), found, 'mIoU')
    assert '| random_3 | 12.3 | 70.00 | 20.00 | unknown |' in text
    # Of four on validation, 3 and 3 are beaten; on test, 3 and 4.
    low, high = found['test']['interval']
    wider = [f'{end:+.2f}' for end in found['test']['welch_interval']]
    assert (
        f'| test | 42.00 | 31.25 | +10.75 ({low:+.2f} to {high:+.2f}) '
        f'| {" to ".join(wider)} | 88% |'
    ) in text
    assert low < 10.75 < high
    assert '| validation | 55.00 | 51.25 |' in text
    # The best of all four by validation is the worst on test.
    assert '9.50 random candidates, of which there are 4, the best' in text
    assert '20.00 on test, against 42.00' in text and '+22.00' in text
    # Lower losses, better values on validation: all pairs agree.
    assert '| one | +1.00 (+1.00 to +1.00) | ' in text


def test_an_unknown_cost_is_a_sentence():
    text = comparison_tables(networks(), compare(SEARCHED, RANDOM), 'mIoU')
    assert 'is not known' in text and 'Kendall' not in text


def test_there_is_a_dot_per_network_and_a_line_per_mean():
    groups = dict(searched=SEARCHED, random=RANDOM)
    figure = draw_comparison(groups, 'mIoU')
    assert [ax.get_title() for ax in figure.axes] == ['validation', 'test']
    for column, ax in enumerate(figure.axes):
        dots = [c for c in ax.collections if len(c.get_offsets()) > 1]
        for values, shown in zip(groups.values(), dots):
            assert np.array(shown.get_offsets())[:, 1] == pytest.approx(
                values[:, column]
            )
        lines = [c for c in ax.collections if c not in dots]
        assert [line.get_segments()[0][0, 1] for line in lines] == [
            values[:, column].mean() for values in groups.values()
        ]
