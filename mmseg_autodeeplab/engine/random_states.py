"""The states of all random generators of a process."""

import random

import numpy as np
import torch


def get_random_states() -> dict:
    """Copy the states of Python's, NumPy's and torch's generators.

    Returns:
        dict: Tensors on the CPU, numbers, strings and tuples of them, so that
        torch loads it with ``weights_only=True``. Of the GPUs, that of the
        process.
    """
    name, keys, *rest = np.random.get_state()
    states = dict(
        python=random.getstate(),
        numpy=(name, torch.from_numpy(keys.astype(np.int64)), *rest),
        torch=torch.get_rng_state(),
    )
    if torch.cuda.is_available():
        states['cuda'] = torch.cuda.get_rng_state()
    return states


def set_random_states(states: dict) -> None:
    """Go back to what :func:`get_random_states` found.

    Args:
        states (dict): Its tensors may be on any device. The state of a GPU
            is left out where there is none.
    """
    random.setstate(states['python'])
    name, keys, *rest = states['numpy']
    np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states['torch'].cpu())
    if 'cuda' in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states['cuda'].cpu())
