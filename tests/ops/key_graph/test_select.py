"""The choice of the most similar nodes against a slow, obviously right one."""

import pytest
import torch

from kgt_lightning.ops import build_key_graph
from kgt_lightning.ops.kernels import native_build
from kgt_lightning.ops.key_graph import select

no_native = pytest.mark.skipif(native_build.why_unavailable() is not None, reason=str(native_build.why_unavailable()))


def native_choice(rows, k):
    """Neighbours of the first nodes of windows of one channel: where they are 1 the similarities are the nodes."""
    return select.most_similar(rows[..., None], k)[:, 0]


CHOOSERS = [
    pytest.param(select.largest_of_rows, id="plain"),
    pytest.param(native_choice, id="native", marks=no_native),
]


def slow_choice(rows, k):
    """Python's stable sort: largest first, of equal numbers the first; then in rising order."""
    return torch.tensor([sorted(sorted(range(len(row)), key=lambda n: -row[n])[:k]) for row in rows.tolist()])


def make_rows(kind, num_nodes, dtype):
    rows = torch.randn(12, num_nodes, generator=torch.Generator().manual_seed(num_nodes), dtype=dtype)
    if kind == "duplicates":
        rows = rows.mul(2).round()
    if kind == "equal":
        rows = torch.full_like(rows, -1.5)
    if kind == "signed zeros":
        rows = torch.where(rows > 0.5, rows, 0.0).copysign(rows)
        assert (rows == 0).any() and rows[rows == 0].signbit().unique().numel() == 2
    if kind == "huge":
        rows = rows * torch.finfo(dtype).max  # some become infinite
    if kind == "tiny":
        rows = rows * torch.finfo(dtype).smallest_normal  # some become subnormal
    rows[:, 0] = 1
    return rows


@pytest.mark.parametrize("choose", CHOOSERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["fp32", "fp64"])
@pytest.mark.parametrize("num_nodes", [7, 16, 33, 100])
@pytest.mark.parametrize("kind", ["random", "duplicates", "equal", "signed zeros", "huge", "tiny"])
def test_same_as_the_slow_choice(kind, num_nodes, dtype, choose):
    rows = make_rows(kind, num_nodes, dtype)
    for k in {1, 2, num_nodes // 2, num_nodes - 1, num_nodes}:
        index = choose(rows, k)
        assert index.dtype == torch.int32
        assert torch.equal(index.long(), slow_choice(rows, k)), f"k={k}"


@pytest.mark.parametrize("choose", CHOOSERS)
def test_nan_is_chosen_last(choose):
    rows = torch.tensor([[1.0, torch.nan, -torch.inf, 2.0, torch.nan, -3.0]])
    assert choose(rows, 3).tolist() == [[0, 3, 5]]
    assert choose(torch.full((2, 5), torch.nan), 2).shape == (2, 2)


@no_native
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("windows", [1, 5])
def test_native_and_plain_see_one_graph(monkeypatch, windows, dtype):
    nodes = torch.randn(windows, 64, 6).to(dtype)
    nodes[:, 10:20] = nodes[:, :1]
    native = build_key_graph(nodes, 13).index
    monkeypatch.setattr(select, "why_unavailable", lambda: "no compiler")
    assert torch.equal(native, build_key_graph(nodes, 13).index)


@no_native
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("num_nodes", [1, 5, 47, 64, 300])
@pytest.mark.parametrize("channels", [1, 7, 64])
def test_products_of_every_size(monkeypatch, num_nodes, channels, dtype):
    # Small integers, so that no order of summation changes the similarity.
    nodes = torch.randint(-3, 4, (3, num_nodes, channels), generator=torch.Generator().manual_seed(0)).to(dtype)
    k = (num_nodes + 1) // 2
    native = select.most_similar(nodes.mT.contiguous().mT, k)
    monkeypatch.setattr(select, "why_unavailable", lambda: "no compiler")
    assert torch.equal(native, select.most_similar(nodes, k))


def test_without_data_only_the_shape_is_known():
    """Operations are counted on the meta device."""
    index = build_key_graph(torch.empty(2, 16, 3, device="meta"), 5).index
    assert index.shape == (2, 16, 5) and index.dtype == torch.int32


@no_native
def test_operator_follows_the_rules_of_torch_library():
    torch.library.opcheck(torch.ops.kgt.most_similar.default, (torch.randn(2, 9, 4), 3))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_neighbours_of_16_bit_nodes_are_chosen_in_float32(dtype):
    nodes = torch.randn(2, 64, 48, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert torch.equal(build_key_graph(nodes, 9).index, build_key_graph(nodes.float(), 9).index)
