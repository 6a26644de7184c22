"""Turn a search into an architecture, drawings and a config to retrain it."""

import argparse
import os.path as osp
import shlex
from contextlib import nullcontext

from mmengine.registry import init_default_scope

from mmseg_autodeeplab import cli
from mmseg_autodeeplab.arch import check_score
from mmseg_autodeeplab.compat.registry import known_types_only
from mmseg_autodeeplab.errors import UserError
from mmseg_autodeeplab.files import write_atomically
from mmseg_autodeeplab.search import retrain_config
from mmseg_autodeeplab.search.config_text import write_config
from mmseg_autodeeplab.search.gradient import rescore
from mmseg_autodeeplab.visualization import drawing_files, save_drawings


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'file',
        help='checkpoint of a search by gradient, iter_*.pth, the work '
        'directory of a black-box search, for its best trial, or an '
        'architecture.json of any kind',
    )
    parser.add_argument(
        '--top',
        type=int,
        metavar='K',
        help='the best K trials of a black-box search, in folders top_1, ...',
    )
    parser.add_argument(
        '--config',
        help='config of the search, to write retrain.py for an '
        'architecture.json; a checkpoint has its own, which it replaces',
    )
    parser.add_argument(
        '--out-dir',
        help='folder for architecture.json, retrain.py and the drawings; by '
        'default decoded/ beside the file, or in the work directory',
    )
    parser.add_argument(
        '--score',
        help='what ranks the paths of a checkpoint: probability is the '
        "paper's, lift has no bias towards the borders of the trellis, inflow "
        'has all that a search can learn; inflow:8, for one, leaves out paths '
        "that do not end at stride 8. By default that of the search's config",
    )
    parser.add_argument(
        '--rescore',
        type=int,
        metavar='K',
        help='evaluate the best K paths of a checkpoint, each alone in the '
        'supernet, on part B of the data, and write the best of them',
    )
    parser.add_argument(
        '--cells',
        type=int,
        default=1,
        metavar='C',
        help='with --rescore: each path with each of the best C cells',
    )
    parser.add_argument(
        '--batches',
        type=int,
        default=8,
        metavar='N',
        help='with --rescore: how many batches they are evaluated on',
    )
    parser.add_argument(
        '--by',
        choices=['mIoU', 'loss'],
        default='mIoU',
        help='with --rescore: what decides which is the best',
    )
    parser.add_argument(
        '--random',
        type=int,
        metavar='SEED',
        help='draw a random architecture from the space that was searched '
        'instead: the baseline, with the same retraining',
    )
    parser.add_argument(
        '--force',
        action='store_true',
        help='replace these files where they exist',
    )
    return parser.parse_args()


def last_checkpoint(cfg):
    """What the training of a config saves at its end, if that is known."""
    length, hook = cfg.train_cfg, cfg.default_hooks.get('checkpoint') or {}
    by_epoch = hook.get('by_epoch', True)
    for unit, counts in (('iter', not by_epoch), ('epoch', by_epoch)):
        if counts and (number := length.get(f'max_{unit}s')) is not None:
            return osp.join(cfg.work_dir, f'{unit}_{number}.pth')
    return None


def commands(cfg, config_file):
    """How to go on, as a shell reads it."""
    lines = [shlex.join(['python', 'tools/train.py', config_file])]
    if cfg.get('test_dataloader') is None:
        lines.append('(the config has no test_dataloader to test it on)')
    else:
        weights = last_checkpoint(cfg) or 'CHECKPOINT'
        lines.append(
            shlex.join(['python', 'tools/test.py', config_file, weights])
        )
    return '\n'.join(['Retrain it and test the result with', '', *lines])


@cli.user_errors()
def main():
    args = parse_args()
    if args.score is not None:
        check_score(args.score, '--score')
    init_default_scope('mmseg')
    is_study = osp.isdir(args.file)
    if args.top is not None and (args.top < 1 or not is_study):
        raise UserError(
            f'--top is {args.top} of {args.file}, but must be 1 or more of '
            'the work directory of a black-box search'
        )
    if args.score and (is_study or args.file.endswith('.json')):
        raise UserError(
            f'--score is {args.score} of {args.file}, but must be of a '
            'checkpoint of a search by gradient, since only betas rank paths'
        )
    if args.rescore is not None:
        check_rescore(args, is_study)
    note = ''
    if is_study:
        found, search = cli.read_study(args.file, args.config)
        found = found[: args.top or 1]
    else:
        architecture, search, note = cli.read_architecture(
            args.file, args.config, args.score
        )
        if args.rescore:
            architecture = rescored(architecture, search, args)
        found = [architecture]
    if args.random is not None:
        note = ''
        drawn = found[0].space().random(args.random)
        origin = dict(checkpoint=osp.basename(args.file))
        found = [drawn.with_provenance(**origin)]
    folder = args.file if is_study else osp.dirname(args.file)
    out_dir = args.out_dir or osp.join(folder, 'decoded')
    for i, architecture in enumerate(found, 1):
        place = osp.join(out_dir, f'top_{i}') if args.top else out_dir
        decode(architecture, search, place, args, note)


def check_rescore(args, is_study):
    if is_study or args.file.endswith('.json') or args.random is not None:
        raise UserError(
            f'--rescore is for a checkpoint of a search by gradient, but got '
            f'{args.file}{" and --random" * (args.random is not None)}'
        )
    for name in ('rescore', 'cells', 'batches'):
        if getattr(args, name) < 1:
            raise UserError(
                f'--{name} is {getattr(args, name)}, but must be 1 or more'
            )


def rescored(architecture, search, args):
    """The best one of a table, which is printed and in its provenance."""
    origin = architecture.provenance
    with trust(args):
        model, batches = cli.open_supernet(args.file, search, args.batches)
    found = rescore(
        model, batches, args.rescore, args.cells, origin['score'], args.by
    )
    rows = [candidate.to_dict() for candidate in found]
    width = max(len(row['path']) for row in rows)
    print(f'{"path":{width}} cell    score     loss   mIoU')
    for row in rows:
        print(
            f'{row["path"]:{width}} {row["cell"]:4} {row["score"]:8.3f} '
            f'{row["loss"]:8.4f} {row["mIoU"]:6.2f}'
        )
    settings = dict(by=args.by, batches=args.batches, candidates=rows)
    return found[0].architecture.with_provenance(**origin, rescored=settings)


def trust(args):
    """A config that is given is the user's own code."""
    return nullcontext() if args.config else known_types_only()


def decode(architecture, search, out_dir, args, note=''):
    """Write and print all about an architecture, and a note."""
    json_file = osp.join(out_dir, 'architecture.json')
    config_file = osp.join(out_dir, 'retrain.py')
    files = [json_file, *drawing_files(architecture, out_dir)]
    if search is not None:
        files.insert(1, config_file)
    for file in files:
        if osp.exists(file) and not args.force:
            raise UserError(
                f'{file} exists already; give another --out-dir, '
                'or --force to replace it.'
            )
    if search is not None:  # All of it, before anything is written.
        with trust(args):
            cfg, left_out = retrain_config(search, architecture)
        cfg.work_dir = osp.join(out_dir, 'retrain')
        text = write_config(
            cfg,
            '# Written by tools/decode.py.\n#\n'
            f'# {dict(architecture.provenance)}',
        )
    architecture.dump(json_file)
    save_drawings(architecture, out_dir)
    if search is not None:
        write_atomically(config_file, text)
    print(architecture.describe())
    if note:
        print(note)
    print(f'\nWritten: {", ".join(files)}')
    if search is None:
        return
    if left_out:
        names = ', '.join(left_out)
        print(f'Left out of retrain.py, as part of the search: {names}')
    print(f'\n{commands(cfg, config_file)}')


if __name__ == '__main__':
    main()
