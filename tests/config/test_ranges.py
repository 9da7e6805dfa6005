"""Values that mean nothing are refused by their key, before anything is built."""

import functools

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from kgt_lightning.config.command import CONF_DIR
from kgt_lightning.config.schema import check_types
from kgt_lightning.config.types import COMMANDS


@functools.cache
def composed(name, *arguments):
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return compose(name, [*arguments])


def refused(config, command, key, value, words):
    changed = config.copy()
    OmegaConf.update(changed, key, value, force_add=True)
    with pytest.raises(ValueError, match=rf"^{key}=.* must be .*{words}"):
        check_types(changed, command=command)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("optim.lr", 0, "a number above 0"),
        ("optim.lr", float("nan"), "a number above 0"),
        ("optim.lr", float("inf"), "a number above 0"),
        ("optim.schedule.warmup", -1, r"in 0\.\.1"),
        ("optim.schedule.warmup", 2, r"in 0\.\.1"),
        ("optim.schedule.final", -1, r"in 0\.\.1"),
        ("optim.optimizer.weight_decay", -1, "of at least 0"),
        ("trainer.gradient_clip_val", -1, "of at least 0 or null"),
        ("run_dir", "", "path"),
        ("trainer.precision", "16-true", "bf16-mixed, 16-mixed"),
        ("trainer.max_epochs", 0, "null"),
        ("callbacks.checkpoint.mode", "most", "one of min, max"),
        ("trainer.max_steps", -1, "of at least 1"),
        ("model.layout.depths", [], "of at least 1"),
        ("model.layout.depths", [0], r"each a whole number in 1\.\.65536"),
        ("model.layout.heads", 0, r"in 1\.\.65536"),
        ("model.ffn_ratio", 0, "above 0"),
        ("model.ffn_ratio", 1e20, "of at most 256"),
        ("model.train_k", [], "of at least 1"),
        ("model.width", 0, r"in 1\.\.65536"),
        ("data.train", [], "of at least 1, each text"),
        ("data.test", [], "of at least 1, each text or null"),
        ("data.patch", 100000, r"in 1\.\.4096"),
        ("data.batch_size", 100000000, r"in 1\.\.65536"),
        ("data.channels", True, "one of 3, 1"),
        ("callbacks.checkpoint", None, "a section"),
        ("callbacks.ema.decay", 1, "below 1"),
        ("callbacks.panels.error_scale", 0, "above 0"),
        ("run", "", "text of at least 1"),
        ("run", 2024, "text of at least 1"),
        ("resume", "no", "true or false"),
        ("seed", 2**32, "below 4294967296"),
    ],
)
def test_train(key, value, words):
    refused(composed("train"), "train", key, value, words)


@pytest.mark.parametrize(
    ("task", "key", "value"),
    [
        ("weather", "degradation.strength", -1),
        ("weather", "degradation.kinds", []),
        ("weather", "degradation.kinds", ["fog"]),
        *(("weather", f"degradation.rain.{name}", -1) for name in ("density", "length", "brightness", "slant")),
        *(("weather", f"degradation.snow.{name}", -1) for name in ("density", "length", "opacity", "slant")),
        ("weather", "degradation.rain.radius", 0),
        ("weather", "degradation.drops.coverage", 1.5),
        ("weather", "degradation.drops.softness", 1),
        ("deblur", "degradation.tremor", -1),
        ("sr", "degradation.scale", 5),
        ("camera", "degradation.jpeg", 1.5),
        ("camera", "degradation.test_iso", []),
        ("demosaic", "degradation.pattern", "RGB"),
    ],
)
def test_degradations(task, key, value):
    refused(composed("train", f"task={task}"), "train", key, value, "")


@pytest.mark.parametrize(
    ("command", "key", "value", "words"),
    [
        *(("restore", "overwrite", value, "true or false") for value in ("no", "off", "n", "maybe", 1)),
        ("restore", "overlap", -1, "of at least 0"),
        ("restore", "input", 2024, "a path"),
        ("evaluate", "save_images", "no", "true or false"),
        ("evaluate", "protocol", "matlab", "one of swinir, grl or null"),
        ("describe", "size", 5, r"a list \[...\] of 2"),
        ("describe", "size", [0, 3], r"in 1\.\.65536"),
        ("analyze", "points", [[0.5, 3]], r"in 0\.\.1"),
        ("bench", "seconds", -1, "at least 0"),
        ("bench", "what", "all", "one of attention"),
    ],
)
def test_other_commands(command, key, value, words):
    refused(composed(command), command, key, value, words)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_declared_key_stands_in_its_file(command):
    config = composed(command)
    for key in COMMANDS[command]:
        section, _, leaf = key.rpartition(".")
        assert leaf in list(OmegaConf.select(config, section) if section else config), key
