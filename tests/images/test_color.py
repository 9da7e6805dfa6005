import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from kgt_lightning.images.color import gray, luma, modcrop, quantize, to_uint8

REFERENCE = Path(__file__).parents[1] / "data/reference"


@pytest.mark.parametrize("name", ["color_a", "color_b_odd"])
def test_luma_and_gray_agree_with_basicsr_and_opencv(name, read_reference):
    image = read_reference(f"inputs/{name}.png")
    torch.testing.assert_close(
        luma(image) * 255, read_reference(f"ycbcr/{name}_y_float32_0_255.npy"), atol=1e-4, rtol=0
    )
    assert torch.equal(quantize(luma(image)), quantize(read_reference(f"ycbcr/{name}_y_uint8.png")))
    difference = quantize(gray(image)) - quantize(read_reference(f"ycbcr/{name}_cv2gray_uint8.png"))
    assert difference.abs().max() <= 1
    assert difference.ne(0).float().mean() < 1e-3


def test_luma_spans_the_studio_range():
    black_and_white = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 2, 2)
    torch.testing.assert_close(luma(black_and_white)[:, 0, 0, 0] * 255, torch.tensor([16.0, 235.0]))
    torch.testing.assert_close(gray(black_and_white)[:, 0, 0, 0], torch.tensor([0.0, 1.0]))


@pytest.mark.parametrize("convert", [luma, gray])
def test_brightness_of_a_gray_image_is_refused(convert):
    with pytest.raises(ValueError, match=r"\(1, 1, 4, 4\)"):
        convert(torch.zeros(1, 1, 4, 4))


def test_rounding_is_half_to_even_and_clamped():
    image = torch.tensor([-1.0, 0.5, 1.5, 2.5, 254.5, 300.0], dtype=torch.float64) / 255
    assert to_uint8(image).tolist() == [0, 0, 2, 2, 254, 255]
    assert to_uint8(image).dtype == torch.uint8


@pytest.mark.parametrize("case", json.loads((REFERENCE / "padding/modcrop.json").read_text()), ids=str)
def test_modcrop_keeps_the_top_left(case, read_reference):
    cropped = to_uint8(modcrop(read_reference(case["input"]), case["scale"]))[0].permute(1, 2, 0).numpy()
    assert list(cropped.shape[: len(case["output_shape"])]) == case["output_shape"]
    assert hashlib.sha256(np.ascontiguousarray(cropped).tobytes()).hexdigest() == case["sha256_of_raw_bytes"]


@pytest.mark.parametrize("multiple", [0, 5])
def test_modcrop_that_leaves_nothing(multiple):
    with pytest.raises(ValueError, match=rf"multiple={multiple} must lie in 1\.\.4"):
        modcrop(torch.zeros(1, 1, 4, 6), multiple)
