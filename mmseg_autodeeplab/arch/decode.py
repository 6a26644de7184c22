"""From alphas and betas to an architecture: pure functions on arrays.

Auto-DeepLab, Sec. 3.3 ("Decoding discrete architectures").
"""

from typing import Optional

import numpy as np

from .autodeeplab import AutoDeepLabArchitecture, Connection
from .primitives import PRIMITIVES
from .trellis import (
    DIRECTIONS,
    NUM_LEVELS,
    RATES,
    block_edges,
    num_blocks_of,
    transition_mask,
)


def alpha_probabilities(alphas: np.ndarray) -> np.ndarray:
    """Softmax over the primitives of each edge (Eq. 3 and 4).

    Args:
        alphas (np.ndarray): Shape (edges, 8), before the softmax.

    Returns:
        np.ndarray: float64, shape (edges, 8); rows sum to 1.
    """
    return _softmax(_as_finite(alphas, 'alphas', 2, len(PRIMITIVES)))


def beta_probabilities(betas: np.ndarray) -> np.ndarray:
    """Softmax over each source's existing outgoing transitions (Eq. 7, 8).

    Args:
        betas (np.ndarray): Shape (L, 4, 3), before the softmax.

    Returns:
        np.ndarray: float64, shape (L, 4, 3); 0 where no transition exists,
        and the transitions out of every source sum to 1.
    """
    betas = _as_finite(betas, 'betas', 3, NUM_LEVELS, len(DIRECTIONS))
    mask = transition_mask(len(betas))
    probabilities = np.zeros_like(betas)
    exists = mask.any(-1)
    logits = np.where(mask, betas, -np.inf)[exists]
    probabilities[exists] = _softmax(logits)
    return probabilities


def decode_cell(alphas: np.ndarray) -> tuple:
    """The two strongest inputs of every block, each with its best primitive.

    The strength of an edge is its largest probability over all primitives
    but ``none``. Ties go to the lower index; pairs are strongest first.

    Args:
        alphas (np.ndarray): Shape (edges, 8), before the softmax.

    Returns:
        tuple: One pair of :class:`Connection` per block.
    """
    probabilities = alpha_probabilities(alphas)
    names = list(PRIMITIVES)
    undecodable = [not row.is_decodable for row in PRIMITIVES.values()]
    probabilities[:, undecodable] = -1
    best = probabilities.argmax(1)
    strength = probabilities.max(1)
    cell = []
    for block in range(num_blocks_of(len(probabilities))):
        edges = block_edges(block)
        order = np.argsort(-strength[edges], kind='stable')[:2]
        cell.append(
            tuple(
                Connection(int(state), names[best[edges[state]]])
                for state in order
            )
        )
    return tuple(cell)


def decode_path(betas: np.ndarray) -> tuple[int, ...]:
    """The most probable path from the stem to any scale (Viterbi).

    Ties go to the lower level, at the end of the path first.

    Args:
        betas (np.ndarray): Shape (L, 4, 3), before the softmax.

    Returns:
        tuple[int]: One downsample rate per layer.
    """
    with np.errstate(divide='ignore'):
        log_p = np.log(beta_probabilities(betas))
    score = np.full(NUM_LEVELS, -np.inf)
    score[0] = 0.0  # the stem
    sources = []
    for layer in log_p:
        # candidates[target, source]
        candidates = np.full((NUM_LEVELS, NUM_LEVELS), -np.inf)
        for direction, step in enumerate(DIRECTIONS):
            for source in range(NUM_LEVELS):
                if 0 <= source + step < NUM_LEVELS:
                    candidates[source + step, source] = (
                        score[source] + layer[source, direction]
                    )
        sources.append(candidates.argmax(1))
        score = candidates.max(1)
    level = int(score.argmax())
    path = []
    for source in reversed(sources):
        path.append(RATES[level])
        level = int(source[level])
    return tuple(reversed(path))


def decode(
    alphas: np.ndarray, betas: np.ndarray, provenance: Optional[dict] = None
) -> AutoDeepLabArchitecture:
    """Decode both levels into an :class:`AutoDeepLabArchitecture`."""
    return AutoDeepLabArchitecture(
        decode_cell(alphas), decode_path(betas), provenance or {}
    )


def alpha_entropy(alphas: np.ndarray) -> float:
    """Mean entropy of the primitives of an edge, in nats; ln 8 at most."""
    return float(_entropy(alpha_probabilities(alphas)).mean())


def beta_entropy(betas: np.ndarray) -> float:
    """Mean entropy of the transitions out of a source, in nats."""
    probabilities = beta_probabilities(betas)
    return float(_entropy(probabilities[probabilities.any(-1)]).mean())


def _entropy(probabilities: np.ndarray) -> np.ndarray:
    safe = np.where(probabilities > 0, probabilities, 1.0)
    return -(probabilities * np.log(safe)).sum(-1)


def _softmax(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def _as_finite(values, name: str, ndim: int, *last: int) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != ndim or values.shape[1:] != last or not len(values):
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
