"""Choose among the best paths and cells by what the supernet makes of them."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import nn

from ...arch import AutoDeepLabArchitecture, best_cells, best_paths
from .arch_step import search_backbone
from .one_hot import evaluate


class Candidate(NamedTuple):
    """An architecture that could be decoded, and how it does one-hot."""

    architecture: AutoDeepLabArchitecture
    cell: int  # its place among the best cells, from 1
    score: float  # of path and cell together, in nats
    loss: float
    mIoU: float  # in percent

    def to_dict(self) -> dict:
        """Its numbers, for a provenance."""
        numbers = self._asdict()
        path = '-'.join(map(str, numbers.pop('architecture').path))
        return dict(path=path, **numbers)


def rescore(
    model: nn.Module,
    batches: Sequence[dict],
    paths: int,
    cells: int = 1,
    score: str = 'probability',
    by: str = 'mIoU',
) -> list[Candidate]:
    """Evaluate the best paths of a supernet with the best cells, one-hot.

    Args:
        model (nn.Module): The segmentor, as of :func:`.one_hot.evaluate`.
        batches (Sequence[dict]): On which all of them are evaluated.
        paths, cells (int): How many of each; every path comes with every
            cell.
        score (str): What ranks the paths, see ``arch.SCORES``.
        by (str): ``'mIoU'`` or ``'loss'``. One-hot, logits have another
            range than the sum of all scales, on which the loss depends.

    Returns:
        list[Candidate]: The best first; of equals, that of the better score.
    """
    alphas, betas = (
        p.detach().float().cpu().numpy()
        for p in search_backbone(model).arch_parameters()
    )
    found = []
    for path, of_path in best_paths(betas, paths, score):
        for number, (cell, of_cell) in enumerate(best_cells(alphas, cells), 1):
            architecture = AutoDeepLabArchitecture(cell, path)
            values = evaluate(model, batches, architecture)
            total = float(of_path + of_cell)
            found.append(Candidate(architecture, number, total, **values))
    sign = -1 if by == 'mIoU' else 1
    return sorted(found, key=lambda c: (sign * getattr(c, by), -c.score))
