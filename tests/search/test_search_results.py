"""What is read of the files of a search."""

import pytest
from mmengine.config import Config
from search_files import write_run

from mmseg_autodeeplab.search.gradient import ArchSearchHook
from mmseg_autodeeplab.search.history import count_changes
from mmseg_autodeeplab.search.results import (
    read_search,
    search_hook_config,
    settings,
)

PATH = 'mmseg_autodeeplab.search.gradient.arch_search_hook.ArchSearchHook'


class OwnSearchHook(ArchSearchHook):
    """Of a user's own."""


@pytest.mark.parametrize(
    'kind', ['ArchSearchHook', 'mmseg.ArchSearchHook', PATH, OwnSearchHook]
)
@pytest.mark.parametrize('place', ['custom_hooks', 'default_hooks'])
def test_a_search_is_known_by_the_class_of_its_hook(kind, place):
    hook = dict(type=kind, begin=3)
    others = [dict(type='EMAHook'), dict(type='no_such_module.Hook')]
    cfg = dict(
        custom_hooks=others,
        default_hooks=dict(timer=None, logger=dict(type='LoggerHook')),
    )
    assert search_hook_config(Config(cfg)) is None
    if place == 'custom_hooks':
        cfg['custom_hooks'] = [*others, hook]
    else:
        cfg['default_hooks']['search'] = hook
    assert search_hook_config(Config(cfg)) == hook
    assert search_hook_config(Config()) is None


def test_torn_and_abandoned_lines(search_dir):
    search = read_search(str(search_dir))
    assert [(x['step'], x.get('mark')) for x in search.scalars] == [
        *((10, 1), (20, 1), (30, 1), (40, 2), (50, 2), (50, None))
    ]
    assert search.curve('mIoU') == [(50, 12.345)]
    assert [record.iteration for record in search.records] == [0, 15, 30]


def test_changes_are_those_of_the_history(search_dir):
    """They need no hook that draws."""
    search = read_search(str(search_dir))
    first, second, third = (r.architecture for r in search.records)
    changes = [count_changes(first, second), count_changes(second, third)]
    assert any(sum(pair) for pair in changes)
    for place, name in enumerate(('changed_connections', 'changed_layers')):
        assert search.curve(name) == [
            (iteration, pair[place])
            for iteration, pair in zip((15, 30), changes)
        ]


@pytest.mark.parametrize(
    'hook,name,text',
    [
        (dict(), 'Cost term', None),
        (dict(cost=dict(target=5.0)), 'Cost term', 'target 5.0'),
        (
            dict(terms=[dict(type='CostTerm', shape=(3, 4)), dict(type='B')]),
            'Terms of the loss',
            'shape 3 × 4, type CostTerm; type B',
        ),
    ],
)
def test_the_terms_are_among_the_settings(tmp_path, hook, name, text):
    write_run(tmp_path, '20260101_000000', [10], hook=hook)
    assert settings(read_search(str(tmp_path))).get(name) == text
