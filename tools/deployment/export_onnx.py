"""Export the network of a config to ONNX, and compare it with PyTorch.

The network takes images as the data preprocessor gives them, (N, C, H, W) in
float32, and gives logits of their size, (N, classes, H, W). What test_cfg
does around it, a sliding window say, is not part of it. The metadata of the
file keep the preprocessing and the names of the classes, as JSON.

ONNX Runtime then runs the export beside PyTorch: a file is written only if
the two agree.

For TorchScript, ``torch.jit.trace(Network(model).eval(), images)`` will do;
a trace is for images of one size.
"""

import argparse
import inspect
import math
import os
import os.path as osp
import sys
import tempfile
import textwrap
import warnings
from contextlib import contextmanager

import torch
from mmengine.model import revert_sync_batchnorm
from mmseg.registry import MODELS
from torch import nn

from mmseg_autodeeplab import cli
from mmseg_autodeeplab.errors import UserError
from mmseg_autodeeplab.files import to_json, write_atomically
from mmseg_autodeeplab.models.complexity import image_channels

# Of the largest difference to PyTorch, relative to the range of the logits.
TOLERANCE = 1e-4
# What of a data preprocessor tells how images become inputs.
PREPROCESSING = ('mean', 'std', 'bgr_to_rgb', 'rgb_to_bgr')


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    cli.add_arguments(parser)
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        '--shape',
        type=int,
        nargs=2,
        required=True,
        metavar=('H', 'W'),
        help='height and width of the image',
    )
    parser.add_argument(
        '--dynamic',
        action='store_true',
        help='leave batch, height and width open; by default they are 1, H '
        'and W',
    )
    parser.add_argument(
        '--output-file',
        help='by default the name of the checkpoint, with .onnx',
    )
    parser.add_argument(
        '--opset', type=int, default=17, help='version of the ONNX operators'
    )
    parser.add_argument(
        '--force',
        action='store_true',
        help='replace the output file where it exists',
    )
    return parser.parse_args()


def import_onnx():
    """Import the two libraries that nothing else here needs."""
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise UserError(
            f'the export needs onnx and onnxruntime ({error}): run '
            'pip install onnx onnxruntime'
        ) from error
    return onnx, onnxruntime


class Network(nn.Module):
    """A segmentor as a function of images alone.

    Args:
        segmentor (EncoderDecoder): The segmentor.
    """

    def __init__(self, segmentor):
        super().__init__()
        self.segmentor = segmentor

    def forward(self, images):
        """Give logits (N, classes, H, W) for images (N, C, H, W)."""
        # The heads read the size of the first image, for all of them.
        return self.segmentor.encode_decode(
            images, [dict(img_shape=images.shape[2:])]
        )


def build_network(cfg, file, state_dict):
    """Build the model of a config with the weights of a checkpoint.

    Args:
        cfg (Config): The config.
        file (str): Name of the checkpoint, for messages.
        state_dict (dict): Its weights, all those of the model.

    Returns:
        Network: In evaluation mode.
    """
    model = MODELS.build(cfg.model)
    if not isinstance(model, MODELS.get('EncoderDecoder')):
        raise UserError(
            f'the model of {cfg.filename} is of type {type(model).__name__}, '
            'but only an EncoderDecoder can be exported'
        )
    try:
        model.load_state_dict(state_dict)
    except RuntimeError as error:
        raise UserError(
            f'{file} does not fit the model of {cfg.filename}: '
            f'{_shorten(error)}'
        ) from error
    return Network(revert_sync_batchnorm(model)).eval()


def preprocessor_of(cfg):
    """The config of the data preprocessor."""
    return (
        cfg.model.get('data_preprocessor')
        or cfg.get('data_preprocessor')
        or {}
    )


def describe(cfg, checkpoint):
    """The metadata of the export.

    Returns:
        dict[str, str]: JSON by name: what the config has of
        ``PREPROCESSING``, and ``classes`` where the checkpoint knows them.
    """
    preprocessor = preprocessor_of(cfg)
    metadata = {k: preprocessor[k] for k in PREPROCESSING if k in preprocessor}
    dataset = checkpoint.get('meta', {}).get('dataset_meta') or {}
    if 'classes' in dataset:
        metadata['classes'] = dataset['classes']
    return {key: to_json(value) for key, value in metadata.items()}


def export(network, channels, height, width, dynamic, opset, metadata):
    """Export a network.

    Args:
        network (Network): The network.
        channels (int): Channels of the image.
        height (int): Height of the image.
        width (int): Width of the image.
        dynamic (bool): Whether other sizes and batches may be given too.
        opset (int): Version of the ONNX operators.
        metadata (dict[str, str]): For ``metadata_props``.

    Returns:
        bytes: The ONNX model.
    """
    onnx, _ = import_onnx()
    kwargs = {}
    if dynamic:
        axes = {0: 'batch', 2: 'height', 3: 'width'}
        kwargs['dynamic_axes'] = dict(images=axes, logits=axes)
    # The tracing exporter, the only one before torch 2.5: the other one
    # reasons about sizes for minutes, and its export is no better.
    if 'dynamo' in inspect.signature(torch.onnx.export).parameters:
        kwargs['dynamo'] = False
    with tempfile.TemporaryDirectory() as folder:
        file = osp.join(folder, 'model.onnx')
        try:
            with _discarded_stdout():
                torch.onnx.export(
                    network,
                    (torch.zeros(1, channels, height, width),),
                    file,
                    input_names=['images'],
                    output_names=['logits'],
                    opset_version=opset,
                    **kwargs,
                )
        except (RuntimeError, ValueError) as error:
            raise UserError(
                f'the network cannot be exported at {height} x {width} with '
                f'opset {opset}: {_shorten(error)}'
            ) from error
        model = onnx.load(file)
    onnx.helper.set_model_props(model, metadata)
    onnx.checker.check_model(model)
    return model.SerializeToString()


@contextmanager
def _discarded_stdout():
    # In C++, torch prints the whole of a graph that it cannot export.
    sys.stdout.flush()
    kept = os.dup(1)
    with open(os.devnull, 'w') as nothing:
        os.dup2(nothing.fileno(), 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def sizes_to_compare(channels, height, width, dynamic):
    """Shapes of the inputs to compare at.

    Returns:
        list[tuple[int, int, int, int]]: The given size and, if others may be
        given too, a larger one, and two images of an odd and smaller one
        that is not square.
    """
    sizes = [(1, channels, height, width)]
    if dynamic:
        small = [max(side // 2, 33) | 1 for side in (height, width)]
        if small[0] == small[1]:
            small[1] += 32
        sizes += [
            (1, channels, height + 32, width + 64),
            (2, channels, *small),
        ]
    return sizes


def compare(session, network, size):
    """Run both on the same random images.

    Args:
        session (onnxruntime.InferenceSession): The export.
        network (Network): The network.
        size (tuple[int, int, int, int]): Shape of the images.

    Returns:
        tuple[float, float]: The largest absolute difference, and that
        relative to the range of PyTorch's logits.
    """
    images = torch.randn(size, generator=torch.Generator().manual_seed(0))
    try:
        expected = network(images).numpy()
        (found,) = session.run(['logits'], {'images': images.numpy()})
        if found.shape != expected.shape:
            raise ValueError(f'logits {found.shape}, not {expected.shape}')
    except Exception as error:  # The model and ONNX Runtime raise anything.
        raise UserError(
            f'the export cannot be compared at {_text(size)} '
            f'({type(error).__name__}: {_shorten(error)}); nothing was written'
        ) from error
    difference = float(abs(found - expected).max())
    extent = float(expected.max() - expected.min())
    return difference, difference / extent if extent else math.nan


def verify(content, network, sizes):
    """Compare an export with PyTorch, and print what comes out.

    Args:
        content (bytes): The ONNX model.
        network (Network): The network.
        sizes (list[tuple[int, int, int, int]]): Shapes to compare at.

    Raises:
        UserError: They differ by more than ``TOLERANCE``.
    """
    _, onnxruntime = import_onnx()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # Its errors are raised, too.
    try:
        session = onnxruntime.InferenceSession(
            content, options, providers=['CPUExecutionProvider']
        )
    except Exception as error:  # Of no common type.
        raise UserError(
            'ONNX Runtime cannot load the export '
            f'({type(error).__name__}: {_shorten(error)}); nothing was written'
        ) from error
    for size in sizes:
        difference, relative = compare(session, network, size)
        print(
            f'{_text(size)}: largest difference {difference:.2e}, '
            f'{relative:.2e} of the range of the logits'
        )
        if not relative <= TOLERANCE:  # Nor is NaN.
            raise UserError(
                f'the export differs from PyTorch at {_text(size)} by '
                f'{relative:.2e} of the range of the logits, more than '
                f'{TOLERANCE:.0e}; nothing was written'
            )


def _text(size):
    return ' x '.join(map(str, size))


def _shorten(error):
    return textwrap.shorten(str(error), 300, placeholder=' ...')


@cli.user_errors()
def main():
    args = parse_args()
    import_onnx()
    if min(args.shape) < 1:
        raise UserError(f'--shape takes H W, not {args.shape}')
    cfg = cli.load_config(args)
    cli.check_keys(cfg, 'model')
    output = args.output_file
    if output is None:
        output = f'{osp.splitext(args.checkpoint)[0]}.onnx'
        if '://' in output:
            output = osp.basename(output)
    if osp.exists(output) and not args.force:
        raise UserError(
            f'{output} exists already; give another --output-file, '
            'or --force to replace it'
        )
    checkpoint = cli.read_checkpoint(args.checkpoint)
    network = build_network(cfg, args.checkpoint, checkpoint['state_dict'])
    metadata = describe(cfg, checkpoint)
    shape = (image_channels(cfg.model), *args.shape)
    # Tracing, an exporter of old and mmseg's sizes warn of what is verified.
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        content = export(network, *shape, args.dynamic, args.opset, metadata)
        verify(content, network, sizes_to_compare(*shape, args.dynamic))
    write_atomically(output, content)
    print(f'Written: {output}, {len(content) / 1e6:.1f} MB')
    print('Its input has to be preprocessed as its metadata say:')
    for key, value in metadata.items():
        print(f'{key}: {value}')


if __name__ == '__main__':
    main()
