"""Black-box search: any architecture by the score of its proxy."""

from .cached_features import cached_config
