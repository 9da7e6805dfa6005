"""Every implementation against the float64 reference: output and the gradients of q, k, v and the bias table."""

import math

import pytest
import torch

from kgt_lightning.ops import KeyGraph, available_implementations, build_key_graph, key_graph_attention
from kgt_lightning.ops.attention import dispatch as attention
from kgt_lightning.ops.attention import mask

FAST = [name for name in available_implementations() if name != "reference"]
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5, torch.bfloat16: 2e-2}


def make_inputs(*, window, width=8, windows=2, heads=3, seed=0, duplicates=False):
    generator = torch.Generator().manual_seed(seed)
    shape = (windows, heads, window**2, width)
    nodes = torch.randn(windows, window**2, heads * width, generator=generator, dtype=torch.float64)
    if duplicates:
        nodes[:, ::2] = nodes[:, :1]
    q, k, v = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(3))
    bias_table = torch.randn(heads, (2 * window - 1) ** 2, generator=generator, dtype=torch.float64)
    return nodes, [q, k, v, bias_table]


def run(tensors, graph, *, impl, dtype, with_bias):
    """Output and gradients; the loss weighs every output differently, so that no error cancels."""
    tensors = [t.to(dtype).requires_grad_() for t in tensors]
    q, k, v, bias_table = tensors
    out = key_graph_attention(
        q, k, v, graph, scale=q.shape[-1] ** -0.5, bias_table=bias_table if with_bias else None, impl=impl
    )
    weights = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).view_as(out).to(dtype)
    wanted = tensors if with_bias else tensors[:3]
    return [out.detach(), *torch.autograd.grad((out * weights).sum(), wanted)]


@pytest.mark.parametrize("with_bias", [True, False], ids=["bias", "plain"])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=["fp64", "fp32", "bf16"])
@pytest.mark.parametrize(
    ("window", "k", "duplicates"),
    [(5, 7, False), (5, 1, False), (5, 25, False), (6, 11, True), (4, 16, True)],
    ids=["N25-k7", "k1", "kN", "duplicates", "duplicates-kN"],
)
@pytest.mark.parametrize("impl", FAST)
def test_agrees_with_reference(impl, window, k, duplicates, dtype, with_bias):
    nodes, tensors = make_inputs(window=window, duplicates=duplicates)
    graph = build_key_graph(nodes, k)
    # Both start from the same rounded numbers, so that only the arithmetic differs.
    rounded = [t.to(dtype).double() for t in tensors]
    expected = run(rounded, graph, impl="reference", dtype=torch.float64, with_bias=with_bias)
    actual = run(tensors, graph, impl=impl, dtype=dtype, with_bias=with_bias)
    for name, ours, theirs in zip(["out", "dq", "dk", "dv", "dbias"], actual, expected, strict=False):
        error = (ours.double() - theirs).norm() / theirs.norm().clamp_min(1e-12)
        # With one neighbour the softmax is constant: the gradients of q and k are zero but for rounding.
        if k == 1 and name in ("dq", "dk", "dbias"):
            error = (ours.double() - theirs).abs().max()
        assert error < TOLERANCE[dtype], f"{name}: relative error {error:.2e}"


@pytest.mark.parametrize("impl", available_implementations())
def test_all_neighbours_equal_full_attention(impl):
    nodes, (q, k, v, _) = make_inputs(window=4)
    out = key_graph_attention(q, k, v, build_key_graph(nodes, 16), scale=0.3, impl=impl)
    scores = torch.einsum("whid,whjd->whij", q, k) * 0.3
    torch.testing.assert_close(out, scores.softmax(-1) @ v)


@pytest.mark.parametrize("impl", available_implementations())
def test_bias_follows_relative_position(impl):
    """With equal scores, a table that is large at one offset makes every node copy the value at that offset."""
    window = 4
    nodes, (q, k, v, bias_table) = make_inputs(window=window, heads=1)
    graph = build_key_graph(nodes, window**2)
    bias_table = torch.zeros_like(bias_table)
    bias_table[0, (1 + window - 1) * (2 * window - 1) + (0 + window - 1)] = 100  # the key one row above the query
    out = key_graph_attention(torch.zeros_like(q), k, v, graph, scale=1.0, bias_table=bias_table, impl=impl)
    torch.testing.assert_close(out[:, :, window:], v[:, :, :-window])


@pytest.mark.parametrize("impl", available_implementations())
def test_only_neighbours_count(impl):
    nodes, (q, k, v, bias_table) = make_inputs(window=4)
    graph = build_key_graph(nodes, 3)
    stranger = ~graph.mask[0, 5]
    before = key_graph_attention(q, k, v, graph, scale=0.3, bias_table=bias_table, impl=impl)
    k, v = k.clone(), v.clone()
    k[0, :, stranger], v[0, :, stranger] = 1e3, -1e3
    after = key_graph_attention(q, k, v, graph, scale=0.3, bias_table=bias_table, impl=impl)
    torch.testing.assert_close(after[0, :, 5], before[0, :, 5])


@pytest.mark.parametrize("impl", FAST)
def test_gradcheck(impl):
    nodes, tensors = make_inputs(window=2, width=2, windows=1, heads=2)
    graph = build_key_graph(nodes, 3)
    tensors = [t.requires_grad_() for t in tensors]

    def attend(q, k, v, bias_table):
        return key_graph_attention(q, k, v, graph, scale=0.7, bias_table=bias_table, impl=impl)

    assert torch.autograd.gradcheck(attend, tensors)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=["fp64", "fp32", "bf16"])
@pytest.mark.parametrize("impl", available_implementations())
def test_cosine_scores_with_a_learned_scale_for_each_head(impl, dtype):
    nodes, tensors = make_inputs(window=5)
    graph = build_key_graph(nodes, 7)
    tensors[0][0, 0, 3] = 0  # a query without a direction
    scale = torch.tensor([0.5, 3, 10], dtype=torch.float64)
    tensors = [tensor.to(dtype).requires_grad_() for tensor in (*tensors, scale)]
    exact = [tensor.detach().double().requires_grad_() for tensor in tensors]
    q, k, v, bias_table, factor = tensors
    ours = key_graph_attention(q, k, v, graph, scale=factor, bias_table=bias_table, cosine=True, impl=impl)
    q, k, v, bias_table, factor = exact
    q, k = (rows / rows.norm(dim=-1, keepdim=True).clamp_min(1e-12) for rows in (q * 1.0, k))
    q = q * factor[:, None, None]
    right = key_graph_attention(q, k, v, graph, scale=1.0, bias_table=bias_table, impl="reference")
    weights = torch.linspace(-1, 1, right.numel(), dtype=torch.float64).view_as(right)
    gradients = torch.autograd.grad((ours.double() * weights).sum(), tensors)
    expected = torch.autograd.grad((right * weights).sum(), exact)
    for name, one, other in zip(
        ["out", "dq", "dk", "dv", "dbias", "dscale"], (ours, *gradients), (right, *expected), strict=True
    ):
        one, other = one.detach().double(), other.detach()
        if name == "dq":  # of the query without a direction it is a trillion times as large
            torch.testing.assert_close(one[0, 0, 3], other[0, 0, 3], rtol=10 * TOLERANCE[dtype], atol=0)
            one[0, 0, 3] = other[0, 0, 3] = 0
        assert (one - other).norm() < 3 * TOLERANCE[dtype] * other.norm(), name


@pytest.mark.parametrize("impl", FAST)
def test_gradcheck_of_cosine_scores(impl):
    nodes, tensors = make_inputs(window=2, width=2, windows=1, heads=2)
    graph = build_key_graph(nodes, 3)
    scale = torch.tensor([0.7, 2.0], dtype=torch.float64)

    def attend(q, k, v, bias_table, scale):
        return key_graph_attention(q, k, v, graph, scale=scale, bias_table=bias_table, cosine=True, impl=impl)

    assert torch.autograd.gradcheck(attend, [tensor.requires_grad_() for tensor in (*tensors, scale)])


def test_mask_works_on_many_windows_in_turns(monkeypatch):
    nodes, (q, k, v, bias_table) = make_inputs(window=4, windows=5)
    graph = build_key_graph(nodes, 3)
    whole = key_graph_attention(q, k, v, graph, scale=0.3, bias_table=bias_table, impl="mask")
    one_window = 3 * 16**2 * q.element_size()
    monkeypatch.setattr(mask, "CHUNK_BYTES", 2 * one_window)
    torch.testing.assert_close(
        key_graph_attention(q, k, v, graph, scale=0.3, bias_table=bias_table, impl="mask"), whole
    )


def test_auto_says_what_it_chose(caplog):
    attention._say_once.cache_clear()  # it says the same only once in a process
    nodes, (q, k, v, _) = make_inputs(window=3)
    with caplog.at_level("INFO"):
        key_graph_attention(q, k, v, build_key_graph(nodes, 9), scale=1 / math.pi)
    assert "auto chose" in caplog.text


def test_unknown_implementation_lists_the_known_ones():
    nodes, (q, k, v, _) = make_inputs(window=2)
    with pytest.raises(ValueError, match=r"impl='flash' is not available.*reference, mask, gather, native"):
        key_graph_attention(q, k, v, build_key_graph(nodes, 2), scale=1.0, impl="flash")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": torch.zeros(2, 3, 4, 9)}, "expected three times"),
        ({"bias_table": torch.zeros(3, 10)}, r"bias_table has shape \[3, 10\]"),
        ({"graph": build_key_graph(torch.randn(1, 4, 2), 2)}, "the graph is built for"),
        ({"scale": torch.ones(2)}, r"scale has shape \[2\]; 3 heads need one number, or \[3\]"),
    ],
)
def test_shapes_that_do_not_fit(change, message):
    nodes, (q, k, v, bias_table) = make_inputs(window=2)
    arguments = {"q": q, "k": k, "v": v, "graph": build_key_graph(nodes, 2), "bias_table": bias_table}
    with pytest.raises(ValueError, match=message):
        key_graph_attention(**arguments | {"scale": 1.0} | change)


def test_what_lies_on_another_device_is_refused():
    q, graph = torch.randn(1, 1, 4, 8), KeyGraph(torch.zeros(1, 4, 1, dtype=torch.int32, device="meta"))
    with pytest.raises(ValueError, match="q is on cpu, but the graph on meta: move all to one device"):
        key_graph_attention(q, q, q, graph, scale=1.0)
