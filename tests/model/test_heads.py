"""Training starts from the degraded image; the upsampler reaches every scale made of 2s and 3s."""

import pytest
import torch
import torch.nn.functional as F

from kgt_lightning.model import PixelShuffleHead, ResidualHead


def test_residual_head_begins_as_identity():
    degraded = torch.rand(2, 3, 8, 6)
    restored = ResidualHead(width=5, stride=2, channels=3, scale=1)(torch.randn(2, 5, 4, 3), degraded)
    torch.testing.assert_close(restored, degraded, rtol=0, atol=0)


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("stride", [1, 2])
def test_pixel_shuffle_head_begins_as_bicubic_enlargement(scale, stride):
    degraded = torch.rand(1, 3, 8, 6)
    features = torch.randn(1, 5, 8 // stride, 6 // stride)
    restored = PixelShuffleHead(width=5, stride=stride, channels=3, scale=scale)(features, degraded)
    torch.testing.assert_close(restored, F.interpolate(degraded, scale_factor=scale, mode="bicubic"), rtol=0, atol=0)


def test_upsampler_is_swinirs():
    """Published numbers of weights: 64 -> 256, 64 -> 576, twice 64 -> 256."""
    for scale, widths in ((2, [256]), (3, [576]), (4, [256, 256])):
        head = PixelShuffleHead(width=180, stride=1, channels=3, scale=scale)
        assert [conv.out_channels for conv in head.upsample if isinstance(conv, torch.nn.Conv2d)] == widths


@pytest.mark.parametrize("scale", [0, -2, 5])
def test_other_scales(scale):
    with pytest.raises(ValueError, match=f"scale={scale} must be a product of 2s and 3s"):
        PixelShuffleHead(width=5, stride=1, channels=3, scale=scale)
