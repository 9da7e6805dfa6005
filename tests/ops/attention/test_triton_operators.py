"""The Triton kernels as operations of PyTorch: torch.library, torch.compile, torch.func, checkpointing."""

import pytest
import torch
from torch.utils.checkpoint import checkpoint
from triton_cases import SCALE, make_graph, on, random

from kgt_lightning.ops import build_key_graph, key_graph_attention

triton_graph = pytest.importorskip("kgt_lightning.ops.key_graph.triton_graph", reason="needs triton")


@pytest.fixture
def inputs(triton_device):
    """Queries, keys, values, and the table."""
    shapes = (*[(1, 2, 16, 8)] * 3, (2, 49))
    return [random(*shape, seed=seed).float().to(triton_device) for seed, shape in enumerate(shapes)]


@pytest.fixture
def graph(triton_device):
    return on(triton_device, make_graph(4, 3, 1))


def loss_of(graph, impl):
    def loss(q, k, v, table):
        return key_graph_attention(q, k, v, graph, scale=SCALE, bias_table=table, impl=impl).square().sum()

    return loss


def gradients(loss, inputs):
    return torch.autograd.grad(loss(*[each.requires_grad_() for each in inputs]), inputs)


def test_operations_follow_the_rules_of_torch_library(inputs, graph):
    q, k, v, table = inputs
    lists = (graph.unions.entries, graph.unions.lengths)
    transposed = (graph.transposed_unions.entries, graph.transposed_unions.lengths, graph.packed_bits)
    out, lse = torch.ops.kgt.triton_attention(q, k, v, table, *lists, SCALE)
    backward = (out, q, k, v, table, out, lse, *lists, *transposed, SCALE, True)
    calls = {
        torch.ops.kgt.triton_attention: (q, k, v, table, *lists, SCALE),
        torch.ops.kgt.triton_attention_backward: backward,
        torch.ops.kgt.choose_neighbours: (q[0], 3),
    }
    for operation, arguments in calls.items():
        torch.library.opcheck(operation.default, arguments)
    # Beyond a list's length memory is not set, so that two calls differ there.
    rules = ("test_schema", "test_faketensor", "test_autograd_registration")
    torch.library.opcheck(torch.ops.kgt.tile_unions.default, (graph.packed_bits, 16, True), test_utils=rules)


@pytest.mark.slow
def test_compiles_without_a_graph_break(inputs, graph):
    """The graph's lists are made inside, as where a model makes its graph."""
    torch.compiler.reset()
    index = graph.index

    def loss(q, k, v, table):
        return loss_of(type(graph)(index, checked=True), "triton")(q, k, v, table)

    found = gradients(torch.compile(loss, fullgraph=True, backend="aot_eager"), inputs)
    torch.testing.assert_close(found, gradients(loss_of(graph, "gather"), inputs), rtol=1e-4, atol=1e-4)


def test_torch_func(inputs, graph):
    every = (0, 1, 2, 3)
    expected = torch.func.grad(loss_of(graph, "gather"), argnums=every)(*inputs)
    found = torch.func.grad(loss_of(graph, "triton"), argnums=every)(*inputs)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    two = [torch.stack([each, -each]) for each in inputs]
    found = torch.vmap(torch.func.grad(loss_of(graph, "triton"), argnums=every))(*two)
    expected = torch.vmap(torch.func.grad(loss_of(graph, "gather"), argnums=every))(*two)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_what_torch_func_is_refused(inputs, graph):
    loss = loss_of(graph, "triton")
    q, *others = inputs
    with pytest.raises(NotImplementedError, match="jvp function"):
        torch.func.jvp(lambda q: loss(q, *others), (q,), (q,))
    with pytest.raises(ValueError, match=r"a second derivative is not possible .* choose gather or mask"):
        torch.func.grad(lambda q: torch.func.grad(loss)(q, *others).sum())(q)


def test_a_batch_of_constructors(triton_device):
    nodes = random(3, 2, 16, 5, seed=4).float().to(triton_device)
    index, _ = torch.vmap(lambda nodes: triton_graph.choose(nodes, 3))(nodes)
    assert torch.equal(index.cpu(), torch.stack([build_key_graph(each.cpu(), 3).index for each in nodes]))


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpointing(inputs, graph, use_reentrant):
    loss = loss_of(graph, "triton")
    expected = gradients(loss, inputs)
    checkpoint(loss, *inputs, use_reentrant=use_reentrant).backward()
    torch.testing.assert_close(tuple(each.grad for each in inputs), expected)
