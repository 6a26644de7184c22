"""Modules whose training ``torch.compile`` makes programs of, if it can."""

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

from torch import nn

from ...errors import UserError, one_line

# PyTorch gives up after 8 programs for one function, but each geometry of a
# cell has its own, and each half of the search.
MAX_PROGRAMS = 1024


class NotCompiledWarning(UserWarning):
    """A module that was to be compiled is not."""


def compile_in_place(module: nn.Module, **cfg) -> None:
    """Have :func:`call_module` compile a module, when it is first called.

    As a whole or not at all, and by default for every shape of its inputs
    anew, which training knows few of. Its state dict stays as it is. Copies
    of it are not compiled.

    Args:
        module (nn.Module): The module.
        **cfg: Keywords of ``torch.compile``, but ``fullgraph``.

    Raises:
        UserError: ``torch.compile`` does not take them.
    """
    try:
        module.compile(fullgraph=True, **{'dynamic': False, **cfg})
    except (TypeError, RuntimeError) as error:
        raise UserError(
            f'torch.compile does not take {cfg} ({one_line(error)}); change '
            'or leave out the compile_cfg of the backbone.'
        ) from error
    module.compiled = True


def call_module(module: nn.Module, *args) -> Any:
    """Call a module, compiled if :func:`compile_in_place` asks for it.

    Evaluation, where images may have any size, is not compiled. A module that
    cannot be compiled goes on as it is, with a :class:`NotCompiledWarning`.
    """
    if not hasattr(module, 'compiled'):
        return module(*args)
    if not (module.compiled and module.training):
        return module.forward(*args)
    # Takes seconds to import, so only where it is needed.
    from torch._dynamo.exc import TorchDynamoException

    try:
        with _settings():
            return module(*args)
    except TorchDynamoException as error:
        # Nothing of the module has run: it was to be one program.
        warnings.warn(
            f'{type(module).__name__} goes on uncompiled, since torch.compile '
            f'fails on it ({one_line(error)}).',
            NotCompiledWarning,
            stacklevel=2,
        )
    module.compiled = False
    return module.forward(*args)


@contextlib.contextmanager
def _settings() -> Iterator[None]:
    """Room for all programs, and no failure that waits for backward."""
    import torch._dynamo.config as dynamo
    import torch._functorch.config as functorch

    # The first two names up to PyTorch 2.5, the next two since then.
    limits = (
        'cache_size_limit',
        'accumulated_cache_size_limit',
        'recompile_limit',
        'accumulated_recompile_limit',
    )
    settings = (
        (dynamo, dict.fromkeys(limits, MAX_PROGRAMS)),
        (functorch, dict(force_non_lazy_backward_lowering=True)),
    )
    with contextlib.ExitStack() as stack:
        for config, values in settings:
            known = {k: v for k, v in values.items() if hasattr(config, k)}
            stack.enter_context(config.patch(known))
        yield
