"""Pictures of Key-Graphs: the neighbours of chosen nodes on the image, and histograms and overlaps of all."""

import math
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from kgt_lightning.analysis.key_graphs import StageGraph
from kgt_lightning.analysis.statistics import distances, distances_by_chance, in_degrees, overlaps
from kgt_lightning.system.files import write_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray


def highlight(image: Tensor, graph: StageGraph, node: int) -> Tensor:
    """The image [3, H, W], all but the neighbours of the node gray and darkened."""
    image = _in_colour(image)
    neighbours = graph.neighbours[node]
    bright = torch.zeros(1, 1, graph.height * graph.width)
    bright[..., neighbours[neighbours >= 0]] = 1
    bright = nn.functional.interpolate(bright.view(1, 1, graph.height, graph.width), image.shape[-2:])[0]
    return torch.where(bright > 0, image, 0.4 * image.mean(0, keepdim=True))


def draw_neighbours(
    image: Tensor, graphs: Sequence[StageGraph], points: Sequence[tuple[float, float]], file: Path
) -> None:
    """Draw a row for every point: the whole image, then what surrounds the node's window in every stage.

    A red square is the node, yellow squares are its neighbours, a white frame is the window, outside of which no
    neighbour can lie. The title says how many neighbours lie on the image and how far away they are on average. The
    image [C, H, W] in [0, 1] is what the network was given; points are vertical and horizontal, from 0 to 1.
    """
    from matplotlib.patches import Rectangle

    figure, panels = _grid(len(points), 1 + len(graphs), cell=2.6)
    figure.suptitle("red: the node, yellow: its neighbours, white: its window", fontsize=9)
    shown = _in_colour(image)
    for place, axes in zip(product(points, [None, *graphs]), panels, strict=True):
        point, graph = place
        axes.set_axis_off()
        if graph is None:
            _show_given(axes, shown)
            across, down = (part * side - 0.5 for part, side in zip(point[::-1], image.shape[:0:-1], strict=True))
            _mark(axes, across, down)
            continue
        # Pixels per node, and the nodes' own places.
        scale = torch.tensor(image.shape[-2:]) / torch.tensor([graph.height, graph.width])
        node = torch.tensor(place_of(point, height=graph.height, width=graph.width))
        number = int(node[0] * graph.width + node[1])
        neighbours = graph.neighbours[number]
        neighbours = neighbours[neighbours >= 0]
        places = torch.stack([neighbours // graph.width, neighbours % graph.width], dim=1)
        away = ((places - node) * scale).norm(dim=1).mean()
        first = (node + graph.margin) // graph.window * graph.window - graph.margin
        axes.imshow(_pixels(highlight(image, graph, number)), interpolation="nearest")
        squares = [("white", first, graph.window), *(("yellow", place, 1) for place in places), ("red", node, 1)]
        for colour, corner, side in squares:
            (down, across), (height, width) = (corner * scale - 0.5).tolist(), (side * scale).tolist()
            axes.add_patch(Rectangle((across, down), width, height, fill=False, color=colour, linewidth=0.9))
        (top, left), (bottom, right) = (((first + end * graph.window) * scale).tolist() for end in (-0.25, 1.25))
        axes.set(xlim=(left - 0.5, right - 0.5), ylim=(bottom - 0.5, top - 0.5))
        axes.set_title(f"{graph.stage}: {len(neighbours)}, {away:.0f} px away", fontsize=8)
    write_figure(file, figure, dpi=110)


def draw_statistics(graphs: Sequence[StageGraph], file: Path) -> None:
    """Draw how far neighbours are, how often a node is one, and how much the graphs of two stages have in common.

    The gray line is what chance would give: neighbours drawn from the whole window. One stage has nothing to be
    compared with.
    """
    figure, (far, often, *compared) = _grid(1, 3 if len(graphs) > 1 else 2, cell=3.6)
    for i, graph in enumerate(graphs):
        far_away, degrees = distances(graph), in_degrees(graph)
        edges = torch.linspace(0, float(degrees.max()) + 1, 33)
        _outline(far, far_away, _rings(graph), f"C{i % 10}", f"{graph.stage} (mean {far_away.mean():.1f})")
        _outline(often, degrees.float(), edges, f"C{i % 10}", "")
        often.axvline(graph.neighbours.shape[1], color="tab:gray", linewidth=0.7)
    widest = max(graphs, key=lambda graph: graph.window)
    _outline(far, distances_by_chance(widest), _rings(widest), "tab:gray", "chance")
    far.set(title="distance of neighbours", xlabel="nodes", ylabel="share of neighbours")
    often.set(title="in-degree of nodes", xlabel="nodes that have it as a neighbour (gray: k)", ylabel="share of nodes")
    far.set_ylim(top=1.3 * far.get_ylim()[1])  # room for the names
    far.legend(fontsize=7)
    for common in compared:
        _draw_overlaps(common, graphs)
    write_figure(file, figure, dpi=110)


def draw_influence(
    image: Tensor,
    fields: Sequence[Tensor],
    places: Sequence[tuple[int, int]],
    circles: Sequence[Sequence[float]],
    file: Path,
) -> None:
    """Draw the image, and for each place how much the pixels influence what is restored there, on a logarithmic scale.

    The image is [C, H, W] in [0, 1]; each place, row and column, has its influence [H, W], see :func:`influence`, and
    the radii in pixels of circles around it.
    """
    figure, (overview, *panels) = _grid(1, 1 + len(fields), cell=3.2)
    _show_given(overview, _in_colour(image))
    turn = torch.linspace(0, 2 * math.pi, 100)
    for number, (axes, field, (down, across), radii) in enumerate(zip(panels, fields, places, circles, strict=True), 1):
        _mark(overview, across, down, str(number))
        axes.imshow((field / field.max()).clamp(min=1e-6).log10().cpu().numpy(), cmap="magma", vmin=-6, vmax=0)
        for radius in radii:
            axes.plot(across + radius * turn.cos(), down + radius * turn.sin(), color="white", linewidth=0.7)
        axes.set(xlim=(-0.5, field.shape[1] - 0.5), ylim=(field.shape[0] - 0.5, -0.5))
        axes.set_title(
            f"influence on {number}, circles of {', '.join(f'{radius:.0f}' for radius in radii)} px", fontsize=8
        )
        axes.set_axis_off()
    write_figure(file, figure, dpi=110)


def place_of(point: tuple[float, float], *, height: int, width: int) -> tuple[int, int]:
    """Row and column of a point, vertical and horizontal from 0 to 1, in an image or a map of nodes."""
    return min(int(point[0] * height), height - 1), min(int(point[1] * width), width - 1)


def _draw_overlaps(axes: "Axes", graphs: Sequence[StageGraph]) -> None:
    values = overlaps(graphs)
    axes.imshow(values, vmin=0, vmax=1, cmap="viridis")
    for i, j in (~values.isnan()).nonzero().tolist():
        colour = "black" if values[i, j] > 0.6 else "white"
        axes.text(j, i, f"{values[i, j]:.2f}", ha="center", va="center", fontsize=7, color=colour)
    names = [graph.stage for graph in graphs]
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=7)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.set(title="overlap of two stages (Jaccard)")


def _show_given(axes: "Axes", image: Tensor) -> None:
    axes.imshow(_pixels(image))
    axes.set_title("what the network was given", fontsize=8)
    axes.set_axis_off()


def _mark(axes: "Axes", across: float, down: float, name: str = "") -> None:
    """A red cross with its name on a white rim, so that it is seen on every colour."""
    from matplotlib.patheffects import withStroke

    rim = [withStroke(linewidth=3, foreground="white")]
    axes.plot(across, down, "+", color="red", markersize=10, path_effects=rim)
    axes.annotate(name, (across, down), (4, 4), textcoords="offset points", color="red", path_effects=rim)


def _in_colour(image: Tensor) -> Tensor:
    """The image [3, H, W] in [0, 1], on the CPU; one of other channels becomes gray."""
    image = image.float().cpu().clamp(0, 1)
    return image if len(image) == 3 else image.mean(0, keepdim=True).expand(3, -1, -1)


def _pixels(image: Tensor) -> "NDArray[Any]":
    return image.permute(1, 2, 0).numpy()


def _grid(rows: int, columns: int, *, cell: float) -> tuple["Figure", list["Axes"]]:
    """Figure of so many panels, row by row."""
    # Only who asks for these pictures needs matplotlib, and it is slow to import.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(cell * columns, cell * rows * 1.08), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False).flatten().tolist()


def _rings(graph: StageGraph) -> Tensor:
    """Edges of the bins of distances."""
    return torch.arange(0, 1.5 * graph.window, max(graph.window / 16, 1))


def _outline(axes: "Axes", values: Tensor, edges: Tensor, colour: str, label: str) -> None:
    counts = torch.histogram(values, bins=edges.float()).hist
    axes.stairs((counts / counts.sum()).numpy(), edges.numpy(), color=colour, label=label)
