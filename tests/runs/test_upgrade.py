"""Checkpoints of before degradation and head were objects of their own."""

import copy
import json
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from kgt_lightning.runs.checkpoint import load_checkpoint
from kgt_lightning.runs.upgrade import upgrade
from kgt_lightning.train import train

OLD = json.loads(Path(__file__).with_name("old_configs.json").read_text())
"""By task: what stood in the configuration of a tiny run."""
for config in OLD.values():  # JSON has no whole numbers as keys
    config["data"]["usual_test"] = {int(key): sets for key, sets in config["data"]["usual_test"].items()}
MODEL = ("model.width=8", "model.window=4", "model.k=8", "model.layout.depths=[1,1]", "model.layout.heads=2")


@pytest.mark.parametrize("task", OLD)
def test_an_old_checkpoint_restores_and_tests_as_one_of_today(composed, tmp_path, task):
    config = composed("train", f"task={task}", *MODEL, "data_root=sets", "data.patch=12")
    today = instantiate(config.module)
    for parameter in today.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    content = {"config": OLD[task], "state_dict": today.state_dict(), "global_step": 3}
    torch.save(content, tmp_path / "old.ckpt")

    checkpoint = load_checkpoint(tmp_path / "old.ckpt")

    # What an old network was given began with its own pattern.
    newer = {"network_pattern"}
    assert checkpoint.config.degradation == {k: v for k, v in config.degradation.items() if k not in newer}
    assert checkpoint.module().scoring.columns == today.scoring.columns
    assert checkpoint.config.module.head == config.module.head
    module, data = checkpoint.module(), instantiate(checkpoint.config.data)
    image = torch.rand(1, module.degraded_channels, 16, 24)
    with torch.no_grad():
        torch.testing.assert_close(module(image), today.eval()(image), rtol=0, atol=0)
    expected = instantiate(config.data)
    assert type(data) is type(expected)
    assert list(data.degradation.test_settings()) == list(expected.degradation.test_settings())
    assert (data.test_rules, dict(data.default_test)) == (expected.test_rules, dict(expected.default_test))


def test_what_is_in_the_structure_of_today_stays_as_it_is(composed):
    config = OmegaConf.to_container(composed("train", "run_dir=x", "run=x"), resolve=True)
    before = copy.deepcopy(config)
    assert upgrade(config) == before


def test_an_old_run_is_resumed(tiny, tmp_path):
    train(tiny(tmp_path, "trainer.max_steps=2"))
    for file in (tmp_path / "checkpoints").glob("*.ckpt"):
        content = torch.load(file, weights_only=True)
        torch.save({**content, "config": OLD["denoise"]}, file)

    train(tiny(tmp_path, "resume=true"))

    assert load_checkpoint(tmp_path / "checkpoints" / "last.ckpt").step == 4
    assert "degradation" in torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["config"]
