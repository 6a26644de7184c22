"""tools/analysis_tools/compare_studies.py: from work directories to files."""

import json

import numpy as np
import pytest
from small_study import search_config, worker

from mmseg_autodeeplab.search.comparison import compare_studies
from mmseg_autodeeplab.visualization.studies import moving_mean

TOOL = 'analysis_tools/compare_studies'


def study(folder, values, **search):
    """A finished one, whose rewards are known."""
    cfg = search_config(trials=len(values), **search)
    worker(folder, cfg, values=dict(enumerate(values))).run()
    (folder / 'search_config.py').write_text(cfg.pretty_text)
    return folder


@pytest.fixture
def studies(tmp_path):
    """One of five trials, that gets better, and one of four."""
    return [
        study(tmp_path / 'learns', [10.0, 20.0, 30.0, 40.0, 90.0]),
        study(tmp_path / 'uniform', [25.0, 15.0, 25.0, 19.0]),
    ]


def test_equal_trials(run_tool, studies, tmp_path, capsys):
    """The fifth trial of the one has no counterpart, so it does not count."""
    stem = tmp_path / 'out'
    run_tool(TOOL, *studies, '--last', '2', '--out', stem)
    found = json.loads(stem.with_suffix('.json').read_text())
    assert [*found] == ['learns', 'uniform']
    learns, uniform = found.values()
    assert learns['rewards'] == [[0, 10.0], [1, 20.0], [2, 30.0], [3, 40.0]]
    assert (learns['best'], learns['mean'], learns['last']) == (40, 25, 35)
    assert learns['improvement'] == 35 - 22
    low, high = learns['interval']
    assert (low, high) == (30 - 25, 40 - 19)
    assert uniform['improvement'] == 0
    text = stem.with_suffix('.md').read_text()
    assert '| learns | 4 | 40.00 | 25.00 | 35.00 | +13.00 (+5.00 to' in text
    assert text in capsys.readouterr().out
    assert b'trial' in stem.with_suffix('.svg').read_bytes()


def test_what_was_stopped_early_counts_by_its_last_value(
    run_tool, studies, tmp_path, capsys
):
    """Or a search that stops its bad trials would seem to have none."""
    pruner = dict(type='ThresholdPruner', lower=22)
    stopped = study(
        tmp_path / 'stopped',
        [30.0, 20.0, 10.0, 40.0],
        pruner=pruner,
        stages=[{}, {}],
    )
    stem = tmp_path / 'out'
    run_tool(TOOL, stopped, studies[1], '--out', stem)
    found = json.loads(stem.with_suffix('.json').read_text())['stopped']
    assert found['rewards'] == [[0, 30.0], [1, 20.0], [2, 10.0], [3, 40.0]]
    assert found['mean'] == 25
    # Earlier versions did not write it.
    file = stopped / 'trials' / '0002' / 'reward.json'
    values = json.loads(file.read_text())
    del values['value']
    file.write_text(json.dumps(values))
    capsys.readouterr()
    run_tool(TOOL, stopped, studies[1], '--out', stem)
    found = json.loads(stem.with_suffix('.json').read_text())['stopped']
    assert found['rewards'] == [[0, 30.0], [1, 20.0], [3, 40.0]]
    assert f'Left out of {stopped}: 1 trials that' in capsys.readouterr().out


def test_a_search_with_imports_of_the_users_own(
    run_tool, failure, studies, tmp_path
):
    """Its config is read as data; only what builds of it has to know all."""
    file = studies[1] / 'search_config.py'
    with open(file, 'a') as f:
        f.write("custom_imports = dict(imports=['my_heads'])\n")
    run_tool(TOOL, *studies, '--out', tmp_path / 'out')
    assert (tmp_path / 'out.md').is_file()
    run_tool('analysis_tools/search_report', studies[1])
    assert (studies[1] / 'search_report.html').is_file()
    for tool in ('decode', 'rerank'):
        text = failure(tool, studies[1])
        assert (
            "'my_heads'" in text and 'search was started with by --co' in text
        )


def test_the_last_study_is_what_counts_as_zero():
    points = {
        'a': np.array([[0, 1.0], [1, 3.0]]),
        'b': np.array([[0, 2.0], [1, 8.0]]),
    }
    assert compare_studies(points, 1)['a']['improvement'] == 3 - 8
    turned = dict(reversed(points.items()))
    assert compare_studies(turned, 1)['b']['improvement'] == 8 - 3


@pytest.mark.parametrize('window', [1, 2, 3, 10])
def test_moving_mean(window):
    values = np.random.RandomState(0).rand(6)
    expected = [
        np.mean(values[max(0, i - window + 1) : i + 1]) for i in range(6)
    ]
    np.testing.assert_allclose(moving_mean(values, window), expected)


def test_what_cannot_be_compared(failure, studies, tmp_path):
    learns, uniform = studies
    stem = tmp_path / 'out'
    one = study(tmp_path / 'one', [50.0])
    text = failure(TOOL, learns, one, '--out', stem)
    assert f'{one} has 1 trials with a reward' in text
    other = tmp_path / 'other' / 'learns'
    other.parent.mkdir()
    text = failure(TOOL, learns, other, '--out', stem)
    assert 'their last parts name the studies' in text
    assert '--last is 0' in failure(TOOL, learns, uniform, '--last', '0')
    assert not [*tmp_path.glob('out.*')]
