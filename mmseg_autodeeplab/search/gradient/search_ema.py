"""Averages of the weights of a search."""

from mmengine.model import ExponentialMovingAverage
from mmseg.registry import MODELS
from torch import nn


@MODELS.register_module()
class SearchEMA(ExponentialMovingAverage):
    """Average the weights of a supernet, but not its architecture.

    Alphas and betas are copied as they are. So validation, checkpoints and
    what is decoded from these have averaged weights with the architecture
    that the search has come to. Arguments are those of MMEngine's
    ``ExponentialMovingAverage``.

    Example:
        >>> custom_hooks = [
        ...     dict(type='ArchSearchHook'),
        ...     dict(type='EMAHook', ema_type='SearchEMA', momentum=0.001)]
    """

    def update_parameters(self, model: nn.Module) -> None:
        """Average the weights, then copy the architecture."""
        super().update_parameters(model)
        for copied, live in zip(
            self.module.backbone.arch_parameters(),
            model.backbone.arch_parameters(),
        ):
            copied.data.copy_(live.data)
