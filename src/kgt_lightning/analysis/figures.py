"""Pictures of Key-Graphs: the neighbours of chosen nodes on the image, and histograms and overlaps of all."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kgt_lightning.analysis.key_graphs import StageGraph
from kgt_lightning.analysis.statistics import distances, distances_by_chance, in_degrees, overlaps

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def highlight(image: Tensor, graph: StageGraph, node: int) -> Tensor:
    """The image [3, H, W], all but the neighbours of the node gray and darkened."""
    image = _in_colour(image)
    height, width = image.shape[-2:]
    neighbours = graph.neighbours[node]
    bright = torch.zeros(graph.height * graph.width)
    bright[neighbours[neighbours >= 0]] = 1
    rows = torch.arange(height) * graph.height // height
    columns = torch.arange(width) * graph.width // width
    bright = bright.view(graph.height, graph.width)[rows[:, None], columns]
    return torch.where(bright > 0, image, 0.4 * image.mean(0, keepdim=True))


def draw_neighbours(
    image: Tensor, graphs: Sequence[StageGraph], points: Sequence[tuple[float, float]], file: Path
) -> None:
    """Draw the image once for every point and stage: bright are the neighbours of the node there, a cross is the node.

    A frame shows the window, outside of which no neighbour can lie. The title says how many neighbours lie on
    the image and how far away they are on average.

    Args:
        image: [C, H, W] in [0, 1], as the network was given it.
        graphs: of this image.
        points: vertical and horizontal place in the image, from 0 to 1.
        file: to write, a PNG.

    """
    figure, rows = _grid(len(points), len(graphs), cell=2.3)
    height, width = image.shape[-2:]
    for point, row in zip(points, rows, strict=True):
        for graph, axes in zip(graphs, row, strict=True):
            down, across = height / graph.height, width / graph.width
            node_row, node_column = place_of(point, height=graph.height, width=graph.width)
            node = node_row * graph.width + node_column
            neighbours = graph.neighbours[node][graph.neighbours[node] >= 0]
            axes.imshow(highlight(image, graph, node).permute(1, 2, 0).numpy(), interpolation="nearest")
            axes.plot((node_column + 0.5) * across - 0.5, (node_row + 0.5) * down - 0.5, "+", color="red", markersize=9)
            top, left = (
                (place + graph.margin) // graph.window * graph.window - graph.margin
                for place in (node_row, node_column)
            )
            side = graph.window
            frame_x = torch.tensor([left, left + side, left + side, left, left]).clamp(0, graph.width) * across - 0.5
            frame_y = torch.tensor([top, top, top + side, top + side, top]).clamp(0, graph.height) * down - 0.5
            axes.plot(frame_x, frame_y, color="white", linewidth=0.7)
            rows_away, columns_away = neighbours // graph.width - node_row, neighbours % graph.width - node_column
            away = torch.hypot(rows_away * down, columns_away * across).mean()
            axes.set_title(f"{graph.stage}: {len(neighbours)}, {away:.0f} px away", fontsize=7)
            axes.set_axis_off()
    figure.savefig(file, dpi=110)


def draw_statistics(graphs: Sequence[StageGraph], file: Path) -> None:
    """Draw how far neighbours are, how often a node is one, and how much the graphs of two stages have in common.

    The gray line is what chance would give: neighbours drawn from the whole window.
    """
    figure, (row,) = _grid(1, 3, cell=3.6)
    far, often, common = row
    for i, graph in enumerate(graphs):
        colour = f"C{i % 10}"
        _outline(far, distances(graph), torch.arange(0, 1.5 * graph.window, max(graph.window / 16, 1)), colour, graph)
        degrees = in_degrees(graph)
        _outline(often, degrees, torch.linspace(0, float(degrees.max()) + 1, 33), colour, graph)
        often.axvline(graph.neighbours.shape[1], color="tab:gray", linewidth=0.7)
    widest = max(graphs, key=lambda graph: graph.window)
    edges = torch.arange(0, 1.5 * widest.window, max(widest.window / 16, 1))
    _outline(far, distances_by_chance(widest), edges, "tab:gray", None)
    far.set(title="distance of neighbours", xlabel="nodes", ylabel="share of neighbours")
    often.set(title="in-degree of nodes", xlabel="nodes that have it as a neighbour (gray: k)", ylabel="share of nodes")
    far.legend(fontsize=7)
    values = overlaps(list(graphs))
    common.imshow(values, vmin=0, vmax=1, cmap="viridis")
    for i, line in enumerate(values.tolist()):
        for j, value in enumerate(line):
            if value == value:
                colour = "black" if value > 0.6 else "white"
                common.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=7, color=colour)
    names = [graph.stage for graph in graphs]
    common.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=7)
    common.set_yticks(range(len(names)), names, fontsize=7)
    common.set(title="overlap of two stages (Jaccard)")
    figure.savefig(file, dpi=110)


def draw_influence(
    image: Tensor,
    fields: Sequence[Tensor],
    places: Sequence[tuple[int, int]],
    circles: Sequence[Sequence[float]],
    file: Path,
) -> None:
    """Draw the image, and for each place how much the pixels influence what is restored there, on a logarithmic scale.

    Args:
        image: [C, H, W] in [0, 1].
        fields: influence [H, W] of each place, see :func:`influence`.
        places: row and column.
        circles: for each place, radii in pixels to draw around it.
        file: to write, a PNG.

    """
    figure, (row,) = _grid(1, 1 + len(fields), cell=3.2)
    row[0].imshow(_in_colour(image).permute(1, 2, 0).numpy())
    row[0].set_axis_off()
    for number, (axes, field, (down, across), radii) in enumerate(
        zip(row[1:], fields, places, circles, strict=True), 1
    ):
        row[0].plot(across, down, "+", color="red", markersize=9)
        row[0].annotate(str(number), (across, down), (4, 4), textcoords="offset points", color="red")
        axes.imshow((field / field.max()).clamp(min=1e-6).log10().cpu().numpy(), cmap="magma", vmin=-6, vmax=0)
        for radius in radii:
            turn = torch.linspace(0, 6.2832, 100)
            axes.plot(across + radius * turn.cos(), down + radius * turn.sin(), color="white", linewidth=0.7)
        axes.set(xlim=(-0.5, field.shape[1] - 0.5), ylim=(field.shape[0] - 0.5, -0.5))
        axes.set_title(f"{number}: {', '.join(f'{radius:.0f}' for radius in radii)} px", fontsize=8)
        axes.set_axis_off()
    figure.savefig(file, dpi=110)


def place_of(point: tuple[float, float], *, height: int, width: int) -> tuple[int, int]:
    """Row and column of a point, vertical and horizontal from 0 to 1, in an image or a map of nodes."""
    return min(int(point[0] * height), height - 1), min(int(point[1] * width), width - 1)


def _in_colour(image: Tensor) -> Tensor:
    """The image [3, H, W] in [0, 1], on the CPU; one of other channels becomes gray."""
    image = image.float().cpu().clamp(0, 1)
    return image if len(image) == 3 else image.mean(0, keepdim=True).expand(3, -1, -1)


def _grid(rows: int, columns: int, *, cell: float) -> tuple["Figure", list[list["Axes"]]]:
    # Only who asks for these pictures needs matplotlib, and it is slow to import.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(cell * columns, cell * rows * 1.08), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False).tolist()


def _outline(axes: "Axes", values: Tensor, edges: Tensor, colour: str, graph: StageGraph | None) -> None:
    counts = torch.histogram(values.float(), bins=edges.float()).hist
    label = "chance" if graph is None else f"{graph.stage} (mean {values.float().mean():.1f})"
    axes.stairs((counts / counts.sum()).numpy(), edges.numpy(), color=colour, label=label)
