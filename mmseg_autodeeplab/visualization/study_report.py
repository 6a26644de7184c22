"""A black-box search as one HTML page that needs nothing but a browser."""

import shlex
from collections import Counter
from collections.abc import Sequence
from html import escape

import numpy as np
from mmengine.config import Config

from ..compat.registry import known_types_only
from ..errors import one_line
from ..search.blackbox import (
    Result,
    rank_correlation,
    read_reranked,
    read_results,
)
from ..search.blackbox.bounds import crop_size, network_size
from ..search.config_text import check_names
from .report import chart, fill_page, inline, rows, wide
from .saving import drawings_of, render

BEST = 5  # that are drawn


def render_study(work_dir: str, search: Config) -> str:
    """The page, HTML: everything is in it, nothing is loaded.

    ``search`` is the config of the search.
    """
    results = read_results(work_dir)
    complete = [result for result in results if result.state == 'complete']
    states = Counter(result.state for result in results)
    counts = ', '.join(f'{count} {state}' for state, count in states.items())
    settings = {k: str(v) for k, v in search.search.items()}
    return fill_page(
        'study.html',
        title=escape(f'Search: {work_dir}'),
        settings=rows({'Work directory': work_dir, **settings}),
        curves=_curves(complete),
        counts=f'Trials: {counts}.',
        best='\n'.join(_trial(r, search) for r in complete[:BEST]),
        reranked=_reranked(work_dir),
        commands=_commands(work_dir, complete[:BEST]),
    )


def _curves(complete: Sequence[Result]) -> str:
    """Rewards by the number of the trial, stage by stage."""
    in_order = sorted(complete, key=lambda result: result.index)
    charts = []
    for stage in range(max((len(r.rewards) for r in in_order), default=0)):
        points = np.array(
            [
                (r.index, r.rewards[stage])
                for r in in_order
                if r.rewards[stage:]
            ]
        )
        best = points.copy()
        best[:, 1] = np.maximum.accumulate(points[:, 1])
        series = {'each': points, 'the best so far': best}
        title = f'Rewards of stage {stage}'
        charts.append(chart(title, 'reward', series, 'trial'))
    return '\n'.join(charts) or '<p>No trial is finished yet.</p>'


def _trial(result: Result, search: Config) -> str:
    name = f'Trial {result.index}'
    pictures = ''.join(
        wide(
            f'{part} of trial {result.index}',
            inline(
                render(draw(result.architecture), 'svg').decode(),
                f'{part}-{result.index}',
            ),
        )
        for part, draw in drawings_of(result.architecture).items()
    )
    facts = {
        'Rewards': ', then '.join(f'{r:.5g}' for r in result.rewards),
        'Seconds': f'{result.seconds:.0f}',
        **_size(result, search),
    }
    return f'<h3>{name}</h3>{pictures}<table>{rows(facts)}</table>'


def _size(result, search):
    """Of the network of the proxy, which the config says."""
    try:
        check_names(Config(dict(model=search.model)), 'the config')
        with known_types_only():
            size = network_size(search.model, result.architecture)
        at = ' × '.join(map(str, crop_size(search.model)))
    except Exception as error:  # Of a config that holds anything.
        return {'Cost': f'unknown, by this config ({one_line(error)})'}
    return {
        'Parameters, with the backbone': f'{size["parameters"]:,}',
        f'Multiply-adds at {at} pixels': f'{size["multiply_adds"]:,}',
    }


def _reranked(work_dir):
    found = read_reranked(work_dir)
    if not found:
        return (
            '<p>None yet: <code>python tools/rerank.py '
            f'{escape(shlex.quote(work_dir))}</code> trains the best.</p>'
        )
    by_proxy = sorted(found, key=lambda one: -one.proxy)
    lines = ''.join(
        f'<tr><td>{place}</td><td>{one.trial}</td>'
        f'<td>{by_proxy.index(one) + 1}</td><td>{one.proxy:.5g}</td>'
        f'<td>{one.value:.5g}</td></tr>'
        for place, one in enumerate(found, 1)
    )
    heads = ('Rank', 'Trial', 'Rank by proxy', 'Proxy', 'Trained for longer')
    head = ''.join(f'<th scope="col">{name}</th>' for name in heads)
    text = f'<table><tr>{head}</tr>{lines}</table>'
    if len(found) > 2:
        rho = rank_correlation(
            *zip(*((one.proxy, one.value) for one in found))
        )
        text += (
            f"<p>Spearman's rho of both rankings, over {len(found)}: "
            f'{rho:.2f}.</p>'
        )
    return text


def _commands(work_dir, best):
    if not best:
        return '<p>There is nothing to decode yet.</p>'
    command = shlex.join(
        ['python', 'tools/decode.py', work_dir, '--top', str(len(best))]
    )
    return f'<pre>{escape(command)}</pre><p>It prints how to go on.</p>'
