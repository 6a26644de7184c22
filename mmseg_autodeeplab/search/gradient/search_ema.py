"""Averages of the weights of a search."""

from mmengine.hooks import EMAHook
from mmengine.model import ExponentialMovingAverage
from mmengine.runner import Runner
from mmseg.registry import MODELS
from torch import nn

from ...errors import UserError


@MODELS.register_module()
class SearchEMA(ExponentialMovingAverage):
    """Average the weights of a supernet, and copy alphas and betas.

    For ``EMAHook(ema_type='SearchEMA')``: validation, checkpoints and what is
    decoded from these have averaged weights with the architecture that the
    search has come to.
    """

    def update_parameters(self, model: nn.Module) -> None:
        """Average the weights, then copy the architecture."""
        super().update_parameters(model)
        for copied, live in zip(
            self.module.backbone.arch_parameters(),
            model.backbone.arch_parameters(),
        ):
            copied.data.copy_(live.data)


def refuse_other_averages(runner: Runner) -> None:
    """Raise a :class:`UserError` where an ``EMAHook`` averages otherwise."""
    for hook in runner.hooks:
        if isinstance(hook, EMAHook) and not isinstance(
            hook.ema_model, SearchEMA
        ):
            raise UserError(
                f'EMAHook with ema_type {type(hook.ema_model).__name__} '
                'would average alphas and betas, and checkpoints would hold '
                "the averages; set its ema_type to 'SearchEMA', which "
                'averages the weights alone.'
            )
