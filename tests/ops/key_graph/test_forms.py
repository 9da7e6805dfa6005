"""Bits, blocks and transposed lists hold the same edges as the neighbour lists."""

import pytest
import torch

from kgt_lightning.ops import KeyGraph, build_key_graph
from kgt_lightning.ops.key_graph.forms import BLOCK, pack_bits, transpose


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
    assert KeyGraph(index, bits).packed.bits is bits


@pytest.mark.parametrize("num_nodes", [64, 81, 200])
def test_block_lists_name_the_blocks_with_edges(num_nodes):
    generator = torch.Generator().manual_seed(0)
    # Neighbours in one direction only, so that some blocks stay empty and rows differ from columns.
    index = torch.stack([(torch.arange(num_nodes) + shift).clamp_max(num_nodes - 1) // 2 for shift in (0, 2, 4)], -1)
    index = index[None].repeat(2, 1, 1)
    index[1] = torch.rand(num_nodes, num_nodes, generator=generator).topk(3).indices
    graph = KeyGraph(index)
    blocks = -(-num_nodes // BLOCK)
    for w in range(2):
        met = {(i // BLOCK, int(j) // BLOCK) for i in range(num_nodes) for j in index[w, i]}
        for b in range(blocks):
            rows, columns = graph.packed.rows, graph.packed.columns
            assert rows.blocks[w, b, : rows.counts[w, b]].tolist() == sorted(c for r, c in met if r == b)
            assert columns.blocks[w, b, : columns.counts[w, b]].tolist() == sorted(r for r, c in met if c == b)


@pytest.mark.parametrize("k", [1, 7, 30])
def test_transposed_lists_hold_every_edge_once(k):
    index = build_key_graph(torch.randn(2, 30, 4), k).index
    transposed = transpose(index)
    for w in range(2):
        assert transposed.starts[w, 0] == 0 and transposed.starts[w, -1] == 30 * k
        for j in range(30):
            sources = transposed.sources[w, transposed.starts[w, j] : transposed.starts[w, j + 1]].tolist()
            assert sources == [i for i in range(30) if j in index[w, i]]
