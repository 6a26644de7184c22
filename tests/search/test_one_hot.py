"""The supernet as one network, against that network step by step."""

import copy
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmseg.evaluation import IoUMetric
from small_search import batch, model_config, segmentor

from mmseg_autodeeplab.arch import (
    PRIMITIVES,
    RATES,
    AutoDeepLabArchitecture,
    block_edges,
    incoming,
)
from mmseg_autodeeplab.cli.benchmark import random_batch
from mmseg_autodeeplab.models import AutoDeepLabSupernet
from mmseg_autodeeplab.search.gradient import evaluate

CELL = [
    [(1, 'skip_connect'), (0, 'sep_conv_3x3')],
    [(2, 'atrous_conv_5x5'), (1, 'max_pool_3x3')],
]
# Comes back to scales where it was two layers before, and one before that.
PATH = (4, 8, 4, 8, 16)
NORM = dict(type='BN')  # With biases, of which zeros make something.


def architecture(path=PATH, cell=CELL):
    cell = [[dict(input=s, op=op) for s, op in block] for block in cell]
    return AutoDeepLabArchitecture(cell, path)


def supernet(form='fused', path=PATH, blocks=2, **kwargs):
    """In training, with norms and parameters that are all different."""
    kwargs = {'norm_cfg': NORM, **kwargs}
    widths = [blocks * 2 * 2**level for level in range(4)]
    model = segmentor(in_channels=widths, **kwargs)
    model.test_cfg = Config(model.test_cfg)
    cfg = dict(
        model_config()['backbone'],
        num_layers=len(path),
        num_blocks=blocks,
        norm_cfg=kwargs['norm_cfg'],
        form=form,
    )
    del cfg['type']
    model.backbone = AutoDeepLabSupernet(**cfg)
    generator = torch.Generator().manual_seed(1)
    for name, p in model.named_parameters():
        if p.dim() == 1 or 'backbone.' + name.rpartition('.')[2] == name:
            p.data += 0.5 * torch.randn(p.shape, generator=generator)
    return model.train()


def walk(model, found, images):
    """Only the path, of a supernet in the reference form; its logits."""
    net, shape = model.backbone, images.shape[2:]
    sizes = [tuple(-(-n // rate) for n in shape) for rate in RATES]
    outputs = {-1: (0, net.stem(images)[1])}
    for layer, level in enumerate(found.levels):
        node = net.layers[layer][level]
        source, x = outputs[layer - 1]
        sources = [s for s, _ in incoming(layer, level)]
        if source > level:
            x = F.interpolate(
                x, sizes[level], mode='bilinear', align_corners=True
            )
        x, prev = node.entries[sources.index(source)](x), None
        if node.prev_entry is not None:
            before, prev = outputs[layer - 2]
            if before != level:
                width = net.out_channels[level]
                prev = images.new_zeros(len(images), width, *sizes[level])
            prev = node.prev_entry(prev)
        states = [x, prev]
        for block, pair in enumerate(found.cell):
            total = 0
            for state, op in pair:
                if states[state] is not None:
                    edge = node.cell.edges[str(block_edges(block)[state])]
                    index = list(PRIMITIVES).index(op)
                    total = total + edge[index - 1](states[state])
            states.append(total)
        outputs[layer] = level, torch.cat(states[2:], 1)
    features = [
        images.new_zeros(len(images), width, *size)
        for width, size in zip(net.out_channels, sizes)
    ]
    features[found.levels[-1]] = outputs[len(found.path) - 1][1]
    return model.decode_head(features)


@pytest.mark.parametrize('path', [PATH, (8, 16, 8, 4), (4, 4, 4)])
@pytest.mark.parametrize('form', ['fused', 'reference'])
def test_the_path_is_all_that_is_left(form, path):
    model, found = supernet(form, path), architecture(path)
    model.backbone.with_cp = form == 'fused'
    twin = supernet('reference', path)
    twin.load_state_dict(model.state_dict())
    data = twin.data_preprocessor(batch(), True)
    logits = walk(twin, found, data['inputs'])
    expected = twin.decode_head.loss_by_feat(logits, data['data_samples'])
    result = evaluate(model, [batch()], found)
    assert result['loss'] == pytest.approx(
        expected['loss_ce'].item(), rel=1e-5
    )
    assert abs(evaluate(model, [batch()])['loss'] - result['loss']) > 1e-3


def test_parameters_that_say_the_same_have_no_gap():
    """Where what is off the path leads away from it."""
    path = (4, 4, 4)
    norm = dict(NORM, affine=False)
    model, found = supernet(path=path, norm_cfg=norm), architecture(path)
    chosen = model.backbone.one_hot(found)
    model.backbone.alphas.data = chosen['alphas']
    betas = 1e4 * chosen['transitions'].float()
    betas[:, 1:, 1:] = 1e4
    model.backbone.betas.data = betas
    relaxed = evaluate(model, [batch()])
    assert relaxed == evaluate(model, [batch()], found)
    assert model.backbone.architecture().path == found.path
    other = evaluate(model, [batch()], architecture((4, 4, 8)))
    assert other['loss'] != relaxed['loss']


def everything(model):
    """All that a run goes on from."""
    return [
        {k: v.tolist() for k, v in model.state_dict().items()},
        [m.training for m in model.modules()],
        [p.requires_grad for p in model.parameters()],
        [id(t) for t in (*model.parameters(), *model.buffers())],
        random.getstate(),
        str(np.random.get_state()),
        torch.get_rng_state().tolist(),
    ]


@pytest.mark.parametrize('found', [None, architecture()])
@pytest.mark.parametrize('form', ['fused', 'reference'])
def test_nothing_changes(form, found):
    """Nor does a result, be there drop-out, padding and other numbers."""
    model = supernet(form, dropout_ratio=0.5)
    batches = [batch(), random_batch(2, 48, 6)]
    before = everything(model)
    images = copy.deepcopy(batches)
    results = [evaluate(model, batches, found)]
    assert before == everything(model)
    for new, old in zip(batches, images):
        for x, y in zip(new['data_samples'], old['data_samples']):
            assert torch.equal(x.gt_sem_seg.data, y.gt_sem_seg.data)
    torch.manual_seed(5)
    results.append(evaluate(model, batches, found))
    model.decode_head.dropout.p = 0
    results.append(evaluate(model, batches, found))
    assert results[0] == results[1] != results[2]


@pytest.mark.parametrize(
    'head',
    [
        dict(),
        dict(
            num_classes=2,
            out_channels=1,
            threshold=0.6,
            loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=True),
        ),
    ],
)
def test_the_miou_is_that_of_mmsegmentation(head):
    """By its own prediction and its own metric; a class is nowhere."""
    model = supernet(**head)
    num_classes = model.num_classes
    batches = [batch(), random_batch(2, 64, 6)]
    metric = IoUMetric()
    metric.dataset_meta = dict(classes=list(map(str, range(num_classes))))
    twin = copy.deepcopy(model)
    for data in batches:
        for sample in data['data_samples']:
            labels = sample.gt_sem_seg.data
            labels %= max(num_classes - 1, 2)
            labels[:, :20, :30] = 255
            shape = tuple(labels.shape[1:])
            sample.set_metainfo(dict(ori_shape=shape, img_shape=shape))
        with torch.no_grad():
            prepared = twin.data_preprocessor(data, True)
            samples = twin(**prepared, mode='predict')
        metric.process({}, [sample.to_dict() for sample in samples])
    expected = metric.compute_metrics(metric.results)['mIoU']
    assert 1 < expected < 60
    found = evaluate(model, batches)
    assert found['mIoU'] == pytest.approx(expected, abs=0.006)
    one_by_one = [evaluate(model, [data])['loss'] for data in batches]
    assert found['loss'] == pytest.approx(sum(one_by_one) / 2)


def test_half_precision():
    """It is that of the context, and one-hot stays one-hot."""
    model = supernet()
    exact, half = (
        evaluate(model, [batch()], architecture(), context)['loss']
        for context in (
            lambda model: torch.autocast('cpu', enabled=False),
            lambda model: torch.autocast('cpu', torch.bfloat16),
        )
    )
    assert half != exact
    assert half == pytest.approx(exact, rel=0.02)


def of_a_rank(rank):
    return evaluate(supernet(), [random_batches()[rank]], architecture())


def random_batches():
    torch.manual_seed(3)
    return [random_batch(2, 64, 6) for _ in range(2)]


@pytest.mark.run
def test_two_ranks_have_the_mean_of_both(two_ranks):
    first, second = two_ranks.run(of_a_rank)
    assert first == second
    expected = evaluate(supernet(), random_batches(), architecture())
    assert first == pytest.approx(expected, rel=1e-6)
    assert first != of_a_rank(0)
