"""Turn COCO 2017 into a data set with the 21 classes of PASCAL VOC.

COCO_ROOT holds train2017/ and val2017/, the images, and stuffthingmaps/, the
content of stuffthingmaps_trainval2017.zip of COCO-Stuff. OUT_DIR becomes the
data_root of configs/_base_/datasets/coco_voc21_513x513.py. An interrupted
conversion goes on where it was.
"""

import argparse
import io
import os
import os.path as osp
from contextlib import nullcontext
from functools import partial
from multiprocessing import Pool

import numpy as np
from mmengine.utils import ProgressBar
from PIL import Image

from mmseg_autodeeplab import cli
from mmseg_autodeeplab.errors import UserError
from mmseg_autodeeplab.files import write_atomically

from mmseg.datasets import PascalVOCDataset  # isort: skip

SPLITS = ('train2017', 'val2017')
# PASCAL VOC's names, in whatever order, and COCO's ids.
COCO_IDS = {
    'person': 1,
    'bicycle': 2,
    'car': 3,
    'motorbike': 4,
    'aeroplane': 5,
    'bus': 6,
    'train': 7,
    'boat': 9,
    'bird': 16,
    'cat': 17,
    'dog': 18,
    'horse': 19,
    'sheep': 20,
    'cow': 21,
    'bottle': 44,
    'chair': 62,
    'sofa': 63,
    'pottedplant': 64,
    'diningtable': 67,
    'tvmonitor': 72,
}
# Ids that COCO has given up. They betray maps that count another way.
UNUSED_IDS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)
UNLABELLED = 255
INVALID = 255


def build_table() -> np.ndarray:
    """Map what a pixel of ``stuffthingmaps`` may be to PASCAL VOC's index.

    A pixel is an id of COCO-Stuff less one. What is no VOC category is
    background, as in DeepLab's pretraining.

    Returns:
        np.ndarray: uint8 of shape (256,), 255 where no pixel may be.
    """
    table = np.full(256, INVALID, np.uint8)
    table[:182] = 0  # 91 ids of things, 91 of stuff
    # Neither thing nor stuff: outside of all instance masks, with which
    # DeepLab pretrains, and so background there, not ignored.
    table[UNLABELLED] = 0
    table[np.array(UNUSED_IDS) - 1] = INVALID
    for index, name in enumerate(PascalVOCDataset.METAINFO['classes']):
        if name != 'background':
            table[COCO_IDS[name] - 1] = index
    return table


TABLE = build_table()


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('coco_root', metavar='COCO_ROOT')
    parser.add_argument('out_dir', metavar='OUT_DIR')
    parser.add_argument(
        '--min-pixels',
        type=int,
        default=1000,
        metavar='N',
        help='list images with more than N pixels of VOC classes '
        '(default: %(default)s)',
    )
    parser.add_argument(
        '--workers',
        type=int,
        default=os.cpu_count(),
        metavar='N',
        help='number of processes (default: %(default)s)',
    )
    return parser.parse_args()


def find_images(coco_root: str, split: str) -> list[str]:
    """List the images of a split, each with its map, without suffix."""
    folders = osp.join(coco_root, split), maps_folder(coco_root, split)
    for folder in folders:
        if not osp.isdir(folder):
            raise UserError(
                f'{folder} does not exist: COCO_ROOT needs train2017, val2017 '
                'and, out of stuffthingmaps_trainval2017.zip, stuffthingmaps'
            )
    images, maps = (
        {
            osp.splitext(file)[0]
            for file in os.listdir(folder)
            if file.endswith(suffix)
        }
        for folder, suffix in zip(folders, ('.jpg', '.png'))
    )
    if not images:
        raise UserError(f'{folders[0]} has no file that ends in .jpg')
    missing = sorted(images - maps)
    if missing:
        raise UserError(
            f'{folders[1]} lacks the maps of {len(missing)} of '
            f'{len(images)} images, {missing[0]}.png among them'
        )
    return sorted(images)


def maps_folder(coco_root, split):
    return osp.join(coco_root, 'stuffthingmaps', split)


def convert(name: str, maps: str, labels: str) -> int:
    """Write one label, unless it is there.

    Args:
        name (str): Name of map and label without suffix.
        maps (str): Folder of the maps.
        labels (str): Folder of the labels.

    Returns:
        int: Number of pixels that are not background.
    """
    file = osp.join(labels, f'{name}.png')
    label = read_label(file)
    if label is None:
        label = to_voc(osp.join(maps, f'{name}.png'))
        buffer = io.BytesIO()
        Image.fromarray(label).save(buffer, 'PNG')
        write_atomically(file, buffer.getvalue())
    return int(np.count_nonzero(label))


def read_label(file):
    """Read what an earlier run wrote, None where it cannot have been us."""
    try:
        with Image.open(file) as image:
            label = np.array(image)
    except Exception:  # Absent, cut off or no image: may raise anything.
        return None
    classes = len(PascalVOCDataset.METAINFO['classes'])
    if image.mode != 'L' or label.max() >= classes:
        return None
    return label


def to_voc(file):
    """Read a map and return the label, uint8 of shape (H, W)."""
    try:
        with Image.open(file) as image:
            # Of a palette image, too, these are the indices.
            pixels = np.array(image)
    except Exception as error:  # Broken images raise anything.
        raise UserError(f'{file} cannot be read: {error}') from error
    if image.mode not in ('L', 'P'):
        raise UserError(
            f'{file} is an image of mode {image.mode}, but a map of '
            'COCO-Stuff has a single channel of 8 bits'
        )
    label = TABLE[pixels]
    if label.max() == INVALID:
        value = pixels[label == INVALID][0]
        raise UserError(
            f'{file} has a pixel of {value}, which no map of '
            'stuffthingmaps_trainval2017.zip has: their values are ids of '
            'COCO-Stuff less one, and 255'
        )
    return label


def count_pixels(coco_root, out_dir, split, names, workers):
    """Convert a split; return the number of VOC pixels of each image."""
    labels = osp.join(out_dir, 'labels', split)
    os.makedirs(labels, exist_ok=True)
    task = partial(convert, maps=maps_folder(coco_root, split), labels=labels)
    print(f'{split}: {len(names)} images')
    progress = ProgressBar(len(names))
    counts = []
    with Pool(workers) if workers > 1 else nullcontext() as pool:
        results = pool.imap(task, names, 16) if pool else map(task, names)
        for count in results:
            counts.append(count)
            progress.update()
    print()
    return counts


@cli.user_errors()
def main():
    args = parse_args()
    if args.workers < 1 or args.min_pixels < 0:
        raise UserError(
            '--workers must be 1 or more, and --min-pixels 0 or more'
        )
    # All that can be missing is missed at once.
    names = {split: find_images(args.coco_root, split) for split in SPLITS}
    for split in SPLITS:
        images = osp.join(args.out_dir, 'images', split)
        cli.link_folder(osp.join(args.coco_root, split), images)
    for split in SPLITS:
        counts = count_pixels(
            args.coco_root, args.out_dir, split, names[split], args.workers
        )
        listed = [
            name
            for name, count in zip(names[split], counts)
            if count > args.min_pixels
        ]
        if not listed:
            raise UserError(
                f'no image of {split} has more than {args.min_pixels} pixels '
                'of VOC classes: lower --min-pixels'
            )
        file = osp.join(args.out_dir, f'{split}.txt')
        write_atomically(file, '\n'.join(listed) + '\n')
        print(f'{file}: {len(listed)} images')


if __name__ == '__main__':
    main()
