"""Weights from elsewhere, and images of other than three channels."""

import itertools

import pytest
import torch
from architectures import SMALL
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope
from mmengine.runner import Runner, load_checkpoint
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

init_default_scope('mmseg')


def backbone_cfg(**kwargs):
    return dict(
        dict(
            type='AutoDeepLab',
            arch=SMALL,
            filter_multiplier=2,
            stem_channels=4,
        ),
        **kwargs,
    )


def backbone(**kwargs):
    torch.manual_seed(0)
    return MODELS.build(backbone_cfg(**kwargs))


def segmentor_cfg(num_classes=3, data_preprocessor=None, **kwargs):
    return dict(
        type='EncoderDecoder',
        data_preprocessor=data_preprocessor,
        backbone=backbone_cfg(**kwargs),
        decode_head=dict(
            type='FCNHead',
            in_channels=16,
            channels=4,
            num_convs=1,
            num_classes=num_classes,
            norm_cfg=dict(type='BN'),
        ),
    )


names = itertools.count()


@pytest.fixture
def log(tmp_path):
    """What MMEngine says of the loading."""
    file = tmp_path / 'log'
    MMLogger.get_instance(
        f'pretrained_{next(names)}', log_level='INFO', log_file=str(file)
    )
    return file.read_text


def saved(net, tmp_path, **weights):
    """A checkpoint of a whole segmentor with this backbone."""
    file = tmp_path / 'segmentor.pth'
    state = {f'backbone.{k}': v for k, v in net.state_dict().items()}
    torch.save(dict(meta={}, state_dict={**state, **weights}), file)
    return dict(type='Pretrained', checkpoint=str(file), prefix='backbone.')


def unequal(net, other):
    """Names of the weights that differ."""
    state = other.state_dict()
    return {
        name
        for name, value in net.state_dict().items()
        if not torch.equal(value, state[name])
    }


def trained(**kwargs):
    """A backbone of which no tensor is what it is at the beginning."""
    net = backbone(**kwargs)
    for value in net.state_dict().values():
        value.add_(1)
    return net


@pytest.mark.run
def test_pretrained_backbone_of_a_training_checkpoint(tmp_path):
    """Saved by MMEngine with another head, loaded by MMEngine."""

    def runner(num_classes, max_iters, init_cfg):
        model = segmentor_cfg(
            num_classes,
            dict(type='SegDataPreProcessor', size=(33, 33)),
            init_cfg=init_cfg,
        )
        dataset = dict(
            type='ShapesDataset',
            data_root=str(tmp_path / 'shapes'),
            num_images=2,
            size=(64, 64),
            pipeline=[
                dict(type='LoadImageFromFile'),
                dict(type='LoadAnnotations'),
                dict(type='RandomCrop', crop_size=(33, 33)),
                dict(type='PackSegInputs'),
            ],
        )
        return Runner.from_cfg(
            Config(
                dict(
                    default_scope='mmseg',
                    experiment_name=f'pretrained_{next(names)}',
                    work_dir=str(tmp_path),
                    model=model,
                    train_dataloader=dict(
                        batch_size=2,
                        num_workers=0,
                        sampler=dict(type='InfiniteSampler'),
                        dataset=dataset,
                    ),
                    train_cfg=dict(
                        type='IterBasedTrainLoop', max_iters=max_iters
                    ),
                    optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
                )
            )
        )

    source = runner(6, 1, None)
    source.train()
    source.save_checkpoint(
        str(tmp_path), 'trained.pth', save_param_scheduler=False
    )
    target = runner(
        8,
        0,
        dict(
            type='Pretrained',
            checkpoint=str(tmp_path / 'trained.pth'),
            prefix='backbone.',
        ),
    )
    assert unequal(target.model.backbone, source.model.backbone)
    target.train()
    assert not unequal(target.model.backbone, source.model.backbone)


@pytest.mark.parametrize(
    'width,misfit,fit',
    [
        (dict(filter_multiplier=3), 'cells.5.', 'stem.'),
        (dict(stem_channels=6), 'stem.', 'cells.5.'),
    ],
)
def test_a_pretrained_backbone_of_another_width_is_named(
    tmp_path, log, width, misfit, fit
):
    init_cfg = saved(backbone(**width), tmp_path)
    backbone(init_cfg=init_cfg).init_weights()
    assert 'do not match exactly' in log()
    assert f'size mismatch for {misfit}' in log()
    assert f'size mismatch for {fit}' not in log()
    assert 'missing keys' not in log() and 'unexpected key' not in log()


def test_what_a_pretrained_backbone_has_too_much_or_too_little(tmp_path, log):
    """A shorter backbone, with a weight that none has."""
    source = trained(out_indices=(0,))
    init_cfg = saved(source, tmp_path, **{'backbone.neck': torch.ones(1)})
    target = backbone(init_cfg=init_cfg)
    target.init_weights()
    assert 'unexpected key in source state_dict: neck\n' in log()
    missing = log().split('missing keys in source state_dict: ')[1]
    assert set(missing.splitlines()[0].split(', ')) == {
        name
        for name in target.state_dict()
        if name.startswith('cells.')
        and int(name.split('.')[1]) > 0
        and not name.endswith('num_batches_tracked')  # so MMEngine
    }
    assert not unequal(source, target)


@pytest.mark.parametrize('in_channels', [1, 4])
def test_pretrained_for_other_images(tmp_path, log, in_channels):
    """All but the first convolution, which begins as it always does."""
    source = trained()
    init_cfg = saved(source, tmp_path)
    nets = [
        backbone(in_channels=in_channels, init_cfg=init)
        for init in (
            [dict(type='FanInUniform', layer='Conv2d'), init_cfg],
            dict(type='FanInUniform', layer='Conv2d'),
        )
    ]
    for net in nets:
        torch.manual_seed(0)
        net.init_weights()
    first = 'stem.to_stride2.0.weight'
    assert log().count('size mismatch') == 1
    assert f'size mismatch for {first}' in log()
    weights, fresh = (net.stem.to_stride2[0].weight for net in nets)
    assert torch.equal(weights, fresh)
    source.stem.to_stride2[0].weight.data = weights.data
    assert not unequal(nets[0], source)


@pytest.mark.parametrize('whole', [False, True])
def test_the_weights_of_a_search_are_refused(tmp_path, whole):
    supernet = MODELS.build(
        dict(
            type='AutoDeepLabSupernet',
            num_layers=3,
            num_blocks=1,
            filter_multiplier=2,
            stem_channels=4,
        )
    )
    init_cfg = saved(supernet, tmp_path)
    with pytest.raises(ValueError, match='that of a search.*decode it with'):
        if whole:  # As by load_from.
            model = MODELS.build(segmentor_cfg())
            load_checkpoint(model, init_cfg['checkpoint'])
        else:
            backbone(init_cfg=init_cfg).init_weights()


@pytest.mark.parametrize('in_channels', [1, 4, 8])
def test_images_of_other_channels_train(in_channels):
    """One step, with a mean and a standard deviation for each channel."""
    preprocessor = dict(
        type='SegDataPreProcessor',
        mean=[10.0 * (i + 1) for i in range(in_channels)],
        std=[2.0 * (i + 1) for i in range(in_channels)],
        bgr_to_rgb=True,  # of no effect but on three channels
        size=(64, 64),
    )
    model = MODELS.build(
        segmentor_cfg(3, preprocessor, in_channels=in_channels)
    )
    seen = []
    model.backbone.stem.register_forward_pre_hook(
        lambda module, args: seen.append(args[0])
    )
    # 10 * (i + 1) + 2 * (i + 1) * noise, so noise after normalisation.
    noise = torch.randint(9, (2, in_channels, 64, 64)).float()
    numbers = torch.arange(1, in_channels + 1)[:, None, None]
    label = PixelData(data=torch.randint(3, (1, 64, 64)))
    batch = dict(
        inputs=list((10 + 2 * noise) * numbers),
        data_samples=[SegDataSample(gt_sem_seg=label) for _ in range(2)],
    )
    first = model.backbone.stem.to_stride2[0].weight
    assert first.shape[1] == in_channels
    before = first.detach().clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    logs = model.train().train_step(batch, OptimWrapper(optimizer))
    assert logs['loss'].isfinite()
    assert torch.equal(seen[0], noise)
    assert not torch.equal(first, before)
