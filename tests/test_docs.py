"""What README.md and docs/ say: files, links, commands, and what they do.

Every block of commands is marked as one that is run here, shrunk, one that
another test runs, or one that needs what is not here.
"""

import argparse
import functools
import importlib
import json
import re
import runpy
import shlex
import sys
from pathlib import Path

import mmseg.registry
import pytest
import torch
from miniature import CONFIGS, read
from mmengine.config import Config
from mmengine.registry import Registry
from test_dependencies import PACKAGE, RANK

from mmseg_autodeeplab import cli
from mmseg_autodeeplab.arch import Connection, get_architecture
from mmseg_autodeeplab.models.layers import Cell

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / 'docs'
# As the table of contents has them: a block may need what was run before.
INDEX = DOCS / 'index.md'
PAGES = [INDEX] + [
    DOCS / f'{name}.md'
    for name in re.findall(r'^[\w/]+$', INDEX.read_text(), re.M)
]
README = ROOT / 'README.md'
ZOO = [
    ROOT / 'configs' / name / 'README.md'
    for name in ('autodeeplab', 'dpc', 'templates')
]
READMES = [README, *ZOO]
TEXTS = {
    str(page.relative_to(ROOT)): page.read_text() for page in PAGES + READMES
}
INSIDE = TEXTS['docs/advanced_guides/inside.md']
BLOCK = re.compile(r'(?:<!-- ([^\n]+) -->\n)?```(bash|python)\n(.*?)```', re.S)
BLOCKS = [
    pytest.param(*block.groups(), id=f'{name}:{number}')
    for name, text in TEXTS.items()
    for number, block in enumerate(BLOCK.finditer(text))
]
TOOLS = sorted((ROOT / 'tools').rglob('*.py'))
NEEDS = ('dataset', 'gpu', 'network')
# Of README.md; .ci/run and other tests read these.
READ_BY_NAME = ('demo-command', 'test-command', 'own-dataset', 'inference')
# A file of the reader's own.
OWN = 'configs/autodeeplab/search_mine.py'
# What scripts take beside the arguments of the tool that they start.
OF_SCRIPTS = dict(dist_train=1, dist_test=2, slurm_train=slice(2))

ITERS = 4
SHORT = (
    f'train_cfg.max_iters={ITERS} train_cfg.val_interval={ITERS} '
    f'default_hooks.checkpoint.interval={ITERS} '
    'default_hooks.logger.interval=1'
).split()
SMALL = [
    'model.backbone.num_layers=3',
    'model.backbone.num_blocks=1',
    'model.decode_head.in_channels=[4,8,16,32]',
    'custom_hooks.0.begin=1',
    *(
        f'{part}_dataloader.{option}'
        for part in ('train', 'val', 'test')
        for option in (
            'num_workers=0',
            'persistent_workers=False',
            'dataset.num_images=8',
        )
    ),
]


def test_every_page_is_in_the_table_of_contents():
    assert sorted(PAGES) == sorted(DOCS.rglob('*.md'))


@pytest.mark.parametrize('text', TEXTS.values(), ids=TEXTS)
def test_every_block_is_looked_at(text):
    """None has another language, or none."""
    languages = set(re.findall(r'^ *```(.*)\n', text, re.M)) - {''}
    assert languages <= {
        'bash',
        'bibtex',
        'python',
        '{toctree}',
        '{eval-rst}',
    }
    assert text.count('```bash') + text.count('```python') == len(
        BLOCK.findall(text)
    )


def test_the_readme_is_short_and_marked():
    text = README.read_text()
    assert text.count('\n') <= 130
    for mark in READ_BY_NAME:
        assert text.count(f'<!-- {mark} -->\n```') == 1


@pytest.mark.parametrize('mark, language, code', BLOCKS)
def test_block_is_marked(mark, language, code):
    kind, _, detail = (mark or '').partition(': ')
    if kind in READ_BY_NAME:
        assert code in README.read_text()
    elif language == 'python':
        assert kind in ('', 'run', 'config')
    elif kind == 'tested':
        # ... by a test of the very tool.
        test = (ROOT / detail).read_text()
        assert all(
            tool.stem in test or tool.name in detail
            for tool, _ in commands(code)
        )
    else:
        assert kind == 'run' or (kind == 'needs' and detail in NEEDS)


@pytest.mark.parametrize('text', TEXTS.values(), ids=TEXTS)
def test_what_is_named_exists(text):
    files = re.findall(
        r'(?:tools|configs|tests|requirements)/[\w./-]+\.(?:py|sh|md|txt)',
        text,
    )
    missing = {name for name in files if not (ROOT / name).is_file()}
    assert missing <= {OWN}


def is_registered(name):
    return any(
        isinstance(registry, Registry) and registry.get(name) is not None
        for registry in vars(mmseg.registry).values()
    )


@pytest.mark.parametrize('text', TEXTS.values(), ids=TEXTS)
def test_what_is_registered_is_named(text):
    names = re.findall(r"type='(\w+)'", text) + re.findall(
        r'\b[A-Z]\w+(?:Hook|Loop|Sampler)\b', text
    )
    own = {'NAME', *re.findall(r'^class (\w+)', text, re.M)}
    assert not {name for name in names if not is_registered(name)} - own


def anchors(text):
    """Of the headings, as GitHub and MyST make them."""
    return {
        re.sub(r'[^\w -]', '', heading.lower()).replace(' ', '-')
        for heading in re.findall(r'^#+ (.+)$', BLOCK.sub('', text), re.M)
    }


@pytest.mark.parametrize('name', TEXTS)
def test_links_lead_somewhere(name):
    page = ROOT / name
    links = re.findall(r'(!?)\[[^\]]*\]\(([^)\s]+)\)', TEXTS[name])
    for is_image, target in links:
        if '://' in target:
            continue
        file, _, anchor = target.partition('#')
        linked = (page.parent / file).resolve() if file else page
        assert linked.exists(), target
        # Sphinx knows nothing outside of docs/, and pictures in it.
        known = DOCS.joinpath('images').glob('*') if is_image else PAGES
        assert page in READMES or linked in known, target
        assert not anchor or anchor in anchors(linked.read_text()), target


def commands(code):
    """Yield the tools in a block of commands, each with its arguments."""
    for line in re.split(r'\n|&&', code):
        words = shlex.split(line, comments=True)
        for i, word in enumerate(words):
            if re.fullmatch(r'tools/.+\.(py|sh)', word):
                yield ROOT / word, words[i + 1 :]


class Parsed(Exception):
    """Holds the parser of a tool."""


@functools.cache
def parser_of(tool):
    """The parser that a tool builds; a script has that of what it starts."""
    if tool.suffix == '.sh':
        tool = tool.with_name(f'{tool.stem.partition("_")[2]}.py')

    def stop(parser):
        raise Parsed(parser)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, 'parse_args', stop)
        # As where it is run.
        patch.syspath_prepend(tool.parent)
        with pytest.raises(Parsed) as parsed:
            runpy.run_path(str(tool))['parse_args']()
    parser = parsed.value.args[0]
    parser.allow_abbrev = False
    return parser


@functools.cache
def options_of(tool):
    return re.findall(r'--[\w-]+', parser_of(tool).format_help())


@pytest.mark.parametrize(
    'code',
    [
        pytest.param(block.values[2], id=block.id)
        for block in BLOCKS
        if 'python tools/' in block.values[2] or '.sh' in block.values[2]
    ],
)
def test_tools_know_the_arguments(capsys, code):
    for tool, args in commands(code):
        if tool.suffix == '.sh':
            if tool.stem not in OF_SCRIPTS:  # It starts no tool of one parser.
                continue
            del args[OF_SCRIPTS[tool.stem]]
        try:
            parser_of(tool).parse_args(args)
        except SystemExit:
            pytest.fail(capsys.readouterr().err)


@pytest.mark.parametrize('text', TEXTS.values(), ids=TEXTS)
def test_tools_know_the_options_in_the_text(text):
    """Those of the tool beside them, or in their row, or else of any."""
    text = BLOCK.sub('', text)
    rows = re.findall(r'^\|.*`tools/.*\|$', text, re.M)
    for span in rows + re.findall('`([^`]+)`', text):
        options = set(re.findall(r'(?<!\S)`?(--[a-z-]+)', span))
        named = re.findall(r'tools/[\w/]+\.py', span)
        tools = [ROOT / name for name in named] or TOOLS
        for option in options:
            assert any(option in options_of(tool) for tool in tools), option


def test_every_tool_is_in_the_table():
    table = TEXTS['docs/user_guides/configs_and_tools.md']
    for tool in (ROOT / 'tools').rglob('*.[ps][yh]'):
        assert f'`{tool.relative_to(ROOT)}' in table


@pytest.mark.parametrize('text', TEXTS.values(), ids=TEXTS)
def test_checkpoints_are_saved(text):
    """Those that are to be typed, by the configs that are named with them."""
    for name, decoded, number in re.findall(
        r'work_dirs/([\w-]+)/(decoded/retrain/)?iter_(\d+)\.pth', text
    ):
        if name == Path(OWN).stem:
            name = 'search_cityscapes'  # of the same schedule
        (cfg,) = (
            read(file)
            for file in CONFIGS.values()
            if name.endswith(file.stem)
            and Path(read(file).get('work_dir', file.stem)).name == name
        )
        if decoded:
            schedule = ROOT / 'configs' / '_base_' / 'schedules' / 'retrain.py'
            retrain = Config.fromfile(schedule)
            retrain.merge_from_dict(cfg.get('retrain', {}))
            cfg = retrain
        interval = cfg.default_hooks.checkpoint.interval
        saved = range(interval, cfg.train_cfg.max_iters + 1, interval)
        assert int(number) in saved[-3:]


@pytest.mark.parametrize(
    'code',
    [
        pytest.param(block.values[2], id=block.id)
        for block in BLOCKS
        if block.values[0] in ('config', 'own-dataset')
    ],
)
def test_config_loads(tmp_path, code):
    folder = tmp_path / 'configs' / 'autodeeplab'
    folder.mkdir(parents=True)
    (tmp_path / 'configs' / '_base_').symlink_to(ROOT / 'configs' / '_base_')
    (folder / 'search_mine.py').write_text(code)
    cfg = Config.fromfile(folder / 'search_mine.py')
    cli.check_keys(cfg, 'train_dataloader', 'train_cfg', 'optim_wrapper')
    cli.check_evaluation(cfg)
    assert cfg.train_dataloader.sampler.type == 'SplitInfiniteSampler'
    (crop,) = (
        transform.crop_size
        for transform in cfg.train_dataloader.dataset.pipeline
        if transform.type == 'RandomCrop'
    )
    assert tuple(crop) == tuple(cfg.model.data_preprocessor.size)
    assert cfg.model.backbone.type == 'AutoDeepLabSupernet'


@pytest.mark.parametrize(
    'code',
    [
        pytest.param(block.values[2], id=block.id)
        for block in BLOCKS
        if block.values[1] == 'python' and block.values[0] is None
    ],
)
def test_fragment_is_complete(code):
    """Nothing is used that is not in it."""
    exec(code, {})


def test_the_api_has_every_part():
    """Each is listed by modules that can be imported."""
    text = TEXTS['docs/api.md']
    modules = re.findall(r'automodule:: (\S+)', text)
    for name in modules:
        importlib.import_module(name)
    parts = {name.split('.')[1] for name in modules}
    assert parts == set(re.findall(r'^## (\w+)$', text, re.M))
    assert parts == set(RANK) - {'compat', 'version'}


def test_the_rule_of_dependencies_is_that_of_the_test():
    (rule,) = re.findall(r'^    (.+ <- .+) <- tools$', INSIDE, re.M)
    names = re.findall(r'\w+', rule)
    assert set(names) == set(RANK) - {'version'}
    ranks = [RANK[name] for name in names]
    assert ranks == sorted(ranks)


def test_the_walks_lead_through_files():
    files = set(re.findall(r'`([\w/]+\.py)`', INSIDE))
    missing = {
        name
        for name in files
        if not (PACKAGE / name).is_file() and not (ROOT / name).is_file()
    }
    assert not missing


def test_states_are_those_of_the_log():
    text = TEXTS['docs/user_guides/decode_and_retrain.md']
    names = dict(re.findall(r'[Ss]tate (\d) is [\w ]+\(`(H\[l-\d\])`', text))
    names.update(
        re.findall(r'state\s(\d) that of\s[\w ]+\(`(H\[l-\d\])`', text)
    )
    assert set(names) == {'0', '1'}
    architecture = get_architecture('autodeeplab')
    first = architecture.cell[0][0]
    assert f'2: {first.op}({names[str(first.input)]})' in (
        architecture.describe()
    )


@pytest.mark.parametrize('state', [0, 1])
def test_states_are_those_of_the_network(state):
    """State 0 is the output of the cell before, state 1 the one two back."""
    connection = Connection(state, 'skip_connect')
    cell = Cell([[connection] * 2], 4, 4, 4, 1, dict(type='BN'), True)
    outputs = [torch.randn(2, 4, 5, 5, requires_grad=True) for _ in range(2)]
    before, two_back = outputs
    cell(before, two_back).square().sum().backward()
    assert [x.grad is not None for x in outputs] == [state == 0, state == 1]
    text = ' '.join(TEXTS['docs/user_guides/decode_and_retrain.md'].split())
    words = ('State 0 is the output of the cell before', 'state 1 that of the')
    assert words[state] in text


def test_versions_are_those_that_are_installed():
    lines = TEXTS['docs/get_started.md'].splitlines()
    for name in ('requirements.txt', 'requirements/onedl.txt'):
        (row,) = [line for line in lines if f'| `{name}`: ' in line]
        pinned = re.findall(
            r'^[\w-]+==(\S+)$', (ROOT / name).read_text(), re.M
        )
        assert len(pinned) == 4
        assert all(version in row for version in pinned)


def test_a_stock_schedule_gets_what_ours_has():
    text = TEXTS['docs/advanced_guides/stop_and_resume.md']
    block = text.split('## In a schedule of MMSegmentation')[1]
    shown = {}
    exec(BLOCK.search(block)[3], shown)
    folder = ROOT / 'configs' / '_base_' / 'schedules'
    ours = Config.fromfile(folder / 'iter_based.py')
    stock = set(
        'runtime_info timer logger param_scheduler sampler_seed visualization'
        ' search_visualization'.split()
    )
    hooks = shown['default_hooks']
    assert set(hooks) == set(ours.default_hooks) - stock
    for name, hook in hooks.items():
        assert (
            dict(ours.default_hooks[name], **hook)
            == (ours.default_hooks[name])
        )
    assert shown['train_cfg']['type'] == ours.train_cfg.type


@pytest.mark.parametrize('text', TEXTS.values(), ids=TEXTS)
def test_steps_and_forms_have_one_name(text):
    for name in ('weight half', 'architecture half', 'clear form'):
        assert name not in ' '.join(text.lower().split())


# What a page says of files, and the function that looks whether they are so,
# behind the marked blocks.
STATEMENTS = {}
SEARCHED = 'work_dirs/search_demo'


def says(page, sentence):
    def keep(check):
        STATEMENTS[sentence] = page, check
        return check

    return keep


def architecture_of(folder):
    return json.loads((folder / SEARCHED / 'architecture.json').read_text())


@says(
    'user_guides/decode_and_retrain',
    'It writes `architecture.json`, drawings of it and `retrain.py`, by '
    'default into `decoded/` beside the checkpoint.',
)
@says(
    'user_guides/log_and_report',
    '`tools/decode.py` draws `cell.svg` and `path.svg` (and the same as PNG) '
    'beside `architecture.json`.',
)
def check_decoded(folder):
    files = (folder / SEARCHED / 'decoded').glob('*.*')
    assert {file.name for file in files} == {
        'architecture.json',
        'retrain.py',
        *(f'{n}.{end}' for n in ('cell', 'path') for end in ('svg', 'png')),
    }


@says(
    'user_guides/decode_and_retrain',
    'The work directory of the search has an `architecture.json` too, as it '
    'stood after the last interval, and at the end.',
)
@says(
    'user_guides/log_and_report',
    '`provenance.metrics` has the entropies, the last validation, and what '
    'terms measure, as with a `LogSumExpTerm` the `alpha_logsumexp`, with a '
    '`CostTerm` the `expected_cost` and the `decoded_cost`',
)
def check_provenance(folder):
    provenance = architecture_of(folder)['provenance']
    assert provenance['iteration'] == ITERS + 1
    names = {'alpha_entropy', 'beta_entropy', 'alpha_logsumexp'}
    names |= {'aAcc', 'mIoU', 'mAcc'}
    assert set(provenance['metrics']) == names


@says(
    'user_guides/decode_and_retrain',
    '`path` is the downsample rate of every layer. `cell` has a pair of '
    'connections for each block: `input` is the state that is read, `op` what '
    'is done with it.',
)
@says(
    'user_guides/decode_and_retrain',
    '`schema` says of which kind the architecture is, `provenance` where it '
    'comes from.',
)
def check_architecture(folder):
    found = architecture_of(folder)
    names = {'schema', 'version', 'cell', 'path', 'provenance'}
    assert set(found) == names
    assert found['schema'].endswith('/architecture')
    assert set(found['path']) <= {4, 8, 16, 32}
    assert {len(block) for block in found['cell']} == {2}
    assert set(found['cell'][0][0]) == {'input', 'op'}


@says(
    'user_guides/decode_and_retrain',
    '`retrain.py` is a complete config, without bases. It trains on all '
    'training images, both parts.',
)
@says(
    'user_guides/decode_and_retrain',
    'What follows from the path, such as the dilations and the `in_channels` '
    'of the head, is filled in.',
)
def check_retrain_config(folder):
    file = folder / SEARCHED / 'decoded' / 'retrain.py'
    assert '_base_' not in file.read_text()
    cfg = Config.fromfile(file)
    assert cfg.train_dataloader.sampler.type == 'InfiniteSampler'
    assert {'dilations', 'in_channels'} <= set(cfg.model.decode_head)


@says(
    'user_guides/log_and_report',
    'alphas and betas as a line of `arch_history.jsonl`, all in the work '
    'directory.',
)
def check_history(folder):
    lines = (folder / SEARCHED / 'arch_history.jsonl').read_text().split('\n')
    last = [json.loads(line) for line in lines if line][-1]
    assert set(last) == {'iteration', 'alphas', 'betas'}
    assert last['iteration'] == ITERS + 1


@says(
    'user_guides/log_and_report',
    "Beside MMSegmentation's own numbers, a search logs these.",
)
def check_log(folder):
    file = max((folder / SEARCHED).glob('*/vis_data/scalars.json'))
    logged = {k for x in file.open() for k in json.loads(x)}
    page = TEXTS['docs/user_guides/log_and_report.md']
    for name, what in re.findall(r'^\| `(\w+)` \|(.*)\|$', page, re.M):
        only = re.search(r'with an? `(\w+)` only|with `\w+Hook`', what)
        terms = ('EntropyTerm', 'LogSumExpTerm')  # those of the demo
        is_there = only is None or only[1] in terms
        assert (name in logged) == is_there, name


@says(
    'user_guides/log_and_report',
    '`search_report.html` in the work directory has settings, the latest '
    'values, curves, alphas and betas over time on a slider, the decoded cell '
    'and path with their cost, and the commands that retrain it.',
)
def check_report(folder):
    page = (folder / SEARCHED / 'search_report.html').read_text()
    for part in ('type="range"', 'tools/decode.py', 'Multiply-adds', '<svg'):
        assert part in page


@says(
    'user_guides/inference_and_export',
    'The file that is written has weights and meta information, no optimizer, '
    'and a name with date and hash.',
)
@says(
    'user_guides/inference_and_export',
    'Names and colours of the classes come out of the checkpoint.',
)
def check_published(folder):
    (file,) = folder.glob('demo_*.pth')
    assert re.fullmatch(r'demo_\d{8}-[0-9a-f]{8}\.pth', file.name)
    found = torch.load(file, weights_only=False)
    assert set(found) == {'state_dict', 'meta'}
    assert {'classes', 'palette'} <= set(found['meta']['dataset_meta'])


@says(
    'user_guides/inference_and_export',
    'the preprocessing and the names of the classes are in the metadata of '
    'the file.',
)
def check_export(folder):
    onnx = pytest.importorskip('onnx')
    entries = onnx.load(folder / 'fixed.onnx').metadata_props
    assert {'mean', 'std', 'classes'} <= {entry.key for entry in entries}


@says(
    'advanced_guides/stop_and_resume',
    'A search checkpoint holds the optimizer of the architecture and what was '
    'searched: layers, blocks, operations, and the split of the data.',
)
def check_checkpoint(folder):
    file = folder / SEARCHED / f'iter_{ITERS + 1}.pth'
    found = torch.load(file, weights_only=False)['arch_search']
    assert 'optimizer' in found
    names = {'num_layers', 'num_blocks', 'primitives', 'split_id'}
    assert names <= set(found['identity'])


@says(
    'advanced_guides/stop_and_resume',
    'The config in the work directory shows them.',
)
def check_pipeline(folder):
    file = folder / 'work_dirs' / 'random_1' / 'retrain' / 'retrain.py'
    cfg = Config.fromfile(file)
    types = {t.type for t in cfg.train_dataloader.dataset.pipeline}
    names = {'LoadCheckedImage', 'LoadCheckedAnnotations'}
    assert {f'mmseg.{name}' for name in names} <= types


@pytest.mark.parametrize('sentence', STATEMENTS)
def test_statement_is_made(sentence):
    page, _ = STATEMENTS[sentence]
    assert sentence in ' '.join(TEXTS[f'docs/{page}.md'].split())


def shrunk(tool, args):
    """The same command, in seconds."""
    if tool == 'test':
        options = ['default_hooks.visualization.interval=1']
    elif tool == 'train':
        options = SHORT + SMALL * ('search' in Path(args[0]).stem)
        if any('resume' in arg for arg in args):
            options.append(f'train_cfg.max_iters={ITERS + 1}')
    else:
        return args
    if '--cfg-options' not in args:
        return [*args, '--cfg-options', *options]
    # The later one counts: what the page sets stays set.
    at = args.index('--cfg-options') + 1
    return [*args[:at], *options, *args[at:]]


@pytest.mark.run
def test_marked_blocks_run(tmp_path, monkeypatch, forget_visualizers):
    """All of them, one after the other, where a clone would be."""
    pytest.importorskip('onnxruntime')
    for name in ('configs', 'tools'):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('LOCAL_RANK', '0')
    for block in BLOCKS:
        mark, language, code = block.values
        if mark != 'run':
            continue
        code = re.sub(r'iter_\d+\.pth', f'iter_{ITERS}.pth', code)
        if language == 'python':
            exec(code, {})
            continue
        for tool, args in commands(code):
            monkeypatch.setattr(
                sys, 'argv', [str(tool), *shrunk(tool.stem, args)]
            )
            # A process of its own would have one of its own.
            forget_visualizers()
            runpy.run_path(str(tool), run_name='__main__')
    # What the pages say is written.
    for file in (
        'work_dirs/found_again/architecture.json',
        f'work_dirs/random_1/retrain/iter_{ITERS}.pth',
        f'work_dirs/again/iter_{ITERS + 1}.pth',
        'dynamic.onnx',
    ):
        assert (tmp_path / file).is_file(), file
    assert any((tmp_path / 'painted').rglob('*.png'))
    assert any((tmp_path / 'out').rglob('*.png'))
    for _, check in STATEMENTS.values():
        check(tmp_path)
