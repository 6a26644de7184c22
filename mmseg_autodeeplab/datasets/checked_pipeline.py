"""A data pipeline that says which file is bad, and why."""

from collections.abc import Sequence
from typing import Callable, Optional

import numpy as np
from mmcv.transforms import LoadAnnotations, LoadImageFromFile
from mmengine.dataset import Compose

from ..errors import UserError, one_line


class CheckedPipeline(Compose):
    """The same transforms, with one sentence where a file is bad.

    A label of another size than its image, or with a value that is no class,
    would otherwise be cropped and trained on, or end the training in a
    message that names no file. Both are looked at once, as they come out of
    the files; no random number is drawn and nothing is changed.

    Args:
        transforms (Sequence[Callable]): The transforms of a pipeline.
        num_classes (int, optional): Labels are 0 to ``num_classes - 1``. None
            allows any value. Defaults to None.
        ignore_index (int): The label that is allowed besides. Defaults to
            255.

    Raises:
        UserError: A transform fails, the sizes differ, or a value is not
            allowed.
    """

    def __init__(
        self,
        transforms: Sequence[Callable],
        num_classes: Optional[int] = None,
        ignore_index: int = 255,
    ) -> None:
        super().__init__(transforms)
        self.num_classes = num_classes
        self.ignore_index = ignore_index

    def __call__(self, data: dict) -> Optional[dict]:
        """Apply the transforms.

        Args:
            data (dict): What the data set knows of a sample.

        Returns:
            dict | None: What the last transform gives; None where one gives
            None, for which the data set draws another sample.
        """
        image, label = data.get('img_path'), data.get('seg_map_path')
        checked = False
        for transform in self.transforms:
            try:
                data = transform(data)
            except Exception as error:  # Transforms are anyone's code.
                raise UserError(
                    _failure(transform, error, image, label)
                ) from error
            if data is None:
                return None
            if not checked and 'img' in data and 'gt_seg_map' in data:
                self._check(data, image, label)
                checked = True
        return data

    def _check(self, data: dict, image: str, label: str) -> None:
        labels = data['gt_seg_map']
        # The image may have been resized before the label was read.
        size = tuple(data.get('ori_shape', data['img'].shape[:2]))
        if labels.shape != size:
            raise UserError(
                f'the label {label} has {_size(labels.shape)} pixels, but the '
                f'image {image} has {_size(size)}: a label is one channel of '
                'the size of its image'
            )
        if self.num_classes is None:
            return
        outside = (labels < 0) | (labels >= self.num_classes)
        outside &= labels != self.ignore_index
        if outside.any():
            values = [str(value) for value in np.unique(labels[outside])]
            found = ', '.join(values[:8] + ['...'] * (len(values) > 8))
            raise UserError(
                f'the label {label} has the values {found}, but allowed are 0 '
                f'to {self.num_classes - 1} and {self.ignore_index}, which is '
                'ignored: set num_classes of the heads to the classes of the '
                'dataset, or mend the label'
            )


def _failure(
    transform: Callable, error: Exception, image: str, label: str
) -> str:
    reason = one_line(error)
    if isinstance(transform, LoadAnnotations):
        what = f'the label {label}'
    elif isinstance(transform, LoadImageFromFile):
        what = f'the image {image}'
        if isinstance(error, AssertionError):  # It repeats the name alone.
            reason = 'it does not decode'
    else:
        return (
            f'{type(transform).__name__} fails on the image {image} with the '
            f'label {label} ({reason})'
        )
    if isinstance(error, FileNotFoundError):
        return f'{what} does not exist'
    return f'{what} cannot be read ({reason}): replace the file'


def _size(shape: Sequence[int]) -> str:
    return ' x '.join(map(str, shape))
