"""How large a network may be: refused beyond a limit, or worth less."""

import warnings
from collections.abc import Iterable, Mapping

import torch
from mmengine.config import Config
from mmseg.registry import MODELS

from ...arch import Architecture
from ...models.complexity import (
    count_multiply_adds,
    count_parameters,
    image_channels,
)
from ..retrain_config import place_architecture
from .proxy import TrialFailed

QUANTITIES = ('parameters', 'multiply_adds')


class Refused(TrialFailed):
    """A trial is not trained; the sentence says why."""

    patience = 200
    sentence = (
        '{} draws in a row were refused, the last one since {}: raise '
        'search.limit, or search a larger space'
    )


def reward_factor(
    model: Config,
    architecture: Architecture,
    limit: Mapping[str, float],
    penalty: Mapping[str, float],
) -> float:
    """What the reward of an architecture is multiplied by.

    It is the product of min(1, target / size)^exponent over the sizes that
    have a target (Tan et al., MnasNet, CVPR 2019, eq. 2 with alpha = 0).

    Args:
        model (Config): With a place for the architecture.
        limit (Mapping[str, float]): The most ``parameters`` or
            ``multiply_adds``.
        penalty (Mapping[str, float]): Targets of these, and ``exponent``.

    Raises:
        Refused: It is beyond the limit.
    """
    targets = {name: penalty[name] for name in QUANTITIES if name in penalty}
    sizes = network_size(model, architecture, {*limit, *targets})
    for name, most in limit.items():
        if sizes[name] > most:
            raise Refused(
                f'it has {sizes[name]:,} {name.replace("_", "-")}, but '
                f'search.limit allows {most:,.0f}'
            )
    factor = 1.0
    for name, target in targets.items():
        factor *= min(1, target / sizes[name]) ** penalty.get('exponent', 1)
    return factor


def network_size(
    model: Config,
    architecture: Architecture,
    names: Iterable[str] = QUANTITIES,
) -> dict[str, int]:
    """Count parameters, and multiply-adds at the size of the crops."""
    model, names = Config(model.to_dict()), set(names)
    if not names:
        return {}
    place_architecture(model, architecture)
    with torch.device('meta'), warnings.catch_warnings():
        # The training says the same of what it builds.
        warnings.simplefilter('ignore')
        network = MODELS.build(model)
    found = dict(parameters=count_parameters(network)[0])
    if 'multiply_adds' in names:
        found['multiply_adds'] = count_multiply_adds(
            network, image_channels(model), *crop_size(model)
        )
    return found


def crop_size(model: Mapping) -> tuple[int, int]:
    """Height and width of what a model trains on."""
    return (model.get('data_preprocessor') or {}).get('size') or (513, 513)
