"""Make a data root of PASCAL-Person-Part out of what is public.

PERSON_PART is the folder pascal_person_part of pascal_person_part.zip, with
pascal_person_part_gt/, the labels, and pascal_person_part_trainval_list/, the
lists train.txt and val.txt. VOC2010 is that folder of PASCAL VOC 2010, with
JPEGImages/. OUT_DIR becomes the data_root of
configs/_base_/datasets/pascal_person_part_513x513.py: its images and labels
are links to those folders, or, with --copy, copies of the files that are
listed.
"""

import argparse
import os.path as osp
from pathlib import Path

import numpy as np
from mmengine.utils import ProgressBar
from PIL import Image

from mmseg_autodeeplab import cli
from mmseg_autodeeplab.datasets import PascalPersonPartDataset
from mmseg_autodeeplab.errors import UserError, one_line
from mmseg_autodeeplab.files import write_atomically

SPLITS = ('train', 'val')
LABELS, LISTS = 'pascal_person_part_gt', 'pascal_person_part_trainval_list'
CLASSES = len(PascalPersonPartDataset.METAINFO['classes'])
IGNORED = 255


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('person_part', metavar='PERSON_PART')
    parser.add_argument('voc', metavar='VOC2010')
    parser.add_argument('out_dir', metavar='OUT_DIR')
    parser.add_argument(
        '--copy',
        action='store_true',
        help='copy the files rather than link the folders',
    )
    return parser.parse_args()


def read_names(root: str, split: str) -> list[str]:
    """The names in a list, which are given as paths or by themselves."""
    file = osp.join(root, LISTS, f'{split}.txt')
    if not osp.isfile(file):
        raise UserError(
            f'{file} does not exist: PERSON_PART needs {LABELS} and {LISTS}, '
            'as in pascal_person_part.zip'
        )
    lines = Path(file).read_text().split('\n')
    names = [Path(line.split()[0]).stem for line in lines if line.strip()]
    if not names:
        raise UserError(f'{file} lists no image: unzip it again')
    return names


def check_pair(image: str, label: str) -> None:
    """Raise a UserError unless these are an image and its label."""
    try:
        with Image.open(image) as opened:
            size = opened.size
        with Image.open(label) as opened:
            pixels = np.array(opened)
    except Exception as error:  # Broken images raise anything.
        raise UserError(
            f'{image} or its label {label} cannot be read '
            f'({one_line(error)}): replace the file'
        ) from error
    if opened.mode not in ('L', 'P') or opened.size != size:
        raise UserError(
            f'{label} is an image of mode {opened.mode} and size '
            f'{opened.size}, but a label has one channel of 8 bits and the '
            f'size of its image, {size}'
        )
    wrong = np.setdiff1d(pixels, [*range(CLASSES), IGNORED])
    if wrong.size:
        raise UserError(
            f'{label} has a pixel of {wrong[0]}, but labels are 0 to '
            f'{CLASSES - 1}, and {IGNORED} where nothing counts: give the '
            f'{LABELS} of pascal_person_part.zip'
        )


@cli.user_errors()
def main():
    args = parse_args()
    folders = {
        'images': (osp.join(args.voc, 'JPEGImages'), '.jpg'),
        'labels': (osp.join(args.person_part, LABELS), '.png'),
    }
    names = {split: read_names(args.person_part, split) for split in SPLITS}
    listed = [name for split in SPLITS for name in names[split]]
    # All that can be missing is missed at once.
    for folder, suffix in folders.values():
        missing = [
            name
            for name in listed
            if not osp.isfile(osp.join(folder, name + suffix))
        ]
        if missing:
            raise UserError(
                f'{folder} lacks {len(missing)} of the {len(listed)} files '
                f'that are listed, {missing[0]}{suffix} among them'
            )
    print(f'Looking at {len(listed)} images and labels')
    progress = ProgressBar(len(listed))
    for name in listed:
        check_pair(*(osp.join(f, name + end) for f, end in folders.values()))
        progress.update()
    print()
    for kind, (folder, suffix) in folders.items():
        target = osp.join(args.out_dir, kind)
        if not args.copy:
            cli.link_folder(folder, target)
            continue
        for name in listed:
            content = Path(folder, name + suffix).read_bytes()
            write_atomically(osp.join(target, name + suffix), content)
    for split in SPLITS:
        file = osp.join(args.out_dir, f'{split}.txt')
        write_atomically(file, '\n'.join(names[split]) + '\n')
        print(f'{file}: {len(names[split])} images')


if __name__ == '__main__':
    main()
