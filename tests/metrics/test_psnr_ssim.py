import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from kgt_lightning.metrics.psnr_ssim import describe_protocol, psnr, psnr_b, ssim, ssim_3d

CASES = json.loads((Path(__file__).parents[1] / "data/reference/metrics/metrics.json").read_text())
METRICS = [psnr, psnr_b, ssim, ssim_3d]
FAMILY = {"swinir": "basicsr", "grl": "grl"}
# the grl reference computes in float32 with a window rounded to six digits
TOLERANCE = {
    "swinir": {"psnr": 1e-4, "psnr_y": 1e-3, "ssim": 1e-5, "ssim_y": 1e-5},
    "grl": dict.fromkeys(("psnr", "psnr_y", "ssim", "ssim_y"), 2e-4),
}


@pytest.mark.parametrize("crop", [0, 2, 4])
@pytest.mark.parametrize("protocol", ["swinir", "grl"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_published_values(case, protocol, crop, read_reference):
    restored, clean = read_reference(case["distorted"]), read_reference(case["reference"])
    for name, expected in case[FAMILY[protocol]][f"crop{crop}"].items():
        if name not in TOLERANCE[protocol]:
            continue
        metric = psnr if name.startswith("psnr") else ssim
        value = metric(restored, clean, crop=crop, luma=name.endswith("_y"), protocol=protocol)
        assert value.item() == pytest.approx(float(expected), abs=TOLERANCE[protocol][name]), name


def cases_with(name: str) -> dict:
    """The cases that state the metric, for parametrize."""
    cases = [case for case in CASES if name in case]
    assert cases
    return {"argvalues": cases, "ids": [case["name"] for case in cases]}


@pytest.mark.parametrize("case", **cases_with("psnrb_crop0"))
def test_published_psnr_b(case, read_reference):
    restored, clean = read_reference(case["distorted"]), read_reference(case["reference"])
    for name, expected in case["psnrb_crop0"].items():
        value = psnr_b(restored, clean, luma=name.endswith("_y"), protocol="grl" if "grl" in name else "swinir")
        assert value.item() == pytest.approx(expected, abs=1e-3), name


@pytest.mark.parametrize("case", **cases_with("restormer_ssim_3d_crop0"))
def test_published_ssim_3d(case, read_reference):
    restored, clean = read_reference(case["distorted"]), read_reference(case["reference"])
    assert ssim_3d(restored, clean).item() == pytest.approx(case["restormer_ssim_3d_crop0"], abs=1e-4)


def test_psnr_by_hand():
    clean = torch.full((1, 3, 4, 4), 100 / 255)
    restored = clean.clone()
    restored[:, 0, 0, 0] = 148 / 255
    assert psnr(restored, clean).item() == pytest.approx(10 * math.log10(255**2 / (48**2 / 48)))


@pytest.mark.parametrize("protocol", ["swinir", "grl"])
def test_identical_images(photo, protocol):
    for luma in (False, True):
        assert psnr(photo, photo, luma=luma, protocol=protocol).item() == math.inf
        assert ssim(photo, photo, luma=luma, protocol=protocol).item() == pytest.approx(1)
        assert ssim_3d(photo, photo, luma=luma, protocol=protocol).item() == pytest.approx(1)


def test_psnr_b_counts_blocks_of_the_restored_image_alone():
    smooth = torch.linspace(0.2, 0.8, 64).repeat(64, 1)[None, None]
    blocks = smooth.unflatten(-1, (8, 8)).mean(dim=-1, keepdim=True).expand(-1, -1, -1, 8, 8).flatten(-2)
    assert psnr_b(blocks, smooth) < psnr(blocks, smooth)
    assert psnr_b(smooth, blocks).item() == pytest.approx(psnr(smooth, blocks).item())
    assert psnr_b(smooth, smooth).item() == math.inf


def test_psnr_b_by_hand():
    clean = torch.full((1, 1, 16, 16), 100 / 255)
    restored = clean.clone()
    restored[..., 8:] = 110 / 255
    # 16 steps of 10 across 2 * 16 border pairs, none elsewhere; log2 8 / log2 16 = 3 / 4; half of the pixels are 10 off
    expected = 10 * math.log10(255**2 / (50 + 0.75 * 16 * 100 / 32))
    assert psnr_b(restored, clean).item() == pytest.approx(expected)


def test_ssim_3d_of_gray_images_is_two_dimensional_with_repeated_borders(photo):
    gray, restored = photo[:, :1], photo[:, :1] * 0.9
    inner = (..., slice(5, -5), slice(5, -5))
    # repeated by hand, so that the valid region of the larger images is the whole of the smaller ones
    larger = [torch.nn.functional.pad(image, (5,) * 4, mode="replicate") for image in (restored, gray)]
    assert ssim_3d(restored, gray).item() == pytest.approx(ssim(*larger).item(), abs=1e-12)
    assert ssim_3d(restored, gray) != ssim_3d(restored[inner], gray[inner])


@pytest.mark.parametrize("metric", METRICS)
def test_one_value_per_image_in_batch_order(photo, metric):
    noise = torch.randn(photo.shape, generator=torch.Generator().manual_seed(0))
    restored = torch.cat([photo + sigma * noise for sigma in (0.2, 0.02, 0.1)])
    values = metric(restored, photo.expand(3, -1, -1, -1))
    assert values.shape == (3,)
    torch.testing.assert_close(values, torch.cat([metric(image[None], photo) for image in restored]))
    assert values[1] > values[2] > values[0]


@pytest.mark.parametrize("metric", METRICS)
def test_values_below_half_an_8_bit_step_and_outside_the_range_do_not_count(photo, metric):
    photo = photo.clone()
    photo[..., :50, :50] = 1
    restored = photo + 0.4 / 255
    torch.testing.assert_close(metric(restored, photo), metric(photo, photo))


@pytest.mark.parametrize("metric", METRICS)
def test_crop_equals_scoring_the_inner_part(photo, metric):
    restored = (photo * 0.9).clone()
    inner = (..., slice(7, -7), slice(7, -7))
    torch.testing.assert_close(metric(restored, photo, crop=7), metric(restored[inner], photo[inner]))


def test_nan_is_reported(photo):
    restored = photo.clone()
    restored[0, 0, 150, 200] = torch.nan
    for metric in METRICS:
        assert metric(restored, photo).isnan().all(), metric.__name__


def test_half_precision_is_scored_like_float32(photo):
    restored = (photo * 0.9).bfloat16()
    torch.testing.assert_close(psnr(restored, photo), psnr(restored.float(), photo))


def test_ssim_agrees_with_scikit_image(photo):
    restored = photo * 0.8
    ours = ssim(restored, photo).item()
    rounded = [(image[0].permute(1, 2, 0).numpy() * 255).round().astype(np.float64) for image in (restored, photo)]
    _, similarity = structural_similarity(
        *rounded,
        data_range=255,
        channel_axis=2,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    assert ours == pytest.approx(similarity[5:-5, 5:-5].mean(), abs=1e-6)


def test_protocols_differ_where_they_should(photo):
    restored = (photo + 0.02 * torch.randn(photo.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    assert psnr(restored, photo) == psnr(restored, photo, protocol="grl")
    assert psnr(restored, photo, luma=True) > psnr(restored, photo, luma=True, protocol="grl")
    assert ssim(restored, photo) != ssim(restored, photo, protocol="grl")


@pytest.mark.parametrize(
    ("shapes", "options", "message"),
    [
        (((1, 3, 16, 16), (1, 3, 16, 17)), {}, "same shape"),
        (((3, 16, 16), (3, 16, 16)), {}, r"\[B, C, H, W\]"),
        (((1, 3, 16, 16), (1, 3, 16, 16)), {"crop": 8}, r"crop=8 must lie in 0\.\.7"),
        (((1, 3, 16, 16), (1, 3, 16, 16)), {"crop": -1}, "crop=-1"),
        (((1, 1, 16, 16), (1, 1, 16, 16)), {"luma": True}, "luma=True needs RGB"),
        (((1, 3, 16, 16), (1, 3, 16, 16)), {"protocol": "matlab"}, "'matlab' must be one of swinir, grl"),
    ],
)
@pytest.mark.parametrize("metric", METRICS)
def test_wrong_arguments_are_explained_in_one_line(metric, shapes, options, message):
    with pytest.raises(ValueError, match=message) as error:
        metric(torch.zeros(shapes[0]), torch.zeros(shapes[1]), **options)
    assert "\n" not in str(error.value)


def test_ssim_of_an_image_below_the_window():
    small = torch.rand(1, 1, 10, 30)
    with pytest.raises(ValueError, match="SSIM needs 11 x 11"):
        ssim(small, small)
    assert ssim(small, small, protocol="grl").item() == pytest.approx(1)


def test_psnr_b_of_an_image_below_two_blocks():
    small = torch.rand(1, 1, 15, 30)
    with pytest.raises(ValueError, match="15 x 30 pixels remain after the crop, PSNR-B needs 16 x 16"):
        psnr_b(small, small)


def test_description_names_all_that_changes_the_number():
    texts = {
        describe_protocol(crops=crops, colours=colours, protocol=protocol)
        for crops in ([0], [4], [10, 0])
        for colours in (["rgb"], ["y"], ["rgb", "y"])
        for protocol in ("swinir", "grl")
    }
    assert len(texts) == 18
    with pytest.raises(ValueError, match="swinir, grl"):
        describe_protocol(crops=[0], colours=["rgb"], protocol="other")
