"""Architecture search for segmentation as a plugin of MMSegmentation.

Importing it checks the installed libraries, closes the gaps between them,
and registers every class of the plugin in MMSegmentation's registries.
"""

from .compat.versions import check_requirements
from .version import __version__

# The order matters: no import below is safe before this check.
check_requirements()

from .compat.gaps import close_gaps  # noqa: E402

close_gaps()

from . import (  # noqa: E402, F401
    datasets,
    engine,
    models,
    search,
    visualization,
)

__all__ = ['__version__', 'from_pretrained']


def from_pretrained(folder):
    """Read a network that ``publish_model.py --format hub`` has written.

    It is an ``nn.Module`` from images to logits: :func:`.hub.from_pretrained`.
    Needs huggingface_hub and safetensors, which nothing else does.
    """
    from . import hub

    return hub.from_pretrained(folder)
