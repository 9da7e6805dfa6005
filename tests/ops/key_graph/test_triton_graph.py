"""The fused constructor: the neighbours of a stable sort, ascending, and the same as bits."""

import pytest
import torch

from kgt_lightning.ops import build_key_graph
from kgt_lightning.ops.key_graph.forms import pack_bits

triton_graph = pytest.importorskip("kgt_lightning.ops.key_graph.triton_graph", reason="needs triton")

pytestmark = pytest.mark.usefixtures("poisoned_memory")


def whole_numbers(windows, num_nodes, channels, dtype, *, duplicates=False):
    """Nodes whose similarities are exact in every type, with many ties."""
    nodes = torch.randint(-4, 5, (windows, num_nodes, channels), generator=torch.Generator().manual_seed(num_nodes))
    if duplicates:
        nodes[:, ::2] = nodes[:, :1]
    return nodes.to(dtype)


def expected_neighbours(nodes, k):
    similarity = nodes.double() @ nodes.double().mT
    return similarity.sort(dim=-1, descending=True, stable=True).indices[..., :k].sort(-1).values


@pytest.mark.slow
@pytest.mark.parametrize("resident", [True, False], ids=["registers", "recomputed"])
@pytest.mark.parametrize(
    ("windows", "num_nodes", "channels", "k", "dtype", "duplicates"),
    [
        (2, 64, 20, 7, torch.float32, False),
        (1, 81, 33, 20, torch.float16, True),
        (1, 200, 16, 1, torch.bfloat16, False),
        (1, 33, 3, 32, torch.float32, True),
        (1, 144, 40, 143, torch.float32, False),
    ],
    ids=["N64", "duplicates-fp16", "k1-bf16", "N33-k32", "N144-k143"],
)
def test_ties_go_to_the_smaller_index(
    triton_device, monkeypatch, resident, windows, num_nodes, channels, k, dtype, duplicates
):
    if not resident:
        monkeypatch.setattr(triton_graph, "RESIDENT", 1)
    nodes = whole_numbers(windows, num_nodes, channels, dtype, duplicates=duplicates)
    index, bits = triton_graph.choose(nodes.to(triton_device), k)
    expected = expected_neighbours(nodes, k)
    assert torch.equal(index.cpu().long(), expected)
    assert torch.equal(bits.cpu(), pack_bits(expected))


def test_similarities_that_only_differ_in_the_sign_of_zero_are_ties(triton_device):
    nodes = torch.zeros(1, 32, 16)
    nodes[0, 1:, 0] = torch.where(torch.arange(31) % 2 == 0, -1.0, 1.0)
    index, _ = triton_graph.choose(nodes.to(triton_device), 5)
    assert index[0, 0].tolist() == [0, 1, 2, 3, 4]


def test_nan_is_the_least_similar(triton_device):
    nodes = torch.randn(1, 64, 8, generator=torch.Generator().manual_seed(0))
    nodes[0, ::3] = torch.nan
    index, bits = triton_graph.choose(nodes.to(triton_device), 20)
    own = torch.arange(64) % 3 != 0
    assert torch.equal(index.cpu()[:, own], build_key_graph(nodes, 20).index[:, own])
    assert (index.cpu()[:, own] % 3 != 0).all()
    assert torch.equal(bits.cpu(), pack_bits(index.cpu().long()))


@pytest.mark.parametrize("scale", [1e-18, 1.0, 1e15])
def test_real_numbers(triton_device, scale):
    nodes = scale * torch.randn(1, 100, 30, generator=torch.Generator().manual_seed(0))
    index, bits = triton_graph.choose(nodes.to(triton_device), 17)
    index = index.cpu().long()
    assert (index.diff(dim=-1) > 0).all()
    assert torch.equal(bits.cpu(), pack_bits(index))
    similarity = nodes.double() @ nodes.double().mT
    non_neighbours = similarity.scatter(-1, index, -torch.inf).amax(-1)
    assert (similarity.gather(-1, index).amin(-1) >= non_neighbours - 1e-5 * scale**2 * 30).all()


def test_nodes_that_are_not_numbers_still_get_k_neighbours(triton_device):
    nodes = torch.randn(1, 64, 8)
    nodes[0, 10] = torch.nan
    index, bits = triton_graph.choose(nodes.to(triton_device), 9)
    assert (index.diff(dim=-1) > 0).all() and index.min() >= 0 and index.max() < 64
    assert torch.equal(bits.cpu(), pack_bits(index.cpu()))


def test_nodes_may_be_a_view(triton_device):
    nodes = whole_numbers(2, 64, 24, torch.float32)
    index, _ = triton_graph.choose(nodes.to(triton_device)[..., 4:20], 6)
    assert torch.equal(index.cpu().long(), expected_neighbours(nodes[..., 4:20], 6))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("num_nodes", [256, 1024, 2304, 4096])
def test_build_key_graph_on_a_gpu(num_nodes):
    nodes = whole_numbers(2, num_nodes, 180, torch.float32)
    graph = build_key_graph(nodes.cuda(), num_nodes // 8)
    assert graph.bits is not None
    assert torch.equal(graph.index.cpu().long(), expected_neighbours(nodes, num_nodes // 8))
