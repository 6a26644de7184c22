import pytest
from search_files import CONFIG_NAME, parameters, write_run

from mmseg_autodeeplab.visualization.history import append_record


@pytest.fixture
def work_dir(tmp_path):
    """A search that was resumed from iteration 30, and still runs."""
    work_dir = tmp_path / 'work'
    write_run(work_dir, '20260101_000000', range(10, 51, 10), mark=1)
    for iteration in (0, 15, 30, 45):
        notes = {} if iteration else dict(config=CONFIG_NAME)
        append_record(work_dir, iteration, *parameters(iteration), **notes)
    write_run(work_dir, '20260102_000000', (40, 50), mark=2)
    append_record(work_dir, 30, *parameters(30))
    with open(work_dir / '20260102_000000/vis_data/scalars.json', 'a') as f:
        f.write('{"mIoU": 12.345, "step": 50}\n{"mIoU": 67.8, "st')
    return work_dir
