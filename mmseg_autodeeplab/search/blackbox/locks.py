"""Locks of files, which end with the processes that hold them."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Optional


def lock(file: str, wait: bool = True) -> Optional[int]:
    """Lock a file; returns its descriptor, or None where another holds it.

    Children that are given the descriptor hold the lock as well.
    """
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT)
    try:
        how = 0 if wait else fcntl.LOCK_NB
        fcntl.flock(descriptor, fcntl.LOCK_EX | how)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


@contextmanager
def locked(file: str) -> Iterator[None]:
    """Wait for the lock of a file, and hold it."""
    descriptor = lock(file)
    try:
        yield
    finally:
        os.close(descriptor)
