"""The linear layer of nodes gives what torch.nn.Linear gives, by whichever library it is computed."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import grad, vmap

from kgt_lightning.model.linear import Linear
from kgt_lightning.ops.kernels.native_build import why_unavailable
from kgt_lightning.ops.linear import linear


@pytest.fixture
def convolved(monkeypatch):
    """Inputs of the convolutions, on a processor with AVX-512 or as if it were one."""
    inputs, convolve = [], F.conv2d
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(F, "conv2d", lambda *args: inputs.append(args[0]) or convolve(*args))
    return inputs


def make(dtype=torch.float32):
    torch.manual_seed(0)
    ours, theirs = Linear(20, 33), nn.Linear(20, 33)
    theirs.load_state_dict(copy.deepcopy(ours.state_dict()))
    return ours.to(dtype), theirs.to(dtype)


@pytest.mark.parametrize("shape", [(3, 16, 20), (7, 20), (1, 1, 20), (600, 20)])
def test_output_and_gradients_by_convolution(convolved, shape):
    ours, theirs = make()
    nodes = torch.randn(*shape[:-2], 20, shape[-2]).mT.requires_grad_()  # not contiguous
    weights = torch.linspace(-1, 1, 33)
    results = []
    for layer in (ours, theirs):
        out = layer(nodes)
        leaves = [nodes, layer.weight, layer.bias]
        results.append([out, *torch.autograd.grad((out * weights).sum(), leaves)])
    assert len(convolved) == (2 if why_unavailable() is None else 1)  # forward, and the gradient of the nodes
    for mine, other in zip(*results, strict=True):
        assert mine.shape == other.shape
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-5)


def test_other_precisions_and_no_nodes_are_left_to_torch(convolved):
    for dtype in (torch.float64, torch.bfloat16):
        ours, theirs = make(dtype)
        nodes = torch.randn(3, 20).to(dtype)
        assert torch.equal(ours(nodes), theirs(nodes))
    ours, theirs = make()
    with torch.autocast("cpu", torch.bfloat16):
        assert ours(torch.randn(3, 20)).dtype == torch.bfloat16
    assert ours(torch.randn(0, 5, 20)).shape == (0, 5, 33)
    assert not convolved


def test_a_traced_layer_is_linear(convolved):
    nodes = torch.randn(3, 20)
    traced = torch.export.export(make()[0], (nodes,))
    assert "linear" in traced.graph_module.code
    assert not convolved


needs_native = pytest.mark.skipif(why_unavailable() is not None, reason=str(why_unavailable()))


@needs_native
@pytest.mark.parametrize(("rows", "outputs", "inputs"), [(1, 1, 1), (255, 7, 31), (257, 9, 33), (513, 40, 64)])
def test_gradients_of_weights_of_every_size_and_with_any_threads(rows, outputs, inputs):
    generator = torch.Generator().manual_seed(rows)
    to, nodes = (torch.randn(rows, width, generator=generator) for width in (outputs, inputs))
    torch.library.opcheck(torch.ops.kgt.weight_gradients.default, (to, nodes))
    threads = torch.get_num_threads()
    found = []
    for number in (1, 3):
        torch.set_num_threads(number)
        found.append(torch.ops.kgt.weight_gradients(to, nodes))
    torch.set_num_threads(threads)
    assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])
    torch.testing.assert_close(found[0][0].double(), to.double().T @ nodes.double(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found[0][1].double(), to.double().sum(0), rtol=1e-4, atol=1e-4)


def test_second_derivatives_and_functional_ones(convolved):
    ours, theirs = make()
    nodes = torch.randn(5, 8, 20, requires_grad=True)
    results = []
    for layer in (ours, theirs):
        leaves = [nodes, layer.weight, layer.bias]
        first = torch.autograd.grad(layer(nodes).sin().sum(), leaves, create_graph=True)
        results.append(torch.autograd.grad(sum(each.square().sum() for each in first), leaves))
    for mine, other in zip(*results, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4)

    def loss(product, weight, bias, nodes):
        return product(nodes, weight, bias).sin().sum()

    leaves = (ours.weight.detach(), ours.bias.detach(), nodes.detach())
    mine, other = (
        vmap(grad(loss, (1, 2, 3)), (None, None, None, 0))(product, *leaves) for product in (linear, F.linear)
    )
    torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4)
