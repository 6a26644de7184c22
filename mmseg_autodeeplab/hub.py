"""Networks as folders of the kind that huggingface_hub reads and writes.

``config.json`` holds the arguments of :class:`HubModel`, the architecture
among them, ``model.safetensors`` the weights, ``README.md`` the model card.
"""

import copy
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmseg.models import BaseSegmentor
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from .arch import Architecture
from .compat.registry import known_types_only
from .errors import UserError, one_line
from .files import to_json
from .search.config_text import check_names

try:
    import safetensors  # noqa: F401
    from huggingface_hub import (
        EvalResult,
        ModelCard,
        ModelCardData,
        PyTorchModelHubMixin,
    )
except ImportError as error:
    raise UserError(
        f'folders of the hub need huggingface_hub and safetensors ({error}): '
        'run pip install huggingface_hub safetensors'
    ) from error

CARD = dict(
    library_name=__name__.partition('.')[0],
    license='apache-2.0',
    pipeline_tag='image-segmentation',
    tags=['semantic-segmentation', 'neural-architecture-search', 'mmseg'],
)
CONFIG, WEIGHTS = 'config.json', 'model.safetensors'


class HubModel(nn.Module, PyTorchModelHubMixin, **copy.deepcopy(CARD)):
    """A segmentor as a function from images to logits.

    Args:
        model (dict): Config of a segmentor of MMSegmentation, of types that
            are registered, as JSON holds it.
        dataset_meta (dict, optional): Has ``classes``, in the order of the
            logits, and ``palette``, an RGB colour of each.
    """

    def __init__(
        self, model: dict, dataset_meta: Optional[dict] = None
    ) -> None:
        super().__init__()
        self.dataset_meta = dataset_meta or {}
        cfg = Config(dict(model=model))
        check_names(cfg, CONFIG)
        scope = DefaultScope.overwrite_default_scope('mmseg')
        with known_types_only(), scope:
            segmentor = MODELS.build(cfg.model)
        if not isinstance(segmentor, BaseSegmentor) or not hasattr(
            segmentor, 'inference'
        ):
            raise UserError(
                f'the model is a {type(segmentor).__name__}, but has to be an '
                'EncoderDecoder'
            )
        self.segmentor = segmentor
        preprocessor = model.get('data_preprocessor') or {}
        self._takes_rgb = preprocessor.get('rgb_to_bgr', False)

    def forward(self, images: Tensor) -> Tensor:
        """Give logits (N, classes, H, W) for images (N, C, H, W).

        Images are RGB with values from 0 to 255, not normalised; those of
        other than three channels are as the data set has read them. As in
        ``tools/test.py``, ``test_cfg`` of the model says if a window slides.
        """
        if images.shape[1] == 3 and not self._takes_rgb:
            images = images.flip(1)  # As OpenCV reads them.
        data = dict(
            inputs=list(images),
            data_samples=[SegDataSample() for _ in images],
        )
        # It may pad, on the right and below.
        inputs = self.segmentor.data_preprocessor(data)['inputs']
        shape = tuple(inputs.shape[2:])
        metas = [dict(img_shape=shape, ori_shape=shape)] * len(inputs)
        logits = self.segmentor.inference(inputs, metas)
        return logits[..., : images.shape[2], : images.shape[3]]


def from_pretrained(folder: str) -> HubModel:
    """Read a network from a folder, for evaluation, on the CPU.

    Nothing in the folder can run code, and no network is needed: download one
    by ``huggingface_hub.snapshot_download``, which returns its folder.

    Raises:
        UserError: The folder is missing, damaged, or of another library.
    """
    try:
        _check_folder(Path(folder))
        # Not every version of the mixin leaves the mode of training.
        return HubModel.from_pretrained(folder, strict=True).eval()
    except Exception as error:  # Whatever another's files lead to.
        raise UserError(
            f'{folder} cannot be read as a folder of publish_model.py '
            f'--format hub ({_reason(error)}): write it again, or give '
            'another one'
        ) from error


def _reason(error):
    return str(error) if isinstance(error, UserError) else one_line(error)


def _check_folder(folder):
    config = json.loads((folder / CONFIG).read_text(encoding='utf-8'))
    if not isinstance(config, dict) or not isinstance(
        config.get('model'), dict
    ):
        raise UserError(f'its {CONFIG} has no model of MMSegmentation')
    # Absent once a user saves the network again.
    expected = config.get('sha256')
    if expected and expected != _digest(folder / WEIGHTS):
        raise UserError(f'its {WEIGHTS} is not what was written')


def _digest(file):
    return hashlib.sha256(file.read_bytes()).hexdigest()


def write_folder(
    folder: str,
    model: Mapping,
    weights: Mapping[str, Tensor],
    meta: Mapping[str, Any],
    dataset: Optional[str] = None,
    metrics: Mapping[str, float] = {},
    license: str = CARD['license'],
) -> None:
    """Write a network as a folder, complete or not at all.

    Args:
        folder (str): Where none is yet.
        model (Mapping): Config of the segmentor.
        weights (Mapping): Its state dict.
        meta (Mapping): Of the data set, ``classes`` and ``palette``.
        dataset, metrics, license: For the model card.

    Raises:
        UserError: The folder exists, or the model is not of these weights.
    """
    if os.path.lexists(folder):
        raise UserError(f'{folder} exists already: give another name')
    config = dict(
        model=model,
        dataset_meta={k: meta[k] for k in ('classes', 'palette') if k in meta},
    )
    # What is built is what will be read.
    network = HubModel(**json.loads(to_json(config)))
    try:
        network.segmentor.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(
            f'the weights do not fit the model of the config '
            f'({one_line(error)})'
        ) from error
    for name, part in network.segmentor.named_children():
        if isinstance(getattr(part, 'arch', None), Architecture):
            # Not the name of a file on this machine.
            config['model'] = {**config['model']}
            config['model'][name] = {
                **config['model'][name],
                'arch': part.arch.content(),
            }
    aside = Path(f'{folder}.{uuid.uuid4().hex[:8]}.tmp')
    try:
        aside.mkdir(parents=True)
        card = _card(Path(folder).name, meta, dataset, metrics, license)
        card.save(aside / 'README.md')
        network.save_pretrained(aside)
        config['sha256'] = _digest(aside / WEIGHTS)
        text = to_json(config, indent=2)
        (aside / CONFIG).write_text(text, encoding='utf-8')
        # safetensors lets nobody else read it.
        shutil.copymode(aside / CONFIG, aside / WEIGHTS)
        aside.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _card(name, meta, dataset, metrics, license):
    dataset = dataset or 'unknown'
    results = [
        EvalResult(
            task_type=CARD['pipeline_tag'],
            dataset_type=dataset,
            dataset_name=dataset,
            metric_type=metric,
            metric_value=value,
        )
        for metric, value in metrics.items()
    ]
    data = ModelCardData(
        **{**CARD, 'license': license},
        datasets=[dataset],
        metrics=list(metrics),
        model_name=name,
        eval_results=results,
    )
    classes = ', '.join(map(str, meta.get('classes', ()))) or 'not named'
    values = ', '.join(f'{k} {v:.2f}' for k, v in metrics.items()) or 'none'
    return ModelCard(
        TEMPLATE.format(
            data=data.to_yaml(),
            name=name,
            dataset=dataset,
            classes=classes,
            values=values,
        )
    )


TEMPLATE = """---
{data}
---

# {name}

A network for semantic segmentation, trained on {dataset} by
[MMSegmentation](https://github.com/open-mmlab/mmsegmentation) and its plugin
`mmseg_autodeeplab`. `config.json` holds its architecture.

```python
import mmseg_autodeeplab

model = mmseg_autodeeplab.from_pretrained('{name}')
logits = model(images)  # (N, 3, H, W), RGB from 0 to 255 -> (N, classes, H, W)
```

Classes: {classes}.

The last validation that the checkpoint knows: {values}. MMEngine writes an
`iter_*.pth` before the validation of its iteration, and a `best_*.pth` after.
"""
