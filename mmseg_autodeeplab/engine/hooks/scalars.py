"""Scalars that stay on the device until somebody wants to know them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def without_graphs(scalars: dict[str, Any]) -> dict[str, Any]:
    """The same scalars, not keeping what they were computed from."""
    return {
        name: value.detach() if isinstance(value, Tensor) else value
        for name, value in scalars.items()
    }


def as_numbers(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Read scalars off the device, all of them in one transfer.

    Args:
        records (Sequence[dict]): Scalars by name. Tensors are of
            floating-point numbers and one element.

    Returns:
        list[dict]: The same with numbers in the place of tensors.
    """
    tensors = [
        value.reshape(())
        for record in records
        for value in record.values()
        if isinstance(value, Tensor)
    ]
    # Where a head leaves one on the CPU, it moves to the others.
    stacked = [tensor.to(tensors[0].device) for tensor in tensors]
    numbers = iter(torch.stack(stacked).tolist() if stacked else ())
    return [
        {
            name: next(numbers) if isinstance(value, Tensor) else value
            for name, value in record.items()
        }
        for record in records
    ]
