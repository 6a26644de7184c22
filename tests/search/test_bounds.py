"""Limits of size, in a search and alone."""

import pytest
from mmengine.config import Config
from mmseg.registry import MODELS
from small_study import search_config, train, worker

from mmseg_autodeeplab.arch import DPCSpace
from mmseg_autodeeplab.errors import UserError
from mmseg_autodeeplab.models.complexity import (
    count_multiply_adds,
    count_parameters,
)
from mmseg_autodeeplab.search.blackbox import read_settings
from mmseg_autodeeplab.search.blackbox.bounds import (
    Refused,
    network_size,
    reward_factor,
)
from mmseg_autodeeplab.search.blackbox.trials import ended
from mmseg_autodeeplab.search.retrain_config import place_architecture

CELLS = [DPCSpace(2).random(seed) for seed in range(6)]


def model():
    """One of a few channels."""
    cfg = search_config().model
    cfg.data_preprocessor = dict(type='SegDataPreProcessor', size=(64, 96))
    cfg.backbone = dict(
        type='ResNet',
        depth=18,
        base_channels=4,
        stem_channels=4,
        num_stages=1,
        strides=(1,),
        dilations=(1,),
        out_indices=(0,),
    )
    cfg.decode_head.in_channels = 4
    cfg.decode_head.in_index = 0
    return cfg


def sizes(cell):
    """Parameters and multiply-adds of a network that was built."""
    cfg = model()
    place_architecture(cfg, cell)
    network = MODELS.build(cfg)
    parameters = sum(p.numel() for p in network.parameters())
    assert parameters == count_parameters(network)[0]
    return parameters, count_multiply_adds(network, 3, 64, 96)


def test_sizes():
    for cell in CELLS[:2]:
        found = network_size(model(), cell)
        assert tuple(found.values()) == sizes(cell)
        assert network_size(model(), cell, ()) == {}


@pytest.mark.parametrize(
    'place, name', [(0, 'parameters'), (1, 'multiply_adds')]
)
def test_the_limit_and_the_penalty(place, name):
    cell, size = CELLS[0], sizes(CELLS[0])[place]

    def factor(limit=None, **penalty):
        limit = {name: limit} if limit else {}
        return reward_factor(model(), cell, limit, penalty)

    assert factor(size) == factor() == factor(**{name: size}) == 1
    assert factor(**{name: 2 * size}) == 1
    assert factor(**{name: size / 4}) == pytest.approx(1 / 4)
    half = factor(**{name: size / 4, 'exponent': 0.5})
    assert half == pytest.approx(1 / 2)
    sentence = f'it has {size:,} {name.replace("_", "-")}, but .*{size - 1:,}$'
    with pytest.raises(Refused, match=sentence):
        factor(size - 1)
    other = sizes(cell)[1 - place]
    both = dict(parameters=size / 4, multiply_adds=other / 4)
    if place == 1:
        both = dict(parameters=other / 4, multiply_adds=size / 4)
    assert factor(**both) == pytest.approx(1 / 16)


@pytest.mark.parametrize('sampler', ['UniformSampler', 'ControllerSampler'])
def test_no_trained_trial_is_beyond_the_limit(tmp_path, sampler):
    """What is refused is a trial that failed, and worth nothing."""
    limit = max(sizes(cell)[0] for cell in CELLS) - 1
    trained = []

    def measured(cfg, folder, report, held):
        network = MODELS.build(cfg.model)
        trained.append(sum(p.numel() for p in network.parameters()))
        return train(cfg, folder, report, held)

    options = dict(hidden=4, buffer=2) if 'Con' in sampler else {}
    cfg = search_config(
        sampler=dict(type=sampler, **options),
        trials=8,
        limit=dict(parameters=limit),
        penalty=dict(parameters=limit / 2),
    )
    cfg.model = model()
    one = worker(tmp_path, cfg, measured)
    one.run()
    assert len(trained) == 8 and max(trained) <= limit
    found = ended(one.study.trials)
    refused = [sizes(a)[0] > limit for a, _ in found]
    assert refused == [reward == 0 for _, reward in found]
    assert sum(refused) > 0
    trial = next(t for t in one.study.trials if t.value)
    unpenalised = trained[0] * 2 / limit * trial.value
    assert 50 <= unpenalised < 100 and trial.value < unpenalised


def test_a_limit_that_nothing_meets_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(Refused, 'patience', 7)
    cfg = search_config(limit=dict(parameters=1000))
    cfg.model = model()
    one = worker(tmp_path, cfg)
    with pytest.raises(UserError) as error:
        one.run()
    assert len(one.study.trials) == 7
    size = sizes(ended(one.study.trials)[-1][0])[0]
    assert str(error.value) == (
        f'7 draws in a row were refused, the last one since it has {size:,} '
        'parameters, but search.limit allows 1,000: raise search.limit, or '
        'search a larger space'
    )


@pytest.mark.parametrize(
    'search',
    [
        dict(limit=dict(parameter=3)),
        dict(limit=dict(parameters=0)),
        dict(limit=dict(parameters='300k')),
        dict(limit=dict(exponent=1)),
        dict(penalty=dict(parameters=1, exponent=-1)),
    ],
)
def test_bounds_that_cannot_be(search):
    with pytest.raises(UserError, match='limit|penalty|read'):
        read_settings(Config(search_config(**search).to_dict()))
