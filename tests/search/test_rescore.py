"""The best of the best, by hand."""

import pytest
import torch
from small_search import batch, segmentor

from mmseg_autodeeplab.arch import (
    AutoDeepLabArchitecture,
    best_cells,
    best_paths,
    decode,
)
from mmseg_autodeeplab.search.gradient import evaluate, rescore


def supernet():
    model = segmentor().train()
    torch.manual_seed(4)
    for p in model.backbone.arch_parameters():
        p.data = torch.randn_like(p)
    return model


@pytest.mark.parametrize(
    'score, by', [('probability', 'loss'), ('lift', 'mIoU')]
)
def test_all_pairs_of_the_best(score, by):
    model, batches = supernet(), [batch(), batch()]
    alphas, betas = (p.numpy() for p in model.backbone.arch_parameters())
    paths, cells = best_paths(betas, 3, score), best_cells(alphas, 2)
    expected = []
    for path, of_path in paths:
        for number, (cell, of_cell) in enumerate(cells, 1):
            found = AutoDeepLabArchitecture(cell, path)
            values = evaluate(model, batches, found)
            expected.append(
                (found, number, pytest.approx(of_path + of_cell))
                + (values['loss'], values['mIoU'])
            )
    # Of equals, the better score stays in front.
    expected.sort(key=lambda row: row[2].expected, reverse=True)
    expected.sort(key=lambda row: row[3] if by == 'loss' else -row[4])
    results = rescore(model, batches, 3, 2, score, by)
    assert results == expected
    values = [getattr(c, by) for c in results]
    assert len(set(values)) >= 4
    (only,) = rescore(model, batches, 1, score=score)
    assert only.architecture == decode(alphas, betas, score)
    path = '-'.join(map(str, only.architecture.path))
    assert only.to_dict() == dict(
        path=path,
        cell=1,
        score=only.score,
        loss=only.loss,
        mIoU=only.mIoU,
    )
