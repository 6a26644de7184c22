"""Drawings of any kind of architectures, and pictures as files."""

import io
import os.path as osp
from collections.abc import Callable

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..arch import (
    Architecture,
    AutoDeepLabArchitecture,
    DPCArchitecture,
    TemplateArchitecture,
)
from ..errors import UserError
from ..files import write_atomically
from .drawing import draw_cell, draw_dpc, draw_path
from .template_drawing import draw_layers, draw_templates

FORMATS = ('svg', 'png')
# What is drawn of each kind of architectures.
DRAWINGS = {
    AutoDeepLabArchitecture: dict(cell=draw_cell, path=draw_path),
    DPCArchitecture: dict(cell=draw_dpc),
    TemplateArchitecture: dict(templates=draw_templates, layers=draw_layers),
}


def drawings_of(architecture: Architecture) -> dict[str, Callable]:
    """The functions that draw an architecture of this kind, by name."""
    if type(architecture) not in DRAWINGS:
        raise UserError(
            f'An architecture of schema {architecture.schema!r} cannot be '
            f'drawn; {" and ".join(repr(k.schema) for k in DRAWINGS)} can.'
        )
    return DRAWINGS[type(architecture)]


def drawing_files(architecture: Architecture, out_dir: str) -> list[str]:
    """What :func:`save_drawings` writes into a folder."""
    return [
        osp.join(out_dir, f'{name}.{kind}')
        for name in drawings_of(architecture)
        for kind in FORMATS
    ]


def save_drawings(architecture: Architecture, out_dir: str) -> None:
    """Write what is drawn as SVG and PNG, each complete or not at all."""
    for name, draw in drawings_of(architecture).items():
        figure = draw(architecture)
        for kind in FORMATS:
            file = osp.join(out_dir, f'{name}.{kind}')
            write_atomically(file, render(figure, kind))


def render(figure: Figure, kind: str) -> bytes:
    """A figure as an SVG or PNG file; the same one gives the same bytes."""
    buffer = io.BytesIO()
    # Dates and random names would make every file another one.
    metadata = dict(Date=None) if kind == 'svg' else None
    with mpl.rc_context({'svg.hashsalt': 'mmseg_autodeeplab'}):
        figure.savefig(
            buffer, format=kind, dpi=200, facecolor='white', metadata=metadata
        )
    return buffer.getvalue()


def as_image(figure: Figure) -> np.ndarray:
    """A figure as pixels: RGB, uint8, shape (height, width, 3)."""
    figure.set_dpi(120)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]
