import copy
import logging
from collections import Counter
from itertools import islice

import pytest
from mmengine.dataset import (
    ConcatDataset,
    InfiniteSampler,
    RepeatDataset,
)

import mmseg_autodeeplab  # noqa: F401  # isort: skip
from mmseg.datasets import BaseSegDataset, MultiImageMixDataset
from mmseg.registry import DATA_SAMPLERS

from mmseg_autodeeplab.datasets import SplitInfiniteSampler
from mmseg_autodeeplab.errors import UserError


class Listed(BaseSegDataset):
    """A data set of image paths without files."""

    METAINFO = dict(classes=('a', 'b'), palette=[[0, 0, 0], [1, 1, 1]])

    def __init__(self, names, root='/data/x', **kwargs):
        self.names = names
        super().__init__(data_root=root, **kwargs)

    def load_data_list(self):
        return [
            dict(
                img_path=f'{self.data_root}/{name}',
                label_map=None,
                reduce_zero_label=False,
                seg_fields=[],
            )
            for name in self.names
        ]


def names_of(num):
    return [f'city{i % 7}/{i:05d}.png' for i in range(num)]


def part_names(dataset, part, **kwargs):
    sampler = SplitInfiniteSampler(dataset, part=part, seed=0, **kwargs)
    return {dataset.names[i] for i in sampler.part_indices}


@pytest.mark.parametrize('num', [2, 3, 51, 2975, 10582])
@pytest.mark.parametrize('ratio', [0.5, 1 / 3, 0.6])
def test_parts_are_disjoint_and_complete(num, ratio):
    dataset = Listed(names_of(num))
    a, b = (
        SplitInfiniteSampler(dataset, part=part, ratio=ratio, seed=0)
        for part in 'AB'
    )
    assert sorted(a.part_indices + b.part_indices) == list(range(num))
    assert len(a) == round(num * ratio) and len(a) + len(b) == num
    assert a.split_id == b.split_id


def test_split_is_seeded_and_not_a_run_of_the_list():
    dataset = Listed(names_of(100))
    first = part_names(dataset, 'A')
    assert first == part_names(dataset, 'A')
    assert first != part_names(dataset, 'A', split_seed=1)
    # The stream of RandomState is frozen, so this holds everywhere.
    indices = SplitInfiniteSampler(dataset, seed=0).part_indices
    by_path = sorted(range(100), key=dataset.names.__getitem__)
    assert sorted(map(by_path.index, indices))[:8] == [1, 2, 3, 4, 5, 6, 7, 8]


def test_split_ignores_order_and_data_root():
    names = names_of(51)
    dataset = Listed(names)
    for other in (
        Listed(names[::-1]),
        Listed(names, root='/elsewhere/y'),
        Listed(names, root='data/y'),
        Listed(names, root='data/./y/'),
    ):
        assert part_names(other, 'A') == part_names(dataset, 'A')
        assert (
            SplitInfiniteSampler(other, seed=1).split_id
            == SplitInfiniteSampler(dataset, seed=0).split_id
        )


def test_split_id_tells_splits_apart():
    dataset = Listed(names_of(51))
    ids = {
        SplitInfiniteSampler(data, seed=0, **kwargs).split_id
        for data, kwargs in (
            (dataset, {}),
            (dataset, dict(split_seed=1)),
            (dataset, dict(ratio=0.6)),
            (Listed(names_of(52)), {}),
        )
    }
    assert len(ids) == 4


def test_shuffle_seed_does_not_move_the_split():
    dataset = Listed(names_of(30))
    samplers = [SplitInfiniteSampler(dataset, seed=seed) for seed in (0, 1)]
    assert samplers[0].part_indices == samplers[1].part_indices
    one, two = (list(islice(sampler, 15)) for sampler in samplers)
    assert one != two and sorted(one) == sorted(two)


def test_streams_stay_in_their_part_and_cover_it_each_round():
    dataset = Listed(names_of(31))
    streams = []
    for part in 'AB':
        sampler = SplitInfiniteSampler(dataset, part=part, seed=3)
        stream = list(islice(sampler, 3 * len(sampler)))
        for i in range(0, len(stream), len(sampler)):
            assert sorted(stream[i : i + len(sampler)]) == sampler.part_indices
        streams.append(set(stream))
    assert not streams[0] & streams[1]
    sampler = SplitInfiniteSampler(dataset, shuffle=False, seed=3)
    assert list(islice(sampler, len(sampler))) == sampler.part_indices


@pytest.mark.parametrize('shuffle', [True, False])
def test_the_order_is_that_of_mmengine(shuffle):
    part = SplitInfiniteSampler(Listed(names_of(31)), seed=11, shuffle=shuffle)
    positions = InfiniteSampler(range(len(part)), seed=11, shuffle=shuffle)
    expected = [part.part_indices[i] for i in islice(positions, 50)]
    assert list(islice(part, 50)) == expected
    # Another iterator starts anew, and the first one goes on.
    first = iter(part)
    head = list(islice(first, 7))
    assert list(islice(part, 7)) == head == expected[:7]
    assert list(islice(first, 43)) == expected[7:]


@pytest.mark.parametrize('num', [16, 31])
def test_ranks_share_the_split_and_deal_out_the_stream(num, monkeypatch):
    dataset = Listed(names_of(num))
    whole = SplitInfiniteSampler(dataset, part='B', seed=5)
    expected = list(islice(whole, 60))
    parts = []
    for rank in range(3):
        monkeypatch.setattr(
            'mmengine.dataset.sampler.get_dist_info',
            lambda rank=rank: (rank, 3),
        )
        sampler = SplitInfiniteSampler(dataset, part='B', seed=5)
        assert sampler.part_indices == whole.part_indices
        parts.append(list(islice(sampler, 20)))
    dealt = [index for turn in zip(*parts) for index in turn]
    assert dealt == expected


def test_seed_none_is_drawn_once_and_shared(monkeypatch):
    monkeypatch.setattr(
        'mmengine.dataset.sampler.sync_random_seed',
        lambda: 42,
    )
    dataset = Listed(names_of(10))
    drawn = SplitInfiniteSampler(dataset)
    given = SplitInfiniteSampler(dataset, seed=42)
    assert list(islice(drawn, 20)) == list(islice(given, 20))


def test_a_repeated_image_stays_in_one_part():
    names = names_of(20)
    plain = part_names(Listed(names), 'A')
    repeated = RepeatDataset(Listed(names), 3)
    joined = ConcatDataset([Listed(names), Listed(names[5:])])
    for dataset, listing in (
        (repeated, names * 3),
        (joined, names + names[5:]),
    ):
        a, b = (
            SplitInfiniteSampler(dataset, part=part, seed=0) for part in 'AB'
        )
        assert {listing[i] for i in a.part_indices} == plain
        assert {listing[i] for i in b.part_indices} == set(names) - plain
        assert len(a) + len(b) == len(listing)


def link_file(folder):
    (folder / 'extra').mkdir()
    for i in (0, 3):
        (folder / f'extra/{i}.png').symlink_to(folder / f'{i:03d}.png')


def link_twice(folder):
    (folder / 'extra').mkdir()
    (folder / 'extra/a.png').symlink_to(folder / '004.png')
    (folder / 'extra/b.png').symlink_to(folder / 'extra/a.png')


def link_relatively(folder):
    (folder / 'extra').mkdir()
    for i in (0, 3):
        (folder / f'extra/{i}.png').symlink_to(f'../{i:03d}.png')


def link_folder(folder):
    (folder / 'extra').symlink_to(folder)


def link_hard(folder):
    (folder / 'extra').mkdir()
    for i in (0, 3):
        (folder / f'extra/{i}.png').hardlink_to(folder / f'{i:03d}.png')


def link_to_elsewhere(folder):
    """Both of two listed folders lead out of the data set."""
    elsewhere = folder.parent / 'elsewhere'
    elsewhere.mkdir()
    for i in range(9):
        (elsewhere / f'{i}.png').write_bytes(b'elsewhere %d' % i)
    for name in ('a', 'extra'):
        (folder / name).symlink_to(elsewhere)


LINKS = [
    link_file,
    link_twice,
    link_relatively,
    link_folder,
    link_hard,
    link_to_elsewhere,
]


def images(root, num=20):
    """A folder of images with contents of their own."""
    root.mkdir(parents=True)
    for i in range(num):
        (root / f'{i:03d}.png').write_bytes(b'image %d' % i)
    return root


def listed(root):
    """The data set of all images of a folder, and of a link in it."""
    paths = [*root.glob('*.png'), *root.glob('*/*.png')]
    names = sorted(str(path.relative_to(root)) for path in paths)
    return Listed(names, root=str(root))


@pytest.mark.parametrize('link', LINKS)
def test_an_image_behind_links_stays_in_one_part(tmp_path, link):
    root = images(tmp_path / 'data')
    link(root)
    dataset = listed(root)
    contents = []
    for part in 'AB':
        sampler = SplitInfiniteSampler(dataset, part=part, seed=0)
        paths = [root / dataset.names[i] for i in sampler.part_indices]
        contents.append([path.read_bytes() for path in paths])
    assert sum(map(len, contents)) == len(dataset) > 20
    assert not set(contents[0]) & set(contents[1])
    assert all(contents)


def test_links_without_a_second_name_do_not_move_the_split(tmp_path):
    names = [f'{i:03d}.png' for i in range(20)]
    plain = Listed([f'{name[2]}/{name}' for name in names])
    expected = part_names(plain, 'A')
    # All of it a link, each file a link, and each folder one to some place.
    files = images(tmp_path / 'zz/files')
    root = tmp_path / 'links'
    for i in range(10):
        folder = tmp_path / f'{97 * i % 10}/{i}'
        folder.mkdir(parents=True)
        root.mkdir(exist_ok=True)
        (root / str(i)).symlink_to(folder)
    for name in names:
        (root / name[2] / name).symlink_to(files / name)
    (tmp_path / 'root').symlink_to(root)
    split_ids = {SplitInfiniteSampler(plain, seed=0).split_id}
    for place in (root, tmp_path / 'root'):
        dataset = Listed(plain.names, root=str(place))
        assert part_names(dataset, 'A') == expected
        split_ids.add(SplitInfiniteSampler(dataset, seed=0).split_id)
    assert len(split_ids) == 1


def test_relative_paths_are_those_of_the_working_folder(tmp_path, monkeypatch):
    root = images(tmp_path / 'data')
    link_file(root)
    names = listed(root).names
    monkeypatch.chdir(tmp_path)
    mixed = ConcatDataset([Listed(names, str(root)), Listed(names, 'data')])
    a, b = (SplitInfiniteSampler(mixed, part=part, seed=0) for part in 'AB')
    whole = part_names(listed(root), 'A')
    assert {(names * 2)[i] for i in a.part_indices} == whole
    assert not whole & {(names * 2)[i] for i in b.part_indices}


def test_split_ids_are_those_of_earlier_versions():
    """A search is resumed only with the split that it began with."""
    for num, split_id in ((51, '1594feb1a86a'), (2975, '48d95cf8c724')):
        sampler = SplitInfiniteSampler(Listed(names_of(num)), seed=0)
        assert sampler.split_id == split_id


def test_data_without_paths_is_split_by_index(caplog):
    with caplog.at_level(logging.WARNING):
        a, b = (
            SplitInfiniteSampler(list('abcde'), part=part, seed=0)
            for part in 'AB'
        )
    assert sorted(a.part_indices + b.part_indices) == list(range(5))


class Wrapper:
    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return 2 * len(self.dataset)


def test_wrappers_that_could_leak_are_refused():
    with pytest.raises(UserError, match='may repeat images'):
        SplitInfiniteSampler(Wrapper(list('abcde')), seed=0)
    mixed = MultiImageMixDataset(
        ConcatDataset([Listed(names_of(9))]),
        [dict(type='mmseg.RandomMosaic', prob=1.0, img_scale=(8, 8))],
    )
    with pytest.raises(UserError, match='mixes images of both parts'):
        SplitInfiniteSampler(mixed, seed=0)
    with pytest.raises(UserError, match='mixes images of both parts'):
        SplitInfiniteSampler(Wrapper(mixed), seed=0)
    # Without a transform that mixes, the wrapper is harmless.
    harmless = MultiImageMixDataset(
        ConcatDataset([Listed(names_of(9))]),
        [dict(type='mmseg.PackSegInputs')],
    )
    assert len(SplitInfiniteSampler(harmless, seed=0)) == 4


@pytest.mark.parametrize(
    'kwargs, word',
    [
        (dict(part='C'), 'part'),
        (dict(part='a'), 'part'),
        (dict(part=None), 'part'),
        (dict(ratio=0), 'ratio'),
        (dict(ratio=1.0), 'ratio'),
        (dict(ratio='0.5'), 'ratio'),
        (dict(split_seed=-1), 'split_seed'),
        (dict(split_seed=None), 'split_seed'),
        (dict(ratio=0.01), 'without'),
    ],
)
def test_user_mistakes_are_told_in_one_sentence(kwargs, word):
    with pytest.raises(UserError, match=word) as info:
        SplitInfiniteSampler(Listed(names_of(10)), seed=0, **kwargs)
    assert str(info.value).endswith('.') and '\n' not in str(info.value)


@pytest.mark.parametrize('num', [0, 1])
@pytest.mark.parametrize('part', ['A', 'B'])
def test_too_few_images_for_two_parts(num, part):
    with pytest.raises(UserError, match=f'{num} images'):
        SplitInfiniteSampler(list(range(num)), part=part, seed=0)


def test_built_from_a_config_without_changing_it():
    cfg = dict(type='SplitInfiniteSampler', part='B', ratio=0.25)
    before = copy.deepcopy(cfg)
    sampler = DATA_SAMPLERS.build(
        cfg, default_args=dict(dataset=Listed(names_of(8)), seed=0)
    )
    assert len(sampler) == 6 and cfg == before


def test_reads_what_is_known_of_each_image_once():
    reads = Counter()

    class Counted(Listed):
        def get_data_info(self, idx):
            reads[idx] += 1
            return super().get_data_info(idx)

    SplitInfiniteSampler(Counted(names_of(100)), seed=0)
    assert reads == Counter(range(100))
