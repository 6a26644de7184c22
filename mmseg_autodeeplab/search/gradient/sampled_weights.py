"""Weights that are trained as those of single networks, too."""

import numpy as np
import torch
from mmengine.dist import broadcast_object_list
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS

from ...arch import AutoDeepLabSpace
from ...engine import bare_model
from ...errors import UserError


@HOOKS.register_module()
class SampledWeightsHook(Hook):
    """Make the supernet one random architecture in a share of weight steps.

    Where all paths and primitives are there at once, weights come to rely on
    each other, and what the relaxed network gains by a choice says little of
    the network that is decoded. So some steps train the weights of a network
    that is drawn, each as likely as another, as `SPOS
    <https://arxiv.org/abs/1904.00420>`_ does in all of its steps (Guo et al.,
    ECCV 2020). The architecture step is left as it is.

    Running statistics are those of the relaxed network alone, since nodes off
    the path compute on zeros. The log has the losses of both kinds of steps;
    those of single networks are higher.

    Args:
        share (float): Of the weight steps, from 0 to 1.
    """

    # Gives everything back before the architecture step.
    priority = 'HIGH'
    # A retraining goes without it.
    of_search = True

    def __init__(self, share: float = 0.5) -> None:
        if not isinstance(share, (int, float)) or not 0 <= share <= 1:
            raise UserError(
                f'SampledWeightsHook.share is {share!r}, but must be a number '
                'from 0 to 1.'
            )
        self.share = share
        self._kept: list[tuple[torch.Tensor, torch.Tensor]] = []

    def before_train(self, runner: Runner) -> None:
        """See that the supernet can be one network; agree on a seed."""
        self.backbone = bare_model(runner).backbone
        if not hasattr(self.backbone, 'one_hot'):
            raise UserError(
                'SampledWeightsHook needs a backbone with one_hot(), but '
                f'found {type(self.backbone).__name__}; derive it from '
                'AutoDeepLabSupernet, or take the hook out.'
            )
        decoded = self.backbone.architecture()
        self.space = AutoDeepLabSpace(len(decoded.path), len(decoded.cell))
        # By diff_rank_seed, each process has another one.
        seeds = [runner.seed]
        broadcast_object_list(seeds)
        self.seed = seeds[0]

    def before_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Draw whether, and which: the same in all processes."""
        rng = np.random.RandomState([self.seed, runner.iter])
        if rng.random_sample() >= self.share:
            return
        drawn = self.space.random(rng.randint(2**31))
        changes = {
            getattr(self.backbone, name): value
            for name, value in self.backbone.one_hot(drawn).items()
        }
        for tensor in {*changes, *bare_model(runner).buffers()}:
            self._kept.append((tensor, tensor.detach().clone()))
        for tensor, value in changes.items():
            tensor.data.copy_(value)

    def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Give back alphas, betas and statistics, in place for graphs."""
        for tensor, value in self._kept:
            tensor.data.copy_(value)
        self._kept.clear()
