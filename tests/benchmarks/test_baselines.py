"""The networks that the field measures against have the plan of their papers."""

import torch

from kgt_lightning.benchmarks.baselines import DenseWindows, DnCNN
from kgt_lightning.model import PixelShuffleHead
from kgt_lightning.model.kgt import Restorer


def parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


def test_dncnn_keeps_size_and_has_the_published_parameters():
    model = DnCNN(channels=3)
    assert model(torch.rand(2, 3, 9, 11)).shape == (2, 3, 9, 11)
    assert parameters(model) == 2 * (9 * 3 * 64) + 64 + 3 + 18 * (9 * 64 * 64 + 64)  # 0.67 million


def test_swinir_has_the_published_parameters():
    backbone = DenseWindows(channels=3, width=180, stride=1, heads=6, depths=[6] * 6)
    model = Restorer(backbone=backbone, head=PixelShuffleHead(width=180, stride=1, channels=3, scale=2))
    assert parameters(model) == 11_752_487  # SwinIR M, x2, of its authors' code


def test_windows_see_only_themselves_until_they_are_shifted():
    image = torch.rand(1, 3, 16, 16, requires_grad=True)

    def reach(depth):
        torch.manual_seed(0)
        backbone = DenseWindows(channels=3, width=12, stride=1, heads=2, depths=[depth])
        backbone.stem, backbone.convs[0], backbone.conv = torch.nn.Conv2d(3, 12, 1), *[torch.nn.Identity()] * 2
        (gradient,) = torch.autograd.grad(backbone(image)[0, :, 2, 2].square().sum(), image)
        return gradient[0].abs().sum(0) > 0

    alone, shifted = reach(1), reach(2)
    assert alone[:8, :8].all()
    assert not alone[8:].any()
    assert not alone[:, 8:].any()
    # Rolled by half a window, the corner is a window with nodes of its own side only: the mask keeps the ends apart.
    assert not shifted[12:].any()
    assert not shifted[:, 12:].any()
