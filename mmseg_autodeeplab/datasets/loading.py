"""Loading that says which file is bad, and why."""

import contextlib
import io
from collections.abc import Iterator, Sequence
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
    """``LoadImageFromFile``, with one sentence where a file is bad.

    The arguments and the image are those of ``LoadImageFromFile``.

    Raises:
        UserError: The image is missing, cannot be read, or has another size
            than the label that was loaded before it.
    """

    def transform(self, results: dict) -> Optional[dict]:
        """Load ``results['img']`` from ``results['img_path']``."""
        path = results['img_path']
        with _named(f'the image {path}'):
            results = super().transform(results)
        if results is not None:  # As with ignore_empty.
            _check_size(results)
        return results


@TRANSFORMS.register_module()
class LoadCheckedAnnotations(LoadAnnotations):
    """``LoadAnnotations``, with one sentence where a label is bad.

    A label of another size than its image, or with a value that is no class,
    would otherwise be cropped and trained on, or end the training in a
    message that names no file. The label itself is that of
    ``LoadAnnotations``, which casts it to 8 bits; what does not pass this cast
    unchanged is refused. A sample without a label stays as it is.

    Args:
        num_classes (int, optional): Labels are 0 to ``num_classes - 1``. None
            allows any value. Defaults to None.
        ignore_index (int): The label that is allowed besides. Defaults to
            255.
        **kwargs: Arguments of ``LoadAnnotations``.

    Raises:
        UserError: The label is missing, cannot be read, or is not allowed.
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
        """Load ``results['gt_seg_map']`` from ``results['seg_map_path']``."""
        path = results.get('seg_map_path')
        if path is None:
            return results
        with _named(f'the label {path}'):
            results = super().transform(results)
            wide = self._wide(path)
        labels = results['gt_seg_map']
        _check_size(results)
        if wide is not None:
            with np.errstate(invalid='ignore'):
                outside = wide != wide.astype(np.uint8)
            _check_values(path, wide, outside, '0 to 255, which 8 bits hold')
        if self.num_classes is not None:
            outside = labels >= self.num_classes
            outside &= labels != self.ignore_index
            _check_values(
                path,
                labels,
                outside,
                f'0 to {self.num_classes - 1} and {self.ignore_index}, which '
                'is ignored',
            )
        return results

    def _wide(self, path: str) -> Optional[np.ndarray]:
        """The values of a file that has more than 8 bits of each."""
        content = fileio.get(path, backend_args=self.backend_args)
        with contextlib.suppress(UnidentifiedImageError):
            # Only the head of the file is read here.
            if Image.open(io.BytesIO(content)).mode in EIGHT_BITS:
                return None
        return mmcv.imfrombytes(
            content, flag='unchanged', backend=self.imdecode_backend
        )


def check_pipelines(
    cfg: Any, num_classes: Optional[int], ignore_index: int
) -> None:
    """Let the pipelines in a config load with checks.

    ``LoadImageFromFile`` and ``LoadAnnotations`` become
    :class:`LoadCheckedImage` and :class:`LoadCheckedAnnotations`, in place,
    wherever they stand: within wrappers of data sets, and within transforms
    such as ``TestTimeAug``. Other types, subclasses too, stay.

    Args:
        cfg (dict | list): Config of a data set, or a pipeline.
        num_classes (int, optional): As of :class:`LoadCheckedAnnotations`.
        ignore_index (int): Likewise.
    """
    for inner in _dicts(cfg):
        found = resolve(TRANSFORMS, inner.get('type'))
        if found is LoadImageFromFile:
            inner['type'] = 'mmseg.LoadCheckedImage'
        elif found in (LoadAnnotations, LoadCheckedAnnotations):
            inner['type'] = 'mmseg.LoadCheckedAnnotations'
            inner.update(num_classes=num_classes, ignore_index=ignore_index)


def uncheck_pipelines(cfg: Any) -> None:
    """Undo :func:`check_pipelines`.

    ``mmseg.apis`` and ``MMSegInferencer`` look for the stock names.

    Args:
        cfg (dict | list): Config of a data set, or a pipeline.
    """
    for inner in _dicts(cfg):
        found = resolve(TRANSFORMS, inner.get('type'))
        if found is LoadCheckedImage:
            inner['type'] = 'LoadImageFromFile'
        elif found is LoadCheckedAnnotations:
            inner['type'] = 'LoadAnnotations'
            inner.pop('num_classes', None)
            inner.pop('ignore_index', None)


def _dicts(value: Any) -> Iterator[dict]:
    """All dicts within a config that have a type."""
    if isinstance(value, dict):
        if 'type' in value:
            yield value
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for inner in value:
            yield from _dicts(inner)


@contextlib.contextmanager
def _named(what: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f'{what} does not exist') from error
    except Exception as error:  # Decoders raise anything.
        reason = one_line(error)
        if isinstance(error, AssertionError) and 'failed to load' in reason:
            reason = 'it does not decode'
        raise UserError(
            f'{what} cannot be read ({reason}): replace the file'
        ) from error


def _check_size(results: dict) -> None:
    """Once both are there: a label is of the size of its image."""
    if 'img' not in results or 'gt_seg_map' not in results:
        return
    labels = results['gt_seg_map']
    # The image may have been resized before the label was read.
    size = tuple(results.get('ori_shape', results['img'].shape[:2]))
    if labels.shape != size:
        raise UserError(
            f'the label {results["seg_map_path"]} has {_size(labels.shape)} '
            f'pixels, but the image {results["img_path"]} has {_size(size)}: '
            'a label is one channel of the size of its image'
        )


def _check_values(
    path: str, labels: np.ndarray, outside: np.ndarray, allowed: str
) -> None:
    if outside.any():
        values = [str(value) for value in np.unique(labels[outside])]
        found = ', '.join(values[:8] + ['...'] * (len(values) > 8))
        raise UserError(
            f'the label {path} has the values {found}, but allowed are '
            f'{allowed}: set num_classes of the heads to the classes of the '
            'dataset, or mend the label'
        )


def _size(shape: Sequence[int]) -> str:
    return ' x '.join(map(str, shape))
