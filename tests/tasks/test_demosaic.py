"""Demosaicking: the filters of the literature in all four patterns, at every size."""

import json
import pickle
from typing import get_args

import numpy as np
import pytest
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from torch.nn import functional as F

from kgt_lightning.degradations.bayer import BayerMosaic, Pattern, malvar, mosaic
from kgt_lightning.images.color import modcrop, to_uint8
from kgt_lightning.images.files import Picture, read_image, write_image
from kgt_lightning.metrics.psnr_ssim import psnr
from kgt_lightning.restoring.picture import restore
from kgt_lightning.train import train

SIZES = [(3, 3), (3, 8), (5, 4), (16, 16), (17, 31)]
# rows and columns after which RGGB goes on as the pattern
SHIFTS = {"RGGB": (0, 0), "GRBG": (0, 1), "GBRG": (1, 0), "BGGR": (1, 1)}


def noise(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def test_values_are_those_of_the_literature(reference, read_reference):
    cases = json.loads((reference / "mosaic" / "mosaic.json").read_text())
    assert len(cases) == 3
    for case in cases:
        clean = modcrop(read_reference(case["input"]), case["modcrop_first"] or 1)
        cfa = mosaic(clean)
        assert torch.equal(cfa, read_reference(case["cfa"]))
        found = malvar(cfa)
        if "dm_matlab_float32" in case:
            torch.testing.assert_close(found, read_reference(case["dm_matlab_float32"]), rtol=0, atol=2e-6)
        for border in (0, 10):
            expected = case[f"psnr_dm_matlab_uint8_border{border}"]
            assert psnr(found, clean, crop=border).item() == pytest.approx(expected, abs=0.01)
    # of the last one the rounded values alone are given; many sums end in .5
    steps = (to_uint8(found).int() - to_uint8(read_reference(case["dm_matlab_uint8"])).int()).abs()
    assert steps.max() <= 1
    assert steps.float().mean() <= 0.04


def test_network_input_is_that_of_the_literature(reference, read_reference):
    clean = modcrop(read_reference("inputs/color_b_odd.png"), 8)[0]
    expected = torch.from_numpy(np.load(reference / "grl_val" / "color_b_odd_dm_network_input.npy"))
    torch.testing.assert_close(malvar(mosaic(clean)), expected, rtol=0, atol=2e-6)


def test_every_pixel_of_a_mosaic_is_one_of_its_three():
    image = torch.arange(3.0)[:, None, None].expand(3, 3, 4)
    assert mosaic(image, "RGGB")[0].tolist() == [[0, 1, 0, 1], [1, 2, 1, 2], [0, 1, 0, 1]]
    assert mosaic(image, "GRBG")[0].tolist() == [[1, 0, 1, 0], [2, 1, 2, 1], [1, 0, 1, 0]]
    assert mosaic(image, "GBRG")[0].tolist() == [[1, 2, 1, 2], [0, 1, 0, 1], [1, 2, 1, 2]]
    assert mosaic(image, "BGGR")[0].tolist() == [[2, 1, 2, 1], [1, 0, 1, 0], [2, 1, 2, 1]]


@pytest.mark.parametrize("pattern", get_args(Pattern))
@pytest.mark.parametrize(("height", "width"), SIZES)
class TestEveryPatternAndSize:
    def test_measured_values_are_kept(self, pattern, height, width):
        cfa = noise(2, 1, height, width)
        found = malvar(cfa, pattern)
        assert found.shape == (2, 3, height, width)
        assert torch.equal(mosaic(found, pattern), cfa)

    def test_a_flat_gray_comes_back(self, pattern, height, width):
        flat = torch.full((1, 3, height, width), 0.3)
        torch.testing.assert_close(malvar(mosaic(flat, pattern), pattern), flat)

    def test_a_gray_slope_comes_back_away_from_the_borders(self, pattern, height, width):
        rows, columns = torch.meshgrid(torch.arange(float(height)), torch.arange(float(width)), indexing="ij")
        slope = (0.02 * rows - 0.01 * columns).expand(1, 3, -1, -1)
        found = malvar(mosaic(slope, pattern), pattern)
        inside = (..., slice(2, -2), slice(2, -2))
        torch.testing.assert_close(found[inside], slope[inside])

    def test_pattern_is_that_of_a_shifted_mosaic(self, pattern, height, width):
        cfa = noise(1, 1, height, width)
        top, left = SHIFTS[pattern]
        around = F.pad(F.pad(cfa, (2, 2, 2, 2), mode="reflect"), (left, 0, top, 0))
        expected = malvar(around)[..., 2 + top :, 2 + left :][..., :height, :width]
        torch.testing.assert_close(malvar(cfa, pattern), expected)


@pytest.mark.parametrize("pattern", get_args(Pattern))
def test_a_tile_from_an_even_pixel_has_the_values_of_the_whole(pattern):
    cfa = noise(1, 1, 24, 30)
    tile = malvar(cfa[..., 4:20, 6:24], pattern)
    torch.testing.assert_close(tile[..., 2:-2, 2:-2], malvar(cfa, pattern)[..., 6:18, 8:22])


def test_colour_of_a_flat_image_comes_back():
    flat = torch.tensor([0.9, 0.1, 0.4])[:, None, None].expand(3, 9, 9)
    torch.testing.assert_close(malvar(mosaic(flat)), flat)


def test_gradients():
    cfa = noise(1, 1, 5, 6).double().requires_grad_()
    assert torch.autograd.gradcheck(malvar, (cfa,))
    image = noise(1, 3, 4, 5).double().requires_grad_()
    assert torch.autograd.gradcheck(mosaic, (image,))


def test_autocast_costs_no_digits():
    cfa = noise(1, 1, 16, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = malvar(cfa)
    assert torch.equal(found, malvar(cfa))


@pytest.mark.parametrize("pattern", get_args(Pattern))
def test_degradation(photo, pattern):
    degradation = pickle.loads(pickle.dumps(BayerMosaic(pattern=pattern)))
    [(name, degrade)] = degradation.test_settings().items()
    assert name == pattern
    degraded = degradation(photo[0], np.random.default_rng())
    assert torch.equal(degraded, mosaic(photo, pattern)[0])
    assert torch.equal(pickle.loads(pickle.dumps(degrade))(photo[0], "Set/image.png"), degraded)


def test_a_mosaic_of_a_gray_image_is_the_image(photo):
    gray = photo[0, :1]
    assert torch.equal(BayerMosaic(pattern="GBRG")(gray.expand(3, -1, -1), np.random.default_rng()), gray)


def test_what_cannot_be_done_is_named(photo):
    with pytest.raises(ValueError, match="pattern=RGB must be one of RGGB, GRBG, GBRG, BGGR"):
        BayerMosaic(pattern="RGB")
    with pytest.raises(ValueError, match="pattern=XTRANS"):
        malvar(photo[:, :1], "XTRANS")
    with pytest.raises(ValueError, match=r"3, H, W"):
        mosaic(photo[:, :1])
    for wrong in (photo, photo[:, :1, :2], to_uint8(photo[:, :1])):
        with pytest.raises(ValueError, match="3 x 3 pixels or more"):
            malvar(wrong)


@pytest.fixture
def user_pairs(tmp_path, photo):
    """Folders of GRBG mosaics and of colour images of the same names, with odd sizes."""
    for name, left in (("a", 0), ("b", 33), ("c", 70)):
        clean = photo[0, :, 100:171, left : left + 83]
        write_image(tmp_path / "clean" / f"{name}.png", Picture(pixels=clean))
        write_image(tmp_path / "mosaics" / f"{name}.png", Picture(pixels=mosaic(clean, "GRBG")))
    return (
        "task=demosaic",
        "degradation.pattern=GRBG",
        f"data.degraded={tmp_path / 'mosaics'}",
        f"data.clean={tmp_path / 'clean'}",
        f"data.cache_dir={tmp_path}",
    )


@pytest.mark.parametrize("pattern", get_args(Pattern))
def test_a_model_of_one_pattern_restores_the_others(tiny, tmp_path, photo, pattern):
    torch.manual_seed(0)
    rggb = instantiate(tiny(tmp_path, "task=demosaic").module).eval()
    torch.nn.init.normal_(rggb.network.head.conv.weight, std=0.1)
    other = instantiate(tiny(tmp_path, "task=demosaic", f"degradation.pattern={pattern}").module).eval()
    other.load_state_dict(rggb.state_dict())
    top, left = other.degradation.margin
    whole = mosaic(photo, "RGGB")
    part = whole[..., top:, left:]
    assert torch.equal(mosaic(photo[..., top:, left:], pattern), part)
    inner = (..., slice(3, -3), slice(3, -3))
    with torch.no_grad():
        # The network sees every colour at the pixels where it learned to see it.
        torch.testing.assert_close(other.network_input(part)[inner], rggb.network_input(whole)[inner])
        restored = other(part)
    assert restored.shape == photo[..., top:, left:].shape
    with torch.no_grad():
        torch.nn.init.zeros_(other.network.head.conv.weight)
        torch.testing.assert_close(other(part), other.baseline(part))


def test_patches_of_own_mosaics_begin_with_the_pattern(tiny, user_pairs, tmp_path):
    config = tiny(tmp_path / "run", *user_pairs, "data.patch=17", "data.validation_size=21", "trainer.max_steps=20")
    data = instantiate(config.data)
    data.trainer = instantiate(config.trainer, logger=False, callbacks=None)
    for degraded, clean in data.train_dataloader():
        assert torch.equal(degraded, mosaic(clean, "GRBG"))
    [(degraded, clean, *_)] = data.val_dataloader()
    assert degraded.shape == (1, 1, 20, 20)
    assert torch.equal(degraded, mosaic(clean, "GRBG"))
    assert [str(each) for each in data.test_sets] == ["mosaics GRBG"]


def test_own_mosaics_are_as_large_as_the_patch(tiny, user_pairs, tmp_path):
    with pytest.raises(ValueError, match=r"has 71 x 83 pixels, fewer than data\.patch=72"):
        train(tiny(tmp_path / "run", *user_pairs, "data.patch=72"))


def test_a_colour_image_is_no_mosaic(tiny, user_pairs, tmp_path, photo):
    write_image(tmp_path / "mosaics" / "b.png", Picture(pixels=photo[0]))
    with pytest.raises(ValueError, match=r"b\.png has 3 channels, degraded images of this task have 1"):
        train(tiny(tmp_path / "run", *user_pairs))


def test_gray_images_have_no_mosaic(composed):
    with pytest.raises(InstantiationException, match=r"data\.channels=1 must be 3"):
        instantiate(composed("train", "task=demosaic", "data.channels=1").data)


@pytest.mark.parametrize("size", [(95, 133), (64, 70)])
def test_a_mosaic_is_restored_tile_by_tile(tiny, photo, tmp_path, size):
    """Tiles that began at odd pixels would have all colours wrong."""
    module = instantiate(tiny(tmp_path, "task=demosaic", "degradation.pattern=GBRG").module).eval()
    cfa = mosaic(photo[0, :, : size[0], : size[1]], "GBRG")
    with torch.no_grad():
        whole = module(cfa[None])[0]
    restored = restore(module, cfa, tile=32, overlap=8)
    assert restored.shape == (3, *size)
    assert (restored - whole).abs().mean() < 2e-3
    with pytest.raises(ValueError, match="the image has 3 channels"):
        restore(module, photo[0], tile=32, overlap=8)


def test_training_begins_with_the_filters(tiny, photo_root, tmp_path):
    arguments = ("task=demosaic", "degradation.pattern=BGGR")
    module = instantiate(tiny(tmp_path, *arguments).module)
    degraded = noise(1, 1, 19, 22)
    assert module(degraded).shape == (1, 3, 19, 22)
    torch.testing.assert_close(module(degraded), malvar(degraded, "BGGR"))
    torch.testing.assert_close(module.baseline(degraded), malvar(degraded, "BGGR"))
    train(tiny(tmp_path, *arguments))
    [(name, means)] = json.loads((tmp_path / "results.json").read_text())["means"].items()
    assert name == "CBSD68 BGGR"
    assert {"psnr", "ssim", "psnr_crop0", "ssim_crop0", "degraded_psnr"} <= means.keys()
    images = [read_image(file).pixels[None] for file in (photo_root / "CBSD68").iterdir()]
    for column, crop in (("degraded_psnr", 10), ("degraded_psnr_crop0", 0)):
        values = [psnr(malvar(mosaic(image, "BGGR"), "BGGR"), image, crop=crop).item() for image in images]
        assert means[column] == pytest.approx(np.mean(values), abs=1e-3)
    assert means["psnr"] > 20


def test_own_mosaics_are_trained_on(tiny, user_pairs, tmp_path):
    train(tiny(tmp_path / "run", *user_pairs))
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert list(results["means"]) == ["mosaics GRBG"]
