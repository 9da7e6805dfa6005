"""The Key-Graphs of a forward pass, in coordinates of the image.

Shapes: W windows, M window side, N = M*M nodes of a window, K neighbours, P = height*width nodes of the image.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from kgt_lightning.model.stage import Stage
from kgt_lightning.ops import KeyGraph


@dataclass(frozen=True, kw_only=True, eq=False)
class StageGraph:
    """Key-Graph of one stage over one image."""

    stage: str
    """Name of the stage inside the layout, such as ``stages.0``."""
    height: int
    """Of the feature map, in nodes."""
    width: int
    window: int
    """Side of a window in nodes."""
    margin: int
    """By how many nodes the first window begins above and left of the image."""
    neighbours: Tensor
    """[P, K]: for every node of the image, row by row, its neighbours; -1 is a mirrored node beyond the edge."""


@contextmanager
def captured(backbone: nn.Module) -> Iterator[list[StageGraph]]:
    """Key-Graphs that the stages of the backbone build for the first image of a batch, in their order.

    The list is filled by every forward pass in the block. The model is listened to from outside, by hooks that are gone
    with the block: without one it costs nothing.

    Raises:
        ValueError: if the backbone has no such stage.

    """
    stages = [(name, module) for name, module in backbone.named_modules() if isinstance(module, Stage)]
    if not stages:
        raise ValueError(f"{type(backbone).__qualname__} has no Key-Graph: there is nothing to draw or to analyze")
    graphs: list[StageGraph] = []

    def listen(name: str, stage: Stage) -> list[RemovableHandle]:
        # On a CPU a few windows at a time go through the layers; each part brings its own graph.
        parts: list[Tensor] = []

        def keep(layer: nn.Module, inputs: tuple[Tensor, KeyGraph]) -> None:
            parts.append(inputs[1].index)

        def finish(_: nn.Module, inputs: tuple[Tensor, int], out: Tensor) -> None:
            place = {
                "height": inputs[0].shape[-2],
                "width": inputs[0].shape[-1],
                "window": stage.window,
                "margin": stage.window // 2 if stage.shifted else 0,
            }
            neighbours = on_image(torch.cat(parts), **place).cpu()
            parts.clear()
            graphs.append(StageGraph(stage=name.removeprefix("layout."), neighbours=neighbours, **place))

        return [stage.layers[0].register_forward_pre_hook(keep), stage.register_forward_hook(finish)]

    hooks = [hook for name, stage in stages for hook in listen(name, stage)]
    try:
        yield graphs
    finally:
        for hook in hooks:
            hook.remove()


def on_image(index: Tensor, *, window: int, height: int, width: int, margin: int) -> Tensor:
    """Neighbours [P, K] by their place in the image of height x width nodes, of the first image of a batch.

    The index [W, N, K] holds neighbours by their place in the window of window x window nodes; for the margin see
    :class:`StageGraph`.
    """
    pad = window if margin else 0
    down, across = (height + pad) // window, (width + pad) // window
    places = torch.arange(window, device=index.device)
    rows = torch.arange(down, device=index.device)[:, None] * window + places - margin
    columns = torch.arange(across, device=index.device)[:, None] * window + places - margin
    row, column = rows[:, None, :, None], columns[None, :, None, :]
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    place = torch.where(inside, row * width + column, -1).reshape(down * across, window**2)
    within = index[: down * across].long()
    on_map = place[:, None].expand(-1, window**2, -1).gather(2, within)
    kept = place >= 0
    found = on_map.new_empty(height * width, index.shape[-1])
    found[place[kept]] = on_map[kept]
    return found
