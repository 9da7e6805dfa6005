"""The whole restorer: any size, any k, both layouts; the presets have the published numbers of parameters."""

import pytest
import torch
from hydra.utils import instantiate

import kgt_lightning.model.stage as stage_module
from kgt_lightning.model import UShape

LAYOUTS = ("columnar", "ushape")
SMALL = {2: 11.87, 3: 12.05, 4: 12.02}
BASE = {2: 19.90, 3: 20.08, 4: 20.04}


@pytest.mark.parametrize(
    ("model", "scale", "published"),
    [
        *(("kgt_small", scale, millions) for scale, millions in SMALL.items()),
        *(("kgt_base", scale, millions) for scale, millions in BASE.items()),
    ],
)
def test_published_numbers_of_parameters(composed, model, scale, published):
    assert round(_parameters(composed, "task=sr", f"model={model}", f"degradation.scale={scale}") / 1e6, 2) == published


def test_u_shaped_preset_is_within_a_percent_of_the_published_number(composed):
    assert _parameters(composed, "task=denoise", "model=kgt_unet") / 1e6 == pytest.approx(25.82, rel=0.01)


def test_nano_preset_is_small(composed):
    assert _parameters(composed, "task=denoise", "model=kgt_nano") <= 0.6e6


def _parameters(composed, *settings):
    with torch.device("meta"):
        module = instantiate(composed("describe", *settings).module)
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("scale", [1, 2, 3])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 2), (16, 16), (17, 30)])
def test_any_size(make_restorer, layout, stride, scale, height, width):
    restored = make_restorer(layout, stride=stride, scale=scale)(torch.rand(2, 3, height, width))
    assert restored.shape == (2, 3, height * scale, width * scale)
    assert restored.isfinite().all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_padding_does_not_change_an_image_of_a_fitting_size(make_restorer, layout):
    restorer = make_restorer(layout)
    image = torch.rand(1, 3, 16, 24)
    expected = restorer.head(restorer.backbone(image), image)
    torch.testing.assert_close(restorer(image), expected)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_constructor_runs_once_in_each_stage(make_restorer, layout, monkeypatch):
    restorer = make_restorer(layout)
    built = []
    build = stage_module.build_key_graph
    monkeypatch.setattr(stage_module, "build_key_graph", lambda nodes, k: built.append(k) or build(nodes, k))
    restorer(torch.rand(1, 3, 16, 16), 7)
    stages = [module for module in restorer.modules() if isinstance(module, stage_module.Stage)]
    assert built == [7] * len(stages)
    assert sum(len(stage.layers) for stage in stages) > len(stages)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_parameter_gets_a_gradient(layout, make_restorer):
    restorer = make_restorer(layout, shift=True)
    restorer(torch.rand(2, 3, 16, 16)).square().mean().backward()
    lacking = [name for name, each in restorer.named_parameters() if each.grad is None or not each.grad.any()]
    assert lacking == []


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("scale", [1, 2])
def test_a_head_that_begins_at_zero_passes_gradients_on_after_one_step(layout, scale, make_restorer):
    restorer = make_restorer(layout, scale=scale, fresh_head=True)
    optimizer = torch.optim.SGD(restorer.parameters(), lr=0.1)
    degraded, clean = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16 * scale, 16 * scale)
    for step in range(3):
        optimizer.zero_grad()
        (restorer(degraded) - clean).square().mean().backward()
        lacking = [name for name, each in restorer.named_parameters() if not each.grad.any()]
        assert bool(lacking) == (step == 0)
        optimizer.step()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_shift_moves_the_windows_of_every_second_stage(make_restorer, layout):
    stages = [m for m in make_restorer(layout, shift=True).modules() if isinstance(m, stage_module.Stage)]
    shifted = {"columnar": [False, True], "ushape": [False, False, True, False]}[layout]
    assert [stage.shifted for stage in stages] == shifted
    assert not any(m.shifted for m in make_restorer(layout).modules() if isinstance(m, stage_module.Stage))


def test_k_of_a_call_goes_before_that_of_the_model(make_restorer):
    image = torch.rand(1, 3, 8, 8)
    restorer = make_restorer(k=3)
    at_call = restorer(image, 9)
    assert not torch.allclose(at_call, restorer(image))
    restorer.backbone.k = 9
    torch.testing.assert_close(restorer(image), at_call)


@pytest.mark.parametrize(
    "settings, wrong", [({"k": 17}, "k=17"), ({"k": 0}, "k=0"), ({"train_k": [4, 17]}, "train_k=17")]
)
def test_k_that_does_not_fit_the_window(make_restorer, settings, wrong):
    told = rf"^{wrong} must lie in 1\.\.16 \(window=4 has 16 nodes\): choose a smaller k"
    with pytest.raises(ValueError, match=told):
        make_restorer(**settings)


def test_k_of_a_call_is_checked(make_restorer):
    with pytest.raises(ValueError, match=r"k=17 must lie in 1\.\.16"):
        make_restorer()(torch.rand(1, 3, 8, 8), 17)


def test_k_in_training(make_restorer):
    assert make_restorer(k=3).backbone.train_k == (3,)
    assert make_restorer(k=3, train_k=[2, 4]).backbone.train_k == (2, 4)


def test_multiple(make_restorer):
    assert make_restorer(stride=2).backbone.multiple == 8
    assert make_restorer("ushape").backbone.multiple == 8


def test_levels_of_depths_and_heads_must_agree(make_restorer):
    with pytest.raises(ValueError, match=r"depths=\[1, 2, 1\] and heads=\[1, 2\] must name the same number of levels"):
        UShape(stage=None, width=8, shift=False, depths=[1, 2, 1], heads=[1, 2], final_depth=1)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_compiled_model_computes_the_same(make_restorer):
    image = torch.rand(1, 3, 8, 8)
    expected = make_restorer(attention="mask")(image)
    torch.testing.assert_close(make_restorer(attention="mask", compile=True)(image), expected, rtol=1e-4, atol=1e-5)
