"""The model behind a data-parallel wrapper."""

from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn


def bare_model(runner: Runner) -> nn.Module:
    """The runner's model, without the wrapper of distributed training."""
    model = runner.model
    return model.module if is_model_wrapper(model) else model
