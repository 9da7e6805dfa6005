"""Resizing gives MATLAB's values: those of BasicSR in double precision, and those of MATLAB's 8-bit files."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kgt_lightning.images.color import modcrop, to_uint8
from kgt_lightning.images.files import read_image
from kgt_lightning.images.resize import imresize

REFERENCE = Path(__file__).parents[1] / "data" / "reference"
CASES = json.loads((REFERENCE / "imresize" / "imresize.json").read_text())


def _input(case):
    pixels = np.atleast_3d(np.asarray(Image.open(REFERENCE / case["input"]))).astype(np.float64) / 255
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    numerator, denominator = map(int, case["scale"].split("/"))
    return modcrop(image, case["modcrop_first"] or 1), numerator / denominator


def _expected(name):
    values = np.load(REFERENCE / name) if name.endswith(".npy") else np.asarray(Image.open(REFERENCE / name))
    return torch.from_numpy(np.atleast_3d(values).copy()).permute(2, 0, 1)[None]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_golden_values(case):
    image, scale = _input(case)
    resized = imresize(image, scale)
    assert list(resized.shape[-2:]) == case["output_shape"][:2]
    if "float64" in case:
        expected = _expected(case["float64"])
        torch.testing.assert_close(resized, expected, rtol=0, atol=1e-9)
        torch.testing.assert_close(imresize(image.float(), scale), expected.float(), rtol=0, atol=2e-6)
        assert resized.amin().item() == pytest.approx(case["float64_min"], abs=1e-9)  # overshoots are kept
    assert _wrong(to_uint8(resized), _expected(case["uint8"])) <= 0.001


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_golden_values_of_8_bit_images(case):
    image, scale = _input(case)
    resized = imresize(image.float(), scale, matlab_uint8=True)
    assert resized.dtype == torch.float32
    assert resized.mul(255).sub(resized.mul(255).round()).abs().max() < 1e-4
    assert _wrong(to_uint8(resized), _expected(case["matlab_uint8"])) <= 0.005


def _wrong(found, expected):
    """Share of values that differ, none of them by more than one."""
    difference = (found.int() - expected.int()).abs()
    assert difference.max() <= 1
    return difference.ne(0).float().mean().item()


SET5 = Path(os.environ.get("KGT_DATA", "data")).expanduser() / "Set5"


@pytest.mark.skipif(not (SET5 / "LR_bicubic").is_dir(), reason="KGT_DATA names no folder with Set5 and its LR files")
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_files_that_matlab_made(scale):
    files = sorted((SET5 / "LR_bicubic" / f"X{scale}").glob("*.png"))
    assert len(files) == 5
    for file in files:
        clean = read_image(SET5 / "HR" / file.name.replace(f"x{scale}.png", ".png")).pixels
        made = imresize(modcrop(clean, scale), 1 / scale, matlab_uint8=True)
        assert torch.equal(to_uint8(made), to_uint8(read_image(file).pixels)), file.name


def test_a_constant_stays_and_a_ramp_stays_straight():
    torch.testing.assert_close(imresize(torch.full((1, 1, 7, 5), 0.3), 3.0), torch.full((1, 1, 21, 15), 0.3))
    ramp = torch.linspace(0, 1, 32, dtype=torch.float64).expand(1, 1, 32, 32)
    steps = imresize(ramp, 2)[0, 0, 0, 8:-8].diff()
    torch.testing.assert_close(steps, torch.full_like(steps, 1 / 62))


def test_scale_one_changes_nothing():
    image = torch.rand(2, 3, 9, 4)
    torch.testing.assert_close(imresize(image, 1), image)


@pytest.mark.parametrize(("length", "scale", "resized"), [(15, 1 / 5, 3), (16, 1 / 5, 4), (7, 1 / 3, 3), (5, 1.5, 8)])
def test_size_is_rounded_up(length, scale, resized):
    assert imresize(torch.rand(1, 1, length, length), scale).shape == (1, 1, resized, resized)


def test_images_smaller_than_the_kernel():
    pixel = torch.full((1, 3, 1, 1), 0.7)
    torch.testing.assert_close(imresize(pixel, 4), torch.full((1, 3, 4, 4), 0.7))
    torch.testing.assert_close(imresize(torch.full((1, 1, 2, 3), 0.7), 1 / 4), torch.full((1, 1, 1, 1), 0.7))


def test_gradient():
    image = torch.rand(1, 1, 5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda each: imresize(each, 1 / 2), image)


@pytest.mark.parametrize("scale", [0, -1, float("nan"), float("inf")])
def test_impossible_scales(scale):
    with pytest.raises(ValueError, match=r"scale=.* must be a positive number"):
        imresize(torch.rand(1, 1, 4, 4), scale)


def test_whole_numbers_are_refused():
    with pytest.raises(ValueError, match="divide uint8 by 255"):
        imresize(torch.zeros(1, 1, 4, 4, dtype=torch.uint8), 2)
