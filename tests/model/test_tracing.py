"""A whole model as one graph: torch.compile without breaks, torch.export for any size, torch.func."""

import pytest
import torch
from torch.export import Dim

from kgt_lightning.ops import available_implementations

TRACED = [name for name in ("reference", "native") if name in available_implementations()]


@pytest.fixture
def image():
    return torch.rand(1, 3, 13, 21, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("attention", "grad"), zip(TRACED, (True, False), strict=False))
def test_compiles_without_a_graph_break(make_restorer, image, attention, grad):
    torch.compiler.reset()
    restorer = make_restorer(attention=attention, shift=True)
    with torch.set_grad_enabled(grad):
        compiled = torch.compile(restorer, fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(image), restorer(image))


@pytest.mark.slow
@pytest.mark.parametrize("attention", TRACED[-1:])
def test_compiled_gradients_are_the_same(make_restorer, image, attention):
    torch.compiler.reset()
    restorer = make_restorer("ushape", attention=attention)
    expected = torch.autograd.grad(restorer(image).square().sum(), restorer.parameters())
    compiled = torch.compile(restorer, fullgraph=True, backend="aot_eager")
    actual = torch.autograd.grad(compiled(image).square().sum(), restorer.parameters())
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("attention", TRACED)
def test_exports_for_any_height_and_width(make_restorer, image, attention):
    settings = {"reference": {"shift": True, "stride": 2}, "native": {"scale": 2, "k": 16, "ffn": "gated"}}
    restorer = make_restorer(attention=attention, **settings[attention]).eval()
    sizes = {2: Dim("height", min=1), 3: Dim("width", min=1)}
    with torch.no_grad():
        program = torch.export.export(restorer, (image,), dynamic_shapes={"degraded": sizes}).module()
        for size in ((1, 1), (16, 8), (9, 40)):
            other = torch.rand(1, 3, *size)
            torch.testing.assert_close(program(other), restorer(other))


@pytest.mark.parametrize("attention", [name for name in ("gather", "native") if name in available_implementations()])
def test_torch_func_differentiates_a_model(make_restorer, image, attention):
    restorer = make_restorer(attention=attention)
    parameters = dict(restorer.named_parameters())

    def loss(parameters):
        return torch.func.functional_call(restorer, parameters, (image,)).square().sum()

    expected = torch.autograd.grad(loss(parameters), list(parameters.values()))
    found = torch.func.grad(loss)(parameters)
    torch.testing.assert_close(list(found.values()), list(expected), rtol=1e-4, atol=1e-4)
