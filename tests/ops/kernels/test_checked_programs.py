"""Every Triton kernel under the checked interpreter; and the checks find what they are for."""

import pytest
import torch

from kgt_lightning.ops import KeyGraph, build_key_graph
from kgt_lightning.ops.attention.reference import reference_attention
from kgt_lightning.ops.kernels.triton_launch import Launch

pytest.importorskip("triton")

import triton.language as tl
from checked_programs import CheckedPrograms
from triton.runtime.interpreter import InterpretedFunction, interpreter_builder

from kgt_lightning.ops.attention.triton_attention import triton_attention
from kgt_lightning.ops.key_graph import triton_graph

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="the interpreter is for machines without a GPU")


@pytest.fixture
def checked(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    return CheckedPrograms(monkeypatch, interpreter_builder)


def apart(tensor, *, before=3, between=5):
    """The same numbers as a view of memory full of NaN: it begins at an odd place, rows lie apart."""
    room = torch.full((*tensor.shape[:-1], tensor.shape[-1] + between), torch.nan).to(tensor.dtype).flatten()
    room = torch.cat([room.new_full((before,), torch.nan), room])
    view = room[before:].view(*tensor.shape[:-1], -1)[..., : tensor.shape[-1]]
    return view.copy_(tensor)


@pytest.mark.slow
@pytest.mark.parametrize("deterministic", [False, True], ids=["atomic", "deterministic"])
@pytest.mark.parametrize(
    ("window", "k", "width", "dtype"),
    [(9, 20, 30, torch.float32), (6, 36, 16, torch.float16), (5, 1, 17, torch.bfloat16)],
    ids=["N81-D30-fp32", "kN-D16-fp16", "k1-D17-bf16"],
)
def test_attention(checked, window, k, width, dtype, deterministic):
    generator = torch.Generator().manual_seed(0)
    windows, num_heads = 2, 1 if window == 9 else 2
    nodes = torch.randn(windows, window**2, 6, generator=generator)
    nodes[:, ::3] = nodes[:, :1]
    graph = KeyGraph(build_key_graph(nodes, k).index)
    heads = torch.randn(3, windows, window**2, num_heads, width, generator=generator).to(dtype)
    q, key, v = (apart(part).transpose(1, 2).requires_grad_() for part in heads)
    table = torch.randn(num_heads, (2 * window - 1) ** 2, generator=generator).requires_grad_()
    inputs = [q, key, v, table]
    out = triton_attention(q, key, v, graph, scale=0.2, bias_table=table, deterministic=deterministic)
    weights = apart(torch.linspace(-1, 1, out.numel()).view(out.shape).to(dtype))
    found = [out, *torch.autograd.grad(out, inputs, weights)]
    exact = [each.detach().double().requires_grad_() for each in inputs]
    right = reference_attention(*exact[:3], graph, scale=0.2, bias_table=exact[3])
    for ours, theirs in zip(found, [right, *torch.autograd.grad(right, exact, weights.double())], strict=True):
        error = (ours.double() - theirs).abs().max() / theirs.abs().max().clamp_min(1.0)
        assert error < (2e-5 if dtype == torch.float32 else 4e-2)
    expected = ["list_unions", "union_forward", "list_unions", "union_backward_queries", "union_backward_keys"]
    assert sorted(checked.launches) == sorted([*expected, *(["backward_bias"] if deterministic else [])])


@pytest.mark.parametrize("resident", [True, False], ids=["registers", "recomputed"])
def test_constructor(checked, monkeypatch, resident):
    if not resident:
        monkeypatch.setattr(triton_graph, "RESIDENT", 1)
    nodes = torch.randint(-4, 5, (2, 45, 19), generator=torch.Generator().manual_seed(0)).float()
    index, _ = triton_graph.choose(apart(nodes), 7)
    assert torch.equal(index, build_key_graph(nodes, 7).index)
    assert checked.launches == ["choose_neighbours", "list_neighbours"]


def faulty(source, target, ALIGN: tl.constexpr, FAULT: tl.constexpr):  # noqa: N803
    """Each of two programs copies four numbers, but for the fault."""
    lane = tl.arange(0, 4)
    place = tl.program_id(0) * 4 + lane
    value = tl.load(source + place)
    if FAULT == "reads outside":
        value = tl.load(source + place + 1)
    if FAULT == "reads what nothing has set":
        value = tl.load(target + place)
    if FAULT == "reads rows that do not begin at multiples":
        rows = tl.multiple_of(source + 1 + 0 * lane[:, None] + tl.arange(0, 2)[None, :], (1, ALIGN))
        value = tl.sum(tl.load(rows), 1)
    if FAULT == "a program reads what another writes":
        value = tl.load(target + (place + 4) % 8)
    if FAULT == "a place is added to and read":
        tl.atomic_add(target + place, tl.load(target + place))
    elif FAULT == "two programs write to one place":
        tl.store(target + lane, value)
    elif FAULT == "writes outside":
        tl.store(target + place - 1, value)
    else:
        tl.store(target + place, value)


@pytest.mark.parametrize(
    "fault",
    [
        "reads outside",
        "writes outside",
        "reads what nothing has set",
        "two programs write to one place",
        "a program reads what another writes",
        "a place is added to and read",
        "reads rows that do not begin at multiples",
    ],
)
def test_faults_are_found(checked, fault):
    kernel = InterpretedFunction(faulty)
    source, target = torch.arange(8.0), torch.empty(8) if "nothing has set" in fault else torch.zeros(8)
    with pytest.raises(AssertionError, match=f"faulty: {fault}"):
        Launch(kernel, 2, {"source": source, "target": target, "ALIGN": 16, "FAULT": fault}).run()
    Launch(kernel, 2, {"source": source, "target": target, "ALIGN": 16, "FAULT": ""}).run()
    assert torch.equal(target, source)
