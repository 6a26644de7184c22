"""From alphas and betas to an architecture: pure functions on arrays.

Alphas have the shape (edges, 8), betas (L, 4, 3), before their softmaxes.
Auto-DeepLab, Sec. 3.3 ("Decoding discrete architectures").
"""

from operator import itemgetter

import numpy as np

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


def decode_cell(alphas: np.ndarray) -> tuple:
    """The two strongest inputs of every block, each with its best primitive.

    The strength of an edge is its largest probability over all primitives
    but ``none``. Ties go to the lower index; pairs are strongest first.
    """
    names = decodable()
    columns = [index_of(name) for name in names]
    probabilities = alpha_probabilities(alphas)[:, columns]
    best, strength = probabilities.argmax(1), probabilities.max(1)
    cell = []
    for block in range(num_blocks_of(len(probabilities))):
        edges = block_edges(block)
        states = np.argsort(-strength[edges], kind='stable')[:2]
        cell.append(
            tuple(Connection(int(n), names[best[edges[n]]]) for n in states)
        )
    return tuple(cell)


def decode_path(betas: np.ndarray) -> tuple[int, ...]:
    """The most probable path from the stem to any scale (Viterbi).

    It has one downsample rate per layer. Ties go to the lower level, at the
    end of the path first.
    """
    with np.errstate(divide='ignore'):
        log_p = np.log(beta_probabilities(betas))
    # By level, the score and the rates of the best path that ends there.
    best = {0: (0.0, ())}
    for layer, steps in enumerate(log_p):
        best = {
            level: max(
                (
                    (
                        best[source][0] + steps[source, direction],
                        (*best[source][1], RATES[level]),
                    )
                    for source, direction in incoming(layer, level)
                ),
                key=itemgetter(0),
            )
            for level in levels_at(layer)
        }
    return max(best.values(), key=itemgetter(0))[1]


def decode(alphas: np.ndarray, betas: np.ndarray) -> AutoDeepLabArchitecture:
    """Decode both levels into an :class:`AutoDeepLabArchitecture`."""
    return AutoDeepLabArchitecture(decode_cell(alphas), decode_path(betas))


def alpha_entropy(alphas: np.ndarray) -> float:
    """Mean entropy of the primitives of an edge, in nats; ln 8 at most."""
    return _mean_entropy(alpha_probabilities(alphas))


def beta_entropy(betas: np.ndarray) -> float:
    """Mean entropy of the transitions out of a source, in nats."""
    probabilities = beta_probabilities(betas)
    return _mean_entropy(probabilities[probabilities.any(-1)])


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
