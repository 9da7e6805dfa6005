"""Metrics of piq, which is not installed here unless somebody needs it: a stand-in shows how it is called."""

import sys
from importlib.machinery import ModuleSpec
from types import SimpleNamespace

import pytest
import torch

from kgt_lightning.metrics.perceptual import LPIPS, Piq
from kgt_lightning.metrics.scoring import Scoring


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    def gmsd(restored, clean, *, data_range, reduction):
        assert (restored.shape[1], data_range, reduction) == (3, 1.0, "none")
        return (restored - clean).abs().mean(dim=(1, 2, 3))

    def lpips(*, reduction):
        return torch.nn.PairwiseDistance() if reduction == "none" else None

    monkeypatch.setitem(sys.modules, "piq", SimpleNamespace(gmsd=gmsd, LPIPS=lpips, __spec__=ModuleSpec("piq", None)))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))


@pytest.mark.parametrize("colour", ["rgb", "y"])
def test_lower_is_better(stand_in, photo, colour):
    scoring = Scoring(protocol="swinir", metrics=["psnr", Piq(measure="gmsd")], colours=[colour], crops=[2])
    assert [column.higher_is_better for column in scoring.columns] == [True, False]
    assert scoring(photo, photo)[1] == 0
    assert scoring(photo * 0.9, photo)[1] < scoring(photo * 0.8, photo)[1]


def test_weights_are_not_downloaded(stand_in, tmp_path):
    with pytest.raises(ValueError, match=r"LPIPS needs .*vgg16-397923af\.pth, which is not downloaded by itself"):
        LPIPS()
    (tmp_path / "checkpoints").mkdir()
    for file in LPIPS.FILES:
        (tmp_path / "checkpoints" / file).touch()
    assert not LPIPS().higher_is_better


@pytest.mark.parametrize("metric", [LPIPS, lambda: Piq(measure="fsim")])
def test_what_is_missing_is_named(monkeypatch, metric):
    monkeypatch.setitem(sys.modules, "piq", None)
    with pytest.raises(ValueError, match=r"this metric needs piq: pip install 'kgt-lightning\[metrics\]'"):
        metric()


@pytest.mark.parametrize("measure", ["fsim", "gmsd", "multi_scale_gmsd", "haarpsi", "mdsi", "srsim", "vif_p", "vsi"])
def test_piq_itself_agrees_about_the_direction(photo, measure):
    pytest.importorskip("piq")
    metric = Piq(measure=measure)
    noise = torch.randn(photo.shape, generator=torch.Generator().manual_seed(0))
    little, much = (metric((photo + sigma * noise).clamp(0, 1), photo) for sigma in (0.02, 0.2))
    assert little.shape == (1,)
    assert (little > much) == metric.higher_is_better
    assert (metric(photo, photo) >= little) == metric.higher_is_better
