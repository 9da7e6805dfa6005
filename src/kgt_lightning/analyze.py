"""Command: how far trained models look, on an image: neighbours in the Key-Graphs, and pixels that have influence.

python -m kgt_lightning.analyze checkpoint=outputs/denoise/<run>/checkpoints/best.ckpt input=photo.png
"""

import logging
from collections.abc import Sequence
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
from kgt_lightning.system.files import write_atomic
from kgt_lightning.system.tables import Table, write_csv
from kgt_lightning.training.callbacks import central_part
from kgt_lightning.training.module import RestorationModule

SHARES = (0.5, 0.9, 0.99)

log = logging.getLogger(__name__)


def analyze_image(
    module: RestorationModule,
    image: Tensor,
    graphs: Sequence[StageGraph],
    *,
    points: Sequence[tuple[float, float]],
    folder: Path,
) -> None:
    """Draw whom the nodes at these points have as neighbours, statistics of all, and what has influence on the pixels.

    Args:
        module: whose stages are looked at.
        image: what the network is given [1, C, H, W], whole windows.
        graphs: of this image.
        points: vertical and horizontal, from 0 to 1.
        folder: for ``neighbours.png``, ``statistics.png`` and ``influence.png``.

    """
    folder.mkdir(parents=True, exist_ok=True)
    draw_neighbours(image[0], graphs, points, folder / "neighbours.png")
    draw_statistics(graphs, folder / "statistics.png")
    places = [place_of(point, height=image.shape[-2], width=image.shape[-1]) for point in points]
    fields = list(influence(module.network, image[0], places))
    circles = [
        [radius(field, place, share=share) for share in SHARES] for field, place in zip(fields, places, strict=True)
    ]
    draw_influence(image[0], fields, places, circles, folder / "influence.png")


def measure(module: RestorationModule, image: Tensor, graphs: Sequence[StageGraph], *, grid: int) -> dict[str, Any]:
    """Mean distances in pixels: of neighbours in all stages, of all nodes of their windows, of what has influence.

    Args:
        module: that is measured.
        image: what the network is given [1, C, H, W], whole windows.
        graphs: of this image.
        grid: pixels down and across whose influence is taken, spread over the inner half.

    """
    wide = [image.shape[-1] / graph.width for graph in graphs]
    steps = [0.25 + 0.5 * (i + 0.5) / grid for i in range(grid)]
    height, width = image.shape[-2:]
    places = [place_of((down, across), height=height, width=width) for down in steps for across in steps]
    fields = list(influence(module.network, image[0], places))
    return {
        "window_px": max(graph.window * pixels for graph, pixels in zip(graphs, wide, strict=True)),
        "k": module.network.backbone.k,
        "neighbours_px": fmean(float(distances(each).mean()) * px for each, px in zip(graphs, wide, strict=True)),
        "chance_px": fmean(float(distances_by_chance(each).mean()) * px for each, px in zip(graphs, wide, strict=True)),
    } | {
        f"influence_{share:.0%}_px": fmean(
            radius(field, place, share=share) for field, place in zip(fields, places, strict=True)
        )
        for share in SHARES
    }


def graphs_of(module: RestorationModule, image: Tensor) -> list[StageGraph]:
    """Key-Graphs of all stages for what the network is given, [1, C, H, W]."""
    with torch.no_grad(), captured(module.network.backbone) as graphs:
        module.network(image)
    return graphs


def run_names(checkpoints: Sequence[Path]) -> list[str]:
    """A name for each checkpoint: that of its run.

    Raises:
        ValueError: if two are of runs of the same name.

    """
    names = [path.parents[1].name if path.parent.name == "checkpoints" else path.stem for path in checkpoints]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"checkpoint: two of them are of a run named {twice}: look at one after the other")
    return names


@command("analyze")
def main(config: DictConfig) -> None:
    """Command-line entry."""
    require("kgt analyze", "report", "matplotlib")
    given = list(config.checkpoint) if isinstance(config.checkpoint, ListConfig) else [config.checkpoint]
    paths = [Path(str(each)).expanduser() for each in given]
    names = run_names(paths)
    modules = [load_checkpoint(path, trust=config.trust).module() for path in paths]
    picture = read_image(Path(config.input).expanduser()).pixels[None]
    folder = Path(config.run_dir)
    rows = []
    for name, module in zip(names, modules, strict=True):
        if picture.shape[1] != module.degraded_channels:
            raise ValueError(
                f"input={config.input} has {picture.shape[1]} channels, {name} takes {module.degraded_channels}"
            )
        multiple = module.network.backbone.multiple
        part = central_part(module.network_input(picture), max(config.size // multiple, 1) * multiple)
        image = pad_to_multiple(part, multiple)
        graphs = graphs_of(module, image)
        analyze_image(
            module, image, graphs, points=[(down, across) for down, across in config.points], folder=folder / name
        )
        rows.append({"run": name, **measure(module, image, graphs, grid=config.grid)})
        log.info("pictures of %s are in %s", name, folder / name)
    _write(rows, folder)


def _write(rows: Sequence[dict[str, Any]], folder: Path) -> None:
    """Write the table as analyze.csv and analyze.md, and show it."""
    write_csv(folder / "analyze.csv", rows)
    titles = ["run", "window", "k", "neighbours", "by chance", *(f"{share:.0%} of influence" for share in SHARES)]
    cells = [
        [str(row["run"]), f"{row['window_px']:g}", str(row["k"]), *map("{:.1f}".format, list(row.values())[3:])]
        for row in rows
    ]
    table = Table(title="mean distances in pixels", columns=titles, rows=cells)
    write_atomic(folder / "analyze.md", table.markdown())
    table.show()


if __name__ == "__main__":
    main()
