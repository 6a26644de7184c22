"""Pictures of architectures and of their search."""

from .drawing import (
    as_image,
    draw_alphas,
    draw_betas,
    draw_cell,
    draw_path,
    drawing_files,
    render,
    save_drawings,
)

__all__ = [
    'as_image',
    'draw_alphas',
    'draw_betas',
    'draw_cell',
    'draw_path',
    'drawing_files',
    'render',
    'save_drawings',
]
