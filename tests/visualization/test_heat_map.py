"""Tables of alphas and betas: every number in its place."""

import numpy as np
import pytest
from matplotlib.patches import Rectangle

from mmseg_autodeeplab.arch import (
    PRIMITIVES,
    RATES,
    alpha_probabilities,
    beta_probabilities,
    decode,
    num_edges,
    transition_mask,
)
from mmseg_autodeeplab.visualization import as_image, draw_alphas, draw_betas
from mmseg_autodeeplab.visualization.heat_map import alpha_map, beta_map


def random_parameters(num_blocks, num_layers, seed=0):
    rng = np.random.default_rng(seed)
    return (
        rng.normal(size=(num_edges(num_blocks), 8)),
        rng.normal(size=(num_layers, 4, 3)),
    )


@pytest.mark.parametrize('seed', range(5))
def test_labels_and_frames_are_those_of_the_decoded_network(seed):
    alphas, betas = random_parameters(3, 6, seed)
    architecture = decode(alphas, betas)
    table = alpha_map(alphas)
    assert (table.values == alpha_probabilities(alphas)).all()
    framed = {
        (table.rows[row], table.columns[column])
        for row, column in np.argwhere(table.chosen)
    }
    assert framed == {
        (f'block {block + 2} ← state {state}', PRIMITIVES[op].label)
        for block, pair in enumerate(architecture.cell)
        for state, op in pair
    }

    table = beta_map(betas)
    framed = [
        (int(table.columns[column]), table.rows[row])
        for row, column in np.argwhere(table.chosen)
    ]
    path = architecture.path
    assert sorted(framed) == [
        (layer + 1, f'{source} → {target}')
        for layer, (source, target) in enumerate(zip((4, *path), path))
    ]


def test_the_framed_path_is_that_of_the_score():
    betas = np.zeros((3, 4, 3))
    betas[2, 1, 2] = 0.5
    for score, path in dict(
        probability=['4 → 4', '4 → 4', '4 → 4'],
        lift=['4 → 4', '4 → 8', '8 → 16'],
    ).items():
        table = beta_map(betas, score)
        assert [table.rows[row] for _, row in np.argwhere(table.chosen.T)] == (
            path
        )
        rectangles = draw_betas(betas, score).axes[0].patches
        assert sorted(r.get_xy()[::-1] for r in rectangles) == sorted(
            (row, column) for row, column in np.argwhere(table.chosen)
        )


def test_betas_stand_in_the_row_of_their_rates():
    _, betas = random_parameters(1, 5)
    table, expected = beta_map(betas), beta_probabilities(betas)
    assert (~np.isnan(table.values)).sum() == transition_mask(5).sum()
    for row, values in zip(table.rows, table.values):
        source, target = (RATES.index(int(n)) for n in row.split(' → '))
        found = expected[:, source, target - source + 1]
        for layer, value in enumerate(values):
            exists = transition_mask(5)[layer, source, target - source + 1]
            assert value == found[layer] if exists else np.isnan(value)


@pytest.mark.parametrize('num_blocks, num_layers', [(1, 3), (5, 12)])
def test_drawings(num_blocks, num_layers):
    alphas, betas = random_parameters(num_blocks, num_layers)
    frames = (2 * num_blocks, num_layers)
    for figure, count in zip((draw_alphas(alphas), draw_betas(betas)), frames):
        patches = figure.axes[0].patches
        assert sum(isinstance(p, Rectangle) for p in patches) == count
        image = as_image(figure)
        assert image.dtype == np.uint8 and image.shape[2] == 3
        assert (image[0, 0] == 255).all() and image.min() < 100
    mesh = figure.axes[0].collections[0]
    assert np.ma.getmaskarray(mesh.get_array()).any()
