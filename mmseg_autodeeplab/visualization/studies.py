"""Black-box searches beside each other: rewards over their trials."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from .comparison import markdown_table, with_interval
from .drawing import CHOSEN, FAINT, INK

COLORS = (CHOSEN, '#D55E00', '#009E73', INK)


def moving_mean(values: Sequence[float], window: int) -> np.ndarray:
    """The mean of each value and of those before it, ``window`` at most."""
    sums = np.cumsum([0.0, *values])
    ends = np.arange(1, len(sums))
    begins = np.maximum(ends - window, 0)
    return (sums[ends] - sums[begins]) / (ends - begins)


def studies_table(statistics: Mapping[str, Mapping], last: int) -> str:
    """What :func:`.search.comparison.compare_studies` found, Markdown."""
    *_, base = statistics
    heads = ['study', 'trials', 'best', 'mean', f'mean of the last {last}']
    rows = [
        [
            name,
            str(one['trials']),
            *(f'{one[key]:.2f}' for key in ('best', 'mean', 'last')),
            with_interval(one['improvement'], one['interval']),
        ]
        for name, one in statistics.items()
    ]
    return markdown_table([*heads, f'that above {base}'], rows)


def draw_rewards(
    studies: Mapping[str, np.ndarray], reward: str, window: int
) -> Figure:
    """Draw a dot per trial, and a line of their moving mean, per study.

    Args:
        studies (Mapping): Indices of trials and their rewards, (n, 2), in
            this order, by the names of the studies.
        reward (str): What it is.
        window (int): Trials in a mean.
    """
    figure = Figure((6.4, 3.4), layout='constrained')
    ax = figure.subplots()
    for place, (name, points) in enumerate(studies.items()):
        color = COLORS[place % len(COLORS)]
        trials, rewards = points.T
        ax.scatter(
            trials, rewards, s=10, color=color, alpha=0.45, linewidths=0
        )
        means = moving_mean(rewards, window)
        ax.plot(trials, means, color=color, linewidth=1.8, label=name)
    ax.set_xlabel(f'trial (lines: the mean of the last {window})')
    ax.set_ylabel(f'reward ({reward})')
    ax.grid(alpha=0.3)
    ax.spines[['top', 'right']].set_visible(False)
    ax.tick_params(colors=INK, color=FAINT)
    ax.legend(frameon=False)
    return figure
