"""CUDA graphs of a training step."""

import gc
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Optional

import torch
from mmengine.dist import is_distributed
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

# The steps of a search: on the weights and on the architecture.
MAX_CAPTURES = 2


class TrainingGraphs:
    """A module's forward and backward, each captured once and replayed.

    Launching an operation takes the processor longer than a GPU needs for a
    small one; a replay launches them all at once, on the same memory. What
    requires gradients, the precision and the shape of the input are fixed in a
    capture, so there is one for each step of a search. What does not fit any
    is run the ordinary way, and a warning says so, once.

    Captures are those of :func:`torch.cuda.make_graphed_callables`. They leave
    running statistics as they were, and share their memory: forward and
    backward of one step have to be over before the other step begins. Copies
    of a module capture for themselves.

    Args:
        forward: What to capture, a function of the module and one tensor, to
            a tuple of tensors. It must not wait for the device.
    """

    def __init__(self, forward: Callable) -> None:
        self._forward = forward
        self._captures = {}
        self._pool = None
        self._warned = False

    def __deepcopy__(self, memo):
        return type(self)(self._forward)

    def __reduce__(self):
        return type(self), (self._forward,)

    def __call__(self, module: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
        """Give ``forward(module, x)``, replayed if that can be."""
        reason = _refusal(module, x)
        if reason is None:
            state = _state(module, x)
            if state in self._captures:
                return self._captures[state](x)
            if len(self._captures) < MAX_CAPTURES:
                self._captures[state] = self._capture(module, x)
                return self._captures[state](x)
            reason = (
                f'an input of shape {tuple(x.shape)} is not like the '
                f'{MAX_CAPTURES} that were captured'
            )
        if not self._warned:
            self._warned = True
            warnings.warn(f'Runs without CUDA graphs: {reason}.', stacklevel=2)
        return self._forward(module, x)

    def _capture(self, module, x):
        buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        # A graph that is found to be garbage in a capture would break it.
        gc.collect()
        kept = []

        def keep(tensor):
            # What a stream is done with, another one may still read.
            if torch.cuda.is_current_stream_capturing():
                kept.append(tensor.untyped_storage())
            return tensor

        with (
            # Casts of the weights belong to every replay.
            torch.autocast(
                'cuda',
                torch.get_autocast_dtype('cuda'),
                torch.is_autocast_enabled('cuda'),
                cache_enabled=False,
            ),
            _branching(_Streams()),
            saved_tensors_hooks(keep, lambda tensor: tensor),
        ):
            captured = torch.cuda.make_graphed_callables(
                _Call(self._forward, module),
                (x.detach().clone(),),
                allow_unused_input=True,
                pool=self._pool,
            )
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)
        return captured


class _Call(nn.Module):
    """A function of a module as a module of its own, with its parameters."""

    def __init__(self, function, module):
        super().__init__()
        self.function, self.module = function, module

    def forward(self, x):
        return self.function(self.module, x)


def _refusal(module, x) -> Optional[str]:
    """Why a call cannot be replayed."""
    # PyTorch wants captures before it wraps a model for several processes;
    # what norms gather from these is not known to be capturable, either.
    if is_distributed():
        return 'the model is trained by torch.distributed'
    if not x.is_cuda:
        return f'the model is on the device {x.device.type}'
    if not hasattr(torch, 'get_autocast_dtype'):
        return f'PyTorch {torch.__version__} is older than 2.4'
    # Gradients lie in a graph's own memory, where the next replay would
    # overwrite those that wait to be added up.
    if any(param.grad is not None for param in module.parameters()):
        return 'gradients are accumulated over several steps'
    return None


def _state(module, x):
    """All that a capture holds for."""
    return (
        x.shape,
        x.stride(),
        x.dtype,
        module.training,
        torch.is_autocast_enabled('cuda') and torch.get_autocast_dtype('cuda'),
        tuple((p.requires_grad, p.data_ptr()) for p in module.parameters()),
    )


class _Streams:
    """Streams of a capture, by the one that they leave.

    Those of branches are of high priority, since results wait for them.
    """

    def __init__(self) -> None:
        self.branches = defaultdict(list)
        # Two in turn, each with the function that it runs.
        self.aside = defaultdict(
            lambda: [[torch.cuda.Stream(), None] for _ in range(2)]
        )


_streams: Optional[_Streams] = None


@contextmanager
def _branching(streams):
    global _streams
    before, _streams = _streams, streams
    try:
        yield
    finally:
        _streams = before


def is_branching() -> bool:
    """Whether a graph is being captured, whose parts may run side by side."""
    return _streams is not None and torch.cuda.is_current_stream_capturing()


def in_turn(function: Callable, *args):
    """Call a function whose parts are not to run side by side."""
    with _branching(None):
        return function(*args)


def side_by_side(*functions: Callable[[], Tensor]) -> Iterator[Tensor]:
    """Call functions that do not depend on each other.

    One after the other, as they are asked for; in a graph on streams of their
    own, since a small operation leaves most of a GPU idle.
    """
    if not is_branching():
        return (function() for function in functions)
    results, parent = [], torch.cuda.current_stream()
    children = _streams.branches[parent]
    while len(children) < len(functions):
        children.append(torch.cuda.Stream(priority=-1))
    for function, stream in zip(functions, children):
        stream.wait_stream(parent)
        with torch.cuda.stream(stream):
            results.append(function())
    for stream in children[: len(functions)]:
        parent.wait_stream(stream)
    return iter(results)


def aside(function: Callable[[], Tensor]) -> Tensor:
    """Call a function whose result is for :class:`Split` alone.

    In a graph on a stream of its own, for which nothing waits but the backward
    of ``Split``, and the second such call after it.
    """
    if not is_branching():
        return function()
    parent = torch.cuda.current_stream()
    lanes = _streams.aside[parent]
    lane = lanes.pop(0)
    stream, earlier = lane
    if earlier is not None:
        parent.wait_stream(stream)
    stream.wait_stream(parent)
    with torch.cuda.stream(stream):
        result = function()
    # What it reads is kept until the stream is waited for.
    lane[1] = function
    lanes.append(lane)
    return result


class Split(torch.autograd.Function):
    """``tensor.split(sizes)``, with gradients that :func:`aside` may give."""

    @staticmethod
    def forward(ctx, tensor, sizes):
        return tensor.split(sizes)

    @staticmethod
    def backward(ctx, *grads):
        if is_branching():
            parent = torch.cuda.current_stream()
            for lanes in _streams.aside.values():
                for stream, function in lanes:
                    # What is not part of the graph cannot be waited for.
                    if function is not None:
                        parent.wait_stream(stream)
            for grad in grads:
                grad.record_stream(parent)
        return torch.cat(grads), None
