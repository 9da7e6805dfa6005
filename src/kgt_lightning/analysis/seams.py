"""Patterns that a model leaves by its construction: a grid from folding pixels into nodes, steps at window borders.

Both are measured on the error of smooth images, where nothing hides them, as ratios that are 1 for an error without a
pattern.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Seams:
    """Ratios of one model; 1 is no pattern."""

    grid: dict[int, float]
    """By period in pixels: power of the error at that period and its harmonics over the power beside them."""
    border: dict[int, float]
    """By side of the windows in pixels: mean step of the error across their borders over the mean step elsewhere."""


def measure_seams(
    restore: Callable[[Tensor], Tensor],
    *,
    channels: int,
    sigma: float,
    periods: tuple[int, ...] = (2, 4),
    windows: tuple[int, ...] = (16, 32),
    size: int = 256,
    images: int = 4,
    seed: int = 0,
) -> Seams:
    """Patterns in what a denoiser makes of noisy ramps.

    Args:
        restore: restored images [B, channels, H, W] of degraded ones.
        channels: of the images.
        sigma: of the noise in 8-bit values.
        periods: in pixels.
        windows: sides of windows in pixels.
        size: side of the images in pixels, a multiple of all periods and windows.
        images: number of ramps, of different slopes.
        seed: of the noise.

    """
    clean = smooth_ramps(images, channels=channels, size=size)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        error = restore(clean + noise * sigma / 255) - clean
    return Seams(
        grid={period: grid_power(error, period) for period in periods},
        border={window: border_step(error, window) for window in windows},
    )


def smooth_ramps(images: int, *, channels: int, size: int) -> Tensor:
    """Images [images, channels, size, size] in [0, 1] that rise evenly, each in a direction of its own."""
    across = torch.linspace(-0.5, 0.5, size)
    angles = torch.arange(images) * 2 * torch.pi / max(images, 1) + 0.3
    rise = angles.cos()[:, None, None] * across + angles.sin()[:, None, None] * across[:, None]
    offsets = torch.linspace(-0.1, 0.1, channels)[:, None, None] if channels > 1 else torch.zeros(1, 1, 1)
    return (0.5 + 0.4 * rise[:, None] + offsets).clamp(0, 1)


def grid_power(error: Tensor, period: int) -> float:
    """Power of an error [B, C, H, W] at this period and its harmonics, over that of the frequencies beside them.

    The larger of down and across. Each is a narrow band: what nodes leave in noise changes from place to place.

    Raises:
        ValueError: if a side is no multiple of the period, or too short to tell the bands apart.

    """
    ratios = []
    for along in (error, error.transpose(-1, -2)):
        length = along.shape[-1]
        if length % period or length < 32 * period:
            raise ValueError(f"a side of {length} pixels must be a multiple of period={period}, at least 32 of them")
        power = _power(along)
        at, beside = (
            torch.cat([power[_near(place, low, high, len(power))] for place in _harmonics(length, period)])
            for low, high in ((0, length // 64), (length // 32, length // 12))
        )
        ratios.append(float(at.mean() / beside.mean()))
    return max(ratios)


def border_step(error: Tensor, window: int) -> float:
    """Mean absolute step of the error between the pixels on both sides of window borders, over that inside windows.

    Raises:
        ValueError: if there is no border inside the image.

    """
    ratios = []
    for along in (error, error.transpose(-1, -2)):
        steps = along.diff(dim=-1).abs().mean((0, 1, 2))
        if len(steps) < window:
            raise ValueError(f"no border of windows of {window} pixels lies inside {len(steps) + 1} pixels")
        at_border = torch.arange(1, len(steps) + 1) % window == 0
        ratios.append(float(steps[at_border].mean() / steps[~at_border].mean()))
    return max(ratios)


def _harmonics(length: int, period: int) -> list[int]:
    return [length // period * i for i in range(1, period // 2 + 1)]


def _near(place: int, low: int, high: int, number: int) -> list[int]:
    """Frequencies that lie low..high steps from this one, on both sides, without the lowest."""
    return [each for each in range(1, number) if low <= abs(each - place) <= high]


def _power(error: Tensor) -> Tensor:
    """Mean power [W/2 + 1] of the rows by frequency, without their mean."""
    rows = error - error.mean(-1, keepdim=True)
    taper = torch.hann_window(rows.shape[-1], periodic=True, dtype=rows.dtype)
    return torch.fft.rfft(rows * taper).abs().square().mean((0, 1, 2))
