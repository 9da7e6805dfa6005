import pytest
import torch

from kgt_lightning.metrics.psnr_ssim import psnr, ssim
from kgt_lightning.metrics.scoring import Scoring


def scoring(*, protocol="swinir", metrics=("psnr", "ssim"), colours=("rgb",), crops=(0,)):
    return Scoring(protocol=protocol, metrics=metrics, colours=colours, crops=crops)


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({}, ["psnr", "ssim"]),
        ({"colours": ["y"], "crops": [2]}, ["psnr", "ssim"]),
        ({"colours": ["rgb", "y"]}, ["psnr", "ssim", "psnr_y", "ssim_y"]),
        ({"metrics": ["psnr"], "crops": [10, 0]}, ["psnr", "psnr_crop0"]),
        (
            {"metrics": ["psnr"], "colours": ["y", "rgb"], "crops": [4, 0]},
            ["psnr", "psnr_rgb", "psnr_crop0", "psnr_rgb_crop0"],
        ),
    ],
)
def test_only_further_columns_say_how_they_differ(changes, names):
    assert [column.name for column in scoring(**changes).columns] == names


def test_scores_are_those_of_the_metrics(photo):
    restored = (photo * 0.9).clamp(0, 1)
    values = scoring(protocol="grl", colours=["rgb", "y"], crops=[3])(restored, photo)
    expected = [
        metric(restored, photo, crop=3, luma=luma, protocol="grl") for luma in (False, True) for metric in (psnr, ssim)
    ]
    torch.testing.assert_close(values, torch.cat(expected))


def test_what_is_computed_is_said():
    text = scoring(colours=["rgb", "y"], crops=[10, 0]).describe()
    assert "all channels and Y (not rounded)" in text
    assert "crop 10 and 0" in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metrics": []}, r"module\.scoring\.metrics=\[\] must list some of psnr, ssim"),
        ({"metrics": ["lpips"]}, "lpips"),
        ({"colours": ["ycbcr"]}, r"module\.scoring\.colours=\['ycbcr'\] must list some of rgb, y"),
        ({"crops": []}, r"crops=\[\] must list border widths"),
        ({"crops": [-2]}, r"crops=\[-2\] must list border widths"),
        ({"protocol": "matlab"}, "must be one of swinir, grl"),
    ],
)
def test_what_makes_no_sense_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        scoring(**changes)
