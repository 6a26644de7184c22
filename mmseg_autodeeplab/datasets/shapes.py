"""Small generated scenes that need context at several scales."""

import json
import shutil
import uuid
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

from ..errors import UserError
from ..files import to_json

# The palette of Okabe and Ito, which colour-blind readers can tell apart.
COLOURS = dict(
    ground=[0, 0, 0],
    disk=[230, 159, 0],
    square=[86, 180, 233],
    triangle=[0, 158, 115],
    pebble=[240, 228, 66],
    button=[204, 121, 167],
)
GROUND, DISK, SQUARE, TRIANGLE, PEBBLE, BUTTON = range(6)
SPLITS = ('train', 'val', 'test')
# Circumscribed over inscribed radius.
SLIMNESS = {DISK: 1.0, SQUARE: 2**0.5, TRIANGLE: 2.0}


class Style(NamedTuple):
    """How scenes look; the upper ends of ranges are excluded."""

    ground: tuple[int, int]  # values of a colour
    shape: tuple[int, int]
    dot: tuple[int, int]
    #: Radii of shapes and pixels of a scene per try, the large ones first, as
    #: they find no room later.
    sizes: tuple[tuple[int, int, int], ...]
    dot_sizes: tuple[int, int, int]  # the same, of dots


EASY = Style(*3 * [(50, 206)], ((24, 33, 1500), (14, 22, 600)), (6, 10, 800))
HARD = Style(
    (20, 70),
    (100, 150),
    (180, 230),
    ((24, 31, 700), (9, 16, 200)),
    (3, 6, 300),
)


@DATASETS.register_module()
class ShapesDataset(BaseSegDataset):
    """Scenes of shapes, generated from a seed, with nothing to download.

    Disks, squares and triangles of two scales lie on a ground, and small dots
    on both: a ``pebble`` on the ground, a ``button`` on a shape. Colours and
    textures tell nothing of the class, so a pixel is known by its surroundings
    alone, near and far. Hard scenes have smaller shapes and dots beside the
    large ones. Brightness tells ground, shapes and dots apart there, and
    nothing of the kind of a shape, so that the scales which a network sees
    make the difference after a short training.

    Splits share no scene. The scenes are written once, as PNG files in
    ``{data_root}/{split}``, where they appear all at once, so several ranks
    may race and a run may be killed. A folder that holds anything else is
    refused and left as it is.

    Args:
        split (str): 'train', 'val' or 'test'.
        num_images, seed (int): How many scenes, and their seed.
        size (tuple[int, int]): Height and width in pixels, at least 64.
        hard (bool): Draw hard scenes.
        data_root, kwargs: As of ``BaseSegDataset``.
    """

    generates_data = True  # no folder need be there beforehand

    METAINFO = dict(classes=tuple(COLOURS), palette=list(COLOURS.values()))

    def __init__(
        self,
        split: str = 'train',
        num_images: int = 400,
        size: tuple[int, int] = (96, 128),
        seed: int = 0,
        data_root: str = 'data/shapes',
        hard: bool = False,
        **kwargs,
    ) -> None:
        def is_integer(value, low):
            return isinstance(value, int) and low <= value < 2**32

        given = dict(split=split, num_images=num_images, size=size, seed=seed)
        if not (
            split in SPLITS
            and is_integer(num_images, 1)
            and isinstance(size, (list, tuple))
            and len(size) == 2
            and all(is_integer(n, 64) for n in size)
            and is_integer(seed, 0)
        ):
            raise UserError(
                f'ShapesDataset needs a split of {SPLITS}, num_images of 1 or '
                'more, a size of two integers from 64 on, height and width, '
                f'and a seed from 0 to 4294967295, but got {given}.'
            )
        # What the files depend on; the version changes with the scenes.
        self.manifest = dict(version=1, **dict(given, size=list(size)))
        if hard:
            self.manifest['hard'] = True
        super().__init__(
            data_root=data_root,
            data_prefix=dict(
                img_path=f'{split}/images', seg_map_path=f'{split}/labels'
            ),
            img_suffix='.png',
            **kwargs,
        )

    def load_data_list(self) -> list[dict]:
        """Write the scenes if they do not exist, then list them."""
        folder = Path(self.data_root, self.manifest['split'])
        if not folder.exists():
            write_scenes(folder, self.manifest)
        file = folder / 'manifest.json'
        found = json.loads(file.read_text()) if file.is_file() else 'files'
        if found != self.manifest:
            raise UserError(
                f'{folder} holds {found} and was not written by ShapesDataset '
                f'for {self.manifest}: choose another data_root, or delete '
                'that folder.'
            )
        return super().load_data_list()


def write_scenes(folder: Path, manifest: dict) -> None:
    """Write all scenes of a split, then give the folder its name."""
    aside = folder.with_name(f'.{folder.name}-{uuid.uuid4().hex[:8]}')
    seed, split = manifest['seed'], SPLITS.index(manifest['split'])
    try:
        for kind in ('images', 'labels'):
            (aside / kind).mkdir(parents=True)
        for i in range(manifest['num_images']):
            scene = draw_scene(
                manifest['size'],
                [seed, split, i],
                manifest.get('hard', False),
            )
            for kind, array in zip(('images', 'labels'), scene):
                # cv2.imwrite() does not tell why it cannot.
                content = cv2.imencode('.png', array)[1].tobytes()
                (aside / kind / f'{i:05d}.png').write_bytes(content)
        (aside / 'manifest.json').write_text(to_json(manifest))
        try:
            aside.rename(folder)
        except OSError:
            # Another rank was first, and what it wrote is complete.
            if not folder.exists():
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def draw_scene(
    size: tuple[int, int], entropy: list[int], hard: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a scene of a height and width from the entropy of its numbers.

    Integer arithmetic and numpy's frozen random stream make the pixels the
    same on every platform, but for the last bit of a corner's coordinate.

    Returns:
        tuple: BGR image (H, W, 3) and label (H, W), both uint8 arrays.
    """
    rng = np.random.RandomState(entropy)
    height, width = size
    style = HARD if hard else EASY
    base = rng.randint(*style.ground, 3)
    image = _texture(rng, size, base)
    label = np.full(size, GROUND, np.uint8)
    shapes = []  # (x, y, circumscribed radius, class, base colour)
    dots = []

    def paint(x, y, radius, kind, under, tones):
        colour = under
        while np.abs(colour - under).sum() < 140:  # It is to stand out.
            colour = rng.randint(*tones, 3)
        mask = _mask(rng, size, x, y, radius, kind)
        image[mask] = _texture(rng, size, colour)[mask]
        label[mask] = kind
        return colour

    area = height * width
    for low, high, every in style.sizes:
        for _ in range(area // every):
            kind = (DISK, SQUARE, TRIANGLE)[rng.randint(3)]
            radius = int(rng.randint(low, high) * SLIMNESS[kind] ** 0.4)
            if place := _free_place(rng, size, radius, shapes):
                colour = paint(*place, radius, kind, base, style.shape)
                shapes.append((*place, radius, kind, colour))
    low, high, every = style.dot_sizes
    for _ in range(area // every):
        # Room for any dot, here and below, lest the size tell the class.
        if place := _free_place(rng, size, high, shapes + dots):
            paint(*place, rng.randint(low, high), PEBBLE, base, style.dot)
            dots.append((*place, high))
    for x, y, radius, kind, colour in shapes:
        room = int(radius / SLIMNESS[kind]) - high - 3
        if room >= 0 or hard:
            room = max(room, 0)
            dx, dy = rng.randint(-room, room + 1, 2) * 7 // 10
            place = x + dx, y + dy
            paint(*place, rng.randint(low, high), BUTTON, colour, style.dot)

    image += (_noise(rng, size, 64) * 20) >> 7
    image += rng.randint(-10, 11, image.shape).astype(np.int16)
    image = cv2.GaussianBlur(image.clip(0, 255).astype(np.uint8), (3, 3), 0)
    return image, label


def _noise(rng, size, cell):
    """Smooth noise in -128..127 of shape (H, W, 1), blobs of ``cell`` px."""
    height, width = size
    grid = rng.randint(0, 256, (height // cell + 2, width // cell + 2))
    noise = cv2.resize(
        grid.astype(np.uint8),
        (width, height),
        interpolation=cv2.INTER_LINEAR_EXACT,
    )
    return noise.astype(np.int16)[..., None] - 128


def _texture(rng, size, base):
    """Blobs and stripes around a colour: int16 of shape (H, W, 3)."""
    a, b = rng.randint(-4, 5, 2)
    y, x = np.ogrid[: size[0], : size[1]]
    stripes = (a * x + b * y) // rng.randint(12, 33) % 2 * 2 - 1
    blobs = _noise(rng, size, rng.randint(4, 13))
    blobs = blobs * rng.randint(0, 31, 3) // 128
    stripes = stripes[..., None] * rng.randint(0, 13, 3)
    return (base + blobs + stripes).astype(np.int16)


def _free_place(rng, size, radius, others):
    """A random centre (x, y); None if it is not free of other circles."""
    margin = radius + 2
    x, y = (
        int(rng.randint(margin, n - margin)) if n > 2 * margin else n // 2
        for n in reversed(size)
    )
    is_free = all(
        (x - x2) ** 2 + (y - y2) ** 2 > (radius + radius2 + 3) ** 2
        for x2, y2, radius2, *_ in others
    )
    return (x, y) if is_free else None


def _mask(rng, size, x, y, radius, kind):
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
