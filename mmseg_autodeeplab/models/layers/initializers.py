"""Initialisation that MMEngine lacks."""

import torch.nn as nn
from mmengine.model import BaseInit, update_init_info
from mmengine.registry import WEIGHT_INITIALIZERS


@WEIGHT_INITIALIZERS.register_module('FanInUniform')
class FanInUniformInit(BaseInit):
    """The authors' initialisation of the backbone's convolutions.

    Uniform in +-1 / sqrt(n), with n the kernel's area times the input
    channels. It differs from PyTorch's default in depthwise convolutions:
    TensorFlow, where the authors work, counts all channels there, PyTorch
    one.

    Args:
        kwargs: ``layer``, the names of the classes to initialise, as for
            MMEngine's own initialisers.
    """

    def __call__(self, module: nn.Module) -> None:
        """Initialise the layers within ``module``."""

        def initialize(m):
            names = {cls.__name__ for cls in type(m).__mro__}
            if isinstance(m, nn.Conv2d) and (
                self.wholemodule or names & set(self.layer)
            ):
                bound = (m.in_channels * m.weight[0, 0].numel()) ** -0.5
                nn.init.uniform_(m.weight, -bound, bound)
                if m.bias is not None:
                    nn.init.constant_(m.bias, self.bias)

        module.apply(initialize)
        if hasattr(module, '_params_init_info'):
            update_init_info(module, init_info=self._get_init_info())
