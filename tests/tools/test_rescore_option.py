"""tools/decode.py --rescore, on the checkpoint of a small search."""

import pytest
from mmengine.config import Config
from small_search import build, search_config

from mmseg_autodeeplab.arch import Architecture
from mmseg_autodeeplab.cli import open_supernet, read_architecture
from mmseg_autodeeplab.search.gradient import rescore

pytestmark = pytest.mark.run


@pytest.fixture(scope='module')
def file(tmp_path_factory):
    """A checkpoint; its data are beside it."""
    folder = tmp_path_factory.mktemp('rescored')
    cfg = search_config(folder, max_iters=2, score='lift')
    build(cfg).train()
    return str(folder / 'work' / 'iter_2.pth')


@pytest.mark.parametrize('by', ['mIoU', 'loss'])
def test_the_best_is_written_and_all_are_listed(
    file, tmp_path, run_tool, capsys, by
):
    # One of them is the default.
    options = dict(mIoU=[], loss=['--by', 'loss'])[by]
    run_tool(
        'decode',
        *(file, '--rescore', 3, '--cells', 2, '--batches', 2),
        *options,
        *('--out-dir', tmp_path),
    )
    _, search, _ = read_architecture(file)
    expected = rescore(*open_supernet(file, search, 2), 3, 2, 'lift', by)
    rows = [candidate.to_dict() for candidate in expected]
    found = Architecture.load(tmp_path / 'architecture.json')
    assert found == expected[0].architecture
    assert found.provenance['iteration'] == 2
    assert found.provenance['rescored'] == dict(
        by=by, batches=2, candidates=rows
    )
    printed = capsys.readouterr().out.splitlines()
    head = [line.split() for line in printed].index(
        ['path', 'cell', 'score', 'loss', 'mIoU']
    )
    for row, line in zip(rows, printed[head + 1 :]):
        path, cell, *numbers = line.split()
        assert (path, int(cell)) == (row['path'], row['cell'])
        assert [*map(float, numbers)] == pytest.approx(
            [row['score'], row['loss'], row['mIoU']], abs=6e-3
        )
    cfg = Config.fromfile(tmp_path / 'retrain.py')
    assert cfg.model.backbone.arch.path == list(found.path)


def test_what_cannot_be_rescored(file, tmp_path, failure):
    def refuses(*args):
        out = tmp_path / 'out'
        text = failure('decode', *args, '--out-dir', out)
        assert not out.exists()
        return text

    assert '--rescore is 0, but must be 1' in refuses(file, '--rescore', 0)
    options = (file, '--rescore', 1)
    assert '--cells is -1, but' in refuses(*options, '--cells', -1)
    assert '--batches is 0, but' in refuses(*options, '--batches', 0)
    assert 'and --random' in refuses(*options, '--random', 1)
    found = tmp_path / 'architecture.json'
    read_architecture(file)[0].dump(found)
    assert 'is for a checkpoint of a' in refuses(found, '--rescore', 1)

    _, search, _ = read_architecture(file)
    search.train_dataloader.dataset = dict(
        type='CamVidDataset', data_root=str(tmp_path / 'gone'), pipeline=[]
    )
    search.dump(str(tmp_path / 'search.py'))
    config = ('--config', tmp_path / 'search.py')
    assert 'gone does not exist: check' in refuses(*options, *config)
