"""What every backbone and every decode head has to do.

A new network adds a subclass of :class:`BackboneTester` or
:class:`HeadTester` with the config of a small one.
"""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

MODEL_CONFIGS = Path(__file__).resolve().parents[2] / 'configs/_base_/models'
# The smallest, even, odd, not square.
SIZES = [(33, 33), (64, 64), (65, 97), (70, 49)]
NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm)


def scaled(size, stride):
    """Of the level of this stride: ceil(H / s), ceil(W / s)."""
    return tuple(-(-side // stride) for side in size)


class NetworkTester:
    """Checks one network.

    Attributes:
        cfg (dict): Config of a small one.
        strides (Sequence[int]): Of what a backbone returns, of what a head
            reads.
        base (str): The config of models that has it; its key is ``part``.
        other_norm (dict): A ``norm_cfg`` that is not the default.
    """

    cfg: dict
    strides: tuple
    base: str
    part: str
    other_norm = dict(type='GN', num_groups=1)

    def build(self, **changes):
        init_default_scope('mmseg')
        torch.manual_seed(0)
        return MODELS.build({**self.cfg, **changes})

    def inputs(self, batch, size):
        """What the network reads of random images."""
        raise NotImplementedError

    def shapes(self, net, batch, size):
        """Those of the outputs."""
        raise NotImplementedError

    def outputs(self, net, inputs):
        """Of the network, as a list."""
        outs = net(inputs)
        return [outs] if isinstance(outs, torch.Tensor) else list(outs)

    def backward(self, net, inputs):
        """Outputs, after the gradients of a sum that no norm cancels."""
        outs = self.outputs(net, inputs)
        sum(out.square().mean() for out in outs).backward()
        return outs

    def check_gradients(self, net):
        assert not [
            name
            for name, p in net.named_parameters()
            if p.requires_grad and (p.grad is None or not p.grad.any())
        ]

    @pytest.mark.parametrize('size', SIZES, ids=str)
    def test_any_size_trains_and_tests(self, size):
        net = self.build()
        inputs = self.inputs(2, size)
        outs = self.backward(net, inputs)
        expected = self.shapes(net, 2, size)
        assert [tuple(out.shape) for out in outs] == expected
        self.check_gradients(net)
        with torch.no_grad():
            outs = self.outputs(net.eval(), inputs)
        assert [tuple(out.shape) for out in outs] == expected
        assert all(out.isfinite().all() for out in outs)

    def test_a_batch_of_one_trains(self):
        net = self.build()
        outs = self.backward(net, self.inputs(1, (65, 49)))
        assert all(out.isfinite().all() for out in outs)
        assert not [
            name
            for name, p in net.named_parameters()
            if p.requires_grad and (p.grad is None or p.grad.isnan().any())
        ]

    def test_images_of_a_batch_are_tested_apart(self):
        net = self.build().double().eval()
        inputs = self.inputs(2, (49, 65), torch.double)
        with torch.no_grad():
            together = self.outputs(net, inputs)
            apart = [
                self.outputs(net, _images(inputs, slice(i, i + 1)))
                for i in range(2)
            ]
        for out, *single in zip(together, *apart):
            torch.testing.assert_close(out, torch.cat(single))

    def test_state_is_saved_and_loaded(self, tmp_path):
        net = self.build()
        inputs = self.inputs(2, (65, 49))
        self.outputs(net, inputs)  # moves running statistics
        torch.save(net.state_dict(), tmp_path / 'net.pth')
        other = self.build()
        for p in other.parameters():
            nn.init.normal_(p)
        other.load_state_dict(torch.load(tmp_path / 'net.pth'))
        with torch.no_grad():
            outs, expected = (
                self.outputs(n.eval(), inputs) for n in (other, net)
            )
        assert all(map(torch.equal, outs, expected))

    def test_norm_cfg_is_passed_to_every_norm(self):
        net = self.build(norm_cfg=self.other_norm)
        norms = [m for m in net.modules() if isinstance(m, NORMS)]
        options = dict(self.other_norm)
        kind = MODELS.get(options.pop('type'))
        assert norms and all(type(norm) is kind for norm in norms)
        for name, value in options.items():
            assert all(getattr(norm, name) == value for norm in norms)
        self.backward(net, self.inputs(2, (33, 49)))
        self.check_gradients(net)

    def test_init_cfg_is_followed(self):
        net = self.build(
            init_cfg=dict(type='Constant', val=0.5, layer='Conv2d')
        )
        net.init_weights()
        convolutions = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
        assert convolutions
        for convolution in convolutions:
            assert (convolution.weight == 0.5).all()

    @pytest.mark.parametrize('align_corners', [False, True])
    def test_align_corners_is_passed_to_every_resize(
        self, monkeypatch, align_corners
    ):
        interpolate, seen = F.interpolate, []

        def recorded(*args, **kwargs):
            seen.append(kwargs['align_corners'])
            return interpolate(*args, **kwargs)

        monkeypatch.setattr(F, 'interpolate', recorded)
        net = self.build(align_corners=align_corners)
        self.outputs(net, self.inputs(2, (65, 49)))
        assert set(seen) == {align_corners}

    def test_the_config_builds(self):
        cfg = Config.fromfile(MODEL_CONFIGS / self.base).model[self.part]
        assert cfg.type == self.cfg['type']
        init_default_scope('mmseg')
        with torch.device('meta'):
            net = MODELS.build(cfg)
        assert type(net) is type(self.build())


class BackboneTester(NetworkTester):
    """Checks one backbone."""

    part = 'backbone'

    def inputs(self, batch, size, dtype=torch.float):
        torch.manual_seed(1)
        channels = self.cfg.get('in_channels', 3)
        return torch.randn(batch, channels, *size, dtype=dtype)

    def shapes(self, net, batch, size):
        return [
            (batch, channels, *scaled(size, stride))
            for channels, stride in zip(net.out_channels, self.strides)
        ]

    def test_images_of_any_channels(self):
        net = self.build(in_channels=5)
        assert len(net(torch.randn(2, 5, 33, 33))) == len(self.strides)

    def test_images_that_are_too_small_to_train(self):
        net = self.build()
        with pytest.raises(
            ValueError, match='100 x 32 pixels.*crop_size to 33'
        ):
            net(torch.randn(2, 3, 100, 32))
        net.eval()(torch.randn(1, 3, 32, 32))  # testing may

    def prepare_checkpointed(self, net):
        """Switch on what draws random numbers."""

    def test_checkpointing_changes_nothing_but_memory(self):
        """Outputs, gradients and running statistics."""
        plain, checkpointed = nets = self.build(), self.build(with_cp=True)
        outs = []
        for net in nets:
            self.prepare_checkpointed(net)
            torch.manual_seed(2)
            outs.append(self.backward(net, self.inputs(2, (65, 49))))
        torch.testing.assert_close(*outs)
        torch.testing.assert_close(
            *([p.grad for p in net.parameters()] for net in nets)
        )
        torch.testing.assert_close(
            plain.state_dict(), checkpointed.state_dict(), rtol=0, atol=0
        )


class HeadTester(NetworkTester):
    """Checks one decode head, on features of ``strides``.

    Its logits are at the first of them.
    """

    part = 'decode_head'

    def inputs(self, batch, size, dtype=torch.float):
        torch.manual_seed(1)
        return [
            torch.randn(batch, channels, *scaled(size, stride), dtype=dtype)
            for channels, stride in zip(self.cfg['in_channels'], self.strides)
        ]

    def shapes(self, net, batch, size):
        first = scaled(size, self.strides[0])
        return [(batch, self.cfg['num_classes'], *first)]

    @pytest.mark.parametrize('ignored', [0.3, 1.0])
    def test_the_loss_is_the_cross_entropy_at_the_labels(self, ignored):
        """Over all pixels, as mmseg has it; the ignored ones count as 0."""
        net = self.build().eval()  # without dropout
        inputs = self.inputs(2, (65, 49))
        labels = torch.randint(net.num_classes, (2, 1, 65, 49))
        labels[torch.rand(labels.shape) < ignored] = net.ignore_index
        samples = [
            SegDataSample(gt_sem_seg=PixelData(data=label)) for label in labels
        ]
        found = net.loss(inputs, samples, None)
        logits = F.interpolate(
            net(inputs), size=(65, 49), mode='bilinear', align_corners=True
        )
        losses = F.cross_entropy(
            logits, labels[:, 0], ignore_index=255, reduction='none'
        )
        torch.testing.assert_close(found['loss_ce'], losses.mean())


def _images(inputs, rows):
    if isinstance(inputs, torch.Tensor):
        return inputs[rows]
    return [feature[rows] for feature in inputs]
