"""Pictures of a search while it runs."""

import os.path as osp
from collections import Counter
from typing import Any, Optional

import mmcv
import mmengine
import mmseg
import torch
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS

from ..arch import Architecture
from ..engine import bare_model
from ..search.history import append_record
from ..version import __version__
from .drawing import as_image, draw_alphas, draw_betas, draw_cell, draw_path


@HOOKS.register_module()
class SearchVisualizationHook(Hook):
    """Show alphas, betas, cell and path through the runner's visualizer.

    So all of its backends get them: the images ``search_alphas``,
    ``search_betas``, ``search_cell`` and ``search_path``, and the scalars
    ``changed_connections`` and ``changed_layers``, what was decoded otherwise
    the time before (or when the run began, or was resumed). The alphas and
    betas also go into ``arch_history.jsonl`` in the work directory, for
    ``tools/analysis_tools/search_report.py``.

    The backbone needs ``arch_parameters()`` and ``architecture()``.

    Args:
        interval (int): Iterations between two times. The end of the search
            is always one. Defaults to 500.
    """

    # After ArchSearchHook's step, and before the timer: what it takes is not
    # to look like slow loading.
    priority = 45

    def __init__(self, interval: int = 500) -> None:
        self.interval = interval

    @master_only
    def before_train(self, runner: Runner) -> None:
        """Remember where the run begins, and what runs."""
        libraries = (torch, mmengine, mmcv, mmseg)
        versions = {lib.__name__: lib.__version__ for lib in libraries}
        self._remember(
            runner,
            runner.iter,
            config=osp.basename(runner.cfg.filename or ''),
            versions=dict(mmseg_autodeeplab=__version__, **versions),
        )

    @master_only
    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Optional[dict] = None,
    ) -> None:
        """Draw at the interval and at the end."""
        if self.every_n_train_iters(
            runner, self.interval
        ) or self.is_last_train_iter(runner):
            self._draw(runner, runner.iter + 1)

    def _draw(self, runner: Runner, iteration: int) -> None:
        before = self._architecture
        alphas, betas = self._remember(runner, iteration)
        after = self._architecture
        connections, layers = count_changes(before, after)
        runner.visualizer.add_scalars(
            dict(changed_connections=connections, changed_layers=layers),
            step=iteration,
        )
        for name, figure in dict(
            alphas=draw_alphas(alphas),
            betas=draw_betas(betas),
            cell=draw_cell(after),
            path=draw_path(after),
        ).items():
            runner.visualizer.add_image(
                f'search_{name}', as_image(figure), iteration
            )

    def _remember(self, runner: Runner, iteration: int, **notes: Any) -> list:
        backbone = bare_model(runner).backbone
        self._architecture = backbone.architecture()
        arrays = [
            p.detach().float().cpu().numpy()
            for p in backbone.arch_parameters()
        ]
        append_record(runner.work_dir, iteration, *arrays, **notes)
        return arrays


def count_changes(
    before: Architecture, after: Architecture
) -> tuple[int, int]:
    """How many choices of one architecture are others in another.

    Args:
        before (Architecture): The one.
        after (Architecture): The other, of as many blocks and layers.

    Returns:
        tuple[int, int]: Connections that their blocks did not have, whatever
        the order of a pair, and layers at another downsample rate.
    """
    connections = sum(
        sum((Counter(new) - Counter(old)).values())
        for old, new in zip(before.cell, after.cell)
    )
    layers = sum(a != b for a, b in zip(before.path, after.path))
    return connections, layers
