"""Networks: they never know the runner."""

from .backbones import AutoDeepLab, AutoDeepLabSupernet
from .cached_features import (
    CachedFeatures,
    CachedFeaturesPreProcessor,
    FrozenBackbone,
)
from .decode_heads import AutoDeepLabHead, AutoDeepLabSearchHead, DPCHead
