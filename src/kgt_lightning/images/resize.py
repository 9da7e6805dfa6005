"""MATLAB's bicubic resizing, which the low-resolution images of super-resolution are made with."""

import math

import torch
from torch import Tensor

_SUPPORT = 4
"""Samples that the kernel spans where nothing is shrunk."""


def imresize(image: Tensor, scale: float, *, matlab_uint8: bool = False) -> Tensor:
    """Image [..., ceil(H*scale), ceil(W*scale)] of [..., H, W] in [0, 1], as MATLAB's bicubic ``imresize`` makes it.

    Cubic convolution with a = -0.5 (Keys 1981), widened by 1/scale when shrinking, mirrored at the borders with the
    edge repeated. The result is not clipped and may leave [0, 1] by the overshoot of the kernel; it is differentiable.

    With ``matlab_uint8`` it is what MATLAB makes of a uint8 image, values n/255: the image is rounded to 8 bits, its
    height is resized, clipped and rounded half up to 8 bits, then its width likewise. Without gradient.

    Raises:
        ValueError: if the scale is not positive, or the image has no pixels or is not of a floating-point type.

    """
    if not (scale > 0 and math.isfinite(scale)):
        raise ValueError(f"scale={scale} must be a positive number, such as 2 or 1/3")
    if image.ndim < 2 or image.numel() == 0 or not image.is_floating_point():
        raise ValueError(
            f"image {tuple(image.shape)} of {image.dtype} must be [..., H, W], not empty, of floats in [0, 1]:"
            " divide uint8 by 255"
        )
    if not matlab_uint8:
        return _resize(_resize(image, scale, dim=-2), scale, dim=-1)
    # Double precision, so that sums which end in exactly .5 are rounded as such; MPS has none.
    work = image.detach().to("cpu" if image.device.type == "mps" else image.device).double()
    work = _round_half_up(work * 255)
    for dim in (-2, -1):
        work = _round_half_up(_resize(work, scale, dim=dim))
    return (work / 255).to(image)


def _resize(image: Tensor, scale: float, *, dim: int) -> Tensor:
    """The image resized along one dimension, one tap of the kernel after the other: no memory beyond the result's."""
    source, weight = _taps(image.shape[dim], scale)
    source, weight = source.to(image.device), weight.to(image)
    if dim == -2:
        weight = weight[..., None]
    resized = image.index_select(dim, source[0]) * weight[0]
    for tap in range(1, len(source)):
        resized = resized + image.index_select(dim, source[tap]) * weight[tap]
    return resized


def _taps(length: int, scale: float) -> tuple[Tensor, Tensor]:
    """Source pixels and float64 weights [taps, ceil(length*scale)] of each resized pixel, as MATLAB's contributions."""
    # The margin keeps 15 * fl(1/5) from giving 4: fl(1/5) is a little more than a fifth.
    resized_length = math.ceil(length * scale - 1e-9 * length)
    stretch = max(1 / scale, 1.0)
    centre = (torch.arange(resized_length, dtype=torch.float64) + 0.5) / scale - 0.5
    first = (centre - _SUPPORT * stretch / 2).floor()
    num_taps = math.ceil(_SUPPORT * stretch) + 2
    position = first + torch.arange(num_taps, dtype=torch.float64)[:, None]
    weight = _cubic((centre - position) / stretch)
    weight = weight / weight.sum(0)
    used = weight.any(dim=1)
    mirrored = position[used].long() % (2 * length)
    return torch.minimum(mirrored, 2 * length - 1 - mirrored), weight[used]


def _cubic(distance: Tensor) -> Tensor:
    """Keys' kernel with a = -0.5: equation 15 of "Cubic convolution interpolation for digital image processing"."""
    x = distance.abs()
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return torch.where(x <= 1, near, torch.where(x <= 2, far, 0.0))


def _round_half_up(values: Tensor) -> Tensor:
    """Whole numbers in 0..255."""
    return values.clamp(0, 255).add(0.5).floor()
