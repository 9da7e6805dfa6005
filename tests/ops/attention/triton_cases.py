"""Inputs for the Triton kernels, and their output and gradients beside those of the float64 reference."""

import torch

from kgt_lightning.ops import KeyGraph, build_key_graph
from kgt_lightning.ops.attention.reference import reference_attention
from kgt_lightning.ops.attention.triton_attention import triton_attention

FP32, FP16, BF16 = torch.float32, torch.float16, torch.bfloat16
TOLERANCE = {FP32: 1e-5, FP16: 2e-2, BF16: 2e-2}
SCALE = 0.2


def random(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def make_graph(window, k, windows, *, duplicates=False):
    nodes = random(windows, window**2, 20, seed=1)
    if duplicates:
        nodes[:, ::2] = nodes[:, :1]
    return build_key_graph(nodes, k)


def on(device, graph):
    return KeyGraph(graph.index.to(device))


def make_inputs(window, width, *, windows, heads):
    """Queries, keys and values as views of one projection, as a model makes them, and the table."""
    qkv = random(windows, window**2, 3, heads, width, seed=2)
    return qkv, random(heads, (2 * window - 1) ** 2, seed=3)


def run(attention, qkv, table, graph, **options):
    qkv = qkv.detach().requires_grad_()
    table = table if table is None else table.detach().requires_grad_()
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    out = attention(q, k, v, graph, scale=SCALE, bias_table=table, **options)
    weights = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).view(out.shape).to(out)
    grads = torch.autograd.grad((out * weights).sum(), [qkv, *([] if table is None else [table])])
    return {"out": out, "dq": grads[0][:, :, 0], "dk": grads[0][:, :, 1], "dv": grads[0][:, :, 2]} | (
        {} if table is None else {"dbias": grads[1]}
    )


def compare(actual, expected, tolerance, k):
    assert actual.keys() == expected.keys()
    for name, theirs in expected.items():
        difference = actual[name].cpu().double() - theirs
        # With one neighbour the softmax is constant: these gradients are zero but for rounding.
        nothing = k == 1 and name in ("dq", "dk", "dbias")
        error = difference.abs().max() if nothing else difference.norm() / theirs.norm()
        assert error < tolerance, f"{name}: error {error:.2e}"


def agrees_with_reference(
    device, *, window, k, width, dtype, windows=1, heads=1, bias=True, duplicates=False, deterministic=False
):
    """Output and all gradients, from the same rounded numbers."""
    graph = make_graph(window, k, windows, duplicates=duplicates)
    qkv, table = make_inputs(window, width, windows=windows, heads=heads)
    qkv = qkv.to(dtype)
    expected = run(reference_attention, qkv.double(), table if bias else None, graph)
    table = table.float().to(device) if bias else None
    actual = run(triton_attention, qkv.to(device), table, on(device, graph), deterministic=deterministic)
    compare(actual, expected, TOLERANCE[dtype], k)
