import pytest
import torch
from torch.nn import functional as F

from kgt_lightning.degradations.noise import GaussianNoise
from kgt_lightning.model import ResidualHead
from kgt_lightning.training.restoration import Restoration, self_ensemble


class Plain(torch.nn.Identity):
    """A backbone that does nothing but what its place needs."""

    channels, width, stride, multiple = 3, 3, 1, 1


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"backbone": torch.nn.Identity()}, "Identity has no channels and no width.*which a backbone needs"),
        ({"degradation": torch.nn.Identity()}, "degradation=Identity is no degradation"),
        ({"head": torch.nn.Identity}, "Identity is no module with an attribute scale, which a head needs"),
        ({"head": dict}, "dict is no module with an attribute scale"),
    ],
)
def test_classes_that_lack_what_their_place_needs(part, message):
    noise = GaussianNoise(sigma=25, test_sigma=25, protocol="swinir")
    parts = {"backbone": Plain(), "degradation": noise, "head": ResidualHead}
    Restoration(**parts, self_ensemble=False)
    with pytest.raises(ValueError, match=message):
        Restoration(**{**parts, **part}, self_ensemble=False)


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
