"""Every list names each node that its tile meets once, ascending, and says which nodes of the tile meet it."""

import pytest
import torch

from kgt_lightning.ops import KeyGraph, build_key_graph

triton_unions = pytest.importorskip("kgt_lightning.ops.key_graph.triton_unions", reason="needs triton")

pytestmark = pytest.mark.usefixtures("poisoned_memory")


def tile_of(side, num_nodes, tile):
    """Nodes of a tile, 4 rows of 4; None beyond the window."""
    across = -(-side // 4)
    for row in range(4):
        for column in range(4):
            y, x = tile // across * 4 + row, tile % across * 4 + column
            yield y * side + x if x < side and y * side + x < num_nodes else None


@pytest.mark.parametrize(
    ("num_nodes", "side", "k"), [(64, 8, 5), (81, 9, 1), (144, 12, 144), (40, 4, 7)], ids=["N64", "N81", "kN", "N40"]
)
def test_lists_are_the_unions(triton_device, num_nodes, side, k):
    graph = build_key_graph(torch.randn(2, num_nodes, 6, generator=torch.Generator().manual_seed(k)), k)
    device_graph = KeyGraph(graph.index.to(triton_device))
    for unions, mask in ((device_graph.unions, graph.mask), (device_graph.transposed_unions, graph.mask.mT)):
        windows, tiles, _ = unions.entries.shape
        assert tiles == -(-side // 4) * -(-num_nodes // side // 4)
        for w in range(windows):
            for tile in range(tiles):
                expected = {}
                for lane, node in enumerate(tile_of(side, num_nodes, tile)):
                    for other in [] if node is None else mask[w, node].nonzero().flatten().tolist():
                        expected[other] = expected.get(other, 0) | 1 << lane
                length = int(unions.lengths[w, tile])
                entries = unions.entries[w, tile, :length].cpu()
                listed = {int(e) & 0xFFFF: int(e) >> 16 & 0xFFFF for e in entries[: len(expected)]}
                assert list(listed.items()) == sorted(expected.items())
                assert length == -(-len(expected) // triton_unions.STEP) * triton_unions.STEP
                # What fills the list up is the last node, met by none.
                assert all(int(e) == max(expected) for e in entries[len(expected) :])
