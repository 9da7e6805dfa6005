"""The linear layer of nodes gives what torch.nn.Linear gives, by whichever library it is computed."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kgt_lightning.model.linear import Linear


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


@pytest.mark.parametrize("shape", [(3, 16, 20), (7, 20), (1, 1, 20)])
def test_output_and_gradients_by_convolution(convolved, shape):
    ours, theirs = make()
    nodes = torch.randn(*shape[:-2], 20, shape[-2]).mT.requires_grad_()  # not contiguous
    weights = torch.linspace(-1, 1, 33)
    results = []
    for layer in (ours, theirs):
        out = layer(nodes)
        leaves = [nodes, layer.weight, layer.bias]
        results.append([out, *torch.autograd.grad((out * weights).sum(), leaves)])
    assert len(convolved) == 1
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
