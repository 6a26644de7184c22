"""Random numbers as a function of the seed and of where a run stands.

Every use has a key, a few integers: the seed, what the numbers are for, and
which of these it is. So nothing has to be saved, and a run that is resumed
draws what it would have drawn.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

# What numbers are for; the second entry of a key.
SAMPLE, ITERATION, VALIDATION = range(3)


def seed_everything(*key: int) -> None:
    """Seed Python, NumPy and torch on every device by integers from 0 on."""
    torch.manual_seed(_seed_python_and_numpy(key))


@contextmanager
def seeded(*key: int) -> Iterator[None]:
    """Seed the generators of the CPU by a key, and bring them back."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    # Not torch.manual_seed, which seeds GPUs too.
    torch.default_generator.manual_seed(_seed_python_and_numpy(key))
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


def _seed_python_and_numpy(key):
    """Seed two of the three; returns the seed of the third."""
    numbers = np.random.SeedSequence(key).generate_state(3).tolist()
    random.seed(numbers[0])
    np.random.seed(numbers[1])
    return numbers[2]
