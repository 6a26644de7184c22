"""Who moves the architecture, and what a search leaves behind."""

from . import blackbox, gradient
from .retrain_config import retrain_config
