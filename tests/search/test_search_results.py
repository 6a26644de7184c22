"""What is read of the files of a search."""

from mmseg_autodeeplab.search.results import read_search


def test_torn_and_abandoned_lines(search_dir):
    search = read_search(str(search_dir))
    assert [(x['step'], x.get('mark')) for x in search.scalars] == [
        *((10, 1), (20, 1), (30, 1), (40, 2), (50, 2), (50, None))
    ]
    assert search.curve('mIoU') == [(50, 12.345)]
    assert [record.iteration for record in search.records] == [0, 15, 30]
