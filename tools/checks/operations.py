"""Count what PyTorch dispatches in both steps of the paper's search.

Each such operation is one to launch, or several; their number is the same for
any crop, so a small one will do. Views and what only allocates launch nothing
and are left out, as are the steps of the optimizers, which on a GPU take all
parameters at once.
"""

import argparse
from collections import Counter
from pathlib import Path

from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.utils._python_dispatch import TorchDispatchMode

from mmseg_autodeeplab import cli
from mmseg_autodeeplab.cli import benchmark
from mmseg_autodeeplab.cli.measurement import table

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
CONFIG = CONFIGS / 'autodeeplab/search_cityscapes.py'
CROP, BATCH = 33, 2  # The smallest that norms can take.
# What is not marked as a view, and launches nothing either.
FREE = set(
    '_record_function_enter_new _record_function_exit _unsafe_view alias '
    'as_strided detach empty empty_like lift_fresh new_empty_strided'.split()
)


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--config', default=str(CONFIG), help='of a search')
    parser.add_argument(
        '--rows', type=int, default=20, help='of the table, most often first'
    )
    return parser.parse_args()


class Count(TorchDispatchMode):
    """Counts operations by their names, but those of optimizers."""

    def __init__(self):
        super().__init__()
        self.found = Counter()
        self._counts = True

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        if self._counts and not function.is_view and name not in FREE:
            self.found[name] += 1
        return function(*args, **(kwargs or {}))

    def __enter__(self):
        def counts(value):
            return lambda *_: setattr(self, '_counts', value)

        self._hooks = (
            register_optimizer_step_pre_hook(counts(False)),
            register_optimizer_step_post_hook(counts(True)),
        )
        return super().__enter__()

    def __exit__(self, *error):
        for hook in self._hooks:
            hook.remove()
        return super().__exit__(*error)


def count(config):
    """How often which operation is dispatched, by half of an iteration."""
    cfg = cli.read_config(config)
    cfg.model.data_preprocessor.size = (CROP, CROP)
    model, steps = benchmark.search_steps(cfg, 'cpu')
    data = benchmark.random_batch(BATCH, CROP, model.num_classes)
    found = {}
    for half, step in steps.items():
        step(data)  # Momentum begins with the first.
        with Count() as counter:
            step(data)
        found[half] = counter.found
    return found


@cli.user_errors()
def main():
    args = parse_args()
    found = count(args.config)
    names = Counter()
    for counter in found.values():
        names += counter
    rows = [
        (name, *(counter[name] for counter in found.values()))
        for name, _ in names.most_common(args.rows)
    ]
    rows.append(('all', *(sum(c.values()) for c in found.values())))
    print(table(('operation', *found), rows))


if __name__ == '__main__':
    main()
