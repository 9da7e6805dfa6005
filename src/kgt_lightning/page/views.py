"""Answers about one picture: its layers as PNG, neighbours of a point, what k costs, scores, and the file to keep."""

import base64
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from kgt_lightning.images.files import encoded, to_samples
from kgt_lightning.images.formats import FORMATS
from kgt_lightning.page.engine import Engine
from kgt_lightning.page.photo import Photo, Result
from kgt_lightning.page.pixels import to_image, to_pixels, to_png
from kgt_lightning.restoring.files import with_image
from kgt_lightning.restoring.mixing import AS_RESTORED, Mixing

MOST_PIXELS = 1024**2
"""Of one part of a layer; mixing it takes 150 MB."""

_MARGIN = 32
"""Pixels around a part, as far as the detail of the original that comes back can reach."""


def layer(photo: Photo, name: str, top: int, left: int, height: int, width: int) -> bytes:
    """Part of a layer as PNG: before, clean, restored, or texture: restored with all fine detail of the original.

    Raises:
        LookupError: if there is no such layer yet.
        ValueError: if the part is none of it, or too large.

    """
    if name in ("restored", "texture"):
        pixels = _result(photo).pixels
    else:
        found = {"before": photo.pixels, "clean": photo.clean}.get(name)
        if found is None:
            raise LookupError(f"this picture has no layer {name[:20]}")
        pixels = found
    down, across = pixels.shape[:2]
    if not (0 < height <= down - top and 0 < width <= across - left) or height * width > MOST_PIXELS:
        raise ValueError(f"{width} x {height} pixels at {left}, {top} are no part of {across} x {down}, or too many")
    if name == "texture":
        part = to_pixels(_mixed(photo, Mixing(texture=1), top, left, height, width))
    else:
        part = pixels[top : top + height, left : left + width]
    return to_png(part, profile=photo.raster.profile)


def neighbours(photo: Photo, engine: Engine, x: int, y: int, k: int | None) -> Mapping[str, Any]:
    """Stages with the node at a pixel and its neighbours, in pixels.

    Raises:
        ValueError: if the model has no Key-Graph.

    """
    if engine.k is None:
        raise ValueError(f"{engine.name} has no Key-Graph")
    return {"stages": engine.neighbours(photo.pixels, key=(id(photo), photo.number), x=x, y=y, k=k)}


def cost(photo: Photo, engine: Engine, x: int, y: int, k: int | None) -> Mapping[str, Any]:
    """Time and difference of a tile with k beside that with the model's own k, and the tile as a data address.

    Raises:
        ValueError: if the model has no Key-Graph.

    """
    if k is None:
        raise ValueError(f"{engine.name} has no Key-Graph: k changes nothing")
    found = engine.cost(photo.pixels, x=x, y=y, k=k)
    png = to_png(to_pixels(found.restored), profile=photo.raster.profile)
    return {
        "k": k,
        "seconds": round(found.seconds, 3),
        "usual_k": engine.k,
        "usual_seconds": round(found.usual_seconds, 3),
        "difference": round(found.difference, 3),
        "top": found.top,
        "left": found.left,
        "png": "data:image/png;base64," + base64.b64encode(png).decode("ascii"),
    }


def scores(photo: Photo, mixing: Mixing) -> Mapping[str, Any]:
    """PSNR in decibels of the picture as it was and as it is restored, against the clean one.

    Raises:
        LookupError: if there is no clean picture.

    """
    if photo.clean is None:
        raise LookupError("there is no clean picture to compare with: add one")
    pixels = _result(photo).pixels
    sums = {"before": 0.0, "restored": 0.0}
    for top, part in _bands(photo, mixing):
        clean = to_image(photo.clean[top : top + part.shape[1]])
        before = _mixed(photo, Mixing(strength=0), top, 0, *part.shape[1:])
        sums["before"] += (before - clean).square().mean(0).sum().item()
        sums["restored"] += (part - clean).square().mean(0).sum().item()
    return {name: _psnr(total / pixels[..., 0].size) for name, total in sums.items()}


def download(photo: Photo, mixing: Mixing) -> tuple[str, bytes]:
    """Name and content of a file of the restored picture with all that the dropped one told.

    It has the format of the dropped file, or else the first of PNG and TIFF that can hold the result.

    Raises:
        LookupError: if it is not restored as a whole.

    """
    result = _result(photo)
    if not result.complete:
        raise LookupError("this picture is not restored as a whole: wait, or restore it anew")
    array = np.empty(result.pixels.shape, photo.raster.array.dtype)
    for top, part in _bands(photo, mixing):
        array[top : top + part.shape[1]] = to_samples(part, bits=photo.raster.bits)
    opacity = photo.opacity
    if result.opacity.size:
        opacity = to_samples(to_image(result.opacity), bits=photo.raster.bits)
    raster = with_image(photo.raster, array, opacity)
    height, width = array.shape[:2]
    named = Path(photo.name)
    suffix = next(
        suffix
        for suffix in (named.suffix, ".png", ".tif")
        if suffix in FORMATS
        and FORMATS[suffix].refusal(height=height, width=width, bits=raster.bits, alpha=opacity.size > 0) is None
    )
    file = Path(f"{named.stem}-restored{suffix}")
    return file.name, encoded(file, raster)


def _bands(photo: Photo, mixing: Mixing) -> Iterator[tuple[int, Tensor]]:
    """The mixed picture a few rows at a time: the first row, and what is mixed [C, H, W]."""
    height, width, _ = _result(photo).pixels.shape
    rows = max(1, MOST_PIXELS // width)
    for top in range(0, height, rows):
        yield top, _mixed(photo, mixing, top, 0, min(rows, height - top), width)


def _mixed(photo: Photo, mixing: Mixing, top: int, left: int, height: int, width: int) -> Tensor:
    """Part of the restored picture [C, H, W], mixed with the original."""
    result = _result(photo)
    scale, grid = result.engine.scale, result.engine.module.grid
    if mixing == AS_RESTORED:
        return to_image(result.pixels[top : top + height, left : left + width])
    # The same part of the original with what lies around it.
    first = [max(start // scale - _MARGIN, 0) // grid * grid for start in (top, left)]
    last = [-(-end // scale) + _MARGIN for end in (top + height, left + width)]
    before = to_image(photo.pixels[first[0] : last[0], first[1] : last[1]])
    restored = to_image(result.pixels[first[0] * scale : last[0] * scale, first[1] * scale : last[1] * scale])
    mixing = replace(mixing, noise=photo.noise)
    mixed = mixing(result.engine.module.baseline(before[None]), restored[None])[0].clamp_(0, 1)
    return mixed[:, top - first[0] * scale :, left - first[1] * scale :][:, :height, :width]


def _result(photo: Photo) -> Result:
    if photo.result is None:
        raise LookupError("nothing of this picture is restored yet")
    return photo.result


def _psnr(mean_square: float) -> float | None:
    return round(-10 * float(np.log10(mean_square)), 2) if mean_square > 0 else None
