"""Pictures of architectures and of their search."""

from .drawing import (
    as_image,
    draw_cell,
    draw_dpc,
    draw_path,
    drawing_files,
    render,
    save_drawings,
)
from .heat_map import draw_alphas, draw_betas
from .search_visualization_hook import SearchVisualizationHook
