"""Which checkpoint a resumed run starts from."""

import os
import socket
import zipfile
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmseg_autodeeplab.cli import resume_latest


def content(seed=7, iteration=0):
    """What MMEngine wants of a checkpoint that it resumes."""
    return dict(
        meta=dict(seed=seed, iter=iteration, epoch=0),
        message_hub=dict(log_scalars={}, runtime_info={}, resumed_keys={}),
        state_dict=dict(weight=torch.arange(1000.0)),
        optimizer={},
    )


@pytest.fixture
def write(tmp_path):
    def write(*names, **kwargs):
        for name in names:
            torch.save(content(**kwargs), tmp_path / name)
        return str(tmp_path / names[-1])

    return write


def config(folder, **kwargs):
    return Config(dict(work_dir=str(folder), **kwargs))


def resumed(folder, **kwargs):
    """What is resumed, and what is told."""
    cfg = config(folder, **kwargs)
    checkpoint, notices = resume_latest(cfg)
    assert cfg.resume == bool(checkpoint)
    return cfg.get('load_from'), notices


def test_the_newest_by_number(tmp_path, write):
    """Not by time, which a copy changes, nor by name."""
    expected = write('iter_100.pth')
    write('iter_20.pth', 'epoch_1.pth', 'best_mIoU_iter_120.pth', 'other.pth')
    write('iter_300-0123abcd.pth')
    assert resumed(tmp_path) == (expected, [f'Resuming from {expected}.'])


def test_names_that_the_config_gives(tmp_path, write):
    write('iter_4.pth', 'step_4_of_9.pth')
    expected = write('step_12_of_9.pth')
    hook = dict(filename_tmpl='step_{}_of_9.pth')
    assert (
        resumed(tmp_path, default_hooks=dict(checkpoint=hook))[0] == expected
    )


def cut(file):
    with open(file, 'rb+') as f:
        f.truncate(os.path.getsize(file) // 2)


def bit(find):
    """Flip a bit where something stands in the file, or at an offset."""

    def flip(file):
        data = bytearray(Path(file).read_bytes())
        at = find if isinstance(find, int) else data.rindex(find)
        data[at] ^= 1
        Path(file).write_bytes(data)

    return flip


def mark_of_a_folder(file):
    """Torch reads no tensor of it then, but takes what the memory holds."""
    data = bytearray(Path(file).read_bytes())
    data[data.rindex(b'iter_8/data/0') - 8] ^= 0x10
    Path(file).write_bytes(data)


def hole(file):
    with open(file, 'rb+') as f:
        f.seek(1500)
        f.write(bytes(2000))


def replaced_by(make):
    def replace(file):
        os.unlink(file)
        make(file)

    return replace


def server(file):
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(file)


def foreign_zip(file):
    with zipfile.ZipFile(file, 'w') as archive:
        archive.writestr('a.txt', 'b')


def without(*keys):
    def save(file):
        changed = content()
        for key in keys:
            del changed[key]
        torch.save(changed, file)

    return save


def without_iteration(file):
    changed = content()
    del changed['meta']['iter']
    torch.save(changed, file)


UNREADABLE = 'cannot be read as a checkpoint'
ODD = [
    ('half', cut, UNREADABLE),
    ('bit of a tensor', bit(3000), UNREADABLE),
    ('bit of a name', bit(b'iter_8/data/0'), UNREADABLE),
    ('mark of a folder', mark_of_a_folder, 'iter_8/data/0 is not what'),
    ('hole', hole, UNREADABLE),
    ('empty', replaced_by(lambda f: open(f, 'w').close()), UNREADABLE),
    ('folder', replaced_by(os.mkdir), 'is no file'),
    ('fifo', replaced_by(os.mkfifo), 'is no file'),
    ('socket', replaced_by(server), 'is no file'),
    ('dangling', replaced_by(lambda f: os.symlink('no', f)), 'is no file'),
    ('loop', replaced_by(lambda f: os.symlink(f, f)), 'is no file'),
    ('zip', foreign_zip, UNREADABLE),
    ('list', lambda f: torch.save([1], f), 'is not a checkpoint'),
    ('weights', lambda f: torch.save(dict(w=1), f), 'it has no state_dict'),
    ('no meta', without('meta'), 'it has no iter and no epoch'),
    ('no iteration', without_iteration, 'it has no iter;'),
    ('no hub', without('message_hub'), 'it has no message_hub'),
    ('no optimizer', without('optimizer'), 'it has no optimizer'),
]


@pytest.mark.parametrize(
    'damage,sentence', [row[1:] for row in ODD], ids=[row[0] for row in ODD]
)
def test_what_is_not_intact_is_left_out_and_named(
    tmp_path, monkeypatch, write, damage, sentence
):
    # The name of a socket may not be long.
    monkeypatch.chdir(tmp_path)
    intact = write('iter_4.pth')
    damage(write('iter_8.pth'))
    (tmp_path / 'last_checkpoint').write_text('iter_8.pth')
    file, (left_out, resuming) = resumed('.')
    assert os.path.samefile(file, intact)
    assert resuming == 'Resuming from ./iter_4.pth.'
    assert './iter_8.pth' in left_out and sentence in left_out
    assert left_out.startswith('Left out: ') and '\n' not in left_out
    os.unlink(intact)
    file, (again, anew) = resumed('.', load_from='coco.pth')
    assert (file, again) == ('coco.pth', left_out)
    assert anew.endswith(': the run starts anew.')


def test_a_disk_that_fails_at_one_file(tmp_path, monkeypatch, write):
    intact = write('iter_4.pth')
    broken = write('iter_8.pth')
    load = torch.load

    def fail(file, *args, **kwargs):
        if file == broken:
            raise OSError(5, 'Input/output error', file)
        return load(file, *args, **kwargs)

    monkeypatch.setattr(torch, 'load', fail)
    file, (left_out, _) = resumed(tmp_path)
    assert file == intact and 'Input/output error' in left_out


def test_saved_without_an_optimizer_on_purpose(tmp_path, write):
    write('iter_4.pth')
    file = write('iter_8.pth')
    without('optimizer')(file)
    hook = dict(save_optimizer=False)
    assert resumed(tmp_path, default_hooks=dict(checkpoint=hook))[0] == file


@pytest.mark.parametrize('folder', ['missing', '.'])
def test_none_to_be_found(tmp_path, folder):
    """Then what the config starts from stays."""
    file, (notice,) = resumed(tmp_path / folder, load_from='coco.pth')
    assert 'No checkpoint to resume from' in notice
    assert 'the run starts anew' in notice
    assert file == 'coco.pth'


def test_the_best_alone_is_no_place_to_resume_from(tmp_path, write):
    write('best_mIoU_iter_8.pth')
    file, (_, notice) = resumed(tmp_path)
    assert file is None
    assert notice.startswith('best_mIoU_iter_8.pth has weights alone')


def test_the_checkpoint_goes_before_that_of_the_config(tmp_path, write):
    file = write('iter_5.pth')
    assert resumed(tmp_path, load_from='coco.pth')[0] == file


@pytest.mark.parametrize('seed,expected', [(None, 7), (3, 3)])
def test_an_open_seed_is_that_of_the_checkpoint(
    tmp_path, write, seed, expected
):
    write('iter_5.pth')
    cfg = config(tmp_path, randomness=dict(seed=seed))
    resume_latest(cfg)
    assert cfg.randomness.seed == expected


@pytest.mark.parametrize(
    'out_dir,folder',
    [
        ('{}/out', 'out/run'),
        ('{}/work/run', 'work/run'),
        ('s3://bucket', 'work/run'),
    ],
)
def test_out_dir_of_the_hook(tmp_path, write, out_dir, folder):
    """In it, a folder of the work dir's name, but where it is that."""
    (tmp_path / folder).mkdir(parents=True)
    file = write(f'{folder}/iter_5.pth')
    hook = dict(out_dir=out_dir.format(tmp_path))
    found, _ = resumed(
        tmp_path / 'work' / 'run', default_hooks=dict(checkpoint=hook)
    )
    assert found == file
