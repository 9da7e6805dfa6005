import pytest
import torch

from kgt_lightning.analysis.harmless import measure_harm


@pytest.mark.parametrize("channels", [1, 3])
def test_what_changes_nothing_does_no_harm(channels):
    harm = measure_harm(torch.nn.Identity(), channels=channels, size=16)
    assert (harm.flat, harm.black_and_white, harm.shift) == (0, 0, 0)


def test_each_harm_is_found_in_8_bit_values():
    def brighter_in_one_channel(image):
        return image + torch.tensor([2.0, 0, 0]).view(3, 1, 1) / 255

    harm = measure_harm(brighter_in_one_channel, channels=3, size=16)
    assert (harm.flat, harm.black_and_white, harm.shift) == pytest.approx((2, 2, 2), abs=1e-3)
    gray = measure_harm(lambda image: image.clamp(0.02, 0.99), channels=1, size=16)
    assert gray.black_and_white == pytest.approx(255 * 0.02, abs=1e-3)
    assert gray.shift == pytest.approx(0, abs=1e-3)
