import pytest
import torch
from hydra.utils import instantiate

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


class Worst:
    """The largest error of an image."""

    name = "worst"
    unit = "of 1"
    higher_is_better = False

    def __call__(self, restored, clean):
        assert restored.shape[1] == 1, "Y"
        return (restored - clean).abs().amax(dim=(1, 2, 3))


def test_any_class_with_a_name_a_unit_and_a_direction_is_a_metric(photo):
    own = scoring(metrics=["psnr", Worst()], colours=["y"], crops=[3, 0])
    assert [column.name for column in own.columns] == ["psnr", "worst", "psnr_crop0", "worst_crop0"]
    assert [column.higher_is_better for column in own.columns] == [True, False] * 2
    assert [column.unit for column in own.columns] == ["dB", "of 1"] * 2
    assert own(photo * 0.5, photo)[1] > 0.3
    assert f"worst by {__name__}.Worst" in own.describe()


@pytest.mark.parametrize(
    ("metrics", "name", "mode"),
    [
        ("psnr,ssim", "psnr", "max"),
        ("ssim_3d", "ssim_3d", "max"),
        (f"{{_target_:{__name__}.Worst}},psnr", "worst", "min"),
    ],
)
def test_the_first_metric_chooses_the_best_checkpoint(composed, tmp_path, metrics, name, mode):
    config = composed("train", f"module.scoring.metrics=[{metrics}]", f"run_dir={tmp_path}")
    checkpoint = config.callbacks.checkpoint
    assert (checkpoint.monitor, checkpoint.mode) == (f"val/{name}", mode)
    assert instantiate(config.module.scoring).columns[0].name == name


def test_what_is_computed_is_said():
    text = scoring(colours=["rgb", "y"], crops=[10, 0]).describe()
    assert "all channels and Y (not rounded)" in text
    assert "crop 10 and 0" in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metrics": ["lpips"]}, "lpips must be one of psnr, ssim, ssim_3d, psnr_b, or a section with a _target_"),
        ({"metrics": ["psnr", "psnr"]}, "must list each metric once"),
    ],
)
def test_what_makes_no_sense_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        scoring(**changes)
