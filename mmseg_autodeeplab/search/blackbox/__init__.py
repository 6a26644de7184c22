"""Black-box search: a study, workers, and the proxy that they train.

Only what needs Optuna, :mod:`.study` and :mod:`.worker`, imports it.
"""

from mmseg.registry import TASK_UTILS

from ...arch import AutoDeepLabSpace, DPCSpace, TemplateSpace
from .cached_features import cached_config
from .controller_sampler import ControllerSampler
from .results import (
    CONFIG_FILE,
    Reranked,
    Result,
    rank_correlation,
    read_reranked,
    read_results,
    rerank_file,
)
from .samplers import NearBestSampler, UniformSampler
from .settings import Settings, read_settings

for space in (AutoDeepLabSpace, DPCSpace, TemplateSpace):
    TASK_UTILS.register_module(module=space)
