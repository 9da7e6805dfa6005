import json

import pytest
import torch
from hydra.utils import instantiate

from kgt_lightning.config.command import CONF_DIR
from kgt_lightning.training.losses import Charbonnier, NegativePSNR


def test_charbonnier_by_hand():
    restored, clean = torch.tensor([0.0, 3.0]), torch.tensor([0.0, 0.0])
    assert Charbonnier(eps=1e-3)(restored, clean).item() == pytest.approx((1e-3 + (9 + 1e-6) ** 0.5) / 2)


def test_negative_psnr_by_hand():
    """Errors of 0.1 and 0.01: 20 and 40 dB, of which the mean is taken, and not the mean of the errors."""
    restored = torch.tensor([0.1, 0.01]).view(2, 1, 1, 1).expand(2, 3, 4, 4)
    assert NegativePSNR()(restored, torch.zeros(2, 3, 4, 4)).item() == pytest.approx(-30, abs=0.03)


def test_losses_are_those_of_public_implementations(composed, reference, read_reference):
    names = {"l1": "l1", "mse": "mse", "smooth_l1": "smooth_l1_beta1", "charbonnier": "charbonnier_grl_eps1e-3"}
    assert set(names) == {file.stem for file in (CONF_DIR / "loss").iterdir()} - {"psnr"}
    losses = {name: instantiate(composed("train", f"loss={name}").module.loss) for name in names}
    cases = [
        case
        for case in json.loads((reference / "metrics" / "metrics.json").read_text())
        if "loss_on_unit_range" in case
    ]
    assert cases
    for case in cases:
        restored, clean = read_reference(case["distorted"]), read_reference(case["reference"])
        for ours, theirs in names.items():
            assert losses[ours](restored, clean).item() == pytest.approx(case["loss_on_unit_range"][theirs], abs=1e-6)
