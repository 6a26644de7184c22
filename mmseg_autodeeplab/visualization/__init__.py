"""Pictures of architectures and of their search."""

from .drawing import draw_cell, draw_dpc, draw_path
from .heat_map import draw_alphas, draw_betas
from .saving import as_image, drawing_files, render, save_drawings
from .search_visualization_hook import SearchVisualizationHook
from .template_drawing import draw_layers, draw_templates
