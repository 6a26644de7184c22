"""What was measured, and where, as text."""

import contextlib
import datetime
import platform
import statistics
from collections.abc import Iterable, Sequence

import torch


def environment(device: str) -> dict:
    """What the numbers hold for: device, threads, versions and date."""
    found = dict(
        device=torch.cuda.get_device_name()
        if device == 'cuda'
        else _processor(),
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        date=datetime.date.today().isoformat(),
    )
    if device == 'cuda':
        found['cuda'] = torch.version.cuda
    return found


def _processor() -> str:
    with contextlib.suppress(OSError), open('/proc/cpuinfo') as file:
        for line in file:
            if line.startswith('model name'):
                return line.partition(':')[2].strip()
    return platform.processor() or platform.machine()


def describe(found: dict) -> str:
    """One line for an :func:`environment`."""
    return (
        ', '.join(
            value if key == 'device' else f'{key} {value}'
            for key, value in found.items()
            if key != 'date'
        )
        + f' ({found["date"]})'
    )


def spread(samples: Sequence[float]) -> dict:
    """Median, minimum and maximum of times."""
    return dict(
        seconds=statistics.median(samples),
        seconds_min=min(samples),
        seconds_max=max(samples),
    )


def table(header: Sequence[str], rows: Iterable[Sequence]) -> str:
    """A table in Markdown, with columns that are aligned as text, too.

    Args:
        header (Sequence[str]): Names of the columns.
        rows (Iterable[Sequence]): Cells; ``None`` is empty. A column is
            aligned to the right if its cells begin with digits.
    """
    rows = [['' if c is None else str(c) for c in row] for row in rows]
    widths = [max(3, *map(len, column)) for column in zip(header, *rows)]
    right = [
        any(cell[:1].isdigit() for cell in column) for column in zip(*rows)
    ]

    def line(cells):
        return '| {} |'.format(
            ' | '.join(
                cell.rjust(width) if to_right else cell.ljust(width)
                for cell, width, to_right in zip(cells, widths, right)
            )
        )

    rule = [
        '-' * (width - 1) + (':' if to_right else '-')
        for width, to_right in zip(widths, right)
    ]
    return '\n'.join(map(line, [header, rule, *rows]))
