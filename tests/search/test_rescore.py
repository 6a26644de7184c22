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


@pytest.mark.parametrize('score', ['probability', 'lift'])
def test_all_pairs_of_the_best_by_their_losses(score):
    model, batches = supernet(), [batch(), batch()]
    alphas, betas = (p.numpy() for p in model.backbone.arch_parameters())
    paths, cells = best_paths(betas, 3, score), best_cells(alphas, 2)
    expected = []
    for path, of_path in paths:
        for number, (cell, of_cell) in enumerate(cells, 1):
            found = AutoDeepLabArchitecture(cell, path)
            values = evaluate(model, batches, found)
            expected.append(
                (values['loss'], values['mIoU'], found, number)
                + (pytest.approx(of_path + of_cell),)
            )
    expected.sort(key=lambda row: row[0])
    results = rescore(model, batches, 3, 2, score)
    assert len({c.loss for c in results}) >= 4
    for found, (loss, miou, architecture, number, total) in zip(
        results, expected
    ):
        assert found == (architecture, number, total, loss, miou)
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
