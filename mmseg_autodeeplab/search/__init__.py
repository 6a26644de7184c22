"""Who moves the architecture, and what a search leaves behind."""

from . import gradient
from .retrain_config import retrain_config
