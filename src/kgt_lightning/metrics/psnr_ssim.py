"""PSNR, PSNR-B and SSIM as papers report them: per image, on 8-bit values, under a named protocol.

The two families of published numbers differ in Y and in SSIM, by more than the margins between many methods:

| protocol | used by                | Y of `luma=True`  | SSIM map                      |
|----------|------------------------|-------------------|-------------------------------|
| swinir   | BasicSR, SwinIR, KAIR  | not rounded       | valid region only             |
| grl      | GRL, and KGT after it  | rounded to 8 bits | full size, zeros outside      |

A third form of SSIM, `ssim_3d`, is the one of published deblurring tables.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, get_args

import torch
from kornia.filters import filter2d_separable, get_gaussian_kernel1d
from kornia.metrics import ssim as _ssim_map
from torch import Tensor
from torch.nn import functional as F

from kgt_lightning.config.types import MetricProtocol
from kgt_lightning.images.color import luma as _luma
from kgt_lightning.images.color import quantize

_WINDOW = 11
_SIGMA = 1.5
_BLOCK = 8


class PSNR:
    """Peak signal-to-noise ratio; inf where the two are identical. The error is averaged over channels and pixels."""

    name: ClassVar[str] = "psnr"
    unit: ClassVar[str] = "dB"
    higher_is_better: ClassVar[bool] = True

    def __call__(self, restored: Tensor, clean: Tensor) -> Tensor:
        """[B] of what :func:`prepare` gives."""
        return -10 * (restored - clean).square().mean(dim=(1, 2, 3)).log10()


@dataclass(frozen=True, kw_only=True)
class SSIM:
    """Structural similarity, 1 where the two are identical (Wang et al. 2004).

    Gaussian window 11 x 11 of sigma 1.5, K1 = 0.01, K2 = 0.03, averaged over channels and pixels.
    """

    protocol: MetricProtocol
    """``swinir`` averages the region where the window fits, ``grl`` all pixels with zeros outside."""
    name: ClassVar[str] = "ssim"
    unit: ClassVar[str] = ""
    higher_is_better: ClassVar[bool] = True

    def __call__(self, restored: Tensor, clean: Tensor) -> Tensor:
        """[B] of what :func:`prepare` gives.

        Raises:
            ValueError: under ``swinir`` if less than 11 x 11 pixels are left.

        """
        if self.protocol == "grl":
            restored, clean = (F.pad(image, (_WINDOW // 2,) * 4) for image in (restored, clean))
        elif min(clean.shape[-2:]) < _WINDOW:
            raise ValueError(
                f"{clean.shape[-2]} x {clean.shape[-1]} pixels remain after the crop, SSIM needs {_WINDOW} x {_WINDOW}:"
                ' score larger images, or use protocol="grl"'
            )
        return _ssim_map(restored, clean, _WINDOW, max_val=1.0, eps=0.0, padding="valid").mean(dim=(1, 2, 3))


class PSNRB:
    """Blocking-aware PSNR (Yim and Bovik 2011, as SwinIR and GRL compute it).

    PSNR of each channel with the blocking effect of the restored image added to its squared error, then the mean
    over channels. Identical images score inf only where they show no blocks. The grid of 8 x 8 blocks begins at the
    corner that the crop leaves.
    """

    name: ClassVar[str] = "psnr_b"
    unit: ClassVar[str] = "dB"
    higher_is_better: ClassVar[bool] = True

    def __call__(self, restored: Tensor, clean: Tensor) -> Tensor:
        """[B] of what :func:`prepare` gives.

        Raises:
            ValueError: if less than 16 x 16 pixels are left.

        """
        if min(clean.shape[-2:]) < 2 * _BLOCK:
            raise ValueError(
                f"{clean.shape[-2]} x {clean.shape[-1]} pixels remain after the crop, PSNR-B needs"
                f" {2 * _BLOCK} x {2 * _BLOCK}: score larger images"
            )
        error = (restored - clean).square().mean(dim=(2, 3))
        return -10 * (error + _blocking_effect(restored)).log10().mean(dim=1)


class SSIM3D:
    """Structural similarity of each image as a volume, 1 where the two are identical.

    Restormer's stand-in for MATLAB's `ssim` of an RGB array, which deblurring tables print: the Gaussian window of
    `ssim` is 11 x 11 x 11 and runs over the channels too, the border is repeated. It is higher than `ssim` of the same
    images. Of one channel, or of Y, it is the two-dimensional SSIM with the border repeated.
    """

    name: ClassVar[str] = "ssim_3d"
    unit: ClassVar[str] = ""
    higher_is_better: ClassVar[bool] = True

    def __call__(self, restored: Tensor, clean: Tensor) -> Tensor:
        """[B] of what :func:`prepare` gives."""
        mean_restored, mean_clean = _gaussian_3d(restored), _gaussian_3d(clean)
        product = mean_restored * mean_clean
        squares = mean_restored.square() + mean_clean.square()
        covariance = _gaussian_3d(restored * clean) - product
        variances = _gaussian_3d(restored.square() + clean.square()) - squares
        similarity = (2 * product + 0.01**2) * (2 * covariance + 0.03**2)
        similarity /= (squares + 0.01**2) * (variances + 0.03**2)
        return similarity.mean(dim=(1, 2, 3))


def psnr(
    restored: Tensor, clean: Tensor, *, crop: int = 0, luma: bool = False, protocol: MetricProtocol = "swinir"
) -> Tensor:
    """:class:`PSNR` in dB of each image, float64 [B]; arguments and errors as of :func:`prepare`."""
    return PSNR()(*prepare(restored, clean, crop=crop, luma=luma, protocol=protocol))


def ssim(
    restored: Tensor, clean: Tensor, *, crop: int = 0, luma: bool = False, protocol: MetricProtocol = "swinir"
) -> Tensor:
    """:class:`SSIM` of each image, float64 [B]; arguments and errors as of :func:`prepare`."""
    return SSIM(protocol=protocol)(*prepare(restored, clean, crop=crop, luma=luma, protocol=protocol))


def psnr_b(
    restored: Tensor, clean: Tensor, *, crop: int = 0, luma: bool = False, protocol: MetricProtocol = "swinir"
) -> Tensor:
    """:class:`PSNRB` in dB of each image, float64 [B]; arguments and errors as of :func:`prepare`."""
    return PSNRB()(*prepare(restored, clean, crop=crop, luma=luma, protocol=protocol))


def ssim_3d(
    restored: Tensor, clean: Tensor, *, crop: int = 0, luma: bool = False, protocol: MetricProtocol = "swinir"
) -> Tensor:
    """:class:`SSIM3D` of each image, float64 [B]; arguments and errors as of :func:`prepare`."""
    return SSIM3D()(*prepare(restored, clean, crop=crop, luma=luma, protocol=protocol))


def describe_protocol(*, colours: Sequence[str], crops: Sequence[int], protocol: MetricProtocol) -> str:
    """One line that says how numbers were computed, for tables: colour spaces, rounding, crops and form of SSIM."""
    check_protocol(protocol)
    luma = {"swinir": "Y (not rounded)", "grl": "Y (8 bit)"}[protocol]
    spaces = " and ".join(luma if colour == "y" else "all channels" for colour in colours)
    region = {"swinir": "valid region", "grl": "zero-padded"}[protocol]
    widths = " and ".join(map(str, crops))
    return f"{protocol}: {spaces} of 8-bit images, crop {widths}, SSIM 11x11 Gaussian, {region}"


def _blocking_effect(image: Tensor) -> Tensor:
    """How much larger squared steps across block borders are than all others, [B, C], 0 where they are not larger."""
    height, width = image.shape[-2:]
    borders = others = torch.zeros((), dtype=image.dtype, device=image.device)
    for step in (image.diff(dim=-1).square(), image.diff(dim=-2).square().transpose(-1, -2)):
        at_border = step[..., _BLOCK - 1 :: _BLOCK].sum(dim=(-1, -2))
        borders, others = borders + at_border, others + step.sum(dim=(-1, -2)) - at_border
    # the reference counts one border less than it sums where a side is no multiple of 8
    num_borders = height * (width // _BLOCK - 1) + width * (height // _BLOCK - 1)
    num_others = height * (width - 1) + width * (height - 1) - num_borders
    excess = borders / num_borders - others / num_others
    return math.log2(_BLOCK) / math.log2(min(height, width)) * excess.clamp(min=0)


def _gaussian_3d(image: Tensor) -> Tensor:
    """Each channel blurred by the window, and the channels among each other, with the border repeated."""
    kernel = get_gaussian_kernel1d(_WINDOW, _SIGMA, device=image.device, dtype=image.dtype)
    channels = image.shape[1]
    position = torch.arange(channels, device=image.device)[:, None]
    nearest = (position + torch.arange(_WINDOW, device=image.device) - _WINDOW // 2).clamp(0, channels - 1)
    mixing = torch.zeros(channels, channels, dtype=image.dtype, device=image.device)
    mixing.scatter_add_(1, nearest, kernel.expand(channels, -1))
    blurred = filter2d_separable(image, kernel, kernel, border_type="replicate")
    return torch.einsum("dc, bchw -> bdhw", mixing, blurred)


def check_protocol(protocol: str) -> None:
    """Raise a ValueError for an unknown protocol."""
    if protocol not in get_args(MetricProtocol):
        raise ValueError(f"protocol={protocol!r} must be one of {', '.join(get_args(MetricProtocol))}")


def prepare(
    restored: Tensor, clean: Tensor, *, crop: int, luma: bool, protocol: MetricProtocol
) -> tuple[Tensor, Tensor]:
    """Both images as metrics take them: float64 [B, C, H, W] in [0, 1], clamped and rounded to 8 bits.

    Args:
        restored: [B, C, H, W] in [0, 1].
        clean: the same shape.
        crop: pixels that are left out on every side.
        luma: gives MATLAB's Y of RGB, one channel, rounded where the protocol does.
        protocol: family of papers.

    Raises:
        ValueError: shapes that differ or are not [B, C, H, W], a crop that leaves nothing, luma without RGB, an unknown
            protocol.

    """
    check_protocol(protocol)
    if restored.shape != clean.shape or clean.ndim != 4:
        raise ValueError(
            f"restored {tuple(restored.shape)} and clean {tuple(clean.shape)} must have the same shape [B, C, H, W]"
        )
    channels, height, width = clean.shape[1:]
    if not 0 <= crop <= (min(height, width) - 1) // 2:
        raise ValueError(
            f"crop={crop} must lie in 0..{(min(height, width) - 1) // 2} for images of {height} x {width} pixels"
        )
    if luma and channels != 3:
        raise ValueError(f"luma=True needs RGB, the images have {channels} channel(s): use luma=False")
    restored, clean = (_rounded(image, crop=crop) for image in (restored, clean))
    if luma:
        restored, clean = _luma(restored), _luma(clean)
        if protocol == "grl":
            restored, clean = quantize(restored) / 255, quantize(clean) / 255
    return restored, clean


def _rounded(image: Tensor, *, crop: int) -> Tensor:
    image = quantize(image)[..., crop : image.shape[-2] - crop, crop : image.shape[-1] - crop]
    if image.device.type == "mps":  # has no float64
        image = image.cpu()
    return image.to(torch.float64) / 255
