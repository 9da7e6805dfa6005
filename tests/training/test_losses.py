import json

import pytest
import torch

from kgt_lightning.training.losses import LOSSES, charbonnier


def test_charbonnier_by_hand():
    restored, clean = torch.tensor([0.0, 3.0]), torch.tensor([0.0, 0.0])
    assert charbonnier(restored, clean).item() == pytest.approx((1e-3 + (9 + 1e-6) ** 0.5) / 2)


def test_losses_are_those_of_public_implementations(reference, read_reference):
    names = {"l1": "l1", "mse": "mse", "smooth_l1": "smooth_l1_beta1", "charbonnier": "charbonnier_grl_eps1e-3"}
    assert set(names) == set(LOSSES)
    cases = [
        case
        for case in json.loads((reference / "metrics" / "metrics.json").read_text())
        if "loss_on_unit_range" in case
    ]
    assert cases
    for case in cases:
        restored, clean = read_reference(case["distorted"]), read_reference(case["reference"])
        for ours, theirs in names.items():
            assert LOSSES[ours](restored, clean).item() == pytest.approx(case["loss_on_unit_range"][theirs], abs=1e-6)
