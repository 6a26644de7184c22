"""A search as one HTML page that needs nothing but a browser."""

import json
import os.path as osp
import re
import shlex
from collections.abc import Sequence
from html import escape
from importlib import resources
from string import Template
from typing import Any

import numpy as np
from matplotlib.colors import to_hex
from matplotlib.ticker import MaxNLocator

from ..search.history import Record
from ..search.results import (
    CURVES,
    Points,
    Search,
    config_name,
    derived_cost,
    latest,
    settings,
)
from .drawing import CHOSEN, FRAME, SHADES, draw_cell, draw_path, render
from .heat_map import HeatMap, alpha_map, beta_map

# Enough for the eye, and few enough for the size of the page.
MAX_POINTS, MAX_RECORDS = 500, 200
# Of a curve's picture.
WIDTH, HEIGHT, LEFT, RIGHT, BOTTOM, TOP = 360, 210, 58, 340, 168, 10
LINES = ((CHOSEN, ''), (FRAME, '5 3'))


def render_report(search: Search) -> str:
    """The page: everything is in it, nothing is loaded.

    Args:
        search (Search): What :func:`read_search` found.

    Returns:
        str: HTML.
    """
    template = resources.files(__package__) / 'report.html'
    records = _thinned(search.records, MAX_RECORDS)
    maps = dict(
        alphas=[alpha_map(record.alphas) for record in records],
        betas=[beta_map(record.betas) for record in records],
    )
    return Template(template.read_text(encoding='utf-8')).substitute(
        title=escape(f'Search: {config_name(search)}'),
        frame=FRAME,
        settings=_rows(settings(search)),
        latest=_rows(latest(search)),
        curves=_curves(search),
        history=_history(records, maps),
        data=_script_data(records, maps),
        architecture=_architecture(search),
        commands=_commands(search),
    )


def _curves(search: Search) -> str:
    charts = []
    for title, unit, names in CURVES:
        series = {
            label: _thinned(points, MAX_POINTS)
            for name, label in names.items()
            if (points := search.curve(name))
        }
        if series:
            charts.append(_chart(title, unit, series))
    return '\n'.join(charts) or '<p>Nothing is logged yet.</p>'


def _chart(title: str, unit: str, series: dict[str, Points]) -> str:
    points = [point for curve in series.values() for point in curve]
    (x_ticks, place_x), (y_ticks, place_y) = (
        _axis([p[0] for p in points] + [0], LEFT, RIGHT),
        _axis([p[1] for p in points], BOTTOM, TOP),
    )
    parts, legend = [], []
    for y in y_ticks:
        parts.append(
            f'<path class="grid" d="M{LEFT} {place_y(y)}H{RIGHT}"/>'
            f'<text x="{LEFT - 5}" y="{place_y(y) + 4}" '
            f'text-anchor="end">{y:.5g}</text>'
        )
    for x in x_ticks:
        parts.append(
            f'<text x="{place_x(x)}" y="{BOTTOM + 16}" '
            f'text-anchor="middle">{x:.6g}</text>'
        )
    for (label, curve), (color, dash) in zip(series.items(), LINES):
        style = f'stroke="{color}" stroke-dasharray="{dash}"'
        places = [(place_x(x), place_y(y)) for x, y in curve]
        line = ' '.join(f'{x},{y}' for x, y in places)
        parts.append(f'<polyline class="curve" {style} points="{line}"/>')
        if len(places) <= 30:
            parts += [
                f'<circle cx="{x}" cy="{y}" r="2.5" fill="{color}"/>'
                for x, y in places
            ]
        legend.append(
            '<span><svg class="key" viewBox="0 0 24 8" aria-hidden="true">'
            f'<path class="curve" {style} d="M0 4H24"/></svg> {label}</span>'
        )
    middle = (LEFT + RIGHT) / 2
    return (
        f'<figure><h3>{title}</h3>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{title} over iterations">{"".join(parts)}'
        f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">'
        'iteration</text>'
        f'<text transform="translate(11 {(TOP + BOTTOM) / 2}) rotate(-90)" '
        f'text-anchor="middle">{unit}</text></svg>'
        f'<figcaption>{" ".join(legend)}</figcaption></figure>'
    )


def _axis(values: Sequence[float], start: float, end: float) -> tuple:
    """Ticks, and the function from values to pixels."""
    low, high = min(values), max(values)
    if low == high:
        high = low + 1
    ticks = MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(low, high)
    first, last = ticks[0], ticks[-1]

    def place(value: float) -> float:
        share = (value - first) / (last - first)
        return round(float(start + share * (end - start)), 2)

    return ticks, place


def _thinned(items: Sequence, count: int) -> list:
    """At most so many of them, evenly, with the first and the last."""
    if len(items) <= count:
        return list(items)
    return [items[i] for i in np.linspace(0, len(items) - 1, count, dtype=int)]


def _permille(table: HeatMap) -> np.ndarray:
    """The probabilities that exist, row by row."""
    return (table.values[~np.isnan(table.values)] * 1000).round().astype(int)


def _range(tables: Sequence[HeatMap]) -> tuple[int, int]:
    """The lowest one of all times, and how far they spread."""
    shares = np.concatenate([_permille(table) for table in tables])
    return int(shares.min()), max(int(np.ptp(shares)), 1)


def _history(records: list[Record], maps: dict[str, list[HeatMap]]) -> str:
    if not records:
        return (
            '<p>There is no arch_history.jsonl, which ArchSearchHook '
            'writes.</p>'
        )
    slider = (
        '<p id="control" hidden><label for="time">Iteration <output '
        f'id="iteration">{int(records[-1].iteration)}</output></label>'
        f'<input id="time" type="range" min="0" max="{len(records) - 1}" '
        f'value="{len(records) - 1}"></p>'
        '<p class="printed">At iteration <span id="shown">'
        f'{int(records[-1].iteration)}</span>.</p>'
    )
    titles = dict(
        alphas='Alphas: the primitives of each edge of the cell, in %',
        betas='Betas: transitions between downsample rates, by layer, in %',
    )
    return slider + '\n'.join(
        _table(name, titles[name], tables[-1], *_range(tables))
        for name, tables in maps.items()
    )


def _table(
    name: str, title: str, table: HeatMap, lowest: int, spread: int
) -> str:
    head = ''.join(f'<th scope="col">{label}</th>' for label in table.columns)
    shares = iter(_permille(table))
    body = []
    for label, values, chosen in zip(table.rows, table.values, table.chosen):
        cells = [f'<th scope="row">{label}</th>']
        for value, is_chosen in zip(values, chosen):
            if np.isnan(value):
                cells.append('<td></td>')
                continue
            share = next(shares)
            shade = (share - lowest) * (len(SHADES) - 1) // spread
            classes = 'p chosen' if is_chosen else 'p'
            cells.append(
                f'<td class="{classes}" style="background:'
                f'{to_hex(SHADES[shade])};color:{_ink(shade)}">'
                f'{share / 10:.1f}</td>'
            )
        body.append(f'<tr>{"".join(cells)}</tr>')
    return (
        f'<h3>{title}</h3>'
        f'<div class="wide" tabindex="0" role="region" aria-label="{name}">'
        f'<table class="map" id="{name}" aria-label="{title}" '
        f'style="--columns:{len(table.columns)}">'
        f'<thead><tr><td></td>{head}</tr></thead>'
        f'<tbody>{"".join(body)}</tbody></table></div>'
    )


def _ink(shade: int) -> str:
    return '#fff' if shade >= 38 else '#111'


def _script_data(records: list[Record], maps: dict[str, list[HeatMap]]) -> str:
    data: dict[str, Any] = dict(
        iterations=[int(record.iteration) for record in records],
        shades=[[to_hex(c), _ink(i)] for i, c in enumerate(SHADES)],
        maps={},
    )
    for name, tables in maps.items():
        if tables:
            data['maps'][name] = dict(
                range=_range(tables),
                values=[_permille(table).tolist() for table in tables],
                chosen=[
                    # Among what exists, in the order of the values.
                    np.flatnonzero(
                        table.chosen[~np.isnan(table.values)]
                    ).tolist()
                    for table in tables
                ],
            )
    # Nothing in there ends the element.
    return json.dumps(data, separators=(',', ':')).replace('<', '\\u003c')


def _architecture(search: Search) -> str:
    architecture = search.architecture
    if architecture is None:
        return '<p>Nothing is decoded yet.</p>'
    pictures = (
        f'<div class="wide" tabindex="0" role="region" aria-label="{name}">'
        f'{_inline(render(draw(architecture), "svg").decode(), name)}</div>'
        for name, draw in (('cell', draw_cell), ('path', draw_path))
    )
    when = ''
    if search.records:
        when = f'<p>After {int(search.records[-1].iteration)} iterations.</p>'
    return (
        f'{when}{"".join(pictures)}<pre>'
        f'{escape(architecture.describe())}</pre>'
        f'<table>{_rows(derived_cost(search))}</table>'
    )


def _inline(svg: str, name: str) -> str:
    """An SVG file as an element: no addresses, and ids of its own."""
    svg = svg[svg.index('<svg') :]
    svg = re.sub(
        r'<metadata>.*?</metadata>|<!--.*?-->', '', svg, flags=re.DOTALL
    )
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', '', svg)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf'\g<1>{name}-', svg)
    return svg.replace('<svg', f'<svg role="img" aria-label="{name}"', 1)


def _commands(search: Search) -> str:
    if search.checkpoint is None:
        return '<p>There is no checkpoint iter_*.pth yet.</p>'
    config = osp.join(search.work_dir, 'decoded', 'retrain.py')
    lines = [
        f'python tools/decode.py {shlex.quote(search.checkpoint)}',
        f'python tools/train.py {shlex.quote(config)}',
    ]
    return (
        f'<pre>{escape(chr(10).join(lines))}</pre>'
        '<p>The first one also prints how to test the result.</p>'
    )


def _rows(values: dict[str, str]) -> str:
    return '\n'.join(
        f'<tr><th scope="row">{escape(key)}</th><td>{escape(value)}</td></tr>'
        for key, value in values.items()
    )
