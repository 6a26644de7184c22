"""Draw an architecture, such as its cell and path, as SVG and PNG."""

import argparse
import os.path as osp

from mmseg_autodeeplab import cli
from mmseg_autodeeplab.arch import ZOO, get_architecture
from mmseg_autodeeplab.errors import UserError
from mmseg_autodeeplab.visualization import drawing_files, save_drawings


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'architecture',
        help=f'name of a published one ({", ".join(ZOO)}) or an '
        'architecture.json',
    )
    parser.add_argument(
        '--out-dir', default='.', help='folder for the drawings'
    )
    parser.add_argument(
        '--force',
        action='store_true',
        help='replace these files where they exist',
    )
    return parser.parse_args()


@cli.user_errors()
def main():
    args = parse_args()
    architecture = get_architecture(args.architecture)
    files = drawing_files(architecture, args.out_dir)
    for file in files:
        if osp.exists(file) and not args.force:
            raise UserError(
                f'{file} exists already; give another --out-dir, '
                'or --force to replace it.'
            )
    save_drawings(architecture, args.out_dir)
    print(f'{architecture.describe()}\n\nWritten: {", ".join(files)}')


if __name__ == '__main__':
    main()
