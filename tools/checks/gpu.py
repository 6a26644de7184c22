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
from pathlib import Path

import torch
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
SIZES = dict(
    # The net and crop of the paper; images are resized to `scale`.
    cuda=dict(
        net={},
        crop=321,
        scale=(512, 384),
        workers=4,
        max_iters=29760,
        fit='16,24,80',
        networks=('s', 'm', 'l', 'r50', 'r101'),
        shapes=((1025, 2049), (513, 513)),
    ),
    cpu=dict(
        net=dict(num_layers=3, num_blocks=1, filter_multiplier=2),
        crop=65,
        scale=(128, 96),
        workers=0,
        max_iters=8,
        fit='0.7',
        networks=('s', 'r50'),
        shapes=((65, 129),),
    ),
)
# What is not `exact` leaves the paper's arithmetic. A graph that fails may
# take the process with it, so what needs none is first.
CASES = {
    'fused': dict(exact=True),
    'fused, graphs': dict(exact=True, graphs=True),
    'reference': dict(exact=True, form='reference'),
    'fused, graphs, bf16': dict(graphs=True, amp='bfloat16'),
    'fused, graphs, fp16': dict(graphs=True, amp='float16'),
    'fused, with_cp': dict(exact=True, with_cp=True),
    'fused, graphs, channels last': dict(
        exact=True, graphs=True, channels_last=True
    ),
    'fused, graphs, TF32': dict(graphs=True, tf32=True),
    'fused, graphs, cudnn.benchmark off': dict(
        exact=True, graphs=True, tune=False
    ),
    'fused, bf16': dict(amp='bfloat16'),
}
PROFILED = 'fused', 'fused, graphs', 'fused, graphs, bf16', 'fused, bf16'
FITTED = 'fused', 'fused, with_cp', 'fused, graphs'
NETS = {
    'L=4, B=2': dict(num_layers=4, num_blocks=2, filter_multiplier=4),
    'L=5, B=3, affine norms': dict(
        num_layers=5,
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


def configure(net, crop, settings):
    """The config of the paper's search, for another net and crop."""
    cfg = cli.read_config(str(CONFIGS / 'autodeeplab/search_cityscapes.py'))
    backbone = cfg.model.backbone
    backbone.update(net)
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
    """How PyTorch computes; tuning is cuDNN's benchmark, as in configs."""
    torch.backends.cudnn.allow_tf32 = settings.get('tf32', False)
    torch.backends.cuda.matmul.allow_tf32 = settings.get('tf32', False)
    torch.backends.cudnn.benchmark = settings.get('tune', True)


def known(args, names=CASES):
    """Those of the cases that the device knows, with their settings."""
    of_gpus = set() if args.device == 'cuda' else {'graphs', 'amp'}
    return {n: CASES[n] for n in names if not of_gpus & CASES[n].keys()}


# Each step yields labels, and what measures their row within some seconds.


def correctness(args, found):
    for name, net in NETS.items():
        for dtype in BOUNDS:
            labels = dict(net=name, dtype=str(dtype))
            check = functools.partial(check_device, net, dtype)
            for form in CELLS:
                yield (
                    dict(labels, compared=f'{form}, {args.device} / cpu'),
                    functools.partial(check, form, args.device),
                )
            if dtype is torch.float32:
                yield (
                    dict(labels, compared='fused, cpu / float64'),
                    functools.partial(check, 'fused', None),
                )
    if args.device == 'cuda':
        for dtype in BOUNDS:
            for graphs in (False, True):
                yield (
                    dict(
                        net='L=4, B=2; a search of 4 iterations',
                        dtype=str(dtype),
                        compared=f'{"graphs" if graphs else "again"} / fused',
                    ),
                    functools.partial(check_graphs, dtype, graphs),
                )


def check_device(net, dtype, form, device, seconds):
    """A device against the CPU; or the CPU against double precision."""
    set_backends(dict(tune=False))
    init_default_scope('mmseg')
    torch.manual_seed(0)
    cfg = dict(net, type='AutoDeepLabSupernet', form=form)
    here = MODELS.build(cfg).to(dtype)
    images = torch.randn(BATCH, 3, 65, 65)
    if device:
        other, expected = copy.deepcopy(here).to(device), here
    else:
        other, expected = here, copy.deepcopy(here).double()
    return distances(
        forward_backward(other, images),
        forward_backward(expected, images),
        BOUNDS[dtype],
    )


def forward_backward(net, images):
    """Outputs, gradients in random directions, running statistics."""
    for param in net.arch_parameters():
        param.requires_grad_(True)
    outs = net(images.to(net.alphas))
    torch.manual_seed(1)
    sum((o * torch.randn(o.shape).to(o)).mean() for o in outs).backward()
    found = {f'output.{i}': out.detach() for i, out in enumerate(outs)}
    found.update((name, p.grad) for name, p in net.named_parameters())
    found.update(net.named_buffers())
    return {name: value.cpu().double() for name, value in found.items()}


def check_graphs(dtype, graphs, seconds):
    """What a search without graphs ends with, and one with or without."""
    set_backends(dict(tune=False))
    return distances(
        small_search(dtype, graphs), small_search(dtype, False), BOUNDS[dtype]
    )


def small_search(dtype, graphs):
    """The state after a few iterations, and an output of another size."""
    settings = dict(graphs=graphs) if graphs else {}
    cfg = configure(NETS['L=4, B=2'], 65, settings)
    model, steps = benchmark.search_steps(cfg, 'cuda')
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
    row, worst = {}, (-1.0, None)
    for name, value in expected.items():
        difference = (found[name] - value).abs().max()
        distance = float(difference / value.abs().max()) if difference else 0.0
        if not math.isfinite(distance):
            distance = math.inf
        worst = max(worst, (distance, name))
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
        case = functools.partial(time_case, args.device, settings)
        yield dict(case=name), case


def time_case(device, settings, seconds):
    size = SIZES[device]
    crop = size['crop']
    set_backends(settings)
    cfg = configure(size['net'], crop, settings)
    found = benchmark.measure_search(
        cfg,
        crop,
        BATCH,
        HALVES,
        device,
        settings.get('channels_last', False),
        iters=10,
        warmup=2,
        seconds=min(seconds, 6),
    )
    medians = {k: statistics.median(v['samples']) for k, v in found.items()}
    row = {f'{half} ms': 1e3 * t for half, t in medians.items()}
    row['peak GiB'] = max(h['built'] + h['peak'] for h in found.values()) / GIB
    if device == 'cuda':  # The pools of graphs, too.
        row['reserved GiB'] = torch.cuda.max_memory_reserved() / GIB
    row['hours'] = project(cfg, medians)
    row['samples'] = {half: h['samples'] for half, h in found.items()}
    return row


def project(cfg, seconds):
    """Hours of the config's search, by the seconds of its steps."""
    rows = [
        dict(dict.fromkeys(KEYS), half=half, seconds=s)
        for half, s in seconds.items()
    ]
    begin = benchmark.search_hook(cfg)['begin']
    total = benchmark.project(rows, cfg.train_cfg.max_iters, begin)
    return total[0]['seconds'] / 3600


def profiling(args, found):
    for name, settings in known(args, PROFILED).items():
        for half in HALVES:
            yield (
                dict(case=name, half=half),
                functools.partial(profile_step, args.device, settings, half),
            )


def profile_step(device, settings, half, seconds):
    size = SIZES[device]
    set_backends(settings)
    cfg = configure(size['net'], size['crop'], settings)
    model, steps = benchmark.search_steps(cfg, device)
    data = benchmark.random_batch(BATCH, size['crop'], model.num_classes)
    turns = {k: functools.partial(step, data) for k, step in steps.items()}
    wall = measure(turns, device, iters=3, warmup=2)[half]['samples']
    # The operations of PyTorch themselves would make it slow to evaluate.
    activity = getattr(ProfilerActivity, device.upper())
    with profile(activities=[activity]) as profiler:
        turns[half]()
        getattr(torch, device).synchronize()
    events = profiler.key_averages()
    of_device = getattr(DeviceType, device.upper())
    self_time = f'self_{"device" if device == "cuda" else "cpu"}_time_total'
    kernels = [
        (getattr(event, self_time) / 1e3, event.count, event.key[:80])
        for event in events
        if event.device_type == of_device
    ]
    busy, median = sum(k[0] for k in kernels), 1e3 * statistics.median(wall)
    launch = re.compile('cu(da)?(Graph)?Launch')
    return {
        'launches': sum(e.count for e in events if launch.match(e.key)),
        'kernels': sum(k[1] for k in kernels),
        'busy ms': busy,
        'wall ms': median,
        'busy': busy / median,
        'top': sorted(kernels, reverse=True)[:15],
    }


def searching(args, found):
    rows = [
        row
        for row in found['steps'].get('time', [])
        if 'hours' in row and CASES[row['case']].get('exact')
    ]
    best = min(rows, key=lambda row: row['hours'], default=dict(case='fused'))
    whole = {}
    with tempfile.TemporaryDirectory() as folder:
        search = functools.partial(run_search, args, Path(folder), best, whole)
        for run in ('undisturbed', 'resumed', 'resumed again'):
            labels = dict(case=best['case'], run=run)
            yield labels, functools.partial(search, run)
            if run not in whole:  # There was no time, or an error.
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

    def milliseconds(self, begin, end):
        """Of an iteration; the first ones of a kind tune and capture."""
        begin = min(begin + 3, end - 2)
        return (
            1e3 * (self.ends[end - 1] - self.ends[begin]) / (end - 1 - begin)
        )


def run_search(args, folder, best, whole, run, seconds):
    """A search, or the last quarter of one; `whole` has what runs end with."""
    settings = CASES[best['case']]
    if run == 'undisturbed':
        if 'hours' not in best:
            best = time_case(args.device, settings, 1)
        # Two quarters more, for both that are resumed.
        each = (1.5 * best['weights ms'] + best['arch ms']) / 1e3
        most = SIZES[args.device]['max_iters']
        quarter = max(int(0.6 * seconds / each), 8) // 4
        whole['iters'] = 4 * min(quarter, most // 4)
    iters = whole['iters']
    set_backends(settings)
    cfg = search_config(args, folder, settings, iters)
    if run != 'undisturbed':
        cfg.load_from = str(folder / f'undisturbed/iter_{3 * iters // 4}.pth')
        cfg.resume = True
    cfg.work_dir = str(folder / run)
    # By which MMEngine tells runs of a process apart.
    cfg.experiment_name = cfg.visualizer.name = f'{run}_{time.time_ns()}'
    runner = Runner.from_cfg(cfg)
    clock = Clock(seconds)
    runner.register_hook(clock)
    runner.train()
    row = dict(iterations=len(clock.ends))
    if runner.iter < iters:
        return dict(row, skipped=f'no time for the {iters} iterations')
    found = runner.model.state_dict()
    whole[run] = {k: v.cpu().double() for k, v in found.items()}
    if run != 'undisturbed':
        other = 'undisturbed' if run == 'resumed' else 'resumed'
        return {**row, 'other': other, **distances(whole[run], whole[other])}
    half = iters // 2
    times = clock.milliseconds(0, half), clock.milliseconds(half, iters)
    paper = configure({}, 321, {})
    return {
        **row,
        'ms at first': times[0],
        'ms with arch': times[1],
        'hours': project(
            paper,
            dict(weights=times[0] / 1e3, arch=(times[1] - times[0]) / 1e3),
        ),
        'mIoU': runner.message_hub.get_scalar('val/mIoU').current(),
        'architecture': runner.model.backbone.architecture().content(),
    }


def search_config(args, folder, settings, iters):
    """The paper's search, shortened, on other data."""
    size = SIZES[args.device]
    cfg = configure(size['net'], size['crop'], settings)
    name = 'camvid' if args.data else 'shapes'
    data = cli.read_config(str(CONFIGS / f'_base_/datasets/{name}.py'))
    load = [
        dict(type='LoadCheckedImage'),
        dict(type='LoadCheckedAnnotations'),
        dict(type='Resize', scale=size['scale'], keep_ratio=True),
    ]
    crop = [
        dict(type='RandomCrop', crop_size=(size['crop'],) * 2),
        dict(type='RandomFlip', prob=0.5),
    ]
    pack = [dict(type='PackSegInputs')]
    for part, pipeline in dict(
        train=load + crop + pack, val=load + pack
    ).items():
        loader = data[f'{part}_dataloader']
        loader.dataset.update(
            data_root=args.data or str(folder / 'shapes'), pipeline=pipeline
        )
        if not args.data:
            loader.dataset.num_images = 32
        loader.update(
            num_workers=size['workers'], persistent_workers=size['workers'] > 0
        )
        cfg[f'{part}_dataloader'] = loader
    cfg.train_dataloader.update(
        batch_size=BATCH, sampler=dict(type='SplitInfiniteSampler')
    )
    classes = DATASETS.get(loader.dataset.type).METAINFO['classes']
    cfg.model.decode_head.num_classes = len(classes)
    cfg.test_dataloader = cfg.test_evaluator = cfg.test_cfg = None
    cfg.param_scheduler[0].end = iters
    cfg.custom_hooks[0].update(begin=iters // 2, interval=iters // 4)
    cfg.train_cfg.update(max_iters=iters, val_interval=iters)
    cfg.default_hooks.checkpoint.interval = 3 * iters // 4
    cfg.default_hooks.logger.interval = iters // 4
    del cfg.default_hooks.search_visualization
    cfg.log_level = 'WARNING'
    return cfg


def inference(args, found):
    size = SIZES[args.device]
    for shape in size['shapes']:
        for name in size['networks']:
            for amp in ('none', 'fp16')[: 1 + (args.device == 'cuda')]:
                yield (
                    dict(
                        network=name, shape=f'{shape[0]}x{shape[1]}', amp=amp
                    ),
                    functools.partial(infer, args.device, name, shape, amp),
                )


def infer(device, name, shape, amp, seconds):
    set_backends({})
    rest = 'b2-40k_cityscapes-769x769.py'
    if name.startswith('r'):
        cfg = get_config(
            f'mmseg::deeplabv3plus/deeplabv3plus_{name}-d8_4x{rest}'
        )
    else:
        path = CONFIGS / f'autodeeplab/autodeeplab-{name}_8x{rest}'
        cfg = cli.read_config(str(path))
    timing = dict(iters=20, warmup=2, seconds=min(seconds, 3))
    row = benchmark.measure_inference(cfg, shape, 1, device, amp, **timing)
    samples = row['samples']
    return {
        'ms': 1e3 * statistics.median(samples),
        'peak GiB': (row['built'] + row['peak']) / GIB,
        'M params': row['parameters'] / 1e6,
        'G madds': row['multiply_adds'] / 1e9,
        'samples': samples,
    }


def fitting(args, found):
    limits = args.fit or SIZES[args.device]['fit']
    for name, settings in known(args, FITTED).items():
        predict = prediction(args.device, settings)
        for limit in map(float, limits.split(',')):
            yield (
                {'case': name, 'GiB': limit},
                functools.partial(fit, args.device, settings, predict, limit),
            )


def memory(device, settings, crop, batch):
    """Bytes of an iteration, model included."""
    set_backends(settings)
    cfg = configure(SIZES[device]['net'], crop, settings)
    found = benchmark.measure_search(
        cfg, crop, batch, HALVES, device, iters=0, warmup=1
    )
    return max(half['built'] + half['peak'] for half in found.values())


def prediction(device, settings):
    """Memory by a straight line in pixels, through two measurements."""

    @functools.cache
    def line():
        crops = (FIT_CROP, 2 * FIT_CROP - 1)
        a, b = (memory(device, settings, crop, FIT_BATCH) for crop in crops)
        x, y = (FIT_BATCH * crop**2 for crop in crops)
        slope = (b - a) / (y - x)
        return a - slope * x, slope

    def predict(case):
        constant, slope = line()
        return constant + slope * case['batch'] * case['crop'] ** 2

    return predict


def fit(device, settings, predict, limit, seconds):
    """What is predicted to fit, or the next below that does."""
    until = time.perf_counter() + seconds
    (row,) = benchmark.fit([dict.fromkeys(KEYS)], [limit], predict)
    crop, batch = row['crop'], row['batch']
    tried = 0
    while batch and not fits(device, settings, FIT_CROP, batch, limit):
        batch, tried = batch - 1, tried + 1
        if time.perf_counter() > until:
            raise TimeoutError(f'a batch of {batch + 1} is too large')
    while crop and not fits(device, settings, crop, FIT_BATCH, limit):
        crop, tried = max(crop - 32, 0), tried + 1
        if time.perf_counter() > until:
            raise TimeoutError(f'a crop of {crop + 32} is too large')
    return {
        f'batch at crop {FIT_CROP}': batch,
        f'crop at batch {FIT_BATCH}': crop,
        'too large': tried,
    }


def fits(device, settings, crop, batch, limit):
    """Whether an iteration runs where there is no more memory."""
    room = limit * GIB
    if device == 'cuda':
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(room / total, 1.0))
    try:
        return memory(device, settings, crop, batch) <= room
    except torch.OutOfMemoryError:
        return False
    finally:
        clean(device)
        if device == 'cuda':
            torch.cuda.set_per_process_memory_fraction(1.0)


# The share of the time that is left which each step takes at most.
STEPS = dict(
    correctness=(correctness, 0.4),
    time=(timing, 0.5),
    profile=(profiling, 0.4),
    search=(searching, 0.5),
    inference=(inference, 0.6),
    fit=(fitting, 1.0),
)


def clean(device):
    """Give back what the last case left behind."""
    gc.collect()
    if device == 'cuda':
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def attempt(device, task, seconds):
    """What a task returns, or how it failed."""
    try:
        return task(seconds)
    # A time on a GPU is lent once: whatever fails, of whatever kind, the
    # other numbers are wanted, and the traceback to mend it later.
    except Exception as error:
        return dict(error=one_line(error), traceback=traceback.format_exc())
    finally:
        clean(device)


def run(args, found, end):
    """Take the steps, and begin anew where an error took the device along."""
    for name in args.steps:
        step, share = STEPS[name]
        rows = found['steps'].setdefault(name, [])
        now = time.perf_counter()
        until = now + share * (end - now)
        for labels, task in step(args, found):
            if any(labels.items() <= row.items() for row in rows):
                continue
            left = until - time.perf_counter()
            print(f'{end - time.perf_counter():.0f} s left: {name} {labels}')
            if left > 0:
                row = attempt(args.device, task, left)
            else:
                row = dict(skipped='no time was left')
            rows.append({**labels, **row})
            write_atomically(args.out, to_json(found, indent=1) + '\n')
            if 'error' in row:
                print(row['traceback'], file=sys.stderr, flush=True)
                go_on_or_restart(args, end)


def go_on_or_restart(args, end):
    """No later call of CUDA works in a process where one has gone wrong."""
    try:
        getattr(torch, args.device).synchronize()
    except RuntimeError:
        left = str(end - time.perf_counter())
        command = [sys.executable, *sys.argv, '--seconds', left]
        os.execv(sys.executable, command)


def markdown(found):
    """All numbers as tables."""
    where = ', '.join(f'{k} {v}' for k, v in found['environment'].items())
    parts = [where]
    for name, rows in found['steps'].items():
        parts += [f'## {name}', plain_table(rows)]
        for row in rows:
            if row.get('top'):
                parts.append(f'{row["case"]}, {row["half"]}:')
                parts.append(table(('ms', 'calls', 'kernel'), row['top']))
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
