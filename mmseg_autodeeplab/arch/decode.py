"""From alphas and betas to an architecture: pure functions on arrays.

Alphas have the shape (edges, 8), betas (L, 4, 3), before their softmaxes.
Auto-DeepLab, Sec. 3.3 ("Decoding discrete architectures").
"""

from collections.abc import Sequence
from heapq import nsmallest
from itertools import chain, combinations

import numpy as np

from .architecture import refuse
from .autodeeplab import AutoDeepLabArchitecture, Connection
from .primitives import PRIMITIVES, decodable, index_of
from .trellis import (
    DIRECTIONS,
    NUM_LEVELS,
    RATES,
    block_edges,
    incoming,
    levels_at,
    num_blocks_of,
    transition_mask,
)

#: What ranks paths, see :func:`transition_scores`; the first is the paper's.
#: With ``:8`` behind it, all that do not end at stride 8 are left out.
SCORES = ('probability', 'lift', 'inflow')
#: Of their largest entropy: below it, alphas or betas have begun to choose.
#: The choice of every edge then has 0.38 of the probability, three times
#: its share; that of two ways has 0.68, that of three 0.56.
SHARP = 0.9
ENDED = 'inflow:8'  # a score with an end
TINY = np.finfo(float).tiny


def check_score(score: str, name: str = 'score') -> str:
    """Return it, or raise a UserError if no path has such a score."""
    _split(score, name)
    return score


def alpha_probabilities(alphas: np.ndarray) -> np.ndarray:
    """Softmax over the primitives of each edge (Eq. 3 and 4), in float64."""
    return _softmax(_as_finite(alphas, 'alphas', len(PRIMITIVES)))


def beta_probabilities(betas: np.ndarray) -> np.ndarray:
    """Softmax over each source's existing outgoing transitions (Eq. 7, 8).

    It is in float64, and 0 where no transition exists.
    """
    betas = _as_finite(betas, 'betas', NUM_LEVELS, len(DIRECTIONS))
    mask = transition_mask(len(betas))
    exists = mask.any(-1)
    probabilities = np.zeros_like(betas)
    probabilities[exists] = _softmax(np.where(mask, betas, -np.inf)[exists])
    return probabilities


def transition_scores(
    betas: np.ndarray, score: str = 'probability'
) -> np.ndarray:
    """What each transition adds to the score of a path, (L, 4, 3), in nats.

    ``'probability'``, the paper's (Sec. 3.3): the log-probability. A source
    at the border has two ways out, any other three, and each source's sum
    to 1; so while betas are weak, the most probable path runs along the
    border, whatever the data are: the label bias of locally normalised
    models. ``'lift'`` is relative to a source that does not choose, log(p *
    ways out), which takes the bias away.

    ``'inflow'`` is log(q * ways in), with q the share of a transition in the
    sum of p * ways out over all that enter its node, so that it has neither
    bias. It is all that a search can learn: what reads a node normalises it,
    so the loss stays as it is where the probabilities into a node are
    multiplied by one number (a sum of Eq. 6, then ReLU, convolution and batch
    norm). They tell which source is the best for a node, and neither to which
    node a source should go nor where a path should end.
    """
    kind, _ = _split(score)
    with np.errstate(divide='ignore'):
        scores = np.log(beta_probabilities(betas))
    if kind != 'probability':
        ways = transition_mask(len(betas)).sum(-1, keepdims=True)
        scores += np.log(np.maximum(ways, 1))
    if kind == 'inflow':
        for layer, flows in enumerate(scores):
            for level in levels_at(layer):
                edges = tuple(np.transpose(incoming(layer, level)))
                # A node that nothing enters any more says nothing.
                whole = max(np.logaddexp.reduce(flows[edges]), np.log(TINY))
                flows[edges] -= whole - np.log(len(edges[0]))
    return scores


def path_score(
    betas: np.ndarray, path: Sequence[int], score: str = 'probability'
) -> float:
    """The score of one path, of a downsample rate per layer, in nats."""
    levels = [0, *map(RATES.index, path)]
    steps = enumerate(zip(levels, levels[1:]))
    scores = transition_scores(betas, score)
    return float(
        sum(scores[i, a, DIRECTIONS.index(b - a)] for i, (a, b) in steps)
    )


def best_paths(
    betas: np.ndarray, k: int = 1, score: str = 'probability'
) -> list[tuple[tuple[int, ...], float]]:
    """The k best paths from the stem to any scale, best first (Viterbi).

    Each comes with its score; a path has one downsample rate per layer. Ties
    go to the lower level, at the end of the path first.
    """
    _, end = _split(score)
    # By level, the best paths that end there as (-score, levels from the end).
    best = {0: [(0.0, ())]}
    for layer, steps in enumerate(transition_scores(betas, score)):
        best = {
            level: nsmallest(
                k,
                (
                    (cost - steps[source, direction], (level, *levels))
                    for source, direction in incoming(layer, level)
                    for cost, levels in best[source]
                ),
            )
            for level in levels_at(layer)
        }
    found = chain(*best.values()) if end is None else best[end]
    return [
        (tuple(RATES[level] for level in levels[::-1]), -cost)
        for cost, levels in nsmallest(k, found)
    ]


def best_cells(alphas: np.ndarray, k: int = 1) -> list[tuple[tuple, float]]:
    """The k best cells, best first, each with its score in nats.

    The score is the sum of the log-probabilities of the connections, so the
    best cell is that of :func:`decode_cell`. Ties go to the lower state,
    then to the lower primitive; pairs are strongest first.
    """
    names = decodable()
    columns = [index_of(name) for name in names]
    with np.errstate(divide='ignore'):
        costs = -np.log(alpha_probabilities(alphas)[:, columns])
    cells = [(0.0, (), ())]  # cost, ranks of the pairs, the cell
    for block in range(num_blocks_of(len(costs))):
        edges = costs[block_edges(block)]
        order = np.argsort(edges, axis=None, kind='stable')
        places = zip(*np.unravel_index(order, edges.shape))
        connections = [
            (edges[n, i], Connection(int(n), names[i])) for n, i in places
        ]
        pairs = (
            (x[0] + y[0], rank, (x[1], y[1]))
            for rank, (x, y) in enumerate(combinations(connections, 2))
            if x[1].input != y[1].input
        )
        pairs = nsmallest(k, pairs)
        cells = nsmallest(
            k,
            (
                (cost + pair[0], (*ranks, pair[1]), (*cell, pair[2]))
                for cost, ranks, cell in cells
                for pair in pairs
            ),
        )
    return [(cell, -cost) for cost, _, cell in cells]


def decode_cell(alphas: np.ndarray) -> tuple:
    """The two strongest inputs of every block, each with its best primitive.

    The strength of an edge is its largest probability over all primitives
    but ``none``. Ties go to the lower index; pairs are strongest first.
    """
    return best_cells(alphas)[0][0]


def decode_path(
    betas: np.ndarray, score: str = 'probability'
) -> tuple[int, ...]:
    """The best path from the stem to any scale: :func:`best_paths`."""
    return best_paths(betas, 1, score)[0][0]


def disagreement(betas: np.ndarray, score: str = 'probability') -> str:
    """One line on the most probable path and that of the largest lift.

    It is empty if they are the same, or a path is decoded by its inflow.
    """
    kinds = SCORES[:2]
    paths = [decode_path(betas, kind) for kind in kinds]
    if _split(score)[0] not in kinds or paths[0] == paths[1]:
        return ''
    scores = (
        [path_score(betas, path, kind) for kind in kinds] for path in paths
    )
    probable, lifted = (
        f'{"-".join(map(str, path))} (log p {log_p:.3g}, lift {lift:.3g})'
        for path, (log_p, lift) in zip(paths, scores)
    )
    return (
        'The betas do not settle the path yet: '
        f'{probable} is the most probable, {lifted} has the largest lift.'
    )


def decode(
    alphas: np.ndarray, betas: np.ndarray, score: str = 'probability'
) -> AutoDeepLabArchitecture:
    """Decode both levels into an :class:`AutoDeepLabArchitecture`."""
    return AutoDeepLabArchitecture(
        decode_cell(alphas), decode_path(betas, score)
    )


def alpha_entropy(alphas: np.ndarray) -> float:
    """Mean entropy of the primitives of an edge, in nats; ln 8 at most."""
    return _mean_entropy(alpha_probabilities(alphas))


def beta_entropy(betas: np.ndarray) -> float:
    """Mean entropy of the transitions out of a source, in nats."""
    probabilities = beta_probabilities(betas)
    return _mean_entropy(probabilities[probabilities.any(-1)])


def are_sharp(alphas: np.ndarray, betas: np.ndarray) -> tuple[bool, bool]:
    """Whether alphas, and betas, have begun to choose: :data:`SHARP`."""
    return tuple(
        entropy(values) < SHARP * entropy(np.zeros_like(values))
        for entropy, values in ((alpha_entropy, alphas), (beta_entropy, betas))
    )


def _split(score, name='score'):
    """What a score is, and the level at which paths have to end or None."""
    text = score if isinstance(score, str) else ''
    kind, colon, end = text.partition(':')
    rates = [*map(str, RATES)]
    if kind not in SCORES or (colon and end not in rates):
        allowed = ', '.join(map(repr, SCORES))
        refuse(name, score, f'{allowed}, or one with an end, as in {ENDED!r}')
    return kind, rates.index(end) if colon else None


def _mean_entropy(probabilities):
    safe = np.where(probabilities > 0, probabilities, 1.0)
    return float(-(probabilities * np.log(safe)).sum(-1).mean())


def _softmax(logits):
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def _as_finite(values, name, *last):
    values = np.asarray(values, dtype=np.float64)
    if not values.shape or values.shape[1:] != last or not len(values):
        raise ValueError(
            f'{name} must have shape (n, {", ".join(map(str, last))}), but '
            f'has {values.shape}; give them as the supernet stores them.'
        )
    if not np.isfinite(values).all():
        raise ValueError(
            f'{name} hold values that are not finite; the search '
            'has diverged, decode an earlier checkpoint.'
        )
    return values
