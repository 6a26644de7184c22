"""Networks: they never know the runner."""

from .backbones import (
    AutoDeepLab,
    AutoDeepLabSupernet,
    TruncatedMobileNetV2,
)
from .cached_features import (
    CachedFeatures,
    CachedFeaturesPreProcessor,
    FrozenBackbone,
)
from .decode_heads import (
    AutoDeepLabHead,
    AutoDeepLabSearchHead,
    DPCHead,
    TemplateHead,
)
