"""Test a checkpoint, as the test part of a config says."""

import argparse
import os

from mmengine.runner import Runner

from mmseg_autodeeplab import cli
from mmseg_autodeeplab.engine import check_ends
from mmseg_autodeeplab.errors import UserError


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    cli.add_arguments(parser, run=True)
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--out', help='folder for the predicted label maps')
    parser.add_argument(
        '--show', action='store_true', help='show the predictions'
    )
    parser.add_argument('--show-dir', help='folder for the painted images')
    parser.add_argument(
        '--wait-time',
        type=float,
        default=2,
        help='seconds between two shown images',
    )
    parser.add_argument(
        '--tta', action='store_true', help='augment at test time'
    )
    return parser.parse_args()


def enable_visualization(cfg, args):
    hook = cfg.get('default_hooks', {}).get('visualization')
    if hook is None:
        raise UserError(
            '--show and --show-dir need a visualization hook, '
            'and default_hooks of the config has none'
        )
    hook.update(draw=True, show=args.show, wait_time=args.wait_time)
    if args.show_dir:
        cli.check_keys(cfg, 'visualizer')
        cfg.visualizer.save_dir = args.show_dir


def enable_tta(cfg):
    cli.check_keys(cfg, 'tta_pipeline', 'tta_model')
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
    cfg.model = dict(cfg.tta_model, module=cfg.model)


def save_predictions(cfg, folder):
    # The metric makes it on rank 0 alone, and others may be sooner to write.
    os.makedirs(folder, exist_ok=True)
    metrics = cfg.test_evaluator
    for metric in metrics if isinstance(metrics, list) else [metrics]:
        metric.update(output_dir=folder, keep_results=True)


@cli.user_errors()
def main():
    args = parse_args()
    cfg = cli.load_config(args)
    cli.check_keys(cfg, 'test_dataloader', 'test_cfg', 'test_evaluator')
    cli.check_channels(cfg)
    check_ends(cfg, 'test')
    cli.check_data(cfg, 'test')
    cfg.load_from = args.checkpoint
    if args.show or args.show_dir:
        enable_visualization(cfg, args)
    if args.tta:
        enable_tta(cfg)
    cli.check_loading(cfg, 'test')
    if args.out:
        save_predictions(cfg, args.out)
    weights = cli.read_checkpoint(args.checkpoint)['state_dict']
    cli.start_processes(cfg)
    runner = Runner.from_cfg(cfg)
    cli.check_weights(runner.model, args.checkpoint, weights)
    runner.test()


if __name__ == '__main__':
    main()
