"""examples/own_model: two backbones of convolutions, as a user's own folder holds them."""

import re
import shlex
import sys
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate

from kgt_lightning import restore
from kgt_lightning.images.files import read_image
from kgt_lightning.train import train

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_model"
SEARCH = f"hydra.searchpath=[{EXAMPLE}/conf]"


@pytest.fixture(autouse=True)
def on_the_path(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLE)
    yield
    sys.modules.pop("convolutions", None)


@pytest.mark.parametrize("task", ["denoise", "sr"])
@pytest.mark.parametrize("model", ["dncnn", "nafnet"])
def test_every_image_size_and_every_weight_has_a_gradient(composed, task, model):
    config = composed("train", SEARCH, f"task={task}", f"model={model}", "model.depth=2", "run_dir=x")
    module = instantiate(config.module)
    for weights in module.parameters():
        torch.nn.init.normal_(weights, std=0.1)
    scale = module.network.scale
    restored = module(torch.rand(2, 3, 9, 14))
    assert restored.shape == (2, 3, 9 * scale, 14 * scale)
    restored.square().mean().backward()
    assert all(weights.grad.abs().sum() > 0 for weights in module.parameters())


def test_a_block_of_nafnet_begins_as_the_identity(composed):
    backbone = instantiate(composed("train", SEARCH, "model=nafnet", "run_dir=x").model)
    image = torch.rand(1, 3, 8, 8)
    torch.testing.assert_close(backbone(image), backbone.stem(image))


@pytest.mark.parametrize("model", ["dncnn", "nafnet"])
def test_the_recipe_of_kgt_trains_it_and_it_restores(
    composed, run_command, tiny_arguments, photo_root, tmp_path, model
):
    shared = [each for each in tiny_arguments if not each.startswith(("model.window", "model.k", "model.layout"))]
    small = ["model.depth=2", f"run_dir={tmp_path}/run", "run=test"]
    assert train(composed("train", SEARCH, f"model={model}", *shared, *small)) > 10
    checkpoint = f"checkpoint={tmp_path}/run/checkpoints/best.ckpt"
    given = (checkpoint, f"input={photo_root}/CBSD68", "output=restored")
    code, _, errors = run_command(restore.main, *given)
    assert code == 2
    assert "add trust=[convolutions]" in errors
    assert run_command(restore.main, *given, "trust=[convolutions]")[0] == 0
    restored = read_image(tmp_path / "restored" / "1.png").pixels
    assert restored.shape == read_image(photo_root / "CBSD68" / "1.png").pixels.shape


def test_models_of_the_comparison_differ_in_nothing_else(composed):
    def shared(name):
        config = composed("train", SEARCH, f"experiment=convolutions/{name}", "run_dir=x", "run=x")
        assert config.trainer.max_steps == config.minutes * config.steps_a_minute
        return config.data, config.optim, config.module.loss, config.callbacks

    assert shared("kgt_nano") == shared("dncnn") == shared("nafnet")


def test_commands_of_the_readme_compose(composed):
    text = (EXAMPLE / "README.md").read_text().replace("\\\n", " ")
    commands = re.findall(r"^.*kgt_lightning\.train (.*)$", text, flags=re.MULTILINE)
    assert len(commands) >= 2
    for command in commands:
        arguments = [each for each in shlex.split(command, comments=True) if each != "-m"]
        arguments = [each.split(",")[0] if each.startswith("experiment=") else each for each in arguments]
        composed("train", *[each.replace("[examples/own_model", f"[{EXAMPLE}") for each in arguments])
