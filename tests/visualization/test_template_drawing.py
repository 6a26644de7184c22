"""Drawings of templates and of layers are what they show."""

import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Circle, FancyBboxPatch
from test_drawing import check_labels, text_boxes

from mmseg_autodeeplab.arch import ZOO, TemplateSpace
from mmseg_autodeeplab.visualization import (
    draw_layers,
    draw_templates,
    drawing_files,
    render,
)


def parts_of(figure):
    """Extents and colours of boxes, in order, and the points of wires."""
    ax = figure.axes[0]
    bottom, top = ax.get_ylim()
    left, right = ax.get_xlim()
    boxes, wires = [], []
    for patch in ax.patches:
        if isinstance(patch, FancyBboxPatch):
            box = patch.get_path().get_extents(patch.get_patch_transform())
            assert bottom < box.y0 and box.y1 < top
            assert left < box.x0 and box.x1 < right
            boxes.append((box, to_hex(patch.get_facecolor())))
        elif not isinstance(patch, Circle):
            wires.append(patch.get_path().vertices)
    return boxes, wires


def ends_at(point, box):
    x, y = point
    return x == pytest.approx(box.x0) and box.y0 < y < box.y1


def starts_at(point, box):
    x, y = point
    return x == pytest.approx(box.x1) and box.y0 < y < box.y1


@pytest.mark.parametrize('num_layers', [1, 2, 7, 12])
@pytest.mark.parametrize('seed', range(4))
def test_a_drawing_of_layers_is_their_graph(num_layers, seed):
    """Every wire is followed from the box where it begins."""
    space = TemplateSpace(3, num_layers)
    architecture = space.random([seed, num_layers])
    figure = draw_layers(architecture)
    check_labels(figure)
    boxes, wires = parts_of(figure)
    (*nodes, concat), colors = zip(*boxes)
    assert len(nodes) == 2 + num_layers
    assert len(wires) == 2 * num_layers + len(architecture.loose_ends) + 1
    colors_of = {}
    for layer, box, color in zip(architecture.layers, nodes[2:], colors[2:]):
        into = [wire for wire in wires if ends_at(wire[-1], box)]
        into.sort(key=lambda wire: -wire[-1][1])  # The upper one first.
        assert len(into) == 2
        for wire, source in zip(into, layer.inputs):
            assert starts_at(wire[0], nodes[source])
        assert colors_of.setdefault(layer.template, color) == color
    assert len(set(colors_of.values())) == len(colors_of)
    loose = {
        node
        for wire in wires
        if ends_at(wire[-1], concat)
        for node, box in enumerate(nodes)
        if starts_at(wire[0], box)
    }
    assert loose == set(architecture.loose_ends)
    for wire in wires:
        # The straight parts of a wire pass behind no box.
        for start, stop in zip(wire, wire[1:]):
            if start[1] == stop[1] and stop[0] - start[0] > 5:
                assert not any(
                    start[0] < box.x0
                    and box.x1 < stop[0]
                    and box.y0 < start[1] < box.y1
                    for box in nodes
                )


def test_labels_of_layers():
    texts = [t.get_text() for t in text_boxes(draw_layers(ZOO['arch1']))]
    assert sorted(texts) == sorted(
        [
            'fine',
            'coarse',
            'concat',
            'template 0, 1×',
            'template 1, 2×, stride 2',
            'template 2, 4×',
            'template 2, 3×',
            'template 2, 1×',
            'template 1, 4×',
            'template 2, 3×',
            *'012345678',
        ]
    )


@pytest.mark.parametrize('num_templates', [1, 3, 6])
def test_a_drawing_of_templates(num_templates):
    architecture = TemplateSpace(num_templates, 2).random(num_templates)
    figure = draw_templates(architecture)
    check_labels(figure)
    boxes, wires = parts_of(figure)
    assert len(boxes) == 3 * num_templates
    assert len(wires) == 5 * num_templates


def test_operations_are_from_top_to_bottom():
    boxes = text_boxes(draw_templates(ZOO['arch1']))
    texts = [t.get_text() for t in sorted(boxes, key=lambda t: -boxes[t].y0)]
    assert texts.count('sum') == 3
    assert [text for text in texts if 'pool' in text or 'conv' in text] == [
        'sep conv 5×5',
        'sep conv 5×5',
        'sep conv 5×5',
        'max pool 3×3',
        'max pool 3×3',
        'sep conv 5×5, rate 6',
    ]


def test_files_are_the_same_every_time():
    names = {file.split('/')[-1] for file in drawing_files(ZOO['arch0'], '.')}
    assert names == {
        f'{name}.{kind}'
        for name in ('templates', 'layers')
        for kind in ('svg', 'png')
    }
    for draw in (draw_templates, draw_layers):
        one, two = draw(ZOO['arch0']), draw(ZOO['arch0'])
        assert render(one, 'svg') == render(two, 'svg')
