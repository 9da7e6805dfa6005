"""Bayer mosaics, and the linear filters that make colour images of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from kgt_lightning.degradations.degradation import Degradation, seeded_by_name

Pattern = Literal["RGGB", "GRBG", "GBRG", "BGGR"]
"""Colours of the first two rows of two pixels."""

_MEASURED, _CROSS, _ROW, _COLUMN, _DIAGONAL = range(5)


@dataclass(frozen=True, kw_only=True)
class BayerMosaic(Degradation):
    """degraded[i, j] = clean[c(i, j), i, j]: of the three colours the one that the pattern has at the pixel.

    Without noise. The patch is cut and flipped before, so that every mosaic begins with the pattern's first pixel.
    """

    pattern: Pattern
    """Colours of the first 2 x 2 pixels, row by row: RGGB, GRBG, GBRG or BGGR."""
    network_pattern: Pattern | None = None  # as in checkpoints of before there was a choice
    """Colours of the first 2 x 2 pixels of what the network is given: mosaics of another pattern are extended by a
    mirrored row, or column, until they begin so: one model restores all four. None gives it the pattern as it is."""
    channels = 1
    clean_channels = (3,)
    grid = 2

    def __post_init__(self) -> None:
        _check(self.pattern)
        _check(self.network_pattern or self.pattern)

    @property
    def margin(self) -> tuple[int, int]:
        """Rows and columns after which the pattern goes on as that of the network."""
        rows, wanted = _rows(self.pattern), _rows(self.network_pattern or self.pattern)
        shifts = ((top, left) for top in (0, 1) for left in (0, 1))
        return next(
            (top, left)
            for top, left in shifts
            if all(rows[(i + top) % 2][(j + left) % 2] == wanted[i][j] for i in (0, 1) for j in (0, 1))
        )

    @property
    def given_setting(self) -> str:
        """The pattern, as where the mosaic is made."""
        return self.pattern

    def __call__(self, clean: Tensor, rng: np.random.Generator) -> Tensor:
        """Mosaic [1, H, W] of a clean image [3, H, W]; nothing about it is random."""
        return mosaic(clean, self.pattern)

    def test_settings(self) -> dict[str, Callable[[Tensor, str], Tensor]]:
        """The one setting, named as the pattern."""
        return {self.pattern: seeded_by_name(self)}

    def estimate(self, degraded: Tensor) -> Tensor:
        """Colours [B, 3, H, W] by Malvar's filters, neither clipped nor rounded; GRL's network starts from them too."""
        return malvar(degraded, self.pattern)


def mosaic(image: Tensor, pattern: str = "RGGB") -> Tensor:
    """Bayer mosaic [..., 1, H, W] of RGB [..., 3, H, W].

    Raises:
        ValueError: if the image is not RGB or the pattern unknown.

    """
    if image.ndim < 3 or image.shape[-3] != 3:
        raise ValueError(f"image of shape {tuple(image.shape)} must be [..., 3, H, W]: a mosaic is made of RGB")
    (first, second), (third, fourth) = _rows(pattern)
    return _chosen(image, [[[first, second], [third, fourth]]])


def malvar(cfa: Tensor, pattern: str = "RGGB") -> Tensor:
    """RGB [..., 3, H, W] of a Bayer mosaic [..., 1, H, W] by 5 x 5 linear filters, neither clipped nor rounded.

    The gradient-corrected bilinear interpolation of Malvar, He and Cutler ("High-quality linear interpolation for
    demosaicing of Bayer-patterned color images", ICASSP 2004, figure 2), mirrored at the borders without repeating the
    edge; MATLAB's ``demosaic``. Measured values are kept. Differentiable.

    Raises:
        ValueError: if the mosaic has another shape, is smaller than 3 x 3 or no float, or the pattern is unknown.

    """
    if cfa.ndim not in (3, 4) or cfa.shape[-3] != 1 or min(cfa.shape[-2:]) < 3 or not cfa.is_floating_point():
        raise ValueError(
            f"mosaic {tuple(cfa.shape)} of {cfa.dtype} must be [B, 1, H, W] of floats, 3 x 3 pixels or more"
        )
    rows = _rows(pattern)
    height, width = cfa.shape[-2:]
    around = F.pad(cfa, (2, 2, 2, 2), mode="reflect")

    def at(row: int, column: int) -> Tensor:
        """Neighbour of every pixel, so many rows below and columns to the right."""
        return around[..., 2 + row : 2 + row + height, 2 + column : 2 + column + width]

    # Sums of shifted images instead of a convolution, which GPUs and autocast compute with fewer digits.
    beside, above = at(0, -1) + at(0, 1), at(-1, 0) + at(1, 0)
    beside_2, above_2 = at(0, -2) + at(0, 2), at(-2, 0) + at(2, 0)
    corners = at(-1, -1) + at(-1, 1) + at(1, -1) + at(1, 1)
    estimates = {
        _MEASURED: cfa,
        _CROSS: (4 * cfa + 2 * (beside + above) - beside_2 - above_2) / 8,
        _ROW: (5 * cfa + 4 * beside - corners - beside_2 + above_2 / 2) / 8,
        _COLUMN: (5 * cfa + 4 * above - corners - above_2 + beside_2 / 2) / 8,
        _DIAGONAL: (6 * cfa + 2 * corners - 1.5 * (beside_2 + above_2)) / 8,
    }
    found = torch.cat([estimates[each] for each in range(len(estimates))], dim=-3)
    return _chosen(found, [[[_where(colour, own, row) for own in row] for row in rows] for colour in range(3)])


def _where(colour: int, own: int, row: Sequence[int]) -> int:
    """Estimate of a colour at a pixel that measures ``own``, in a row of these colours: where its neighbours lie."""
    green = 1
    if colour == own:
        return _MEASURED
    if colour == green:
        return _CROSS
    if own == green:
        return _ROW if colour in row else _COLUMN
    return _DIAGONAL


def _chosen(planes: Tensor, choice: Sequence[Sequence[Sequence[int]]]) -> Tensor:
    """Planes [..., C', H, W] made of [..., C, H, W]: each 2 x 2 pixels from the planes that choice [C', 2, 2] names."""
    height, width = planes.shape[-2:]
    index = torch.tensor(choice, device=planes.device).repeat(1, (height + 1) // 2, (width + 1) // 2)
    index = index[:, :height, :width].expand(*planes.shape[:-3], -1, -1, -1)
    return planes.gather(-3, index)


def _rows(pattern: str) -> list[list[int]]:
    """Colours, 0 red, 1 green, 2 blue, of the first two rows."""
    _check(pattern)
    colours = ["RGB".index(each) for each in pattern]
    return [colours[:2], colours[2:]]


def _check(pattern: str) -> None:
    if pattern not in get_args(Pattern):
        raise ValueError(f"pattern={pattern} must be one of {', '.join(get_args(Pattern))}")
