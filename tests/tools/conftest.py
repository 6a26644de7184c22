import warnings

import pytest
from mmengine.logging import MMLogger

from mmseg_autodeeplab.cli import measurement


@pytest.fixture
def measured_here(monkeypatch):
    """Measure in this process; restore what a fresh one sets for itself."""

    def call(function, *args, **options):
        logger = MMLogger.get_current_instance()
        level = logger.level
        try:
            with warnings.catch_warnings():
                return function(*args, **options)
        finally:
            logger.setLevel(level)

    monkeypatch.setattr(measurement, 'isolated', call)
