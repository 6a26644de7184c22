from architectures import random_architecture

TOOL = 'analysis_tools/draw_architecture'


def test_names_and_files_are_drawn(run_tool, failure, tmp_path, capsys):
    random_architecture(2, 4, 0).dump(tmp_path / 'a.json')
    for name in ('autodeeplab', tmp_path / 'a.json'):
        run_tool(TOOL, name, '--out-dir', tmp_path / 'out', '--force')
        assert 'Written: ' in capsys.readouterr().out
    before = {p: p.read_bytes() for p in (tmp_path / 'out').iterdir()}
    assert len(before) == 4
    # Nothing is replaced unasked.
    text = failure(TOOL, 'autodeeplab', '--out-dir', tmp_path / 'out')
    assert 'cell.svg exists already' in text
    assert before == {p: p.read_bytes() for p in (tmp_path / 'out').iterdir()}


def test_a_dense_prediction_cell_is_drawn(run_tool, tmp_path):
    run_tool(TOOL, 'dpc', '--out-dir', tmp_path)
    files = {file.name for file in tmp_path.iterdir()}
    assert files == {'cell.svg', 'cell.png'}


def test_templates_and_layers_are_drawn(run_tool, tmp_path):
    run_tool(TOOL, 'arch0', '--out-dir', tmp_path)
    files = {file.stem for file in tmp_path.iterdir()}
    assert files == {'templates', 'layers'}


def test_what_is_no_architecture(failure, tmp_path):
    text = failure(TOOL, 'autodeeplap', '--out-dir', tmp_path)
    assert "'autodeeplap'" in text and 'autodeeplab' in text
    assert not list(tmp_path.iterdir())
