"""What the Triton kernels promise beyond agreeing with the reference, of which test_triton_sizes.py has most."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from triton_cases import BF16, FP16, FP32, SCALE, TOLERANCE, compare, make_graph, make_inputs, on, random, run

from kgt_lightning.ops import KeyGraph, available_implementations, build_key_graph, key_graph_attention
from kgt_lightning.ops.attention.reference import reference_attention
from kgt_lightning.ops.attention.triton_attention import triton_attention

triton_union = pytest.importorskip("kgt_lightning.ops.attention.triton_union", reason="needs triton")

pytestmark = pytest.mark.usefixtures("poisoned_memory")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [FP32, FP16])
def test_deterministic_backward(triton_device, dtype):
    """Duplicate nodes: half of the window looks at the same few neighbours, so that sums of gradients are long."""
    graph = make_graph(8, 11, 1, duplicates=True)
    qkv, table = make_inputs(8, 30, windows=1, heads=2)
    qkv = qkv.to(dtype)
    expected = run(reference_attention, qkv.double(), table, graph)
    ours = (qkv.to(triton_device), table.float().to(triton_device), on(triton_device, graph))
    first, second = (run(triton_attention, *ours, deterministic=True) for _ in range(2))
    compare(first, expected, TOLERANCE[dtype], 11)
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def test_pytorch_asks_for_the_deterministic_backward(triton_device, monkeypatch):
    """Only the other one sums the table's gradient by atomic additions."""
    qkv, table = make_inputs(4, 16, windows=1, heads=1)
    asked = []
    plan_backward = triton_union.plan_backward

    def plan(call, *, deterministic):
        asked.append(deterministic)
        return plan_backward(call, deterministic=deterministic)

    monkeypatch.setattr(triton_union, "plan_backward", plan)
    graph = on(triton_device, make_graph(4, 2, 1))
    for wanted in (False, True):
        monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda wanted=wanted: wanted)
        run(triton_attention, qkv.float().to(triton_device), table.float().to(triton_device), graph)
    assert asked == [False, True]


def test_large_scores_do_not_overflow(triton_device):
    graph = make_graph(8, 9, 1)
    qkv, table = make_inputs(8, 16, windows=1, heads=1)
    qkv, table = 100 * qkv, 1000 * table
    expected = run(reference_attention, qkv, table, graph)["out"]
    ours = (qkv.float().to(triton_device), table.float().to(triton_device), on(triton_device, graph))
    actual = run(triton_attention, *ours)
    assert all(value.isfinite().all() for value in actual.values())
    torch.testing.assert_close(actual["out"].cpu().double(), expected, atol=1e-2, rtol=1e-2)


def test_nodes_that_no_query_of_a_tile_meets_are_not_read(triton_device):
    """Two groups of nodes that never look at each other: what one holds cannot reach the other."""
    index = torch.cat([torch.arange(64).expand(64, -1)[:, :5], 64 + torch.arange(80).expand(80, -1)[:, 3:8]])[None]
    qkv, table = make_inputs(12, 16, windows=1, heads=1)
    q, k, v = qkv.float().to(triton_device).permute(2, 0, 3, 1, 4).clone()
    k[:, :, 64:], v[:, :, 64:] = torch.nan, torch.nan
    graph = on(triton_device, KeyGraph(index))
    out = triton_attention(q, k, v, graph, scale=SCALE, bias_table=table.float().to(triton_device))
    # The first four rows of the window hold nodes of the first group alone; the sixth row holds both.
    assert out[:, :, :48].isfinite().all() and out[:, :, 64:].isnan().all()


class LargestTensor(TorchDispatchMode):
    """Numbers in the largest tensor that any operation returned."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.numbers = max(self.numbers, tensor.numel())
        return result


@pytest.mark.slow
@pytest.mark.parametrize("deterministic", [True, False], ids=["deterministic", "fast"])
def test_no_large_tensor_is_made(triton_device, deterministic):
    """All tensors stay below N x N, though one head alone has as many scores, and N x k x D is larger still."""
    window, width, k = 16, 16, 24
    graph = on(triton_device, make_graph(window, k, 1))
    qkv, table = make_inputs(window, width, windows=1, heads=1)
    with LargestTensor() as largest:
        ours = (qkv.float().to(triton_device), table.float().to(triton_device), graph)
        run(triton_attention, *ours, deterministic=deterministic)
    assert largest.numbers < window**4 < window**2 * k * width


def test_only_the_wanted_gradients(triton_device):
    graph = on(triton_device, make_graph(4, 3, 1))
    q, k, v = (random(1, 2, 16, 8, seed=seed).float().to(triton_device) for seed in range(3))
    v.requires_grad_()
    triton_attention(q, k, v, graph, scale=SCALE).sum().backward()
    assert v.grad is not None and q.grad is None and k.grad is None


def test_no_windows(triton_device):
    q = torch.zeros(0, 2, 16, 8, device=triton_device, requires_grad=True)
    table = torch.ones(2, 49, device=triton_device, requires_grad=True)
    graph = KeyGraph(torch.zeros(0, 16, 3, dtype=torch.int64, device=triton_device))
    out = triton_attention(q, q, q, graph, scale=SCALE, bias_table=table)
    assert out.shape == q.shape
    out.sum().backward()
    assert table.grad.abs().sum() == 0


def test_autocast(triton_device):
    graph = on(triton_device, make_graph(4, 3, 1))
    qkv, table = make_inputs(4, 8, windows=1, heads=2)
    qkv = qkv.float().to(triton_device).requires_grad_()
    table = table.float().to(triton_device).requires_grad_()
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    with torch.autocast(triton_device, dtype=BF16):
        # A normalised q is float32 under autocast while a projected v is bfloat16.
        out = key_graph_attention(q, k, v.to(BF16), graph, scale=SCALE, bias_table=table, impl="triton")
    out.float().sum().backward()
    assert out.dtype == BF16 and qkv.grad.dtype == FP32 and table.grad.dtype == FP32


def test_heads_of_a_node_lie_side_by_side(triton_device):
    graph = on(triton_device, make_graph(4, 3, 1))
    q = torch.randn(1, 2, 16, 8, device=triton_device)
    out = triton_attention(q, q, q, graph, scale=SCALE)
    assert out.transpose(1, 2).is_contiguous()


def test_is_an_implementation_where_it_can_run(triton_device):
    assert "triton" in available_implementations()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_asking_for_it_elsewhere_names_the_alternatives():
    assert "triton" not in available_implementations()
    q = torch.zeros(1, 1, 4, 8)
    with pytest.raises(
        ValueError, match=r"impl='triton' is not available \(.*\); choose auto or one of .*mask, gather"
    ):
        key_graph_attention(q, q, q, build_key_graph(torch.zeros(1, 4, 2), 2), scale=1.0, impl="triton")


def test_tensors_on_the_cpu_are_refused(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    q = torch.zeros(1, 1, 4, 8)
    with pytest.raises(ValueError, match="needs tensors on a CUDA device, these are on cpu; choose native or mask"):
        triton_attention(q, q, q, build_key_graph(torch.zeros(1, 4, 2), 2), scale=1.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"dtype": torch.float64},
            "q is float64, the kernels take float32, float16 and bfloat16.*choose mask or gather",
        ),
        ({"width": 129}, "heads are 129 wide, the kernels take up to 128.*choose mask or gather"),
    ],
)
def test_what_is_not_supported(triton_device, change, message):
    options = {"dtype": FP32, "width": 8} | change
    q = torch.zeros(1, 1, 4, options["width"], dtype=options["dtype"], device=triton_device)
    graph = on(triton_device, build_key_graph(torch.zeros(1, 4, 2), 2))
    with pytest.raises(ValueError, match=message):
        triton_attention(q, q, q, graph, scale=1.0)


def test_neighbours_outside_the_window(triton_device):
    q = torch.zeros(1, 1, 4, 8, device=triton_device)
    graph = KeyGraph(torch.tensor([[[0], [1], [2], [4]]], device=triton_device))
    with pytest.raises(ValueError, match=r"neighbours 0\.\.4 must lie in 0\.\.3"):
        triton_attention(q, q, q, graph, scale=1.0)


def test_types_that_differ(triton_device):
    q = torch.zeros(1, 1, 4, 8, device=triton_device)
    graph = on(triton_device, build_key_graph(torch.zeros(1, 4, 2), 2))
    with pytest.raises(ValueError, match=r"q, k, v are float32, float32, float16; .* takes one type: cast them"):
        triton_attention(q, q, q.half(), graph, scale=1.0)


def test_neighbours_whose_bias_is_minus_infinity_count_for_nothing(triton_device):
    qkv, table = make_inputs(8, 16, windows=1, heads=1)
    # All keys in the rows above the query's and in its own: the first 32 neighbours of many queries.
    table = table.view(1, 15, 15).clone()
    table[:, 7:] = -torch.inf
    table = table.view(1, -1)
    graph = KeyGraph(torch.arange(64, dtype=torch.int32).expand(1, 64, 64).contiguous())
    some = slice(0, 56)  # the last row has no other neighbour
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    expected = reference_attention(q, k, v, graph, scale=SCALE, bias_table=table)[:, :, some]
    ours = triton_attention(
        *(t.float().to(triton_device) for t in (q, k, v)),
        on(triton_device, graph),
        scale=SCALE,
        bias_table=table.float().to(triton_device),
    )[:, :, some]
    torch.testing.assert_close(ours.cpu().double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(torch.cuda.is_available(), reason="4 GB that no page of is touched are the CPU's")
@pytest.mark.parametrize("strides", [(2**30, 16), (16, 2**31 // 15 + 1)], ids=["heads", "nodes"])
def test_heads_and_nodes_that_lie_far_apart_in_memory(monkeypatch, strides):
    """The last begins 2**31 elements after the first, beyond 32 bits. Pages never touched take no memory."""
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    room = torch.from_numpy(np.zeros(2**31 + 64 * 16, np.float16))
    qkv, table = make_inputs(4, 16, windows=1, heads=3)
    q, k, v = qkv.half().permute(2, 0, 3, 1, 4)
    far = room.as_strided(q.shape, (0, *strides, 1))
    far.copy_(q)
    graph = make_graph(4, 5, 1)
    ours, theirs = (triton_attention(x, k, v, graph, scale=SCALE, bias_table=table.half()) for x in (far, q))
    assert torch.equal(ours, theirs)
