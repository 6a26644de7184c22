"""The tool that reports a search; what is on the page: test_report.py."""

import os
from pathlib import Path

from mmengine.config import Config

CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / 'autodeeplab'


def begin_run(work_dir, config):
    """Leave what a run of a config leaves before its first iteration."""
    folder = work_dir / '20260101_000000' / 'vis_data'
    folder.mkdir(parents=True)
    Config.fromfile(CONFIGS / f'{config}.py').dump(str(folder / 'config.py'))


def test_the_tool(run_tool, tmp_path, capsys):
    work_dir = tmp_path / 'work'
    begin_run(work_dir, 'search_demo')
    for name in ('iter_20.pth', 'iter_30.pth'):
        (work_dir / name).touch()
    os.utime(work_dir / 'iter_20.pth', (0, 0))
    file = work_dir / 'search_report.html'
    for _ in range(2):  # It is made again and again.
        run_tool('analysis_tools/search_report', work_dir)
        assert capsys.readouterr().out == f'Written: {file}\n'
    page = file.read_text()
    assert f'python tools/decode.py {work_dir / "iter_30.pth"}\n' in page
    retrain = work_dir / 'decoded' / 'retrain.py'
    assert f'python tools/train.py {retrain}' in page


def test_no_search(failure, tmp_path):
    for _ in range(2):
        text = failure('analysis_tools/search_report', tmp_path)
        assert f'{tmp_path} holds no search' in text
        assert not (tmp_path / 'search_report.html').exists()
        # Nor is the retraining of one.
        if not list(tmp_path.iterdir()):
            begin_run(tmp_path, 'autodeeplab-s_8xb2-1500k_cityscapes-769x769')
