"""What the models do for the page: tiles of a restored picture, what k costs, and the neighbours of a point."""

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kgt_lightning.analysis.figures import place_of
from kgt_lightning.analysis.key_graphs import StageGraph, captured
from kgt_lightning.images.tiling import TileDone
from kgt_lightning.model.padding import pad_to_multiple
from kgt_lightning.page.pixels import Pixels, to_image
from kgt_lightning.restoring.files import is_restored
from kgt_lightning.restoring.picture import aligned, restore, restored_tiles
from kgt_lightning.training.module import RestorationModule

_REGION, _MARGIN = 128, 32
"""Pixels of a side whose Key-Graphs are computed at once, and those around it that are computed with them."""
_REGIONS_KEPT = 4


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What another k costs on a part of a picture."""

    seconds: float
    usual_seconds: float
    """With the k that the model was trained with."""
    difference: float
    """Root mean square of the difference of both, in 8-bit values."""
    restored: Tensor
    """[C, H * scale, W * scale]."""
    top: int
    """Of the part in the restored picture, in pixels."""
    left: int


class Engine:
    """One model, used by one thread at a time; another waits for one tile, not for a whole picture.

    Args:
        name: of the model.
        module: that restores.
        tile: side of the tiles in pixels.
        overlap: of tiles.

    """

    def __init__(self, *, name: str, module: RestorationModule, tile: int, overlap: int) -> None:
        self.name = name
        self.module = module
        backbone = module.network.backbone
        self.multiple = math.lcm(backbone.multiple, module.grid)
        self.tile, self.overlap = aligned(tile, overlap, multiple=self.multiple)
        self.k: int | None = getattr(backbone, "k", None)
        self.most_k = backbone.window**2 if self.k is not None else None
        self.scale = module.network.scale
        # A mosaic becomes a picture of colours; a gray picture stays gray.
        self.least_channels = backbone.channels if module.degraded_channels != backbone.channels else 1
        self._lock = threading.Lock()
        self._graphs: OrderedDict[tuple[Any, ...], list[StageGraph]] = OrderedDict()

    def describe(self) -> Mapping[str, Any]:
        """What the page has to know."""
        return {"name": self.name, "k": self.k, "most_k": self.most_k, "scale": self.scale}

    def result_shape(self, pixels: Pixels) -> tuple[int, int, int]:
        """Height, width and channels of what is restored of a picture."""
        height, width, channels = pixels.shape
        return height * self.scale, width * self.scale, max(channels, self.least_channels)

    def opacity_shape(self, opacity: Pixels) -> tuple[int, int, int]:
        """Height, width and channels, 0 or 1, of what is restored of the alpha [H, W, 0 or 1] of a picture."""
        height, width, _ = self.result_shape(opacity)
        return height, width, int(is_restored(opacity, scale=self.scale))

    def checked_k(self, k: int | None) -> int | None:
        """The k that is meant; None where the model has none.

        Raises:
            ValueError: if the model cannot take it.

        """
        if k is None or self.k is None:
            return self.k
        return self.module.network.backbone.check_k(k)

    def tiles(self, pixels: Pixels, *, k: int | None) -> Iterator[TileDone]:
        """What is restored of a picture, tile by tile; to stop is to take no further tile."""
        image = torch.from_numpy(pixels).permute(2, 0, 1)
        coming = restored_tiles(self.module, image, tile=self.tile, overlap=self.overlap)
        while True:
            with self._turn(k):
                done = next(coming, None)
            if done is None:
                return
            yield done

    def cost(self, pixels: Pixels, *, x: int, y: int, k: int) -> Cost:
        """What k costs on the tile around a point of a picture."""
        top, left, part = self._around(pixels, x=x, y=y, side=self.tile)
        restored, seconds = {}, {}
        for value in (self.k, k):
            with self._turn(value):
                started = time.perf_counter()
                restored[value] = restore(self.module, part, tile=self.tile, overlap=self.overlap).clamp(0, 1)
                seconds[value] = time.perf_counter() - started
        difference = (restored[k] - restored[self.k]).square().mean().sqrt().item() * 255
        return Cost(
            seconds=seconds[k],
            usual_seconds=seconds[self.k],
            difference=difference,
            restored=restored[k],
            top=top * self.scale,
            left=left * self.scale,
        )

    def neighbours(self, pixels: Pixels, *, key: object, x: int, y: int, k: int | None) -> Sequence[Mapping[str, Any]]:
        """For each stage the node at a point of a picture and its neighbours, as places in pixels.

        Args:
            pixels: of the picture.
            key: of the picture; what was computed for it is kept for the next point nearby.
            x: pixels from the left.
            y: pixels from the top.
            k: neighbours.

        Raises:
            ValueError: if the model has no Key-Graph.

        """
        around = (x // _REGION * _REGION + _REGION // 2, y // _REGION * _REGION + _REGION // 2)
        top, left, part = self._around(pixels, x=around[0], y=around[1], side=_REGION + 2 * _MARGIN)
        height, width = part.shape[-2:]
        kept = (key, k, top, left)
        with self._turn(k):
            if kept not in self._graphs:
                self._graphs[kept] = self._capture(part)
                while len(self._graphs) > _REGIONS_KEPT:
                    self._graphs.popitem(last=False)
            self._graphs.move_to_end(kept)
            graphs = self._graphs[kept]
        padded = [side + -side % self.multiple for side in (height, width)]
        point = ((y - top + 0.5) / padded[0], (x - left + 0.5) / padded[1])
        return [_stage(graph, point, top=top, left=left, across=padded[1]) for graph in graphs]

    def _capture(self, part: Tensor) -> list[StageGraph]:
        batch = pad_to_multiple(part[None], self.multiple)
        channels = self.module.degraded_channels
        if batch.shape[1] != channels:
            batch = batch.expand(-1, channels, -1, -1) if batch.shape[1] == 1 else batch.mean(1, keepdim=True)
        with torch.inference_mode(), captured(self.module.network.backbone) as graphs:
            self.module.network(self.module.network_input(batch.to(self.module.device)))
            return list(graphs)

    def _around(self, pixels: Pixels, *, x: int, y: int, side: int) -> tuple[int, int, Tensor]:
        """Top, left and image [C, H, W] of a part around a point, in which windows lie as in the whole picture."""
        first = []
        for point, length in ((y, pixels.shape[0]), (x, pixels.shape[1])):
            start = min(point - side // 2, length - side)
            first.append(max(0, start - start % self.multiple))
        top, left = first
        return top, left, to_image(pixels[top : top + side, left : left + side])

    @contextmanager
    def _turn(self, k: int | None) -> Iterator[None]:
        """The time in which one thread has the model, with a k."""
        with self._lock:
            if k is not None:
                self.module.network.backbone.k = k
            try:
                yield
            finally:
                if k is not None:
                    self.module.network.backbone.k = self.k


def _stage(graph: StageGraph, point: tuple[float, float], *, top: int, left: int, across: int) -> Mapping[str, Any]:
    """The node at a point, from 0 to 1, in the graph of a part of a picture, in pixels of the whole picture."""
    cell = across // graph.width
    row, column = place_of(point, height=graph.height, width=graph.width)
    found = graph.neighbours[row * graph.width + column]
    found = found[found >= 0]
    rows, columns = found // graph.width, found % graph.width
    away = torch.stack([rows - row, columns - column]).float().norm(dim=0).mean().item() * cell

    def first(place: int) -> int:
        return (place + graph.margin) // graph.window * graph.window - graph.margin

    return {
        "name": graph.stage,
        "cell": cell,
        "node": [left + column * cell, top + row * cell],
        "window": [left + first(column) * cell, top + first(row) * cell, graph.window * cell],
        "neighbours": torch.stack([left + columns * cell, top + rows * cell], dim=1).tolist(),
        "away": round(away, 1),
    }
