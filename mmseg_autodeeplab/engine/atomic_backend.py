"""Checkpoints that are complete or absent."""

import glob
import os
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Union

from mmengine.fileio import LocalBackend, register_backend

from ..files import write_atomically


@register_backend('atomic')
class AtomicBackend(LocalBackend):
    """Local files, of which at any moment a complete one is there.

    For ``CheckpointHook(backend_args=dict(backend='atomic'))``. What is put
    is written aside and renamed. What is removed goes when the next file is
    in place, since ``CheckpointHook`` removes an old checkpoint, or the best
    one, before it saves the new one; so the disk holds one checkpoint more
    than ``max_keep_ckpts`` for as long as a save takes.

    What a killed process left of a file that is now put goes, too.
    """

    # MMEngine makes one instance to remove, and others to put.
    _outdated: ClassVar[set[str]] = set()

    def put(self, obj: bytes, filepath: Union[str, Path]) -> None:
        """Write bytes atomically, then remove what was to be removed."""
        filepath = os.path.abspath(filepath)
        write_atomically(filepath, obj)
        self._outdated.discard(filepath)
        self._outdated.update(glob.glob(f'{glob.escape(filepath)}.*.tmp'))
        while self._outdated:
            with suppress(FileNotFoundError):
                os.remove(self._outdated.pop())

    def put_text(
        self, obj: str, filepath: Union[str, Path], encoding: str = 'utf-8'
    ) -> None:
        """Write text atomically."""
        self.put(obj.encode(encoding), filepath)

    def remove(self, filepath: Union[str, Path]) -> None:
        """Remove a file as soon as the next one is complete."""
        self._outdated.add(os.path.abspath(filepath))
