import json

import pytest
import torch
from torch.nn import functional as F

from kgt_lightning.training.module import LOSSES, Scores, charbonnier, self_ensemble


def test_charbonnier_by_hand():
    restored, clean = torch.tensor([0.0, 3.0]), torch.tensor([0.0, 0.0])
    assert charbonnier(restored, clean).item() == pytest.approx((1e-3 + (9 + 1e-6) ** 0.5) / 2)


def test_an_image_that_was_given_twice_counts_once():
    scores = Scores(images=4, number=2)
    for index, value in ((0, 1.0), (1, 2.0), (0, 1.0)):
        scores.update(index, torch.tensor([value, value / 2]))
    assert scores.compute() == {0: [1.0, 0.5], 1: [2.0, 1.0]}


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric Scores was called before")
def test_no_image_has_no_scores():
    assert Scores(images=3, number=2).compute() == {}


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


def test_the_mean_of_the_eight_positions_knows_no_direction(photo):
    """Gradients to the right are not turned with the image; their mean over all positions is."""

    def lopsided(image):
        return image + F.pad(image.diff(dim=-1), (0, 1))

    image = photo[..., :40, :60]
    ensemble = self_ensemble(lopsided, image)
    for turns in range(4):
        turned = torch.rot90(image, turns, (-2, -1))
        torch.testing.assert_close(self_ensemble(lopsided, turned), torch.rot90(ensemble, turns, (-2, -1)))
    torch.testing.assert_close(self_ensemble(lopsided, image.flip(-1)), ensemble.flip(-1))
    assert not torch.allclose(lopsided(image.flip(-1)), lopsided(image).flip(-1))


def test_eight_positions_of_an_enlarging_model_that_keeps_directions(photo):
    def enlarge(image):
        return image.repeat_interleave(2, -1).repeat_interleave(2, -2)

    image = photo[..., :30, :50]
    torch.testing.assert_close(self_ensemble(enlarge, image), enlarge(image))
