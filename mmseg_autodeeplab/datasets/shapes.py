"""Small generated scenes that need context at several scales."""

import json
import os
import os.path as osp
import shutil
import uuid

import cv2
import numpy as np
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

from ..errors import UserError

GROUND, DISK, SQUARE, TRIANGLE, PEBBLE, BUTTON = range(6)
SPLITS = ('train', 'val', 'test')
DOT_RADIUS = (6, 10)  # pixels, the upper end is excluded
# Circumscribed over inscribed radius.
SLIMNESS = {DISK: 1.0, SQUARE: 2**0.5, TRIANGLE: 2.0}


@DATASETS.register_module()
class ShapesDataset(BaseSegDataset):
    """Scenes of shapes, generated from a seed, with nothing to download.

    Disks, squares and triangles of two scales lie on a ground, and small
    dots lie on both. Colours and textures are random and tell nothing of the
    class, so a pixel is known by its surroundings alone: the inside of a
    shape by its distant outline, a dot by what it lies on. A dot is a
    ``pebble`` on the ground and a ``button`` on a shape.

    The scenes are written once, as PNG files, to
    ``{data_root}/{split}/images`` and ``{data_root}/{split}/labels``, and
    from then on are files like any other data set's. They appear all at once
    under that name, so several ranks may race and a run may be killed. The
    splits never share a scene.

    Args:
        split (str): 'train', 'val' or 'test'. Defaults to 'train'.
        num_images (int): Number of scenes. Defaults to 400.
        size (tuple[int, int]): Height and width in pixels, at least 64.
            Defaults to (96, 128).
        seed (int): Seed of the scenes. Defaults to 0.
        data_root (str): Folder of the splits. Defaults to 'data/shapes'.
        **kwargs: Further arguments of ``BaseSegDataset``.

    Raises:
        UserError: If an argument is invalid, or the folder holds anything
            but the scenes asked for; it is then left as it is.
    """

    generates_data = True  # no folder need be there beforehand

    # The palette of Okabe and Ito, which colour-blind readers can tell apart.
    METAINFO = dict(
        classes=('ground', 'disk', 'square', 'triangle', 'pebble', 'button'),
        palette=[
            [0, 0, 0],
            [230, 159, 0],
            [86, 180, 233],
            [0, 158, 115],
            [240, 228, 66],
            [204, 121, 167],
        ],
    )

    def __init__(
        self,
        split: str = 'train',
        num_images: int = 400,
        size: tuple[int, int] = (96, 128),
        seed: int = 0,
        data_root: str = 'data/shapes',
        **kwargs,
    ) -> None:
        if split not in SPLITS:
            raise UserError(
                f'ShapesDataset has the splits {SPLITS}, but '
                f'split is {split!r}.'
            )
        if not isinstance(num_images, int) or num_images < 1:
            raise UserError(
                'ShapesDataset needs a positive number of images, '
                f'but num_images is {num_images!r}.'
            )
        if (
            not isinstance(size, (list, tuple))
            or len(size) != 2
            or not all(isinstance(n, int) and n >= 64 for n in size)
        ):
            raise UserError(
                'ShapesDataset needs a size of two integers, '
                'height and width, of 64 pixels or more, but size '
                f'is {size!r}.'
            )
        if not isinstance(seed, int) or not 0 <= seed < 2**32:
            raise UserError(
                'ShapesDataset needs an integer seed from 0 to '
                f'4294967295, but seed is {seed!r}.'
            )
        # What the files depend on; the version changes with the scenes.
        self.manifest = dict(
            version=1,
            split=split,
            num_images=num_images,
            size=list(size),
            seed=seed,
        )
        super().__init__(
            data_root=data_root,
            data_prefix=dict(
                img_path=f'{split}/images', seg_map_path=f'{split}/labels'
            ),
            img_suffix='.png',
            **kwargs,
        )

    def load_data_list(self) -> list[dict]:
        """Write the scenes if they do not exist, then list them.

        Returns:
            list[dict]: Information on every scene.
        """
        folder = osp.join(self.data_root, self.manifest['split'])
        if not osp.exists(folder):
            write_scenes(folder, self.manifest)
        _check_manifest(folder, self.manifest)
        return super().load_data_list()


def draw_scene(
    size: tuple[int, int], entropy: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one scene.

    Integer arithmetic and numpy's frozen random stream make the pixels the
    same on every platform, but for the last bit of a corner's coordinate.

    Args:
        size (tuple[int, int]): Height and width in pixels.
        entropy (list[int]): What the scene is drawn from.

    Returns:
        tuple[np.ndarray, np.ndarray]: BGR image of shape (H, W, 3) and label
        of shape (H, W), both uint8.
    """
    rng = np.random.RandomState(entropy)
    height, width = size
    base = rng.randint(50, 206, 3)
    image = _texture(rng, size, base)
    label = np.full(size, GROUND, np.uint8)
    shapes = []  # (x, y, circumscribed radius, class, base colour)
    dots = []

    def paint(x, y, radius, kind, under):
        colour = _contrasting(rng, under)
        mask = _mask(rng, size, x, y, radius, kind)
        image[mask] = _texture(rng, size, colour)[mask]
        label[mask] = kind
        return colour

    area = height * width
    # Large shapes first, as they find no room later; then medium ones.
    for low, high, tries in ((24, 33, area // 1500), (14, 22, area // 600)):
        for _ in range(tries):
            kind = (DISK, SQUARE, TRIANGLE)[rng.randint(3)]
            radius = int(rng.randint(low, high) * SLIMNESS[kind] ** 0.4)
            x, y = _place(rng, size, radius)
            if _is_free(x, y, radius, shapes):
                colour = paint(x, y, radius, kind, base)
                shapes.append((x, y, radius, kind, colour))
    for _ in range(area // 800):
        # Room for any dot, here and below, lest the size tell the class.
        x, y = _place(rng, size, DOT_RADIUS[1])
        if _is_free(x, y, DOT_RADIUS[1], shapes + dots):
            paint(x, y, rng.randint(*DOT_RADIUS), PEBBLE, base)
            dots.append((x, y, DOT_RADIUS[1]))
    for x, y, radius, kind, colour in shapes:
        room = int(radius / SLIMNESS[kind]) - DOT_RADIUS[1] - 3
        if room >= 0:
            dx, dy = rng.randint(-room, room + 1, 2) * 7 // 10
            paint(x + dx, y + dy, rng.randint(*DOT_RADIUS), BUTTON, colour)

    image += (_noise(rng, size, 64) * 20) >> 7
    image += rng.randint(-10, 11, image.shape).astype(np.int16)
    image = cv2.GaussianBlur(image.clip(0, 255).astype(np.uint8), (3, 3), 0)
    return image, label


def _noise(
    rng: np.random.RandomState, size: tuple[int, int], cell: int
) -> np.ndarray:
    """Smooth noise in -128..127 of shape (H, W, 1), blobs of ``cell`` px."""
    height, width = size
    grid = rng.randint(0, 256, (height // cell + 2, width // cell + 2))
    noise = cv2.resize(
        grid.astype(np.uint8),
        (width, height),
        interpolation=cv2.INTER_LINEAR_EXACT,
    )
    return noise.astype(np.int16)[..., None] - 128


def _texture(
    rng: np.random.RandomState, size: tuple[int, int], base: np.ndarray
) -> np.ndarray:
    """Blobs and stripes around a colour: int16 of shape (H, W, 3)."""
    a, b = rng.randint(-4, 5, 2)
    y, x = np.ogrid[: size[0], : size[1]]
    stripes = (a * x + b * y) // rng.randint(12, 33) % 2 * 2 - 1
    blobs = _noise(rng, size, rng.randint(4, 13))
    texture = blobs * rng.randint(0, 31, 3) // 128 + (
        stripes[..., None] * rng.randint(0, 13, 3)
    )
    return (base + texture).astype(np.int16)


def _contrasting(rng: np.random.RandomState, under: np.ndarray) -> np.ndarray:
    """A random colour that stands out from the one under it."""
    while True:
        colour = rng.randint(50, 206, 3)
        if np.abs(colour - under).sum() >= 140:
            return colour


def _place(
    rng: np.random.RandomState, size: tuple[int, int], radius: int
) -> tuple[int, int]:
    """A random centre (x, y), the circle inside the image if it can be."""
    height, width = size
    margin = radius + 2
    return tuple(
        int(rng.randint(margin, n - margin)) if n > 2 * margin else n // 2
        for n in (width, height)
    )


def _is_free(x: int, y: int, radius: int, others: list) -> bool:
    """Whether a circle keeps 3 pixels from all other circles."""
    return all(
        (x - other[0]) ** 2 + (y - other[1]) ** 2
        > (radius + other[2] + 3) ** 2
        for other in others
    )


def _mask(
    rng: np.random.RandomState,
    size: tuple[int, int],
    x: int,
    y: int,
    radius: int,
    kind: int,
) -> np.ndarray:
    """Pixels of a shape of random orientation: bool of shape (H, W)."""
    mask = np.zeros(size, np.uint8)
    sides = {SQUARE: 4, TRIANGLE: 3}.get(kind)
    if sides is None:
        cv2.circle(mask, (int(x), int(y)), int(radius), 1, -1)
    else:
        angles = 2 * np.pi * (rng.random_sample() + np.arange(sides)) / sides
        corners = np.stack([np.cos(angles), np.sin(angles)], 1) * radius
        cv2.fillPoly(mask, [np.rint(corners + (x, y)).astype(np.int32)], 1)
    return mask.astype(bool)


def write_scenes(folder: str, manifest: dict) -> None:
    """Write all scenes of a split, then give the folder its name."""
    parent, name = osp.split(folder)
    part = osp.join(parent, f'.{name}-{uuid.uuid4().hex[:8]}')
    images, labels = osp.join(part, 'images'), osp.join(part, 'labels')
    try:
        os.makedirs(images)
        os.makedirs(labels)
        for i in range(manifest['num_images']):
            image, label = draw_scene(
                manifest['size'],
                [manifest['seed'], SPLITS.index(manifest['split']), i],
            )
            for root, array in ((images, image), (labels, label)):
                path = osp.join(root, f'{i:05d}.png')
                # cv2.imwrite() does not tell why it cannot.
                with open(path, 'wb') as file:
                    file.write(cv2.imencode('.png', array)[1])
        with open(osp.join(part, 'manifest.json'), 'w') as file:
            json.dump(manifest, file)
        try:
            os.rename(part, folder)
        except OSError:
            # Another rank was first, and what it wrote is complete.
            if not osp.exists(folder):
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _check_manifest(folder: str, manifest: dict) -> None:
    """Raise a UserError unless the folder holds the scenes asked for."""
    path = osp.join(folder, 'manifest.json')
    if not osp.isfile(path):
        raise UserError(
            f'{folder} exists but was not written by '
            'ShapesDataset: choose another data_root.'
        )
    with open(path) as file:
        found = json.load(file)
    if found != manifest:
        raise UserError(
            f'{folder} holds scenes of {found}, not of '
            f'{manifest}: choose another data_root, or delete '
            'that folder.'
        )
