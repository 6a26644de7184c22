"""Loading that says which file is bad, and why."""

import contextlib
import re
from collections.abc import Iterator
from typing import Any, Optional

import mmcv
import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine import fileio
from mmseg.datasets.transforms import LoadAnnotations
from mmseg.registry import TRANSFORMS
from PIL import ExifTags, Image

from ..compat.registry import resolve
from ..errors import UserError, one_line

# Modes of Pillow whose values pass a cast to 8 bits as they are.
EIGHT_BITS = ('1', 'L', 'P', 'LA', 'PA', 'RGB', 'RGBA')
# Pillow's names of grey values of 2 and 4 bits, which decoders scale to 8.
SCALED = re.compile("'L;([24])")


@TRANSFORMS.register_module()
class LoadCheckedImage(LoadImageFromFile):
    """``LoadImageFromFile`` that names a bad file in a ``UserError``.

    Decoders turn an image by its EXIF orientation, and not its label. Where
    sizes do not tell whether the label was drawn on the turned image, a local
    image that has a label is refused.
    """

    def transform(self, results: dict) -> Optional[dict]:
        """Load an image, of the size of the label if that is there."""
        path = results['img_path']
        with _named(f'the image {path}'):
            results = super().transform(results)
        if results is None:  # As with ignore_empty.
            return None
        _check_size(results)
        if results.get('seg_map_path') is not None:
            self._refuse_turned(path, *results['img_shape'])
        return results

    def _refuse_turned(self, path, height, width):
        orientation, kind = _orientation(path)
        # A quarter turn shows in the size, unless the image is a square.
        if orientation == 1 or (orientation >= 5 and height != width):
            return
        turns = self.color_type in ('color', 'grayscale') or kind == 'TIFF'
        if turns and self.imdecode_backend in (None, 'cv2', 'pillow'):
            raise UserError(
                f'the image {path} is turned by its EXIF orientation '
                f'{orientation}, but its label is not: save the image without '
                'the orientation, its pixels turned if the label was drawn '
                "so, or set color_type='color_ignore_orientation' of "
                'LoadImageFromFile (a TIFF is turned all the same)'
            )


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
        _check_size(results)
        labels = results['gt_seg_map']
        if not _has_8_bits(path, self.imdecode_backend):
            values = self._values(path)
            changed = values != values.astype(np.uint8)
            _refuse(path, values[changed], '0 to 255, which 8 bits hold')
        if self.num_classes is not None:
            wrong = (labels != self.ignore_index) & (
                labels >= self.num_classes
            )
            if wrong.any():
                allowed = (
                    f'0 to {self.num_classes - 1} and {self.ignore_index}, '
                    'which is ignored'
                )
                values = self._values(path)[wrong]
                _refuse(path, values, allowed, labels[wrong])
        return results

    def _values(self, path):
        """The values of the file, before they are cast and mapped."""
        content = fileio.get(path, backend_args=self.backend_args)
        return mmcv.imfrombytes(
            content, flag='unchanged', backend=self.imdecode_backend
        ).squeeze()


def check_pipelines(
    cfg: Any, num_classes: Optional[int], ignore_index: int
) -> None:
    """Let the pipelines in a config load with checks.

    ``LoadImageFromFile`` and ``LoadAnnotations`` become those above, in
    place, wherever they stand in the config of a data set or in a pipeline:
    within wrappers, and within transforms such as ``TestTimeAug``. Other
    types, subclasses too, stay.
    """
    for inner, found in transforms_in(cfg):
        if found is LoadImageFromFile:
            inner['type'] = 'mmseg.LoadCheckedImage'
        elif found in (LoadAnnotations, LoadCheckedAnnotations):
            inner['type'] = 'mmseg.LoadCheckedAnnotations'
            inner.update(num_classes=num_classes, ignore_index=ignore_index)


def uncheck_pipelines(cfg: Any) -> None:
    """Undo :func:`check_pipelines`, since ``mmseg.apis`` wants stock names."""
    for inner, found in transforms_in(cfg):
        if found in (LoadCheckedImage, LoadCheckedAnnotations):
            inner['type'] = found.__base__.__name__
            inner.pop('num_classes', None)
            inner.pop('ignore_index', None)


def transforms_in(cfg: Any) -> Iterator[tuple[dict, Optional[type]]]:
    """All dicts within a config that have a type, and that transform's class.

    It is None where the type is none of a transform.
    """
    if isinstance(cfg, dict):
        if 'type' in cfg:
            yield cfg, resolve(TRANSFORMS, cfg['type'])
        cfg = list(cfg.values())
    if isinstance(cfg, (list, tuple)):
        for inner in cfg:
            yield from transforms_in(inner)


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


def _orientation(path):
    """EXIF orientation and format; 1, which turns nothing, if unknown."""
    try:
        with Image.open(path) as image:  # Reads the head alone.
            # Of a PNG, Pillow would look for it behind the pixels, too.
            if image.format == 'PNG' and 'exif' not in image.info:
                return 1, image.format
            tag = image.getexif().get(ExifTags.Base.Orientation, 1)
            return (tag if tag in range(1, 9) else 1), image.format
    except Exception:  # Parsers raise anything; decoders do not turn either.
        return 1, None


def _has_8_bits(path, backend):
    """Whether the head of a local file says that 8 bits hold its values."""
    unknown = OSError, Image.DecompressionBombError
    with contextlib.suppress(*unknown), Image.open(path) as image:
        scaled = SCALED.search(str(image.tile))
        bits = int(scaled[1]) if scaled else 1
        if scaled or (image.mode == '1' and backend == 'cv2'):
            raise UserError(
                f'the label {path} is stored in {bits} bits per pixel, which '
                f'are scaled to 8 when it is read (1 becomes '
                f'{255 // (2**bits - 1)}): save it with 8 bits per pixel'
            )
        return image.mode in EIGHT_BITS
    return False


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


def _refuse(path, values, allowed, read_as=None):
    if values.size:
        found = _listed(values)
        if read_as is not None and (read_as != values).any():
            found += f', which the data set reads as {_listed(read_as)}'
        raise UserError(
            f'the label {path} has the values {found}, but allowed are '
            f'{allowed}: set num_classes of the heads to the classes of the '
            'dataset, or mend the label'
        )


def _listed(values):
    values = [str(value) for value in np.unique(values)]
    return ', '.join(values[:8] + ['...'] * (len(values) > 8))
