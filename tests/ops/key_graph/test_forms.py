"""Bits hold the same edges as the neighbour lists."""

import pytest
import torch

from kgt_lightning.ops import KeyGraph, build_key_graph
from kgt_lightning.ops.key_graph.forms import pack_bits


def unpack(bits):
    """[W, N, N], bool, by the definition of the bits."""
    windows, _, num_nodes = bits.shape
    edges = torch.zeros(windows, num_nodes, num_nodes, dtype=torch.bool)
    for j in range(num_nodes):
        edges[:, :, j] = (bits[:, j // 32] >> (j % 32)) & 1 != 0
    return edges


@pytest.mark.parametrize(
    ("num_nodes", "k"),
    [(64, 9), (64, 64), (81, 1), (81, 80), (81, 81), (200, 33)],
    ids=["N64", "N64-kN", "N81-k1", "N81-k80", "N81-kN", "N200"],
)
def test_bits_are_the_mask(num_nodes, k):
    graph = build_key_graph(torch.randn(2, num_nodes, 5), k)
    bits = pack_bits(graph.index)
    assert bits.dtype == torch.int32 and bits.shape == (2, -(-num_nodes // 32), num_nodes)
    assert torch.equal(unpack(bits), graph.mask)


def test_no_bit_is_set_beyond_the_window():
    index = torch.arange(40).expand(1, 40, 40)
    assert (pack_bits(index)[0, 1] == 2**8 - 1).all()


def test_given_bits_are_used():
    index = torch.tensor([[[0], [0]]])
    bits = torch.tensor([[[1, 1]]], dtype=torch.int32)
    assert KeyGraph(index, bits).packed_bits is bits
