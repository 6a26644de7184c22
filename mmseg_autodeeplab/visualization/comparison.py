"""Searched networks beside random ones, as tables and as a picture."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from .drawing import CHOSEN, FAINT, INK

PARTS = dict(val='validation', test='test')


def comparison_tables(
    networks: Mapping[str, Mapping], statistics: Mapping, metric: str
) -> str:
    """The tables of a comparison, Markdown.

    Args:
        networks (Mapping): ``multiply_adds``, ``val``, ``test`` and
            ``seconds`` of networks, by their names.
        statistics (Mapping): What :func:`.search.comparison.compare` returns.
        metric (str): Of what the values are.
    """
    tables = [
        markdown_table(
            ['network', 'multiply-adds (M)', *PARTS.values(), 'seconds'],
            (
                [
                    name,
                    f'{one["multiply_adds"] / 1e6:.1f}',
                    *(f'{one[part]:.2f}' for part in PARTS),
                    _seconds(one['seconds']),
                ]
                for name, one in networks.items()
            ),
        ),
        markdown_table(
            [
                metric,
                'searched, mean',
                'random, mean',
                'improvement',
                "by Welch's t",
                'random ones beaten',
            ],
            (
                [
                    title,
                    f'{one["searched"]:.2f}',
                    f'{one["random"]:.2f}',
                    with_interval(one['improvement'], one['interval']),
                    from_to(one['welch_interval']),
                    f'{one["share_beaten"]:.0%}',
                ]
                for part, title in PARTS.items()
                for one in [statistics[part]]
            ),
        ),
    ]
    if one := statistics['equal_cost']:
        limit = ''
        if one['tried'] < one['candidates']:
            limit = f', of which there are {one["tried"]:g}'
        tables.append(
            f'At equal cost, {one["candidates"]:.2f} random candidates'
            f'{limit}, the best by validation: {one["random"]:.2f} on test, '
            f'against {one["searched"]:.2f} of a searched one, an improvement '
            f'of {with_interval(one["improvement"], one["interval"])}.\n'
        )
    else:
        tables.append(
            'What equal cost is, is not known: every search or every '
            'retraining was once killed together with this tool.\n'
        )
    if taus := statistics['kendall_tau']:
        tables.append(
            markdown_table(
                ["Kendall's tau, one-hot loss", *PARTS.values()],
                (
                    [
                        name,
                        *(
                            with_interval(tau[p]['tau'], tau[p]['interval'])
                            for p in PARTS
                        ),
                    ]
                    for name, tau in taus.items()
                ),
            )
        )
    return '\n'.join(tables)


def draw_comparison(groups: Mapping[str, np.ndarray], metric: str) -> Figure:
    """Draw a dot per network and a line at the mean of each group.

    Args:
        groups (Mapping): Validation and test values, (networks, 2), by the
            names of the groups.
        metric (str): Of what the values are.
    """
    figure = Figure((1.6 + 2.4 * len(PARTS), 3.2), layout='constrained')
    axes = figure.subplots(1, len(PARTS))
    for column, (ax, title) in enumerate(zip(axes, PARTS.values())):
        for place, (values, color) in enumerate(
            zip(groups.values(), (CHOSEN, FAINT))
        ):
            values = values[:, column]
            # Side by side, so that none hides another.
            shift = np.linspace(-0.25, 0.25, len(values) + 2)[1:-1]
            style = dict(color=color, edgecolors=INK, linewidths=0.5)
            ax.scatter(place + shift, values, s=28, zorder=2, **style)
            ends = place - 0.35, place + 0.35
            ax.hlines(values.mean(), *ends, color=INK, linewidth=1.5)
        ax.set_title(title)
        ax.set_xticks(range(len(groups)), list(groups))
        ax.set_xlim(-0.6, len(groups) - 0.4)
        ax.grid(axis='y', alpha=0.3)
    axes[0].set_ylabel(metric)
    return figure


def markdown_table(heads: Sequence[str], rows: Any) -> str:
    """A table of texts."""
    lines = [heads, ['---'] * len(heads), *rows]
    return ''.join(f'| {" | ".join(line)} |\n' for line in lines)


def with_interval(value: float, interval: Sequence[float]) -> str:
    """A difference and its interval, as text."""
    return f'{value:+.2f} ({from_to(interval)})'


def from_to(interval: Sequence[float]) -> str:
    """An interval, as text."""
    low, high = interval
    return f'{low:+.2f} to {high:+.2f}'


def _seconds(value):
    return 'unknown' if value is None else f'{value:.0f}'
