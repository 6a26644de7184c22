"""A comparison of searches with random architectures, done part by part."""

import argparse
import itertools
import json
import os.path as osp
import shlex
import threading
from glob import escape, glob

import numpy as np
from mmengine.config import Config
from mmseg.registry import MODELS

from ..arch import Architecture
from ..compat.registry import named
from ..errors import UserError, one_line
from ..files import open_text, to_json, write_atomically
from ..models.complexity import count_multiply_adds, image_channels
from ..search import retrain_config
from ..search.blackbox import proxy
from ..search.comparison import compare
from ..search.config_text import write_config
from ..search.gradient import evaluate
from ..search.history import is_number
from ..search.processes import (
    ProcessFailed,
    processor_time,
    run,
    side_by_side,
    tool,
)
from ..visualization.comparison import PARTS
from .checkpoints import resume_latest
from .supernet import open_supernet
from .work_dir import check_work_dir

# Random architectures that are looked at, for each that is wanted.
MAX_DRAWS = 100
RESULT = 'result.json'


class Stopped(Exception):
    """The user has stopped the tool."""


class Comparison:
    """The parts of a comparison in its folder; each is done once."""

    def __init__(self, args: argparse.Namespace, search: Config) -> None:
        self.args = args
        self.search = search
        stem = osp.splitext(osp.basename(args.config))[0]
        self.folder = args.work_dir or f'work_dirs/compare_{stem}'
        self.stopping = threading.Event()

    def place(self, *names):
        return osp.join(self.folder, *names)

    def claim(self):
        """Write what may not change, or see that it has not."""
        file = self.place('settings.json')
        settings = dict(
            config=write_config(self.search, '# Of a comparison.'),
            within=self.args.within,
            decode=self.args.decode,
        )
        known = read(file, settings)
        if known is None:
            check_work_dir(self.folder)
            write_atomically(file, to_json(settings, indent=2) + '\n')
        elif changed := [k for k in settings if known[k] != settings[k]]:
            raise UserError(
                f'{self.folder} has a comparison with another '
                f'{" and another ".join(changed)}: give another --work-dir, '
                'or what that one was begun with'
            )

    def watch(self, *values):
        if self.stopping.is_set():
            raise Stopped

    def failure_of(self, work, *given):
        """Do a part of the work; returns a sentence where that failed."""
        try:
            self.watch()
            print(work(*given), flush=True)
        except (ProcessFailed, proxy.TrialFailed) as error:
            what = ' '.join(map(str, (work.__name__, *given)))
            sentence = f'{what}: {error}'
            print(f'Failed: {sentence}', flush=True)
            return sentence
        return None

    def do_all(self, work, tasks):
        """Do parts of the work side by side, all of them if one fails."""
        with side_by_side(self.args.jobs) as pool:
            try:
                given = itertools.repeat(work), *zip(*tasks)
                found = list(pool.map(self.failure_of, *given))
            except BaseException:
                # A thread sees that when it next looks at its process.
                self.stopping.set()
                raise
        if failures := [sentence for sentence in found if sentence]:
            raise UserError(
                f'{len(failures)} of {len(found)} failed, the first as '
                f'{failures[0]}; look into output.txt in its folder in '
                f'{self.folder}, and give the same command to try again'
            )

    def search_and_decode(self, seed):
        name, folder = f'searched_{seed}', self.place(f'search_{seed}')
        found = self.place(name, 'architecture.json')
        file = osp.join(folder, RESULT)
        if read(file, ['seconds']) is None or not osp.exists(found):
            cfg = seeded(self.search, seed)
            proxy.train(cfg, folder, self.watch)
            seconds = processor_time(folder)
            config = osp.join(folder, 'config.py')
            options = ['--config', config, '--out-dir', self.place(name)]
            options += ['--force', *shlex.split(self.args.decode)]
            command = [*tool('decode'), last_checkpoint(cfg, folder), *options]
            run(command, self.place(name, 'decoding'), self.watch)
            write_atomically(file, to_json(dict(seconds=seconds)) + '\n')
        architecture = Architecture.load(found)
        return f'Search {seed}: {architecture.describe().splitlines()[0]}'

    def retrain(self, name, seed):
        folder = self.place(name, f'retrain_{seed}')
        file = osp.join(folder, RESULT)
        found = read(file, [*PARTS, 'seconds'])
        if found is None:
            cfg, _ = retrain_config(self.search, self.architectures[name])
            cfg = seeded(cfg, seed)
            val = proxy.train(cfg, folder, self.watch)
            weights = last_checkpoint(cfg, folder)
            tested = osp.join(folder, 'test')
            config = osp.join(folder, 'config.py')
            command = [*tool('test'), config, weights, '--work-dir', tested]
            run(command, tested, self.watch)
            logs = sorted(glob(osp.join(escape(tested), '*', '*.json')))
            if not logs:
                raise ProcessFailed(f'{tested} has no result of the test')
            found = dict(
                val=val,
                test=read(logs[-1], []),
                seconds=processor_time(folder),
            )
            write_atomically(file, to_json(found, indent=2) + '\n')
        values = (self.value(found, part) for part in PARTS)
        return f'{name}, seed {seed}: ' + ', '.join(
            f'{part} {value:.2f}' for part, value in zip(PARTS, values)
        )

    def value(self, result, part):
        value = result[part].get(self.args.metric)
        if not is_number(value):
            raise UserError(
                f'--metric is {self.args.metric}, but {PARTS[part]} gives '
                f'{", ".join(result[part])}: choose a number among these'
            )
        return value

    def multiply_adds(self, architecture):
        """Those of the network that is retrained, head included."""
        model = retrain_config(self.search, architecture)[0].model
        size = (model.get('data_preprocessor') or {}).get('size', (513, 513))
        network = MODELS.build(model)
        return count_multiply_adds(network, image_channels(model), *size)

    def draw(self, space, searched):
        """Random architectures by their names, all of one size if wished."""
        sizes = [self.multiply_adds(a) for a in searched.values()]
        share, found = self.args.within, {}
        if share is not None:
            low, high = min(sizes) * (1 - share), max(sizes) * (1 + share)
        limit = MAX_DRAWS * self.args.random
        for seed in range(limit):
            drawn = space.random(seed)
            if share is None or low <= self.multiply_adds(drawn) <= high:
                found[f'random_{seed}'] = drawn
            if len(found) == self.args.random:
                return found
        raise UserError(
            f'of {limit} random architectures, {len(found)} have {low:.4g} to '
            f'{high:.4g} multiply-adds, by --within {share}, but --random is '
            f'{self.args.random}: give a larger share, or ask for fewer'
        )

    def losses(self, seed, random):
        """Loss of each random architecture alone in the supernet of a seed."""
        folder, count = self.place(f'search_{seed}'), self.args.one_hot
        file = osp.join(folder, 'one_hot.json')
        known = read(file, ['batches', 'losses'])
        if known is None or known['batches'] != count:
            known = dict(batches=count, losses={})
        found = known['losses']
        if random.keys() - found.keys():
            cfg = seeded(self.search, seed)
            weights = last_checkpoint(cfg, folder)
            supernet = open_supernet(weights, cfg, count)
            for name in random.keys() - found.keys():
                found[name] = evaluate(*supernet, random[name])['loss']
            write_atomically(file, to_json(known, indent=2) + '\n')
            print(f'Search {seed}: {len(random)} evaluated one-hot')
        return [found[name] for name in random]

    def result(self, name, architecture):
        """All of a network, whose values are means over its retrainings."""
        runs = [
            read(self.place(name, f'retrain_{seed}', RESULT), PARTS)
            for seed in range(self.args.retrainings)
        ]
        seconds = [one['seconds'] for one in runs]
        return dict(
            architecture=architecture.content(),
            multiply_adds=self.multiply_adds(architecture),
            seconds=None if None in seconds else sum(seconds),
            **{
                part: float(np.mean([self.value(one, part) for one in runs]))
                for part in PARTS
            },
        )

    def compare(self, space):
        """Do all of it; returns networks and statistics."""
        seeds = range(self.args.searches)
        self.do_all(self.search_and_decode, [(seed,) for seed in seeds])
        searched = {
            f'searched_{seed}': Architecture.load(
                self.place(f'searched_{seed}', 'architecture.json')
            )
            for seed in seeds
        }
        random = self.draw(space, searched)
        self.architectures = searched | random
        again = range(self.args.retrainings)
        self.do_all(
            self.retrain, [*itertools.product(self.architectures, again)]
        )
        losses = {}
        if self.args.one_hot:
            losses = {
                f'supernet of seed {seed}': self.losses(seed, random)
                for seed in seeds
            }
            losses['mean of all'] = np.mean([*losses.values()], axis=0)
        networks = {
            name: self.result(name, architecture)
            for name, architecture in self.architectures.items()
        }
        files = [self.place(f'search_{seed}', RESULT) for seed in seeds]
        took = [read(file, ['seconds'])['seconds'] for file in files]
        trained = [network['seconds'] for network in networks.values()]
        candidates = None
        if (one := mean_of(took)) and (other := mean_of(trained)):
            candidates = 1 + one / other
        values = self.values(networks)
        statistics = compare(*values.values(), candidates, losses)
        return networks, dict(statistics, search_seconds=took, losses=losses)

    def values(self, networks):
        """Validation and test of both groups, (networks, 2) each."""
        table = np.array([[n[p] for p in PARTS] for n in networks.values()])
        count = self.args.searches
        return dict(searched=table[:count], random=table[count:])


def mean_of(seconds):
    """The mean of those that are known; None if none is."""
    known = [value for value in seconds if value is not None]
    return np.mean(known) if known else None


def seeded(cfg, seed):
    """The same with another seed."""
    cfg = Config(named(cfg.to_dict()))
    cfg.randomness = dict(cfg.get('randomness') or {}, seed=seed)
    return cfg


def last_checkpoint(cfg, folder):
    cfg = Config(cfg.to_dict())
    cfg.work_dir = folder
    resume_latest(cfg)
    if not cfg.resume:
        raise ProcessFailed(f'{folder} has no checkpoint')
    return cfg.load_from


def read(file, keys):
    """The object in a file, with these keys; None if there is no file."""
    if not osp.exists(file):
        return None
    try:
        with open_text(file) as f:
            found = json.load(f)
        if missing := [key for key in keys if key not in found]:
            raise ValueError(f'it has no {missing[0]}')
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise UserError(
            f'{file} cannot be read as a result ({one_line(error)}): remove '
            'it, and the same command makes it again'
        ) from error
    return found
