"""Command: how far trained models look, on an image: neighbours in the Key-Graphs, and pixels that have influence.

python -m kgt_lightning.analyze checkpoint=outputs/denoise/<run>/checkpoints/best.ckpt input=photo.png
"""

import logging
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from omegaconf import DictConfig, ListConfig
from torch import Tensor

from kgt_lightning.analysis.figures import draw_influence, draw_neighbours, draw_statistics, place_of
from kgt_lightning.analysis.key_graphs import StageGraph, captured
from kgt_lightning.analysis.receptive_field import influence, radius
from kgt_lightning.analysis.statistics import distances, distances_by_chance
from kgt_lightning.config.command import command
from kgt_lightning.config.extras import require
from kgt_lightning.images.files import read_image
from kgt_lightning.model.padding import pad_to_multiple
from kgt_lightning.runs.checkpoint import load_checkpoint
from kgt_lightning.system.files import run_of, user_path, write_atomic
from kgt_lightning.system.tables import Table, write_csv
from kgt_lightning.training.callbacks import central_part
from kgt_lightning.training.module import RestorationModule

SHARES = (0.5, 0.9, 0.99)
Point = tuple[float, float]

log = logging.getLogger(__name__)


def draw(
    module: RestorationModule, image: Tensor, graphs: Sequence[StageGraph], points: Sequence[Point], folder: Path
) -> None:
    """``neighbours.png`` of the nodes at these points, ``statistics.png`` of all, and ``influence.png`` on the pixels.

    The image [1, C, H, W] is what the network was given; points are vertical and horizontal, from 0 to 1.
    """
    folder.mkdir(parents=True, exist_ok=True)
    draw_neighbours(image[0], graphs, points, folder / "neighbours.png")
    draw_statistics(graphs, folder / "statistics.png")
    places = [place_of(point, height=image.shape[-2], width=image.shape[-1]) for point in points]
    fields = list(influence(module.network, image[0], places))
    circles = [[radius(*field, share=share) for share in SHARES] for field in zip(fields, places, strict=True)]
    draw_influence(image[0], fields, places, circles, folder / "influence.png")


def measure(module: RestorationModule, image: Tensor, graphs: Sequence[StageGraph], *, grid: int) -> dict[str, Any]:
    """Mean distances in pixels: of neighbours in all stages, of all nodes of their windows, of what has influence.

    The image [1, C, H, W] is what the network was given; influence is that on grid x grid pixels of its inner half.
    """
    height, width = image.shape[-2:]
    pixels = [width / graph.width for graph in graphs]
    steps = [0.25 + 0.5 * (i + 0.5) / grid for i in range(grid)]
    places = [place_of(point, height=height, width=width) for point in product(steps, steps)]
    fields = list(zip(influence(module.network, image[0], places), places, strict=True))

    def mean_px(distances_of: Callable[[StageGraph], Tensor]) -> float:
        return fmean(float(distances_of(graph).mean()) * px for graph, px in zip(graphs, pixels, strict=True))

    return {
        "window_px": max(graph.window * px for graph, px in zip(graphs, pixels, strict=True)),
        "k": module.network.backbone.k,
        "neighbours_px": mean_px(distances),
        "chance_px": mean_px(distances_by_chance),
        **{f"influence_{share:.0%}_px": fmean(radius(*field, share=share) for field in fields) for share in SHARES},
    }


def run_names(checkpoints: Sequence[Path]) -> list[str]:
    """A name for each checkpoint: that of its run.

    Raises:
        ValueError: if two are of runs of the same name.

    """
    names = [run_of(path) for path in checkpoints]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"checkpoint: two of them are of a run named {twice}: look at one after the other")
    return names


@command("analyze")
def main(config: DictConfig) -> None:
    require("kgt analyze", "report", "matplotlib")
    checkpoints = config.checkpoint if isinstance(config.checkpoint, ListConfig) else [config.checkpoint]
    paths = [user_path(str(path)) for path in checkpoints]
    names = run_names(paths)
    modules = [load_checkpoint(path, trust=config.trust).module() for path in paths]
    picture = read_image(user_path(config.input)).pixels[None]
    folder = Path(config.run_dir)
    rows = []
    for name, module in zip(names, modules, strict=True):
        channels = module.degraded_channels
        if picture.shape[1] != channels:
            raise ValueError(f"input={config.input} has {picture.shape[1]} channels, {name} takes {channels}")
        multiple = module.network.backbone.multiple
        part = central_part(module.network_input(picture), max(config.size // multiple, 1) * multiple)
        image = pad_to_multiple(part, multiple)
        with torch.no_grad(), captured(module.network.backbone) as graphs:
            module.network(image)
        draw(module, image, graphs, [tuple(point) for point in config.points], folder / name)
        rows.append({"run": name, **measure(module, image, graphs, grid=config.grid)})
        log.info("pictures of %s are in %s", name, folder / name)
    write_csv(folder / "analyze.csv", rows)
    titles = ["run", "window", "k", "neighbours", "by chance", *(f"{share:.0%} of influence" for share in SHARES)]
    cells = [
        [str(run), f"{window:g}", str(k), *map("{:.1f}".format, means)]
        for run, window, k, *means in (row.values() for row in rows)
    ]
    table = Table(title="mean distances in pixels", columns=titles, rows=cells)
    write_atomic(folder / "analyze.md", table.markdown())
    table.show()


if __name__ == "__main__":
    main()
