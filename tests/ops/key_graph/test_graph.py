"""Windows split and merge back; the graph keeps the most similar nodes."""

import pytest
import torch

from kgt_lightning.ops import build_key_graph, merge_windows, split_windows


def test_windows_round_trip_and_order():
    features = torch.arange(2 * 3 * 4 * 6.0).view(2, 3, 4, 6)
    nodes = split_windows(features, 2)
    assert nodes.shape == (2 * 2 * 3, 4, 3)
    torch.testing.assert_close(nodes[1, :, 0], features[0, 0, :2, 2:4].flatten())
    torch.testing.assert_close(merge_windows(nodes, 2, 4, 6), features)


def test_split_refuses_other_sizes():
    with pytest.raises(ValueError, match="5x6 do not divide into windows of 4"):
        split_windows(torch.zeros(1, 1, 5, 6), 4)


@pytest.mark.parametrize("k", [1, 5, 30])
def test_neighbours_are_the_most_similar(k):
    nodes = torch.randn(3, 30, 7, dtype=torch.float64)
    index = build_key_graph(nodes, k).index.long()
    assert index.shape == (3, 30, k)
    similarity = nodes @ nodes.mT
    kept = similarity.gather(-1, index)
    assert (index.sort(-1).values.diff(dim=-1) > 0).all()
    non_neighbours = similarity.scatter(-1, index, -torch.inf)
    assert (kept.min(-1).values >= non_neighbours.max(-1).values).all()


def test_duplicate_nodes_are_kept_once_each():
    nodes = torch.ones(1, 12, 3)
    index = build_key_graph(nodes, 5).index
    assert (index.sort(-1).values.diff(dim=-1) > 0).all()


def test_mask_and_index_say_the_same():
    graph = build_key_graph(torch.randn(2, 16, 4), 6)
    assert graph.mask.sum(-1).eq(6).all()
    assert graph.mask.gather(-1, graph.index.long()).all()
    assert graph.mask is graph.mask


def test_choice_is_not_differentiated():
    nodes = torch.randn(1, 9, 2, requires_grad=True)
    assert not build_key_graph(nodes, 3).index.requires_grad


@pytest.mark.parametrize("k", [0, 17, -1])
def test_k_out_of_range(k):
    with pytest.raises(ValueError, match=rf"k={k} must lie in 1\.\.16"):
        build_key_graph(torch.zeros(1, 16, 2), k)


def test_nodes_of_wrong_shape():
    with pytest.raises(ValueError, match="expected \\[windows, nodes, channels\\]"):
        build_key_graph(torch.zeros(16, 2), 3)
