"""Softmax over what exists."""

import torch
from torch import Tensor


def masked_softmax(logits: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the entries of the last dimension that exist.

    Args:
        logits (Tensor): Any shape.
        mask (Tensor): Booleans of that shape, true where an entry exists.

    Returns:
        Tensor: 0, without a gradient, where nothing exists.
    """
    # A row of nothing but -inf would be nan.
    exists = mask.any(-1, keepdim=True)
    return logits.masked_fill(exists & ~mask, -torch.inf).softmax(-1) * exists
