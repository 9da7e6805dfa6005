import math

import pytest
import torch

from kgt_lightning.analysis.receptive_field import influence, radius


def test_influence_is_the_gradient_of_the_restored_pixel():
    kernel = torch.tensor([[0.0, 1.0, 0.0], [-2.0, 5.0, 0.0], [0.0, 0.0, 0.0]])
    image = torch.rand(1, 9, 9, generator=torch.Generator().manual_seed(0))
    fields = list(influence(lambda x: torch.conv2d(x, kernel[None, None], padding=1), image, [(4, 4), (2, 6)]))
    for field, (row, column) in zip(fields, [(4, 4), (2, 6)], strict=True):
        expected = torch.zeros(9, 9)
        expected[row - 1 : row + 2, column - 1 : column + 2] = kernel.abs() / 8
        torch.testing.assert_close(field, expected)


def test_places_of_a_larger_restored_image_are_those_of_the_image():
    [field] = influence(lambda x: x.repeat_interleave(2, -1).repeat_interleave(2, -2), torch.rand(3, 6, 6), [(1, 5)])
    assert field[1, 5] == 1 and field.sum() == 1


@pytest.mark.parametrize(("share", "expected"), [(0.4, 0.0), (0.6, 3.0), (1.0, math.sqrt(8))])
def test_radius_holds_the_share(share, expected):
    field = torch.zeros(7, 7)
    if share < 1:
        field[3, 3], field[3, 6], field[0, 3] = 2, 1, 1
    else:
        field[3, 3], field[1, 1] = 1, 1
    assert radius(field, (3, 3), share=share) == pytest.approx(expected)
