"""Check and measure searches and networks on a GPU, within some seconds.

The steps, the most important first:

correctness  both forms against the CPU, and graphs against none
time         time and memory of both steps of a search, and hours of the whole
profile      what a step launches, and how long the GPU is busy with it
search       a search through the runner, decoded, and resumed twice from its
             last quarter: what these two differ in is the GPU's own
inference    the published networks, beside stock DeepLabV3+
fit          the largest batch and crop within so many GiB

Whatever is found is written at once. What fails is noted with its error, and
the others go on. Distances are the largest difference, relative to the largest
value of the tensor. The same command with the same --out does what is missing.
On the CPU all of it is small, and without graphs and mixed precision.
"""

import argparse
import copy
import functools
import gc
import json
import math
import os
import re
import statistics
import sys
import tempfile
import time
import traceback
from operator import itemgetter
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.hub import get_config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

import mmseg_autodeeplab  # noqa: F401  # isort: skip
from mmseg.registry import DATASETS, MODELS

from mmseg_autodeeplab import cli
from mmseg_autodeeplab.cli import benchmark
from mmseg_autodeeplab.cli.benchmark import FIT_BATCH, FIT_CROP, HALVES, KEYS
from mmseg_autodeeplab.cli.measurement import environment, measure, table
from mmseg_autodeeplab.errors import UserError, one_line
from mmseg_autodeeplab.files import to_json, write_atomically
from mmseg_autodeeplab.models.layers import CELLS

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
GIB, BATCH = 2**30, 2
# For each device: nets whose correctness is checked; net and crop of searches,
# to whose scale images are resized, workers of their loaders, and at most so
# many quarters of their iterations; networks, shapes and precisions of
# inference; what is to fit, by a line through which crops, into how many GiB.
# On a GPU they are the paper's.
SIZES = dict(
    cuda=dict(
        nets=('L=4, B=2', 'L=5, B=2', 'L=4, B=3, affine norms'),
        net={},
        crop=321,
        scale=(512, 384),
        workers=4,
        quarter=7440,
        networks=('s', 'm', 'l', 'r50', 'r101'),
        shapes=((1025, 2049), (513, 513)),
        amp=('none', 'fp16'),
        fitted=('fused', 'fused, with_cp', 'fused, graphs'),
        line=(321, 641),
        fit='16,24,80',
    ),
    cpu=dict(
        nets=('L=4, B=2',),
        net=dict(num_layers=3, num_blocks=1, filter_multiplier=2),
        crop=65,
        scale=(96, 72),
        workers=0,
        quarter=2,
        networks=('s', 'r50'),
        shapes=((65, 129),),
        amp=('none',),
        fitted=('fused',),
        line=(129, 257),
        fit='0.7',
    ),
)
# What is not `exact` leaves the paper's arithmetic. A graph that fails may
# take the process with it, so what needs none is first.
CASES = {
    'fused': dict(exact=True),
    'fused, graphs': dict(exact=True, graphs=True),
    'reference': dict(exact=True, form='reference'),
    'fused, graphs, bf16': dict(graphs=True, amp='bfloat16'),
    'fused, graphs, TF32': dict(graphs=True, tf32=True),
    'fused, with_cp': dict(exact=True, with_cp=True),
    'fused, graphs, with_cp': dict(exact=True, graphs=True, with_cp=True),
    'fused, graphs, fp16': dict(graphs=True, amp='float16'),
    # A capture tries out everything, which takes a minute.
    'fused, graphs, cudnn.benchmark': dict(exact=True, graphs=True, tune=True),
    'fused, bf16': dict(amp='bfloat16'),
    'fused, graphs, channels last': dict(
        exact=True, graphs=True, channels_last=True
    ),
}
PROFILED = 'fused', 'fused, graphs'
# So small that roundings hardly ever carry a value over a kink.
NETS = {
    'L=4, B=2': dict(num_layers=4, num_blocks=2, filter_multiplier=4),
    'L=5, B=2': dict(num_layers=5, num_blocks=2, filter_multiplier=4),
    'L=4, B=3, affine norms': dict(
        num_layers=4,
        num_blocks=3,
        filter_multiplier=4,
        norm_cfg=dict(type='BN'),
    ),
}
BOUNDS = {torch.float32: 1e-4, torch.float64: 1e-10}


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--device', choices=['cpu', 'cuda'])
    parser.add_argument(
        '--seconds', type=float, default=600, help='for all steps together'
    )
    parser.add_argument(
        '--steps', default=','.join(STEPS), help='one, or several with commas'
    )
    parser.add_argument(
        '--out', metavar='FILE', default='gpu.json', help='all numbers'
    )
    parser.add_argument(
        '--data', help='data root of CamVid; by default, scenes are generated'
    )
    parser.add_argument('--fit', metavar='GIB[,GIB]', help='for the step fit')
    parser.add_argument(
        '--table', metavar='FILE', help='print such a file, and measure none'
    )
    return parser.parse_args()


@functools.cache
def paper():
    """The config of the paper's search."""
    return cli.read_config(str(CONFIGS / 'autodeeplab/search_cityscapes.py'))


def configure(net, crop, settings):
    """That of another net and crop."""
    cfg = copy.deepcopy(paper())
    backbone = cfg.model.backbone
    backbone.update(net, graphs=False)
    for key in {'form', 'with_cp', 'graphs'} & settings.keys():
        backbone[key] = settings[key]
    width = backbone.num_blocks * backbone.filter_multiplier
    cfg.model.decode_head.in_channels = [width * n for n in (1, 2, 4, 8)]
    cfg.model.data_preprocessor.size = (crop, crop)
    if 'amp' in settings:
        cli.enable_amp(cfg.optim_wrapper)
        cfg.optim_wrapper.dtype = settings['amp']
    return cfg


def set_backends(settings):
    """How PyTorch computes; tuning is cuDNN's benchmark."""
    torch.backends.cudnn.allow_tf32 = settings.get('tf32', False)
    torch.backends.cuda.matmul.allow_tf32 = settings.get('tf32', False)
    torch.backends.cudnn.benchmark = settings.get('tune', False)


def known(args, names=CASES):
    """Those of the cases that the device knows, with their settings."""
    of_gpus = set() if args.device == 'cuda' else {'graphs', 'amp'}
    return {n: CASES[n] for n in names if not of_gpus & CASES[n].keys()}


# A step yields the labels of each row, and what finds the rest of it, whose
# first argument has in `left` how many seconds that may take.


def correctness(args, found):
    for name in SIZES[args.device]['nets']:
        net = NETS[name]
        for dtype in BOUNDS:
            labels = dict(net=name, dtype=str(dtype))
            for form in CELLS:
                compared = dict(compared=f'{form}, {args.device} / cpu')
                yield labels | compared, check_device, net, dtype, form
            if dtype is torch.float32:  # What roundings do anywhere.
                compared = dict(compared='reference, cpu / float64')
                yield labels | compared, check_roundings, net
    if args.device == 'cuda':
        for dtype in BOUNDS:
            labels = dict(net='four iterations', dtype=str(dtype))
            for graphs in (False, True):
                compared = dict(
                    compared=f'{"graphs" if graphs else "again"} / fused'
                )
                yield labels | compared, check_graphs, dtype, graphs


def check_device(args, net, dtype, form):
    """The device against the CPU."""
    here = supernet(net, form).to(dtype)
    there = copy.deepcopy(here).to(args.device)
    results = forward_backward(there), forward_backward(here)
    return distances(*results, BOUNDS[dtype])


def check_roundings(args, net):
    """Single against double precision, on the CPU."""
    here = supernet(net, 'reference')
    exact = copy.deepcopy(here).double()
    return distances(forward_backward(here), forward_backward(exact))


def supernet(net, form):
    set_backends({})
    init_default_scope('mmseg')
    torch.manual_seed(0)
    return MODELS.build(dict(net, type='AutoDeepLabSupernet', form=form))


def forward_backward(net):
    """Outputs, gradients in random directions, running statistics."""
    for param in net.arch_parameters():
        param.requires_grad_(True)
    torch.manual_seed(1)
    outs = net(torch.randn(BATCH, 3, 65, 65).to(net.alphas))
    sum((o * torch.randn(o.shape).to(o)).mean() for o in outs).backward()
    found = {f'output.{i}': out.detach() for i, out in enumerate(outs)}
    found.update((name, p.grad) for name, p in net.named_parameters())
    found.update(net.named_buffers())
    return {name: value.cpu().double() for name, value in found.items()}


def check_graphs(args, dtype, graphs):
    """What a search without graphs ends with, and one with or without."""
    set_backends({})
    found, expected = (
        small_search(args.device, dtype, settings)
        for settings in (dict(graphs=True) if graphs else {}, {})
    )
    return distances(found, expected, BOUNDS[dtype])


def small_search(device, dtype, settings):
    """The state after a few iterations, and an output of another size."""
    cfg = configure(NETS['L=4, B=2'], 65, settings)
    model, steps = benchmark.search_steps(cfg, device)
    model.to(dtype)
    for turn in range(4):
        torch.manual_seed(turn)
        data = benchmark.random_batch(BATCH, 65, model.num_classes)
        for step in steps.values():
            step(data)
    found = model.state_dict()
    image = torch.randn(1, 3, 97, 65).to(model.backbone.alphas)
    with torch.no_grad():
        found['output'] = model.eval()(image, mode='tensor')
    return {name: value.cpu().double() for name, value in found.items()}


def distances(found, expected, bound=None):
    """The largest of each kind of tensor, and where it is."""
    row, worst = {}, (0.0, None)
    for name, value in expected.items():
        difference = (found[name] - value).abs().max()
        distance = float(difference / value.abs().max()) if difference else 0.0
        if not math.isfinite(distance):
            distance = math.inf
        worst = max(worst, (distance, name), key=itemgetter(0))
        if name.startswith('output'):
            kind = 'outputs'
        elif name.endswith(('alphas', 'betas')):
            kind = 'architecture'
        elif 'running' in name or name.endswith('num_batches_tracked'):
            kind = 'statistics'
        else:
            kind = 'weights'
        row[kind] = max(row.get(kind, 0), distance)
    row['worst'] = worst[1]
    return row if bound is None else dict(row, within=worst[0] <= bound)


def timing(args, found):
    for name, settings in known(args).items():
        yield dict(case=name), time_case, settings


def time_case(args, settings):
    size = SIZES[args.device]
    set_backends(settings)
    found = benchmark.measure_search(
        configure(size['net'], size['crop'], settings),
        size['crop'],
        BATCH,
        HALVES,
        args.device,
        settings.get('channels_last', False),
        iters=10,
        warmup=2,
        seconds=min(args.left, 6),
    )
    weights, arch = (statistics.median(found[h]['samples']) for h in HALVES)
    row = {
        'weights ms': 1e3 * weights,
        'arch ms': 1e3 * arch,
        'hours': project(weights, arch),
        'peak GiB': max(h['built'] + h['peak'] for h in found.values()) / GIB,
        'samples': {half: found[half]['samples'] for half in HALVES},
    }
    if args.device == 'cuda':  # The pools of graphs, too.
        row['reserved GiB'] = torch.cuda.max_memory_reserved() / GIB
    return row


def project(weights, arch):
    """Hours of the paper's search, by the seconds of its steps."""
    rows = [
        dict(dict.fromkeys(KEYS), half=half, seconds=seconds)
        for half, seconds in dict(weights=weights, arch=arch).items()
    ]
    begin = benchmark.search_hook(paper())['begin']
    (total,) = benchmark.project(rows, paper().train_cfg.max_iters, begin)
    return total['seconds'] / 3600


def profiling(args, found):
    for name, settings in known(args, PROFILED).items():
        yield dict(case=name), profile_steps, settings


def profile_steps(args, settings):
    size, device = SIZES[args.device], args.device
    set_backends(settings)
    cfg = configure(size['net'], size['crop'], settings)
    model, steps = benchmark.search_steps(cfg, device)
    data = benchmark.random_batch(BATCH, size['crop'], model.num_classes)
    turns = {k: functools.partial(step, data) for k, step in steps.items()}
    walls = measure(turns, device, iters=3, warmup=2)
    row = dict(top={})
    for half, turn in turns.items():
        # The operations of PyTorch themselves would make it slow to evaluate.
        activity = getattr(ProfilerActivity, device.upper())
        with profile(activities=[activity]) as profiler:
            turn()
            getattr(torch, device).synchronize()
        launches, kernels = launched(profiler.key_averages(), device)
        busy = sum(kernel[0] for kernel in kernels)
        wall = 1e3 * statistics.median(walls[half]['samples'])
        row['top'][half] = sorted(kernels, reverse=True)[:15]
        row[f'{half} launches'] = launches
        row[f'{half} kernels'] = sum(kernel[1] for kernel in kernels)
        row[f'{half} kernels ms'] = busy
        row[f'{half} ms'] = wall
        # Above 1, kernels run side by side.
        row[f'{half} at once'] = busy / wall
    return row


def launched(events, device):
    """How often the processor launches, and time, number, name of kernels."""
    of_device = getattr(DeviceType, device.upper())
    self_time = f'self_{"device" if device == "cuda" else "cpu"}_time_total'
    kernels = [
        (getattr(event, self_time) / 1e3, event.count, event.key[:80])
        for event in events
        if event.device_type == of_device and not event.is_user_annotation
    ]
    launch = re.compile('cu(da)?(Graph)?Launch|cudaMem(cpy|set)Async')
    return sum(e.count for e in events if launch.match(e.key)), kernels


def searching(args, found):
    rows = [
        row
        for row in found['steps'].get('time', [])
        if 'hours' in row and CASES[row['case']].get('exact')
    ]
    best = min(rows, key=lambda row: row['hours'], default=dict(case='fused'))
    whole = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ('undisturbed', 'resumed', 'resumed again'):
            labels = dict(case=best['case'], run=name)
            yield labels, run_search, Path(folder), best, whole, name
            if name not in whole:  # There was no time, or an error.
                return


class Clock(Hook):
    """When iterations end; stops a run that takes too long."""

    def __init__(self, seconds):
        self.ends = []
        self._until = time.perf_counter() + seconds

    def after_train_iter(self, runner, *args, **kwargs):
        self.ends.append(time.perf_counter())
        if self.ends[-1] > self._until:
            runner.train_loop.stop_training = True

    def seconds(self, begin, end=None):
        """Of an iteration; the first ones of a kind tune and capture."""
        ends = self.ends[begin:end]
        ends = ends[min(3, len(ends) - 2) :]
        return (ends[-1] - ends[0]) / (len(ends) - 1)


def run_search(args, folder, best, whole, name):
    """A search, or the last quarter of one; `whole` has what runs end with."""
    settings, first = CASES[best['case']], name == 'undisturbed'
    if first:
        if 'hours' not in best:
            best = time_case(args, settings)
        # Both that are resumed take half of all architecture steps again.
        each = (1.5 * best['weights ms'] + best['arch ms']) / 1e3
        quarter = max(int(0.6 * args.left / each), 8) // 4
        whole['iters'] = 4 * min(quarter, SIZES[args.device]['quarter'])
    iters = whole['iters']
    set_backends(settings)
    cfg = search_config(args, folder, settings, iters)
    cfg.work_dir = str(folder / name)
    # By which MMEngine tells runs of a process apart.
    cfg.experiment_name = cfg.visualizer.name = f'{name} {time.time_ns()}'
    if not first:
        cfg.load_from = str(folder / f'undisturbed/iter_{3 * iters // 4}.pth')
        cfg.resume = True
    runner = Runner.from_cfg(cfg)
    clock = Clock(args.left)
    runner.register_hook(clock)
    runner.train()
    row = dict(iterations=len(clock.ends))
    if runner.iter < iters:
        raise TimeoutError(f'{len(clock.ends)} iterations, not {iters}')
    state = runner.model.state_dict()
    whole[name] = {key: value.cpu().double() for key, value in state.items()}
    if not first:
        other = 'undisturbed' if name == 'resumed' else 'resumed'
        return row | dict(other=other) | distances(whole[name], whole[other])
    decoded = runner.model.backbone.architecture()
    weights, both = clock.seconds(0, iters // 2), clock.seconds(iters // 2)
    return {
        **row,
        'weights ms': 1e3 * weights,
        'arch ms': 1e3 * (both - weights),
        'hours': project(weights, both - weights),
        'mIoU': runner.message_hub.get_scalar('val/mIoU').current(),
        'path': '-'.join(map(str, decoded.path)),
        'decoded': decoded.content(),
    }


def search_config(args, folder, settings, iters):
    """The paper's search, shortened, on other data."""
    size = SIZES[args.device]
    cfg = configure(size['net'], size['crop'], settings)
    name, root = 'camvid', args.data
    if not args.data:
        name, root = 'shapes', str(folder / 'shapes')
    data = cli.read_config(str(CONFIGS / f'_base_/datasets/{name}.py'))
    image, label, resize = (
        dict(type='LoadCheckedImage'),
        dict(type='LoadCheckedAnnotations'),
        dict(type='Resize', scale=size['scale'], keep_ratio=True),
    )
    crop = dict(type='RandomCrop', crop_size=(size['crop'],) * 2)
    pipelines = dict(
        train=[image, label, resize, crop, dict(type='RandomFlip', prob=0.5)],
        # Labels of validation keep their size.
        val=[image, resize, label],
    )
    for part, pipeline in pipelines.items():
        loader = data[f'{part}_dataloader']
        loader.num_workers = size['workers']
        loader.persistent_workers = size['workers'] > 0
        loader.dataset.data_root = root
        if not args.data:
            loader.dataset.num_images = 16
        loader.dataset.pipeline = [*pipeline, dict(type='PackSegInputs')]
        cfg[f'{part}_dataloader'] = loader
    cfg.val_dataloader.dataset.indices = 16
    cfg.train_dataloader.batch_size = BATCH
    cfg.train_dataloader.sampler = dict(type='SplitInfiniteSampler')
    classes = DATASETS.get(loader.dataset.type).METAINFO['classes']
    cfg.model.decode_head.num_classes = len(classes)
    cfg.test_dataloader = cfg.test_evaluator = cfg.test_cfg = None
    cfg.custom_hooks[0].update(begin=iters // 2, interval=iters // 4)
    cfg.train_cfg.update(max_iters=iters, val_interval=iters)
    cfg.default_hooks.checkpoint.interval = 3 * iters // 4
    cfg.default_hooks.logger.interval = iters // 4
    del cfg.default_hooks.search_visualization
    cfg.log_level = 'WARNING'
    # MMEngine prints it many times, and takes seconds to make that pretty.
    return Config(cfg.to_dict(), format_python_code=False)


def inference(args, found):
    size = SIZES[args.device]
    for shape in size['shapes']:
        for name in size['networks']:
            for amp in size['amp']:
                labels = dict(network=name, shape='{}x{}'.format(*shape))
                yield labels | dict(amp=amp), infer, name, shape, amp


def infer(args, name, shape, amp):
    set_backends({})
    rest = 'b2-40k_cityscapes-769x769.py'
    if name.startswith('r'):
        stock = f'mmseg::deeplabv3plus/deeplabv3plus_{name}-d8_4x{rest}'
        cfg = get_config(stock)
    else:
        path = CONFIGS / f'autodeeplab/autodeeplab-{name}_8x{rest}'
        cfg = cli.read_config(str(path))
    timing = dict(iters=20, warmup=2, seconds=min(args.left, 3))
    row = benchmark.measure_inference(
        cfg, shape, 1, args.device, amp, **timing
    )
    samples = row['samples']
    return {
        'ms': 1e3 * statistics.median(samples),
        'peak GiB': (row['built'] + row['peak']) / GIB,
        'M params': row['parameters'] / 1e6,
        'G madds': row['multiply_adds'] / 1e9,
        'samples': samples,
    }


def fitting(args, found):
    size = SIZES[args.device]
    limits = args.fit or size['fit']
    for name, settings in known(args, size['fitted']).items():
        predict = prediction(args.device, settings)
        for limit in map(float, limits.split(',')):
            yield {'case': name, 'GiB': limit}, fit, settings, predict, limit


def memory(device, settings, crop, batch):
    """Bytes of an iteration, model included."""
    set_backends(settings)
    cfg = configure(SIZES[device]['net'], crop, settings)
    found = benchmark.measure_search(
        cfg, crop, batch, HALVES, device, iters=0, warmup=1
    )
    if settings.get('graphs'):  # Whose pools are never given back.
        return torch.cuda.max_memory_reserved()
    return max(half['built'] + half['peak'] for half in found.values())


def prediction(device, settings):
    """Memory by a straight line in pixels, through two measurements."""

    @functools.cache
    def line():
        crops = SIZES[device]['line']
        a, b = (memory(device, settings, crop, FIT_BATCH) for crop in crops)
        x, y = (FIT_BATCH * crop**2 for crop in crops)
        slope = (b - a) / (y - x)
        return a - slope * x, slope

    def predict(case):
        constant, slope = line()
        return constant + slope * case['batch'] * case['crop'] ** 2

    return predict


def fit(args, settings, predict, limit):
    """What is predicted to fit, or the next below that does."""
    until = time.perf_counter() + args.left
    (row,) = benchmark.fit([dict.fromkeys(KEYS)], [limit], predict)

    def largest(case, key, step):
        while case[key] > 0 and not fits(args.device, settings, case, limit):
            case[key] -= step
            if time.perf_counter() > until:
                raise TimeoutError(f'not even {case} was tried')
        return max(case[key], 0)

    batch = dict(crop=FIT_CROP, batch=row['batch'])
    crop = dict(crop=row['crop'], batch=FIT_BATCH)
    return {
        f'batch at crop {FIT_CROP}': largest(batch, 'batch', 1),
        f'crop at batch {FIT_BATCH}': largest(crop, 'crop', 32),
    }


def fits(device, settings, case, limit):
    """Whether an iteration runs where there is no more memory."""
    room = limit * GIB
    if device == 'cuda':
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(room / total, 1.0))
    try:
        return memory(device, settings, **case) <= room
    except torch.cuda.OutOfMemoryError:
        return False
    finally:
        clean(device)
        if device == 'cuda':
            torch.cuda.set_per_process_memory_fraction(1.0)


def clean(device):
    """Give back what the last case left behind."""
    gc.collect()
    if device == 'cuda':
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def attempt(args, function, *arguments):
    """What a function returns, or how it failed."""
    try:
        return function(args, *arguments)
    # A GPU is there for minutes: whatever fails, of whatever kind, all other
    # numbers are wanted, and the traceback, to mend it without one.
    except Exception as error:
        return dict(error=one_line(error), traceback=traceback.format_exc())
    finally:
        clean(args.device)


# The share of the time that is left which each step takes at most.
STEPS = dict(
    correctness=(correctness, 0.3),
    time=(timing, 0.5),
    profile=(profiling, 0.3),
    search=(searching, 0.5),
    inference=(inference, 0.6),
    fit=(fitting, 1.0),
)


def run(args, found, end):
    """Take the steps; the file has each row as soon as it is there."""
    for name in args.steps:
        step, share = STEPS[name]
        is_last = name == args.steps[-1]
        if is_last:
            share = 1
        rows = found['steps'].setdefault(name, [])
        until = end - (1 - share) * (end - time.perf_counter())
        taken = False
        for labels, *task in step(args, found):
            if any(labels.items() <= row.items() for row in rows):
                continue
            args.left = until - time.perf_counter()
            print(f'{args.left:.0f} s left: {name} {labels}', flush=True)
            # What it says of a crash, after which the same command goes on.
            rows.append(dict(labels, error='the process ended'))
            write(args, found)
            if args.left > 0:
                taken = True
                rows[-1] = labels | attempt(args, *task)
            else:
                rows[-1] = dict(labels, skipped='no time was left')
            write(args, found)
            if 'error' in rows[-1]:
                print(rows[-1]['traceback'], file=sys.stderr, flush=True)
                if is_lost(args.device):
                    restart(end)
        # A profiler slows down whatever comes after it in a process.
        profiled = taken and step is profiling and args.device == 'cuda'
        if profiled and not is_last:
            restart(end)


def write(args, found):
    write_atomically(args.out, to_json(found, indent=1) + '\n')


def is_lost(device):
    """Whether an error took the device along, for the whole process."""
    try:
        getattr(torch, device).synchronize()
    except RuntimeError:
        return True
    return False


def restart(end):
    """Go on in a new process."""
    left = f'--seconds={end - time.perf_counter():.1f}'
    os.execv(sys.executable, [sys.executable, *sys.argv, left])


def markdown(found):
    """All numbers as tables."""
    where = ', '.join(f'{k} {v}' for k, v in found['environment'].items())
    parts = [where]
    for name, rows in found['steps'].items():
        parts += [f'## {name}', plain_table(rows)]
        for row in rows:
            for half, top in row.get('top', {}).items():
                parts.append(f'{row["case"]}, {half}:')
                kernels = [(f'{ms:.3f}', *rest) for ms, *rest in top]
                parts.append(table(('ms', 'calls', 'kernel'), kernels))
    return '\n\n'.join(parts)


def plain_table(rows):
    """One of rows whose keys differ, without what is longer than a cell."""
    header = dict.fromkeys(
        key
        for row in rows
        for key, value in row.items()
        if key != 'traceback' and not isinstance(value, (list, dict))
    )

    def cell(value):
        return f'{value:.4g}' if isinstance(value, float) else value

    return table(
        list(header), [[cell(row.get(k)) for k in header] for row in rows]
    )


@cli.user_errors()
def main():
    args = parse_args()
    if args.table:
        print(markdown(json.loads(Path(args.table).read_text())))
        return
    end = time.perf_counter() + args.seconds
    args.device = benchmark.check_device(args.device)
    args.steps = args.steps.split(',')
    for name in args.steps:
        if name not in STEPS:
            raise UserError(
                f'--steps takes {", ".join(STEPS)}, one or several with '
                f'commas, not {name!r}'
            )
    found = dict(environment=environment(args.device), steps={})
    if Path(args.out).is_file():
        found['steps'] = json.loads(Path(args.out).read_text())['steps']
        for name, rows in found['steps'].items():
            found['steps'][name] = [r for r in rows if 'skipped' not in r]
    run(args, found, end)
    print(markdown(found))


if __name__ == '__main__':
    main()
