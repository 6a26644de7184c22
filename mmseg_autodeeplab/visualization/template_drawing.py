"""Templates, and the layers that apply them, as pictures."""

from matplotlib.figure import Figure
from matplotlib.patches import Circle

from ..arch import Connection, TemplateArchitecture
from ..arch.primitives import BLUE, GREY, ORANGE, YELLOW
from ..arch.templates import AGGREGATIONS, NUM_FEATURES, OPERATIONS
from .drawing import (
    BLOCK_HEIGHT,
    BLOCK_WIDTH,
    BOX,
    BRANCH,
    FAINT,
    FEATURE_WIDTH,
    GAP,
    INCHES,
    INK,
    INPUT_WIDTH,
    SUM_RADIUS,
    CellLayout,
    draw_box,
    draw_text,
    draw_wire,
)

COLORS = (BLUE, ORANGE, YELLOW, GREY)  # of templates, in turn


def draw_templates(architecture: TemplateArchitecture) -> Figure:
    """Draw each template: its operations, from top to bottom, on both inputs.

    Its number has the colour of the layers that apply it.
    """
    templates = architecture.templates
    right = FEATURE_WIDTH + GAP + BRANCH[0] + 4 + 2 * SUM_RADIUS
    figure, ax = _canvas(right + 2, len(templates) * BLOCK_HEIGHT + 1)
    for index, template in enumerate(templates):
        y = ((len(templates) - 1) / 2 - index) * BLOCK_HEIGHT
        color = COLORS[index % len(COLORS)]
        draw_box(ax, 0, y, FEATURE_WIDTH, 1.8, f'template {index}', color)
        left, x = FEATURE_WIDTH + GAP, right - SUM_RADIUS
        for name, height in zip(template, (y + 1.2, y - 1.2)):
            row = OPERATIONS[name]
            draw_wire(ax, [(left - 2, height), (left, height)])
            draw_box(ax, left, height, *BRANCH, row.label, row.color)
            draw_wire(ax, [(left + BRANCH[0], height), (x, y)])
        style = dict(fc='white', ec=INK, zorder=3)
        ax.add_patch(Circle((x, y), SUM_RADIUS, **style))
        draw_text(ax, x, y, AGGREGATIONS[template.aggregation])
        draw_wire(ax, [(right, y), (right + 1.5, y)])
    return figure


def draw_layers(architecture: TemplateArchitecture) -> Figure:
    """Draw the graph of the layers, from the features to the concatenation.

    A layer has its number as a node, its template, repeats, and stride of 2.
    Of the wires into it, the upper one is the first input. Faint wires lead
    from the layers that no other one reads.
    """
    layers = architecture.layers
    reads = [[Connection(node, '') for node in n.inputs] for n in layers]
    layout = CellLayout(reads, architecture.loose_ends)
    end, right = len(layout.columns), layout.left[-1]
    figure, ax = _canvas(right + 4.5, layout.height + 1.2)
    for node in range(NUM_FEATURES):
        y = layout.columns[0][node]
        draw_box(ax, 0, y, INPUT_WIDTH, 1.8, ('fine', 'coarse')[node])
        draw_text(ax, 0.8, y + 1.6, f'{node}')
    for node, layer in enumerate(layers, NUM_FEATURES):
        column = layout.depths[node]
        left, y = layout.left[column], layout.columns[column][node]
        for source, height in zip(layer.inputs, (y + 0.5, y - 0.5)):
            points = layout.wire(source, column)
            draw_wire(ax, [*points, (left, height)])
        text = f'template {layer.template}, {layer.repeats}×'
        text += f', stride {layer.stride}' if layer.stride > 1 else ''
        color = COLORS[layer.template % len(COLORS)]
        draw_box(ax, left, y, BLOCK_WIDTH, BOX[1], text, color)
        draw_text(ax, left + 0.8, y + BOX[1] / 2 + 0.7, f'{node}')
    heights = []
    for node in architecture.loose_ends:
        points = layout.wire(node, end)
        heights.append(points[-1][1])
        draw_wire(ax, [*points, (right, heights[-1])], color=FAINT, zorder=1)
    middle = (max(heights) + min(heights)) / 2
    height = max(heights) - min(heights) + 4
    draw_box(ax, right, middle, 2, height, 'concat', rotation=90)
    draw_wire(ax, [(right + 2, middle), (right + 3.5, middle)])
    return figure


def _canvas(right, height):
    """A figure of as many units, from one to the left of 0, around 0."""
    figure = Figure(((right + 1) * INCHES, height * INCHES))
    ax = figure.add_axes(
        (0, 0, 1, 1), xlim=(-1, right), ylim=(-height / 2, height / 2)
    )
    ax.set_axis_off()
    return figure, ax
