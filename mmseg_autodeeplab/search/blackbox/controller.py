"""The controller: a policy that chooses, and PPO, by which it learns.

Nekrasov et al., "Template-Based Automatic Search of Compact Semantic
Segmentation Architectures", WACV 2020; PPO is that of Schulman et al., 2017.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

INIT = 0.1  # Every parameter begins in U(-0.1, 0.1).
WARM_UP = 2  # steps before the first decision
LAYERS = 2


class Told(NamedTuple):
    """A draw of the controller, and what came of it."""

    choices: Sequence[int]  # per decision, the index of its option
    log_prob: float  # of all, when they were drawn
    reward: float


class Policy(nn.Module):
    """An LSTM that takes one decision after another.

    The input of a step is the output of the step before, so that decisions
    are independent of each other; or the embedding of what was just chosen.

    Args:
        sizes (Sequence[int]): Options of each head.
        heads (Sequence[int]): The head of each decision.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        heads: Sequence[int],
        hidden: int = 100,
        feed_choices: bool = False,
    ) -> None:
        super().__init__()
        self.order = list(heads)
        self.first = nn.Parameter(torch.empty(1, hidden))
        self.cells = nn.ModuleList(
            nn.LSTMCell(hidden, hidden) for _ in range(LAYERS)
        )
        self.heads = nn.ModuleList(nn.Linear(hidden, size) for size in sizes)
        self.embeddings = nn.ModuleList(
            nn.Embedding(size, hidden) for size in sizes if feed_choices
        )

    def forward(
        self, choose: Callable[[int, torch.Tensor], int]
    ) -> tuple[list[int], torch.Tensor]:
        """Take all decisions.

        Args:
            choose (Callable): Takes the number of a decision and the
                log-probabilities of its options, and gives the index of one.

        Returns:
            tuple[list[int], torch.Tensor]: The indices, and the
            log-probability of all of them, a scalar.
        """
        output, states, chosen, log_probs = self.first, [None] * LAYERS, [], []
        for step in range(-WARM_UP, len(self.order)):
            for layer, cell in enumerate(self.cells):
                states[layer] = cell(output, states[layer])
                output = states[layer][0]
            if step < 0:
                continue
            head = self.order[step]
            options = self.heads[head](output)[0].log_softmax(0)
            chosen.append(choose(step, options))
            log_probs.append(options[chosen[-1]])
            if self.embeddings:
                output = self.embeddings[head].weight[chosen[-1] :][:1]
        return chosen, torch.stack(log_probs).sum()


class Controller:
    """A policy and its optimizer, both a function of the seed and the draws.

    Args:
        lr (float): Of Adam.
        buffer (int): Draws that it learns from, the latest.
        decay (float): Of the moving average of rewards, the baseline.
        clip (float): Of the ratio of probabilities.
        max_norm (float): Of a gradient.
        **policy: Of :class:`Policy`.
    """

    def __init__(
        self,
        seed: int,
        lr: float = 1e-4,
        buffer: int = 100,
        decay: float = 0.95,
        clip: float = 0.1,
        max_norm: float = 2.0,
        **policy: Any,
    ) -> None:
        if buffer < 1:
            raise ValueError(f'buffer is {buffer}, but must be 1 or more')
        self.seed = seed
        self.buffer = buffer
        self.decay = decay
        self.clip = clip
        self.max_norm = max_norm
        with torch.device('meta'):  # No numbers of anybody else's are drawn.
            self.policy = Policy(**policy)
        self.policy.to_empty(device='cpu')
        rng = np.random.RandomState([seed, 0])
        for parameter in self.policy.parameters():
            start = rng.uniform(-INIT, INIT, parameter.shape)
            parameter.data.copy_(torch.from_numpy(start))
        self.optimizer = torch.optim.Adam(self.policy.parameters(), lr)

    def draw(self, rng: np.random.RandomState) -> tuple[list[int], float]:
        """Draw all choices; returns them, and their log-probability."""

        def choose(step, log_probs):
            edges = np.cumsum(np.exp(log_probs.double().numpy()))
            # The sum of all may be a little below 1.
            drawn = np.searchsorted(edges, rng.random_sample(), 'right')
            return min(int(drawn), len(edges) - 1)

        with torch.no_grad(), one_thread():
            choices, log_prob = self.policy(choose)
        return choices, log_prob.item()

    def learn(self, told: Sequence[Told]) -> None:
        """Take the steps that follow the last one of all that were drawn.

        It is one pass over the buffer, each slot a step, in random order. An
        empty slot is a step without a gradient, with Adam's momentum alone.
        """
        baseline = self.baseline([one.reward for one in told])
        kept = told[-self.buffer :]
        rng = np.random.RandomState([self.seed, 1, len(told)])
        with one_thread():
            for slot in rng.permutation(self.buffer):
                for parameter in self.policy.parameters():
                    parameter.grad = torch.zeros_like(parameter)
                if slot < len(kept):
                    self._differentiate(kept[slot], baseline)
                nn.utils.clip_grad_norm_(
                    self.policy.parameters(), self.max_norm
                )
                self.optimizer.step()

    def baseline(self, rewards: Sequence[float]) -> float:
        """The moving average of rewards, which begins at the first."""
        average = rewards[0]
        for reward in rewards:
            average = self.decay * average + (1 - self.decay) * reward
        return average

    def _differentiate(self, one, baseline):
        """Add the gradient of -min(r A, clip(r, 1 - c, 1 + c) A)."""
        advantage = one.reward - baseline
        _, log_prob = self.policy(lambda step, _: one.choices[step])
        ratio = (log_prob - one.log_prob).exp()
        bound = 1 + self.clip if advantage > 0 else 1 - self.clip
        # Beyond the bound, the smaller one is the clipped one, a constant.
        if (ratio - bound) * advantage < 0:
            (-ratio * advantage).backward()

    def state_dict(self) -> dict:
        """All that :meth:`learn` changes."""
        return dict(
            policy=self.policy.state_dict(),
            optimizer=self.optimizer.state_dict(),
        )

    def load_state_dict(self, state: dict) -> None:
        """Go on from what :meth:`state_dict` gave."""
        self.policy.load_state_dict(state['policy'])
        self.optimizer.load_state_dict(state['optimizer'])


@contextmanager
def one_thread() -> Iterator[None]:
    """Sum in one order on all machines: that of several threads varies."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
