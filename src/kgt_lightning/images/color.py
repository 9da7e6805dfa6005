"""Brightness, rounding to whole values and cropping of images [..., C, H, W], RGB or gray, in [0, 1]."""

import torch
from torch import Tensor

_STUDIO_LUMA = (65.481, 128.553, 24.966)
_FULL_RANGE_LUMA = (0.299, 0.587, 0.114)


def quantize(image: Tensor, *, bits: int = 8) -> Tensor:
    """Floating-point whole numbers in 0..2**bits-1: the image clamped to [0, 1], scaled, rounded half to even.

    NaN stays NaN, so that a metric of it is NaN too. Half precision is widened to float32 first.
    """
    if image.dtype in (torch.float16, torch.bfloat16):
        image = image.float()
    return image.clamp(0, 1).mul(2**bits - 1).round()


def to_uint8(image: Tensor) -> Tensor:
    """Image as uint8 in 0..255, clamped and rounded half to even."""
    return quantize(image).to(torch.uint8)


def luma(image: Tensor) -> Tensor:
    """MATLAB's studio-range Y, [B, 1, H, W] in [16/255, 235/255], not rounded, of RGB [B, 3, H, W] in [0, 1].

    Y = (65.481 R + 128.553 G + 24.966 B + 16) / 255 (ITU-R BT.601).
    """
    return (_weighted_sum(image, _STUDIO_LUMA) + 16) / 255


def gray(image: Tensor) -> Tensor:
    """Full-range gray, [B, 1, H, W] in [0, 1], of RGB [B, 3, H, W] in [0, 1]: 0.299 R + 0.587 G + 0.114 B (BT.601)."""
    return _weighted_sum(image, _FULL_RANGE_LUMA)


def to_linear(srgb: Tensor) -> Tensor:
    """Linear light in [0, 1] of sRGB values v: v/12.92 up to 0.04045, then ((v + 0.055)/1.055)^2.4 (IEC 61966-2-1)."""
    return torch.where(srgb <= 0.04045, srgb / 12.92, ((srgb.clamp_min(0.04045) + 0.055) / 1.055) ** 2.4)


def to_srgb(linear: Tensor) -> Tensor:
    """Inverse of :func:`to_linear`."""
    return torch.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear.clamp_min(0.0031308) ** (1 / 2.4) - 0.055)


def modcrop(image: Tensor, multiple: int) -> Tensor:
    """Top-left part of the image [..., H, W] whose height and width are multiples of `multiple`."""
    height, width = image.shape[-2:]
    if multiple < 1 or min(height, width) < multiple:
        raise ValueError(
            f"multiple={multiple} must lie in 1..{min(height, width)} for an image of {height} x {width} pixels"
        )
    return image[..., : height - height % multiple, : width - width % multiple]


def _weighted_sum(image: Tensor, weights: tuple[float, float, float]) -> Tensor:
    if image.ndim < 3 or image.shape[-3] != 3:
        raise ValueError(f"shape {tuple(image.shape)} must be [B, 3, H, W]: brightness is computed from RGB")
    red, green, blue = image.unbind(-3)
    return (weights[0] * red + weights[1] * green + weights[2] * blue).unsqueeze(-3)
