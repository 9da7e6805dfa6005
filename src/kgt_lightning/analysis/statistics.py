"""What a Key-Graph looks like in numbers. Neighbours beyond the edge of the image, mirrored nodes, are left out."""

from collections.abc import Sequence

import torch
from torch import Tensor

from kgt_lightning.analysis.key_graphs import StageGraph


def distances(graph: StageGraph) -> Tensor:
    """Euclidean distance in nodes between every node and each of its neighbours, in one row."""
    nodes = torch.arange(len(graph.neighbours))[:, None].expand_as(graph.neighbours)
    inside = graph.neighbours >= 0
    return _apart(nodes[inside], graph.neighbours[inside], graph.width)


def distances_by_chance(graph: StageGraph) -> Tensor:
    """The same if every node had its whole window as neighbours: what similarity is to be compared with."""
    nodes = torch.arange(graph.window**2)
    return _apart(nodes[:, None], nodes, graph.window).flatten()


def in_degrees(graph: StageGraph) -> Tensor:
    """How many nodes each node [P] is a neighbour of; their mean is k."""
    inside = graph.neighbours[graph.neighbours >= 0]
    return torch.bincount(inside, minlength=len(graph.neighbours))


def overlap(first: StageGraph, second: StageGraph) -> float | None:
    """Jaccard index of the neighbours of a node in two stages, its mean over nodes: 1 the same, 0 none in common.

    None if the stages have different numbers of nodes: nothing can be compared.
    """
    if (first.height, first.width) != (second.height, second.width):
        return None
    both = torch.cat([first.neighbours, second.neighbours], dim=1)
    # Different negative numbers in place of every -1, so that none is in common.
    together = torch.where(both < 0, -1 - torch.arange(both.shape[1]), both).sort(dim=1).values
    common = (together[:, 1:] == together[:, :-1]).sum(dim=1)
    either = (both >= 0).sum(dim=1) - common
    return float((common / either)[either > 0].mean())


def overlaps(graphs: Sequence[StageGraph]) -> Tensor:
    """Overlap of every two stages [S, S], NaN where nothing can be compared."""
    values = [[overlap(first, second) for second in graphs] for first in graphs]
    return torch.tensor([[float("nan") if value is None else value for value in row] for row in values])


def _apart(first: Tensor, second: Tensor, width: int) -> Tensor:
    rows, columns = first // width - second // width, first % width - second % width
    return torch.hypot(rows.float(), columns.float())
