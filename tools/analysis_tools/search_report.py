"""Report a search, running or not, as one HTML page.

The page needs no network: curves, alphas and betas over time, the decoded
architecture and its cost, and the commands to retrain it.
"""

import argparse
import os.path as osp

from mmseg_autodeeplab import cli
from mmseg_autodeeplab.files import write_atomically
from mmseg_autodeeplab.search.results import read_search
from mmseg_autodeeplab.visualization.report import render_report


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('work_dir', help='work directory of the search')
    parser.add_argument(
        '--out',
        metavar='FILE',
        help='the page; by default search_report.html in the work directory. '
        'An earlier one is replaced',
    )
    return parser.parse_args()


@cli.user_errors()
def main():
    args = parse_args()
    file = args.out or osp.join(args.work_dir, 'search_report.html')
    page = render_report(read_search(args.work_dir))
    # Data may hold what no file can, such as half a character.
    write_atomically(file, page.encode(errors='replace'))
    print(f'Written: {file}')


if __name__ == '__main__':
    main()
