"""Terms on how sharply alphas and betas choose, whatever they choose."""

from collections.abc import Sequence

import numpy as np
import torch
from mmseg.registry import TASK_UTILS
from torch import Tensor

from ... import arch
from .terms import ArchTerm, check_arguments, is_number


def _is_weight(value):
    return is_number(value) and value >= 0


def _is_ramp(value):
    is_pair = isinstance(value, (list, tuple)) and len(value) == 2
    if not is_pair or not all(map(is_number, value)):
        return False
    return 0 <= value[0] < value[1] <= 1


WEIGHT = _is_weight, 'a number from 0 on'
ALLOWED = dict(
    weight=WEIGHT,
    alpha_weight=WEIGHT,
    beta_weight=WEIGHT,
    ramp=(_is_ramp, 'two numbers with 0 <= begin < end <= 1'),
)


class RampedTerm(ArchTerm):
    """A term that grows linearly from nothing to all of its weights.

    Args:
        ramp (Sequence[float]): Where it begins and ends to grow, as
            ``progress``: by default over all updates of the architecture.
        **weights (float): Attributes of the term.
    """

    def __init__(self, ramp: Sequence[float], **weights: float) -> None:
        check_arguments(self, ALLOWED, dict(weights, ramp=ramp))
        self.ramp = ramp
        vars(self).update(weights)

    @property
    def share(self) -> float:
        """Of the weights, what is in force: 0 to 1."""
        begin, end = self.ramp
        return min(max((self.progress - begin) / (end - begin), 0.0), 1.0)


@TASK_UTILS.register_module()
class EntropyTerm(RampedTerm):
    """Sharpen: ``share * (alpha_weight * H_a + beta_weight * H_b)``.

    ``H_a`` is the mean entropy of the primitives of an edge, ``H_b`` that of
    the transitions out of a source, in nats, as the log has them: the losses
    on entropies of `DiNTS <https://arxiv.org/abs/2103.15954>`_ (He et al.,
    CVPR 2021), which make the relaxed network alike to the decoded one, and
    which grow as its search goes on. The authors' script in MONAI weighs
    them by 1, but averages over the choices, too: 1/8 for alphas here.

    It can hurt: it sharpens what stands, right or wrong, and knows no data.

    Args:
        alpha_weight, beta_weight (float): At the end of the ramp.
        ramp (Sequence[float]): See :class:`RampedTerm`.
        inflow (bool): Whether ``H_b`` is that of the shares in what enters a
            node instead, over nodes that several scales enter: of what
            decides a path with ``score='inflow'``, with weights ``p * ways
            out``, so that it is the largest where no beta has moved.
    """

    name = 'arch_entropy_loss'

    def __init__(
        self,
        alpha_weight: float,
        beta_weight: float,
        ramp: Sequence[float] = (0.0, 1.0),
        inflow: bool = False,
    ) -> None:
        super().__init__(
            ramp, alpha_weight=alpha_weight, beta_weight=beta_weight
        )
        self.inflow = inflow

    def prepare(self, alphas: Tensor, betas: Tensor) -> None:
        """Put the masks where the betas are."""
        mask = arch.transition_mask(len(betas))
        self._missing = torch.as_tensor(~mask, device=betas.device)
        ways = np.maximum(mask.sum(-1, keepdims=True), 1)
        self._lift = torch.as_tensor(np.log(ways)).to(betas)
        self._sources = torch.as_tensor(mask.any(-1), device=betas.device)
        # Of each node, where its transitions are; what is missing is last.
        nodes = np.full((len(betas), *mask.shape[1:]), mask.size)
        for layer, rows in enumerate(nodes):
            for level in arch.levels_at(layer):
                for place, edge in enumerate(arch.incoming(layer, level)):
                    index = layer, *edge
                    rows[level, place] = np.ravel_multi_index(
                        index, mask.shape
                    )
        nodes = nodes[(nodes < mask.size).sum(-1) > 1]
        self._nodes = torch.as_tensor(nodes, device=betas.device)

    def __call__(self, alphas: Tensor, betas: Tensor) -> Tensor:
        """The term for parameters, before the softmax."""
        betas = betas.masked_fill(self._missing, -torch.inf)
        if self.inflow:
            exists = self._sources[..., None]
            # A softmax of nothing but -inf is no number.
            logs = betas.masked_fill(~exists, 0).log_softmax(-1) + self._lift
            logs = logs.flatten()
            betas = torch.cat([logs, logs.new_tensor([-torch.inf])])
            betas = betas[self._nodes]
        else:
            betas = betas[self._sources]
        return self.share * (
            self.alpha_weight * _entropy(alphas)
            + self.beta_weight * _entropy(betas)
        )


@TASK_UTILS.register_module()
class LogSumExpTerm(RampedTerm):
    """Hold the alphas down: ``share * weight * mean(log(sum(exp(alphas))))``.

    The sum is over the primitives of an edge, the mean over edges. It is the
    Beta-Decay of `beta-DARTS <https://arxiv.org/abs/2203.01665>`_ (Ye et al.,
    CVPR 2022), whose betas are these alphas after the softmax. Its gradient
    is the softmax, so that the strongest primitive is pulled down most, and
    edges stay undecided for longer, which guards against skip connections
    that win early. The authors' code lets the weight grow by 0.5 an epoch,
    to 50 after 100.

    Weight decay does not do the same: it pulls each alpha to 0, in proportion
    to its distance, and does not see which of an edge leads. All alphas fall
    together, too, which no softmax sees.

    Args:
        weight (float): At the end of the ramp.
        ramp (Sequence[float]): See :class:`RampedTerm`.
    """

    name = 'arch_logsumexp_loss'

    def __init__(
        self, weight: float, ramp: Sequence[float] = (0.0, 1.0)
    ) -> None:
        super().__init__(ramp, weight=weight)

    def __call__(self, alphas: Tensor, betas: Tensor) -> Tensor:
        """The term for parameters, before the softmax."""
        return self.share * self.weight * alphas.logsumexp(-1).mean()

    def measures(self, alphas: np.ndarray, betas: np.ndarray) -> dict:
        """The mean over edges, without a weight."""
        edges = np.logaddexp.reduce(alphas, -1, dtype=np.float64)
        return dict(alpha_logsumexp=float(edges.mean()))


def _entropy(logits):
    logs = logits.log_softmax(-1)
    # 0 log 0 is 0, with a gradient that is finite at any weight.
    finite = logs.masked_fill(logs.isneginf(), 0)
    return -(logs.exp() * finite).sum(-1).mean()
