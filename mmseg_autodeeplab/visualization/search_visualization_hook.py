"""Pictures of a search while it runs."""

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS

from ..arch import SCORES
from ..engine import bare_model
from ..search.gradient import ArchSearchHook, architecture_of
from ..search.history import count_changes
from .drawing import draw_cell, draw_path
from .heat_map import draw_alphas, draw_betas
from .saving import as_image


@HOOKS.register_module()
class SearchVisualizationHook(Hook):
    """Show alphas, betas, cell and path through the runner's visualizer.

    All of its backends get the images ``search_alphas``, ``search_betas``,
    ``search_cell`` and ``search_path``, and ``changed_connections`` and
    ``changed_layers``, what was decoded otherwise the time before. Nothing
    needs this hook: what is read of a search, ``ArchSearchHook`` writes.

    Args:
        interval (int): Iterations between two times. The end of the search
            is always one. 0 switches the pictures off.
    """

    # After ArchSearchHook's step, and before the timer: what it takes is not
    # to look like slow loading.
    priority = 45
    of_search = True

    def __init__(self, interval: int = 500) -> None:
        self.interval = interval

    @master_only
    def before_train(self, runner: Runner) -> None:
        """Remember where the run begins, and what decodes its path."""
        searches = (h for h in runner.hooks if isinstance(h, ArchSearchHook))
        self._score = next((h.score for h in searches), SCORES[0])
        backbone = bare_model(runner).backbone
        self._before = architecture_of(backbone, self._score)

    @master_only
    def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Draw at the interval and at the end."""
        if not self.interval or not (
            self.every_n_train_iters(runner, self.interval)
            or self.is_last_train_iter(runner)
        ):
            return
        iteration = runner.iter + 1
        backbone = bare_model(runner).backbone
        alphas, betas = (
            p.detach().float().cpu().numpy()
            for p in backbone.arch_parameters()
        )
        architecture = architecture_of(backbone, self._score)
        connections, layers = count_changes(self._before, architecture)
        self._before = architecture
        runner.visualizer.add_scalars(
            dict(changed_connections=connections, changed_layers=layers),
            step=iteration,
        )
        for name, figure in dict(
            alphas=draw_alphas(alphas),
            betas=draw_betas(betas, self._score),
            cell=draw_cell(architecture),
            path=draw_path(architecture),
        ).items():
            runner.visualizer.add_image(
                f'search_{name}', as_image(figure), iteration
            )
