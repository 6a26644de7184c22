"""Pictures of architectures."""

from .drawing import (
    draw_cell,
    draw_path,
    drawing_files,
    render,
    save_drawings,
)

__all__ = [
    'draw_cell',
    'draw_path',
    'drawing_files',
    'render',
    'save_drawings',
]
