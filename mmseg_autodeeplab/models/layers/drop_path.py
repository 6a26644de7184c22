"""Drop path, as the authors' code applies it to every operation of a cell."""

from torch import Tensor


def drop_path(x: Tensor, keep_prob: float) -> Tensor:
    """Zero whole samples, and rescale so that the mean is preserved.

    Args:
        x (Tensor): Output of an operation, (N, C, H, W).
        keep_prob (float): Probability that a sample is kept, in (0, 1].

    Returns:
        Tensor: Same shape.
    """
    if keep_prob == 1:
        return x
    kept = x.new_empty((len(x), 1, 1, 1)).bernoulli_(keep_prob)
    return x * (kept / keep_prob)
