"""CUDA graphs of the supernet, and what they leave as it is elsewhere."""

import copy
import pickle
import warnings

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from small_search import model_config

from mmseg_autodeeplab.cli.benchmark import random_batch
from mmseg_autodeeplab.cli.measurement import peak_memory, settled_memory
from mmseg_autodeeplab.models.layers import side_by_side
from mmseg_autodeeplab.models.layers.graphs import Split, aside
from mmseg_autodeeplab.search.gradient import ArchStep

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
WARNING = 'Runs without CUDA graphs'


class Search:
    """Both steps of a small search, on images that the iteration decides."""

    def __init__(self, device=DEVICE, wrapper=None, **backbone):
        init_default_scope('mmseg')
        torch.manual_seed(0)
        cfg = model_config()
        cfg['backbone'].update(num_blocks=2, **backbone)
        width = 2 * cfg['backbone']['filter_multiplier']
        cfg['decode_head']['in_channels'] = [width * n for n in (1, 2, 4, 8)]
        model = MODELS.build(cfg).to(device)
        self.wrapper = (
            dict(type='OptimWrapper') if wrapper is None else wrapper
        )
        self.begin(model.double() if wrapper is None else model)

    def begin(self, model):
        self.model = model.train()
        optimizer = dict(type='SGD', lr=0.01, momentum=0.9)
        self.weights = build_optim_wrapper(
            model, dict(self.wrapper, optimizer=optimizer)
        )
        self.weights.initialize_count_status(model, 0, 100)
        self.arch = ArchStep(model, self.weights)
        self.losses = []

    def run(self, *turns, size=64):
        for turn in turns:
            torch.manual_seed(turn)
            data = [random_batch(2, size, 6) for _ in range(2)]
            self.losses += [
                self.model.train_step(data[0], self.weights)['loss'].item(),
                self.arch.step(data[1])['arch_loss'].item(),
            ]
        return self

    def state(self):
        losses = torch.tensor(self.losses, dtype=torch.double)
        return dict(self.model.state_dict(), losses=losses)


def close(found, expected, bound=1e-6):
    """Up to what a few iterations make of roundings."""
    found, expected = found.state(), expected.state()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        difference = (found[name] - value).abs().max()
        assert difference <= bound * value.abs().max(), name


def told(found):
    """The warnings that are ours."""
    return [str(w.message) for w in found if WARNING in str(w.message)]


@pytest.fixture
def captures(monkeypatch):
    """A list with an entry for each capture."""
    made = []
    capture = torch.cuda.make_graphed_callables

    def counted(*args, **kwargs):
        made.append(args)
        return capture(*args, **kwargs)

    monkeypatch.setattr(torch.cuda, 'make_graphed_callables', counted)
    return made


# ---- where there is a GPU ----


@gpu
@pytest.mark.parametrize(
    'options',
    [
        {},
        dict(with_cp=True),
        dict(form='reference'),
        dict(norm_cfg=dict(type='BN')),
        dict(norm_cfg=dict(type='SyncBN')),
        dict(filter_multiplier=4, partial_channels=2),
    ],
    ids=str,
)
def test_replayed_steps_are_the_same(captures, options):
    """Losses, weights, architecture and running statistics."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter('always')
        graphs = Search(graphs=True, **options).run(*range(4))
    assert not told(found)
    assert len(captures) == 2
    close(graphs, Search(**options).run(*range(4)))


@gpu
@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
def test_replayed_steps_in_mixed_precision(captures, dtype):
    wrapper = dict(type='AmpOptimWrapper', dtype=dtype)
    graphs = Search(wrapper=wrapper, graphs=True).run(*range(4))
    assert len(captures) == 2
    expected = Search(wrapper=wrapper).run(*range(4))
    assert graphs.losses == pytest.approx(expected.losses, rel=0.03)
    assert all(value.isfinite().all() for value in graphs.state().values())


@gpu
def test_a_copy_captures_for_itself(captures):
    graphs, expected = Search(graphs=True).run(0), Search().run(0)
    before = copy.deepcopy(graphs.state())
    for search in (graphs, expected):
        search.begin(copy.deepcopy(search.model))
        search.original, search.losses = graphs.model, []
        search.run(1, 2)
    assert len(captures) == 4
    close(graphs, expected)
    for name, value in graphs.original.state_dict().items():
        assert torch.equal(value, before[name]), name


@gpu
def test_another_size_is_run_the_ordinary_way(captures):
    """And what was captured is replayed after it."""
    graphs, expected = Search(graphs=True), Search()
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter('always')
        graphs.run(0, 1).run(2, 3, size=97).run(4)
    (message,) = told(found)
    assert '(2, 3, 97, 97)' in message
    assert len(captures) == 2
    close(graphs, expected.run(0, 1).run(2, 3, size=97).run(4))


@gpu
def test_accumulated_gradients_are_not_overwritten():
    wrapper = dict(type='OptimWrapper', accumulative_counts=2)
    graphs, expected = (
        Search(wrapper=wrapper, **options)
        for options in (dict(graphs=True), {})
    )
    for search in (graphs, expected):
        search.begin(search.model.double())
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter('always')
        graphs.run(*range(4))
    (message,) = told(found)
    assert 'accumulated' in message
    close(graphs, expected.run(*range(4)))


@gpu
def test_a_resumed_search_is_the_same():
    """From graphs to none, and back, too."""
    expected = Search().run(*range(4))
    for first, second in ((True, True), (True, False), (False, True)):
        begun = Search(graphs=first).run(0, 1)
        resumed = Search(graphs=second).run(7)  # Captured before it is loaded.
        resumed.model.load_state_dict(begun.model.state_dict())
        resumed.weights.load_state_dict(begun.weights.state_dict())
        resumed.arch.load_state_dict(begun.arch.state_dict())
        resumed.losses = begun.losses
        close(resumed.run(2, 3), expected)


@gpu
def test_evaluation_between_replays():
    graphs, expected = Search(graphs=True), Search()
    outputs = []
    for search in (graphs, expected):
        search.run(0)
        torch.manual_seed(0)
        image = torch.randn(1, 3, 97, 65).to(search.model.backbone.alphas)
        with torch.no_grad():
            outputs.append(search.model.eval()(image, mode='tensor'))
        search.model.train()
        search.run(1)
    torch.testing.assert_close(*outputs, rtol=1e-6, atol=1e-6)
    close(graphs, expected)


@gpu
def test_what_graphs_keep_is_measured():
    search = Search(graphs=True).run(0)
    kept = settled_memory('cuda') - torch.cuda.memory_allocated()
    assert 0 < kept < torch.cuda.memory_reserved()
    search.run(1)
    assert peak_memory('cuda') > kept + torch.cuda.memory_allocated()


# ---- anywhere ----


def test_a_processor_warns_once_and_gives_the_same():
    with pytest.warns(UserWarning, match=WARNING) as found:
        graphs = Search(device='cpu', graphs=True).run(0, 1)
    (message,) = told(found)
    assert message == f'{WARNING}: the model is on the device cpu.'
    close(graphs, Search(device='cpu').run(0, 1), bound=0)


@pytest.mark.parametrize(
    'copied', [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))]
)
def test_a_copy_of_a_supernet(copied):
    """Warns by itself, and runs its own weights."""
    net = Search(device='cpu', graphs=True).model.backbone
    x = torch.randn(2, 3, 64, 64).double()
    with pytest.warns(UserWarning, match=WARNING):
        expected = net(x)
    twin = copied(net)
    with pytest.warns(UserWarning, match=WARNING):
        found = twin(x)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    with torch.no_grad():
        for p in net.parameters():
            p.zero_()
    torch.testing.assert_close(twin(x), expected, rtol=0, atol=0)


@pytest.mark.parametrize('way', ['eval', 'no_grad'])
def test_what_is_not_trained_does_not_warn(way):
    net = Search(device='cpu', graphs=True).model.backbone
    net.train(way != 'eval')
    with warnings.catch_warnings(), torch.set_grad_enabled(way == 'eval'):
        warnings.simplefilter('error')
        net(torch.randn(2, 3, 64, 64).double())


def warning_of_a_rank(rank):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter('always')
        Search(device='cpu', graphs=True).run(0)
    return told(found)


@pytest.mark.run
def test_several_processes_are_refused(two_ranks):
    """Whether on GPUs or, as here, without."""
    for (message,) in two_ranks.run(warning_of_a_rank):
        assert 'torch.distributed' in message


def test_outside_of_a_capture_calls_are_plain():
    """One after the other, each as it is asked for."""
    calls = []

    def call(name):
        calls.append(name)
        return name

    results = side_by_side(*(lambda n=n: call(n) for n in 'abc'))
    assert next(results) == 'a' and calls == ['a']
    assert [*results] == ['b', 'c'] and calls == ['a', 'b', 'c']
    assert aside(lambda: call('d')) == 'd'


def test_split_is_that_of_torch():
    x = torch.randn(6, 2, dtype=torch.double)
    weights = torch.randn(6, 2, dtype=torch.double)
    gradients = []
    for split in (Split.apply, torch.split):
        leaf = x.clone().requires_grad_()
        parts = split(leaf, [1, 3, 2])
        assert [len(part) for part in parts] == [1, 3, 2]
        # In another order than they are in, and one of them twice.
        loss = sum(
            (part * weight).square().sum()
            for part, weight in [*zip(parts, weights.split([1, 3, 2]))][::-1]
        )
        (loss + parts[1].sum()).backward()
        gradients.append(leaf.grad)
    assert torch.equal(*gradients)
