"""Drawings: what is on them, and that it can be read."""

import itertools
from xml.etree import ElementTree

import pytest
from architectures import random_architecture
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.patches import FancyBboxPatch
from matplotlib.text import Text

from mmseg_autodeeplab.arch import (
    DPCArchitecture,
    DPCSpace,
    get_architecture,
)
from mmseg_autodeeplab.arch.primitives import BLUE, GREY, YELLOW
from mmseg_autodeeplab.visualization import (
    draw_cell,
    draw_dpc,
    draw_path,
    drawing_files,
    render,
    save_drawings,
)
from mmseg_autodeeplab.visualization.drawing import (
    BLOCK_HEIGHT,
    BLOCK_WIDTH,
    GAP,
    CellLayout,
)

SIZES = [
    (1, 3),
    (1, 20),
    (3, 3),
    (3, 8),
    (3, 12),
    (5, 8),
    (5, 12),
    (5, 20),
    (7, 8),
    (7, 20),
]


def text_boxes(figure):
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    return {
        text: text.get_window_extent(renderer)
        for text in figure.findobj(Text)
        if text.get_visible() and text.get_text()
    }


@pytest.mark.parametrize('draw', [draw_cell, draw_path])
@pytest.mark.parametrize('num_blocks, num_layers', SIZES)
def test_no_two_labels_overlap_and_all_are_inside(
    draw, num_blocks, num_layers
):
    figure = draw(random_architecture(num_blocks, num_layers, num_layers))
    check_labels(figure)


def check_labels(figure):
    boxes = text_boxes(figure)
    for one, two in itertools.combinations(boxes.values(), 2):
        assert not one.overlaps(two)
    whole = figure.bbox
    for text, box in boxes.items():
        inside = box.x0 >= 0 and box.x1 <= whole.x1
        assert inside and box.y0 >= 0 and box.y1 <= whole.y1, text


@pytest.mark.parametrize('num_blocks', [1, 2, 5, 7])
@pytest.mark.parametrize('seed', range(3))
def test_every_box_is_inside(num_blocks, seed):
    ax = draw_cell(random_architecture(num_blocks, 3, seed)).axes[0]
    bottom, top = ax.get_ylim()
    for box in ax.patches:
        extents = box.get_path().get_extents(box.get_patch_transform())
        assert bottom < extents.y0 and extents.y1 < top


@pytest.mark.parametrize('num_blocks', [1, 3, 5, 7])
@pytest.mark.parametrize('seed', range(5))
def test_no_wire_passes_behind_a_block(num_blocks, seed):
    """Lanes are where no block is; curves are between the columns."""
    cell = random_architecture(num_blocks, 3, seed).cell
    layout = CellLayout(cell)
    for block, pair in enumerate(cell):
        column = layout.depths[block + 2]
        for connection in pair:
            assert layout.depths[connection.input] < column
    for column, places in enumerate(layout.columns):
        blocks = [s for s in places if layout.depths[s] == column and s > 1]
        for state, other in itertools.product(blocks, places):
            distance = abs(places[state] - places[other])
            assert state == other or distance > BLOCK_HEIGHT / 2
        assert all(abs(y) < layout.height / 2 for y in places.values())
    end = len(layout.columns)
    for state in range(2, num_blocks + 2):
        points = layout.wire(state, end)
        # Curves, from every other point to the next one, span a gap.
        assert len(points) % 2 == 1
        xs = [x for x, _ in points]
        for start, stop in zip(xs[::2], [*xs[1::2], layout.left[end]]):
            assert stop - start == pytest.approx(GAP)
        for start, stop in zip(points[1::2], points[2::2]):
            assert stop[0] - start[0] == pytest.approx(BLOCK_WIDTH)
            assert stop[1] == start[1]


def test_the_published_cell():
    """Every primitive beside the sum that it goes into."""
    architecture = get_architecture('autodeeplab')
    layout = CellLayout(architecture.cell)
    for block, pair in enumerate(architecture.cell):
        found = [c for c, _ in layout.operations(block)]
        assert sorted(found) == sorted(pair)
    texts = [t.get_text() for t in draw_cell(architecture).axes[0].texts]
    for name, count in {
        'sep conv 3×3': 4,
        'sep conv 5×5': 3,
        'atrous conv 3×3': 1,
        'atrous conv 5×5': 2,
        'concat': 1,
    }.items():
        assert texts.count(name) == count, name
    assert {'2', '3', '4', '5', '6'} < set(texts)


@pytest.mark.parametrize('num_branches', [1, 2, 5, 9])
@pytest.mark.parametrize('seed', range(4))
def test_a_drawing_of_a_dpc_is_its_graph(num_branches, seed):
    """Every wire is followed from the box where it begins."""
    cell = DPCSpace(num_branches).random([seed, num_branches])
    figure = draw_dpc(cell)
    check_labels(figure)
    ax = figure.axes[0]
    bottom, top = ax.get_ylim()
    boxes, wires = [], []
    for patch in ax.patches:
        if isinstance(patch, FancyBboxPatch):
            box = patch.get_path().get_extents(patch.get_patch_transform())
            assert bottom < box.y0 and box.y1 < top
            boxes.append((box, patch.get_facecolor()))
        else:
            wires.append(patch.get_path().vertices)
    (feature, *branches, concat), colours = zip(*boxes)
    whole = [feature, *branches]
    for branch, box, colour in zip(cell.branches, branches, colours[1:]):
        kinds = {'pyramid_pooling': YELLOW, 1: GREY, 3: BLUE}
        assert colour == to_rgba(kinds[branch.kernel or branch.op])
        (y,) = {round(wire[-1][1], 6) for wire in into(wires, box)}
        assert box.y0 < y < box.y1
        (wire,) = into(wires, box)
        source = whole[branch.input + 1]
        assert wire[0][0] == pytest.approx(source.x1)
        assert source.y0 < wire[0][1] < source.y1
    found = into(wires, concat)
    assert len(found) == num_branches
    for box in branches:
        # Straight, along its own row, behind no other box.
        (wire,) = (
            w
            for w in found
            if w[0][0] == pytest.approx(box.x1) and box.y0 < w[0][1] < box.y1
        )
        y = wire[0][1]
        assert set(wire[:, 1]) == {y}
        assert not any(
            other.y0 < y < other.y1 for other in branches if other is not box
        )


def into(wires, box):
    return [
        wire
        for wire in wires
        if wire[-1][0] == pytest.approx(box.x0)
        and box.y0 < wire[-1][1] < box.y1
    ]


def test_the_published_dpc():
    figure = draw_dpc(get_architecture('dpc', DPCArchitecture))
    texts = [text.get_text() for text in text_boxes(figure)]
    assert sorted(texts) == sorted(
        [
            'feature',
            'concat',
            *(
                f'conv 3×3, rate {rate}'
                for rate in ('1×6', '18×15', '6×3', '1×1', '6×21')
            ),
            *'01234',
        ]
    )
    for kind in ('svg', 'png'):
        again = draw_dpc(get_architecture('dpc', DPCArchitecture))
        assert render(figure, kind) == render(again, kind)


def test_the_published_path():
    line = max(
        draw_path(get_architecture('autodeeplab')).axes[0].lines,
        key=lambda line: line.get_linewidth(),
    )
    # The stem, then 4 4 4 8 16 8 16 16 32 32 16 8.
    assert list(line.get_ydata()) == [0, 0, 0, 0, 1, 2, 1, 2, 2, 3, 3, 2, 1]


def test_files(tmp_path):
    folder = tmp_path / 'new'
    architecture = random_architecture(1, 3, 0)
    save_drawings(architecture, str(folder))
    names = ['cell.png', 'cell.svg', 'path.png', 'path.svg']
    assert sorted(p.name for p in folder.iterdir()) == names
    files = drawing_files(architecture, str(folder))
    assert set(files) == set(map(str, folder.iterdir()))
    for file in folder.iterdir():
        content = file.read_bytes()
        if file.suffix == '.svg':
            assert ElementTree.fromstring(content).tag.endswith('svg')
        else:
            assert content.startswith(b'\x89PNG')


def test_the_same_drawing_is_the_same_file():
    architecture = random_architecture(3, 5, 0)
    for kind in ('svg', 'png'):
        first, second = (
            render(draw_cell(architecture), kind) for _ in range(2)
        )
        assert first == second
