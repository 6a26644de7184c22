"""Loading that says which file is bad, and why."""

import contextlib
import io
from collections.abc import Iterator
from typing import Any, Optional

import mmcv
import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine import fileio
from mmseg.datasets.transforms import LoadAnnotations
from mmseg.registry import TRANSFORMS
from PIL import Image, UnidentifiedImageError

from ..compat.registry import resolve
from ..errors import UserError, one_line

# Modes of Pillow whose values pass a cast to 8 bits as they are.
EIGHT_BITS = ('1', 'L', 'P', 'LA', 'PA', 'RGB', 'RGBA')


@TRANSFORMS.register_module()
class LoadCheckedImage(LoadImageFromFile):
    """``LoadImageFromFile`` that names a bad file in a ``UserError``."""

    def transform(self, results: dict) -> Optional[dict]:
        """Load an image, of the size of the label if that is there."""
        with _named(f'the image {results["img_path"]}'):
            results = super().transform(results)
        if results is not None:  # As with ignore_empty.
            _check_size(results)
        return results


@TRANSFORMS.register_module()
class LoadCheckedAnnotations(LoadAnnotations):
    """``LoadAnnotations`` that names a bad file in a ``UserError``.

    A label of another size than its image, or with a value that is no class,
    would otherwise be trained on, or end the training without a name. What the
    cast to 8 bits would change is refused. A sample may have no label.

    Args:
        num_classes (int, optional): Labels are 0 to ``num_classes - 1``; None
            allows any value.
        ignore_index (int): The label that is allowed besides.
        kwargs: Arguments of ``LoadAnnotations``.
    """

    def __init__(
        self,
        num_classes: Optional[int] = None,
        ignore_index: int = 255,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.ignore_index = ignore_index

    def transform(self, results: dict) -> dict:
        """Load a label, of the size of the image if that is there."""
        path = results.get('seg_map_path')
        if path is None:
            return results
        with _named(f'the label {path}'):
            results = super().transform(results)
            changed = self._changed_by_cast(path)
        _check_size(results)
        _refuse(path, changed, '0 to 255, which 8 bits hold')
        if self.num_classes is not None:
            labels = results['gt_seg_map']
            labels = labels[labels != self.ignore_index]
            allowed = (
                f'0 to {self.num_classes - 1} and {self.ignore_index}, which '
                'is ignored'
            )
            _refuse(path, labels[labels >= self.num_classes], allowed)
        return results

    def _changed_by_cast(self, path):
        content = fileio.get(path, backend_args=self.backend_args)
        with contextlib.suppress(UnidentifiedImageError):
            # Only the head of the file is read here.
            if Image.open(io.BytesIO(content)).mode in EIGHT_BITS:
                return np.empty(0)
        values = mmcv.imfrombytes(
            content, flag='unchanged', backend=self.imdecode_backend
        )
        return values[values != values.astype(np.uint8)]


def check_pipelines(
    cfg: Any, num_classes: Optional[int], ignore_index: int
) -> None:
    """Let the pipelines in a config load with checks.

    ``LoadImageFromFile`` and ``LoadAnnotations`` become those above, in
    place, wherever they stand in the config of a data set or in a pipeline:
    within wrappers, and within transforms such as ``TestTimeAug``. Other
    types, subclasses too, stay.
    """
    for inner, found in _types(cfg):
        if found is LoadImageFromFile:
            inner['type'] = 'mmseg.LoadCheckedImage'
        elif found in (LoadAnnotations, LoadCheckedAnnotations):
            inner['type'] = 'mmseg.LoadCheckedAnnotations'
            inner.update(num_classes=num_classes, ignore_index=ignore_index)


def uncheck_pipelines(cfg: Any) -> None:
    """Undo :func:`check_pipelines`, since ``mmseg.apis`` wants stock names."""
    for inner, found in _types(cfg):
        if found in (LoadCheckedImage, LoadCheckedAnnotations):
            inner['type'] = found.__base__.__name__
            inner.pop('num_classes', None)
            inner.pop('ignore_index', None)


def _types(value):
    """All dicts within a config that have a type, and what it stands for."""
    if isinstance(value, dict):
        if 'type' in value:
            yield value, resolve(TRANSFORMS, value['type'])
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for inner in value:
            yield from _types(inner)


@contextlib.contextmanager
def _named(what: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f'{what} does not exist') from error
    except Exception as error:  # Decoders raise anything.
        reason = one_line(error)
        if 'failed to load image' in reason:
            reason = 'it does not decode'
        raise UserError(
            f'{what} cannot be read ({reason}): replace the file'
        ) from error


def _check_size(results):
    """Once both are there: a label is of the size of its image."""
    if 'img' not in results or 'gt_seg_map' not in results:
        return
    # The image may have been resized before the label was read.
    image = results.get('ori_shape', results['img'].shape[:2])
    label = results['gt_seg_map'].shape
    if label != tuple(image):
        label, image = (' x '.join(map(str, size)) for size in (label, image))
        raise UserError(
            f'the label {results["seg_map_path"]} has {label} pixels, but the '
            f'image {results["img_path"]} has {image}: a label is one channel '
            'of the size of its image'
        )


def _refuse(path, values, allowed):
    if values.size:
        values = [str(value) for value in np.unique(values)]
        found = ', '.join(values[:8] + ['...'] * (len(values) > 8))
        raise UserError(
            f'the label {path} has the values {found}, but allowed are '
            f'{allowed}: set num_classes of the heads to the classes of the '
            'dataset, or mend the label'
        )
