"""Report a search, running or not, as one HTML page.

The page needs no network. Of a search by gradient: curves, alphas and betas
over time, the decoded architecture and its cost, and the commands to retrain
it. Of a black-box search: rewards, the best trials, and what was trained for
longer.
"""

import argparse
import os.path as osp

from mmengine.registry import init_default_scope

from mmseg_autodeeplab import cli
from mmseg_autodeeplab.files import write_atomically
from mmseg_autodeeplab.search.blackbox import CONFIG_FILE
from mmseg_autodeeplab.search.config_text import read_config_file
from mmseg_autodeeplab.search.results import read_search
from mmseg_autodeeplab.visualization.report import render_report
from mmseg_autodeeplab.visualization.study_report import render_study


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
    config = osp.join(args.work_dir, CONFIG_FILE)
    if osp.exists(config):
        init_default_scope('mmseg')
        page = render_study(args.work_dir, read_config_file(config))
    else:
        page = render_report(read_search(args.work_dir))
    # Data may hold what no file can, such as half a character.
    write_atomically(file, page.encode(errors='replace'))
    print(f'Written: {file}')


if __name__ == '__main__':
    main()
