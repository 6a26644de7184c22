"""What the runner needs for a search and a retraining."""

from .hooks import (
    ArchSearchHook,
    ScheduledDropPathHook,
    SearchVisualizationHook,
)

__all__ = [
    'ArchSearchHook',
    'ScheduledDropPathHook',
    'SearchVisualizationHook',
]
