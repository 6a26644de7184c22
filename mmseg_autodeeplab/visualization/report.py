"""A search as one HTML page that needs nothing but a browser."""

import os.path as osp
import re
import shlex
from collections.abc import Sequence
from html import escape
from importlib import resources
from string import Template

import numpy as np
from matplotlib.colors import to_hex
from matplotlib.ticker import MaxNLocator

from ..arch import disagreement
from ..errors import one_line
from ..files import to_json
from ..search.results import (
    CURVES,
    Search,
    config_name,
    derived_cost,
    latest,
    settings,
)
from .drawing import CHOSEN, draw_cell, draw_path
from .heat_map import FRAME, SHADES, alpha_map, beta_map
from .saving import render

# Enough for the eye, and few enough for the size of the page.
MAX_POINTS, MAX_RECORDS = 500, 200
# Of a curve's picture.
WIDTH, HEIGHT, LEFT, RIGHT, BOTTOM, TOP = 360, 210, 58, 340, 168, 10
LINES = ((CHOSEN, ''), (FRAME, '5 3'))
# Of a probability, the colours of its cell and of its number.
COLORS = [
    (to_hex(shade), '#fff' if i >= 38 else '#111')
    for i, shade in enumerate(SHADES)
]
TITLES = dict(
    alphas='Alphas: the primitives of each edge of the cell, in %',
    betas='Betas: transitions between downsample rates, by layer, in %',
)


def render_report(search: Search) -> str:
    """The page, HTML: everything is in it, nothing is loaded."""
    records = _thinned(search.records, MAX_RECORDS)
    iterations = [int(record.iteration) for record in records]
    shown = 'There is no arch_history.jsonl, which ArchSearchHook writes.'
    maps, tables = {}, []
    if records:
        shown = f'At iteration <span id="shown">{iterations[-1]}</span>.'
        history_of = dict(
            alphas=[alpha_map(record.alphas) for record in records],
            betas=[beta_map(record.betas, search.score) for record in records],
        )
        for name, history in history_of.items():
            maps[name] = _over_time(history)
            tables.append(_table(name, history[-1], maps[name]))
    data = dict(iterations=iterations, shades=COLORS, maps=maps)
    return fill_page(
        'report.html',
        title=escape(f'Search: {config_name(search)}'),
        settings=rows(settings(search)),
        latest=rows(latest(search)),
        curves=_curves(search),
        shown=shown,
        maps='\n'.join(tables),
        # Nothing in there ends the element.
        data=to_json(data, separators=(',', ':')).replace('<', '\\u003c'),
        architecture=_architecture(search),
        commands=_commands(search),
    )


def fill_page(name: str, title: str, **parts: str) -> str:
    """A page whose body is a file of this folder with these parts, of HTML."""
    page, body, style = (
        (resources.files(__package__) / file).read_text(encoding='utf-8')
        for file in ('page.html', name, 'report.css')
    )
    return Template(page).substitute(
        title=title,
        style=style.replace('FRAME_COLOR', FRAME),
        body=Template(body).substitute(parts),
    )


def rows(values: dict[str, str]) -> str:
    """Rows of a table, of names and texts."""
    return '\n'.join(
        f'<tr><th scope="row">{escape(key)}</th><td>{escape(value)}</td></tr>'
        for key, value in values.items()
    )


def _thinned(items: Sequence, count: int) -> list:
    """At most so many of them, evenly, with the first and the last."""
    count = min(len(items), count)
    return [items[i] for i in np.linspace(0, len(items) - 1, count, dtype=int)]


def _curves(search):
    charts = []
    for title, unit, names in CURVES:
        series = {
            label: np.array(_thinned(points, MAX_POINTS), dtype=float)
            for name, label in names.items()
            if (points := search.curve(name))
        }
        if series:
            charts.append(chart(title, unit, series))
    return '\n'.join(charts) or '<p>Nothing is logged yet.</p>'


def chart(title: str, unit: str, series: dict, over: str = 'iteration') -> str:
    """A figure; the series are arrays of points (n, 2), by their labels."""
    xs, ys = np.concatenate(list(series.values())).T
    x_ticks, place_x = _axis([0, *xs], LEFT, RIGHT)
    y_ticks, place_y = _axis(ys, BOTTOM, TOP)
    parts = [
        f'<path class="grid" d="M{LEFT} {place}H{RIGHT}"/>'
        f'<text x="{LEFT - 5}" y="{place + 4}" '
        f'text-anchor="end">{tick:.5g}</text>'
        for tick, place in zip(y_ticks, place_y(y_ticks))
    ] + [
        f'<text x="{place}" y="{BOTTOM + 16}" '
        f'text-anchor="middle">{tick:.6g}</text>'
        for tick, place in zip(x_ticks, place_x(x_ticks))
    ]
    legend = []
    for (label, curve), (color, dash) in zip(series.items(), LINES):
        style = f'stroke="{color}" stroke-dasharray="{dash}"'
        places = list(zip(place_x(curve[:, 0]), place_y(curve[:, 1])))
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
    return (
        f'<figure><h3>{title}</h3>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{title} over {over}s">{"".join(parts)}'
        f'<text x="{(LEFT + RIGHT) / 2}" y="{HEIGHT - 8}" '
        f'text-anchor="middle">{over}</text>'
        f'<text transform="translate(11 {(TOP + BOTTOM) / 2}) rotate(-90)" '
        f'text-anchor="middle">{unit}</text></svg>'
        f'<figcaption>{" ".join(legend)}</figcaption></figure>'
    )


def _axis(values, start, end):
    """Ticks, and the function from values to pixels."""
    low, high = min(values), max(values)
    locator = MaxNLocator(5, steps=[1, 2, 5, 10])
    ticks = locator.tick_values(low, high if high > low else low + 1)
    ends = ticks[[0, -1]], (start, end)
    return ticks, lambda values: np.interp(values, *ends).round(2)


def _over_time(tables):
    """What the script shows of the probabilities that exist, row by row.

    In permille; ``range`` is the lowest one and how far they spread.
    """
    exists = ~np.isnan(tables[0].values)
    values = np.array([table.values[exists] * 1000 for table in tables])
    values = values.round().astype(int)
    return dict(
        range=(int(values.min()), max(int(np.ptp(values)), 1)),
        values=values.tolist(),
        chosen=[
            np.flatnonzero(table.chosen[exists]).tolist() for table in tables
        ],
    )


def _table(name, table, over_time):
    """The last state, for who prints it or has no scripts."""
    title = TITLES[name]
    lowest, spread = over_time['range']
    shares = iter(over_time['values'][-1])

    def cell(value, is_chosen):
        if np.isnan(value):
            return '<td></td>'
        share = next(shares)
        shade = (share - lowest) * (len(COLORS) - 1) // spread
        background, color = COLORS[shade]
        return (
            f'<td class="{"p chosen" if is_chosen else "p"}" '
            f'style="background:{background};color:{color}">'
            f'{share / 10:.1f}</td>'
        )

    body = ''.join(
        f'<tr><th scope="row">{label}</th>{"".join(map(cell, *row))}</tr>'
        for label, *row in zip(table.rows, table.values, table.chosen)
    )
    head = ''.join(f'<th scope="col">{label}</th>' for label in table.columns)
    return f'<h3>{title}</h3>' + wide(
        name,
        f'<table class="map" id="{name}" aria-label="{title}" '
        f'style="--columns:{len(table.columns)}">'
        f'<thead><tr><td></td>{head}</tr></thead>'
        f'<tbody>{body}</tbody></table>',
    )


def wide(name: str, content: str) -> str:
    """What may be wider than the page."""
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{name}">'
        f'{content}</div>'
    )


def _architecture(search):
    architecture = search.architecture
    if architecture is None:
        return '<p>Nothing is decoded yet.</p>'
    when = ''
    if search.records:
        last = search.records[-1]
        note = disagreement(last.betas, search.score)
        when = f'<p>After {int(last.iteration)} iterations. {note}</p>'
    pictures = ''.join(
        wide(name, inline(render(draw(architecture), 'svg').decode(), name))
        for name, draw in (('cell', draw_cell), ('path', draw_path))
    )
    try:
        cost = derived_cost(search)
    except Exception as error:  # Of a config that holds anything.
        cost = {'Cost': f'unknown, by this config ({one_line(error)})'}
    return (
        f'{when}{pictures}<pre>{escape(architecture.describe())}</pre>'
        f'<table>{rows(cost)}</table>'
    )


def inline(svg: str, name: str) -> str:
    """An SVG file as an element: no addresses, and ids of its own."""
    svg = svg[svg.index('<svg') :]
    svg = re.sub(r'(?s)<metadata>.*?</metadata>|<!--.*?-->', '', svg)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', '', svg)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf'\g<1>{name}-', svg)
    return svg.replace('<svg', f'<svg role="img" aria-label="{name}"', 1)


def _commands(search):
    if search.checkpoint is None:
        return '<p>There is no checkpoint iter_*.pth yet.</p>'
    config = osp.join(search.work_dir, 'decoded', 'retrain.py')
    return (
        f'<pre>python tools/decode.py {escape(shlex.quote(search.checkpoint))}'
        f'\npython tools/train.py {escape(shlex.quote(config))}</pre>'
        '<p>The first one also prints how to test the result.</p>'
    )
