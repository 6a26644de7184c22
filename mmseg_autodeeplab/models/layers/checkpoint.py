"""Activation checkpointing that sees every batch once."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def checkpointed(module: nn.Module, *args: Tensor) -> Tensor:
    """Run a module, and once more in backward instead of keeping its insides.

    Non-reentrant, so that gradients of single inputs can be asked for. The
    second run leaves batch norm's running statistics alone.
    """
    return checkpoint(
        module,
        *args,
        use_reentrant=False,
        # Compares every tensor that is computed again, which takes its time.
        determinism_check='none',
        context_fn=lambda: (nullcontext(), _statistics_kept(module)),
    )


@contextmanager
def _statistics_kept(module: nn.Module) -> Iterator[None]:
    """Have running statistics updated in copies."""
    buffers = [
        (m, name, buffer)
        for m in module.modules()
        if isinstance(m, _BatchNorm)
        for name, buffer in m.named_buffers()
    ]
    for norm, name, buffer in buffers:
        setattr(norm, name, buffer.clone())
    try:
        yield
    finally:
        for norm, name, buffer in buffers:
            setattr(norm, name, buffer)
