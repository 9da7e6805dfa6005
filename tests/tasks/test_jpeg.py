"""JPEG: the pixels of public test sets, and patches that look like crops of a compressed image."""

import json
import pickle

import numpy as np
import pytest
import torch
from hydra.utils import instantiate

from kgt_lightning.degradations.jpeg import JPEGCompression, compress
from kgt_lightning.images.color import gray, luma, to_uint8
from kgt_lightning.images.files import Picture, read_image, write_image
from kgt_lightning.metrics.psnr_ssim import psnr
from kgt_lightning.train import train


def jpeg(quality, *, test_quality=None):
    return JPEGCompression(quality=quality, test_quality=test_quality)


def rng(seed=0):
    return np.random.default_rng(seed)


def inner(image, border):
    return image[:, border:-border, border:-border]


def test_pixels_are_those_of_the_literature(reference, read_reference):
    cases = json.loads((reference / "jpeg" / "jpeg.json").read_text())
    assert len(cases) == 16
    for case in cases:
        clean, degraded = read_reference(case["input"]), read_reference(case["opencv"])
        assert torch.equal(compress(clean, case["quality"]), degraded), case
        setting = jpeg(10, test_quality=case["quality"]).test_settings()[f"quality={case['quality']}"]
        assert torch.equal(setting(clean[0], "Set/image.png"), degraded[0]), case


def test_gray_test_images_of_colour_files_are_the_luma_of_the_literature(read_reference):
    clean = to_uint8(luma(read_reference("inputs/color_a.png"))) / 255
    assert torch.equal(clean, read_reference("ycbcr/color_a_y_uint8.png"))
    assert torch.equal(compress(clean, 10), read_reference("grl_val/color_a_grayjpeg10_live1_lq.png"))


def test_images_of_a_batch_are_compressed_on_their_own(photo):
    batch = torch.cat([photo, photo.flip(-1), 1 - photo])
    together = compress(batch, 10)
    assert together.shape == batch.shape
    assert together.is_contiguous()
    for image, degraded in zip(batch, together, strict=True):
        assert torch.equal(compress(image, 10), degraded)


def test_values_are_of_8_bits(photo):
    degraded = compress(photo * 1.2 - 0.1, 10)
    assert torch.equal(to_uint8(degraded) / 255, degraded)
    assert torch.equal(degraded, compress((photo * 1.2 - 0.1).clamp(0, 1), 10))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("quality", [10, 90])
def test_a_flat_middle_gray_is_left_unchanged(channels, quality):
    flat = torch.full((channels, 19, 21), 128 / 255)
    assert torch.equal(compress(flat, quality), flat)
    assert torch.equal(jpeg(quality)(flat, rng()), flat)


def test_higher_quality_is_closer(photo):
    for image in (photo, photo[:, :1]):
        scores = [psnr(compress(image, quality), image).item() for quality in (10, 20, 30, 40, 90)]
        assert scores == sorted(scores)
        assert scores[0] < 33 < 38 < scores[-1]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_patch_has_the_very_pixels_of_a_compressed_image(photo, channels):
    """Of one of the 16 x 16 images, that is, that begin with another pixel."""
    photo, degradation = photo[0, :channels, 60:170, 100:220], jpeg(10)
    border = degradation.context
    around = photo[:, 31 : 31 + 32 + 2 * border, 27 : 27 + 32 + 2 * border]
    patch = inner(degradation(around, rng()), border)
    top, left = 31 + border, 27 + border
    whole = [
        compress(photo[:, row:, column:], 10)[:, top - row :, left - column :][:, :32, :32]
        for row in range(16)
        for column in range(16)
    ]
    assert any(torch.equal(patch, each) for each in whole)


def test_blocks_of_patches_begin_anywhere():
    """The lowest quality leaves one value to each 8 x 8 pixels of a slope."""
    slope = (torch.arange(40) * 6 / 255).expand(1, 40, 40)
    degradation, generator = jpeg(1), rng()
    rows = [degradation(slope, generator)[0, 0] for _ in range(100)]
    starts = [row.diff()[16:24].nonzero().flatten().tolist() for row in rows]
    assert all(len(each) == 1 for each in starts)
    assert {each for [each] in starts} == set(range(8))


def test_degraded_image_is_that_of_its_generator(photo):
    clean = photo[0, :, :64, :64]
    degradation = pickle.loads(pickle.dumps(jpeg({"low": 10, "high": 40})))
    degraded = degradation(clean, rng())
    assert degraded.shape == clean.shape
    assert torch.equal(degraded, degradation(clean, rng()))
    assert any(not torch.equal(degraded, degradation(clean, rng(seed))) for seed in range(1, 4))


@pytest.mark.parametrize(
    ("quality", "possible"), [(20, {20}), ([10, 40], {10, 40}), ({"low": 10, "high": 12}, {10, 11, 12})]
)
def test_qualities_are_drawn_from_a_list_or_a_range(monkeypatch, quality, possible):
    drawn = []

    def remember(image, quality):
        drawn.append(quality)
        return image

    monkeypatch.setattr("kgt_lightning.degradations.jpeg.compress", remember)
    degradation, generator = jpeg(quality), rng()
    for _ in range(60):
        degradation(torch.zeros(1, 8, 8), generator)
    assert set(drawn) == possible


@pytest.mark.parametrize(
    ("quality", "test_quality", "names"),
    [
        (10, None, ["quality=10"]),
        ([10, 40], None, ["quality=10", "quality=40"]),
        ({"low": 15, "high": 30}, None, ["quality=20", "quality=30"]),
        ({"low": 60, "high": 75}, None, ["quality=75"]),
        (10, [20, 90], ["quality=20", "quality=90"]),
    ],
)
def test_qualities_to_test(quality, test_quality, names):
    assert list(jpeg(quality, test_quality=test_quality).test_settings()) == names


@pytest.mark.parametrize(
    "quality",
    [0, 101, 10.5, [], [10, 0], {"low": 10}, {"low": 40, "high": 10}, {"low": 10, "high": 400}, {"low": 1, "top": 2}],
)
def test_qualities_that_make_no_sense_are_named(quality):
    with pytest.raises(ValueError, match=r"degradation\.quality="):
        jpeg(quality)
    if not isinstance(quality, dict):
        with pytest.raises(ValueError, match=r"degradation\.test_quality="):
            jpeg(10, test_quality=quality)


def test_images_that_jpeg_cannot_hold(photo):
    with pytest.raises(ValueError, match="quality=0 must be"):
        compress(photo, 0)
    with pytest.raises(ValueError, match="C = 1"):
        compress(photo[:, :2], 10)


def test_gray_images_of_colour_files_are_made_in_two_ways(composed, photo, tmp_path):
    for name in "ab":
        write_image(tmp_path / "set" / f"{name}.png", Picture(pixels=photo[0, :, :50, :40]))
    where = (f"data_root={tmp_path}", f"data.cache_dir={tmp_path}", "data.train=[set]", "data.test=[set]")
    data = instantiate(composed("train", "task=jpeg", "data.channels=1", *where).data)
    [(name, images)] = data.test_sets.items()
    assert str(name) == "set quality=10"
    assert torch.equal(images[0].clean, to_uint8(luma(photo[0, :, :50, :40])) / 255)
    assert torch.equal(images[0].degraded, compress(images[0].clean, 10))
    assert "Y" in data.test_rules
    for entries in data.train_and_validation:
        assert torch.equal(entries[0].clean.read(), to_uint8(gray(photo[0, :, :50, :40])) / 255)


@pytest.mark.parametrize("channels", [1, 3])
def test_training_ends_with_scores_beside_those_of_the_compressed_image(tiny, photo_root, tmp_path, channels):
    folder = ("CBSD68", "Set12")[channels == 1]
    arguments = (
        "task=jpeg",
        f"data.channels={channels}",
        f"data.test=[{folder}]",
        "degradation.quality={low:10,high:20}",
    )
    train(tiny(tmp_path, *arguments, "module.scoring.metrics=[psnr]"))
    results = json.loads((tmp_path / "results.json").read_text())
    assert list(results["means"]) == [f"{folder} quality=10", f"{folder} quality=20"]
    files = sorted((photo_root / folder).iterdir())
    images = [read_image(file).pixels[None] for file in files]
    for quality in (10, 20):
        means = results["means"][f"{folder} quality={quality}"]
        expected = np.mean([psnr(compress(image, quality), image).item() for image in images])
        assert means["degraded_psnr"] == pytest.approx(expected, abs=1e-3)
        assert means["psnr"] > 20
