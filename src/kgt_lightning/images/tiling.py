"""Restoring large images tile by tile."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

Blend = Literal["smooth", "mean"]


def tile_starts(length: int, tile: int, overlap: int) -> list[int]:
    """First pixel of each tile along an axis; neighbours share at least `overlap` pixels, the last ends with the axis.

    Raises:
        ValueError: tile below 1, or overlap outside 0..tile-1.

    """
    if tile < 1:
        raise ValueError(f"tile={tile} must be at least 1 pixel")
    if not 0 <= overlap < tile:
        raise ValueError(f"overlap={overlap} must lie in 0..{tile - 1} (tile={tile})")
    if length <= tile:
        return [0]
    return [*range(0, length - tile, tile - overlap), length - tile]


class TileDone(NamedTuple):
    """One more tile of an image is restored."""

    number: int
    """Of this tile, from 1."""
    total: int
    """Tiles of the image."""
    top: int
    """Of the tile in the restored image, in pixels."""
    left: int
    tile: Tensor
    """[B, C, tile height, tile width] as `forward` returned it, not yet blended."""
    first_row: int
    """Of `rows` in the restored image."""
    rows: Tensor | None
    """[B, C, height, W * scale], blended: rows that are finished with this tile, if any; a view, valid until the next
    tile."""


def assembled(done: Iterable[TileDone]) -> Tensor:
    """Restored image [B, C, H * scale, W * scale] from the rows of all its tiles, as `tiles` gives them."""
    return torch.cat([each.rows.clone() for each in done if each.rows is not None], -2)


def tiles(
    forward: Callable[[Tensor], Tensor],
    image: Tensor,
    *,
    tile: int,
    overlap: int,
    scale: int = 1,
    blend: Blend = "smooth",
) -> Iterator[TileDone]:
    """What `forward` makes of overlapping tiles of an image [B, C, H, W], one by one, and the rows that are finished.

    `forward` gets tiles of tile x tile pixels, or as large as the image where that is smaller, and may return them on
    another device. Blend "smooth" fades neighbours into each other by raised-cosine ramps over what they share, so that
    no seam is seen; "mean" averages them with equal weights, as SwinIR and GRL do. Where tiles agree, the result is
    theirs to the bit. Besides the image, memory holds one tile and two rows of tiles. No gradient.

    Raises:
        ValueError: as `tile_starts`, an unknown blend, or a `forward` that returns another size.

    """
    if blend not in get_args(Blend):
        raise ValueError(f"blend={blend!r} must be one of {', '.join(get_args(Blend))}")
    if image.ndim != 4 or scale < 1:
        raise ValueError(f"image {tuple(image.shape)} must be [B, C, H, W] and scale={scale} at least 1")
    height, width = image.shape[-2:]
    lines, columns = (_shares(side, tile=tile, overlap=overlap, scale=scale, blend=blend) for side in (height, width))
    number, before = 0, 0
    # of the row of tiles that is worked on: what rows of tiles so far make together, and this row alone
    rows = band = torch.empty(0)
    for line, (top, share_of_line) in enumerate(lines):
        bottom = min(top + tile, height)
        band.zero_()  # a NaN left by the row before would survive even a share of 1
        for column, (left, share) in enumerate(columns):
            right = min(left + tile, width)
            with torch.no_grad():
                result = forward(image[..., top:bottom, left:right])
            expected = ((bottom - top) * scale, (right - left) * scale)
            if result.ndim != 4 or result.shape[-2:] != expected:
                raise ValueError(
                    f"forward returned {tuple(result.shape)} for a tile of {bottom - top} x {right - left} pixels: "
                    f"scale={scale} needs [B, C, {expected[0]}, {expected[1]}]"
                )
            if rows.numel() == 0:
                # half precision would show the ramps as steps
                dtype = torch.promote_types(torch.promote_types(image.dtype, result.dtype), torch.float32)
                rows = torch.zeros((*result.shape[:2], expected[0], width * scale), dtype=dtype, device=image.device)
                band = torch.zeros_like(rows)
            # lerp keeps equal values as they are, to the bit; weighted sums do not
            part = band[..., left * scale : right * scale]
            part.lerp_(result.to(part), share.to(part))
            finished = None
            if column == len(columns) - 1:
                kept = (top - before) * scale
                rows = torch.cat([rows[..., kept:, :], torch.zeros_like(rows[..., :kept, :])], -2) if kept else rows
                rows.lerp_(band, share_of_line.to(rows)[:, None])
                last = line == len(lines) - 1
                finished = rows if last else rows[..., : (lines[line + 1][0] - top) * scale, :]
                before = top
            number += 1
            total = len(lines) * len(columns)
            yield TileDone(number, total, top * scale, left * scale, result, top * scale, finished)


def _shares(length: int, *, tile: int, overlap: int, scale: int, blend: Blend) -> list[tuple[int, Tensor]]:
    """Start of each tile along an axis, and its share [tile * scale] of the blend of itself with all tiles before.

    Folding the tiles in one by one with these shares gives their average, weighted with the ramps.
    """
    starts = tile_starts(length, tile, overlap)
    tile = min(tile, length)
    total = torch.zeros(length * scale, dtype=torch.float64)
    shares = []
    for index, start in enumerate(starts):
        weight = torch.ones(tile * scale, dtype=torch.float64)
        if blend == "smooth":
            before = starts[index - 1] + tile - start if index > 0 else 0
            after = start + tile - starts[index + 1] if index + 1 < len(starts) else 0
            weight = weight * _ramp(before * scale, tile * scale) * _ramp(after * scale, tile * scale).flip(0)
        so_far = total[start * scale : (start + tile) * scale]
        so_far += weight
        shares.append((start, weight / so_far))
    return shares


def _ramp(rise: int, length: int) -> Tensor:
    """Weights [length] that rise as a raised cosine over the first `rise`, adding up to 1 with their mirror image."""
    phase = (torch.arange(length, dtype=torch.float64) + 0.5) / max(rise, 1)
    return torch.sin(phase.clamp(max=1) * (math.pi / 2)).square() if rise > 0 else torch.ones_like(phase)
