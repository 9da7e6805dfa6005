"""Super-resolution: low-resolution files are used where a set gives them, and scale is said once."""

import json
import math

import numpy as np
import pytest
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning import Trainer

from kgt_lightning.degradations.bicubic import BicubicDown
from kgt_lightning.images.color import to_uint8
from kgt_lightning.images.files import Picture, read_image, write_image
from kgt_lightning.images.resize import imresize
from kgt_lightning.metrics.psnr_ssim import psnr
from kgt_lightning.train import train

TINY = (
    "model.width=8",
    "model.window=4",
    "model.k=4",
    "model.stride=1",
    "model.layout.depths=[1]",
    "model.layout.heads=2",
)


def picture(height, width, seed=0):
    values = np.random.default_rng(seed).integers(0, 256, (3, height, width))
    return torch.from_numpy(values).float() / 255


def write(file, pixels):
    write_image(file, Picture(pixels=pixels))
    return pixels


@pytest.fixture
def make_data(composed, tmp_path):
    def make(*arguments):
        where = (f"data_root={tmp_path}", f"data.cache_dir={tmp_path / 'cache'}", "data.test=[set]")
        return instantiate(composed("train", "task=sr", *where, *arguments).data)

    return make


@pytest.mark.parametrize("rounded", [True, False])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_degraded_image(scale, rounded):
    clean = picture(24, 36)
    down = BicubicDown(scale=scale, matlab_uint8=rounded)
    [(name, degrade)] = down.test_settings().items()
    assert name == f"x{scale}"
    degraded = degrade(clean, "set/a.png")
    torch.testing.assert_close(degraded, down(clean, np.random.default_rng()), rtol=0, atol=0)
    torch.testing.assert_close(degraded, imresize(clean, 1 / scale, matlab_uint8=rounded), rtol=0, atol=0)
    assert degraded.shape == (3, 24 // scale, 36 // scale)
    assert torch.equal(to_uint8(degraded) / 255, degraded) == rounded


@pytest.mark.parametrize(("suffix", "extension"), [("x2", "png"), ("", "bmp")])
@pytest.mark.parametrize("within", ["HR", "."])
def test_given_small_versions_are_used(make_data, tmp_path, within, suffix, extension):
    clean = write(tmp_path / "set" / within / "a.png", picture(9, 12))
    small = write(tmp_path / "set" / "LR_bicubic" / "X2" / f"a{suffix}.{extension}", picture(4, 6, seed=1))
    write(tmp_path / "set" / "LR_bicubic" / "X3" / "a.png", picture(3, 4, seed=2))
    [(name, images)] = make_data().test_sets.items()
    assert str(name) == "set x2"
    [sample] = [images[i] for i in range(len(images))]
    assert sample.name == "a"
    torch.testing.assert_close(sample.degraded, small)
    torch.testing.assert_close(sample.clean, clean[:, :8])


@pytest.mark.parametrize("within", ["HR", "."])
def test_small_versions_are_made_where_none_are_given(make_data, tmp_path, within):
    clean = write(tmp_path / "set" / within / "a.png", picture(13, 17))
    write(tmp_path / "set" / "LR_bicubic" / "X2" / "a.png", picture(6, 8))
    [(name, images)] = make_data("degradation.scale=4").test_sets.items()
    assert (str(name), len(images)) == ("set x4", 1)
    torch.testing.assert_close(images[0].degraded, imresize(clean[:, :12, :16], 1 / 4, matlab_uint8=True))


def test_a_missing_small_version_is_named(make_data, tmp_path):
    for name in "ab":
        write(tmp_path / "set" / "HR" / f"{name}.png", picture(8, 8))
    write(tmp_path / "set" / "LR_bicubic" / "X2" / "ax2.png", picture(4, 4))
    with pytest.raises(ValueError, match="X2 has no b or bx2 for b: add it, or remove"):
        _ = make_data().test_sets


def test_a_small_version_of_another_size_is_named(make_data, tmp_path):
    write(tmp_path / "set" / "HR" / "a.png", picture(8, 8))
    write(tmp_path / "set" / "LR_bicubic" / "X2" / "a.png", picture(4, 5))
    [images] = make_data().test_sets.values()
    with pytest.raises(ValueError, match="a: its degraded image has 4 x 5 pixels, 4 x 4 are expected at scale=2"):
        images[0]


def test_a_set_without_images(make_data, tmp_path):
    write(tmp_path / "set" / "LR_bicubic" / "X2" / "a.png", picture(4, 5))
    with pytest.raises(ValueError, match="holds small versions only: put the images into"):
        _ = make_data().test_sets


def test_central_parts_of_both_images_belong_together(make_data, tmp_path):
    """Each 3 x 3 pixels of the image have one value, that of their pixel in the small version."""
    for name, height, width in (("a", 3, 3), ("b", 20, 31)):  # the second will be held out
        small = write(tmp_path / "set" / "LR_bicubic" / "X3" / f"{name}.png", picture(height, width))
        write(tmp_path / "set" / "HR" / f"{name}.png", small.repeat_interleave(3, -1).repeat_interleave(3, -2))
    data = make_data("degradation.scale=3", "data.train=[set]", "data.validation_size=32")
    data.trainer = Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    [sample] = data.val_dataloader().dataset
    assert sample.name == "b"
    assert sample.degraded.shape == (3, 10, 10)
    torch.testing.assert_close(sample.clean[:, ::3, ::3], sample.degraded)


def test_scale_is_said_once(composed):
    config = composed("train", "task=sr", *TINY, "degradation.scale=3")
    assert (config.module.scoring.crops, config.data.patch) == ([3], 96)
    assert instantiate(config.data).degradation.scale == instantiate(config.module).network.scale == 3
    assert composed("train", "task=sr", "degradation.scale=3", "data.patch=60").data.patch == 60


def test_patch_that_no_small_patch_fits(composed):
    with pytest.raises(InstantiationException, match="patch=64 must be a multiple of scale=3"):
        instantiate(composed("train", "task=sr", "degradation.scale=3", "data.patch=64").data)


def test_gray_images_are_not_scored_as_y(composed):
    with pytest.raises(
        InstantiationException,
        match=r"module\.scoring\.colours=\['y'\] scores Y of RGB, data\.channels=1: set it to \[rgb\]",
    ):
        instantiate(composed("train", "task=sr", *TINY, "data.channels=1", "module.scoring.colours=[y]").module)


def test_untrained_module_is_scored_beside_bicubic_enlargement(composed):
    module = instantiate(composed("train", "task=sr", *TINY, "degradation.scale=2").module)
    clean = picture(32, 32)
    degraded = imresize(clean, 1 / 2)[None]
    baseline = module.baseline(degraded)
    torch.testing.assert_close(baseline, imresize(degraded, 2))
    restored = module(degraded)
    assert restored.shape == (1, 3, 32, 32)
    assert psnr(restored, baseline, crop=2).item() > 25  # another bicubic kernel, no more


def test_training_ends_with_scores_of_every_image(composed, tmp_path):
    for name in "abc":
        write(tmp_path / "photos" / f"{name}.png", picture(40, 50, seed=ord(name)))
    arguments = (
        "task=sr",
        "degradation.scale=3",
        *TINY,
        "trainer.max_steps=2",
        "trainer.accelerator=cpu",
        "data.batch_size=2",
        "data.train=[photos]",
        "data.test=[photos]",
        f"data_root={tmp_path}",
        f"data.cache_dir={tmp_path / 'cache'}",
        f"run_dir={tmp_path / 'run'}",
    )
    value = train(composed("train", *arguments))
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["task"] == "sr"
    assert results["protocol"].startswith("swinir: Y (not rounded) of 8-bit images, crop 3")
    assert results["means"]["photos x3"]["psnr"] == pytest.approx(value)
    assert sorted(each["image"] for each in results["images"]) == ["a", "b", "c"]
    assert all(math.isfinite(each["psnr"]) for each in results["images"])
    panel = next((tmp_path / "run" / "panels").rglob("*.png"))
    assert read_image(panel).pixels.shape[0] == 3
