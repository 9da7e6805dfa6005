import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from kgt_lightning.images.color import to_uint8
from kgt_lightning.model.padding import pad_to_multiple

GOLDEN = json.loads((Path(__file__).parents[1] / "data/reference/padding/padding.json").read_text())
RULES = {"swinir": "swinir", "restormer": "reflect", "grl": "grl"}


@pytest.mark.parametrize("case", GOLDEN["pad"], ids=lambda case: case["name"])
def test_published_padding(case, read_reference):
    image = to_uint8(read_reference(case["input"]))
    padded = pad_to_multiple(image, case["multiple"], rule=RULES[case["name"].split("_")[0]])
    assert list(padded.shape[-2:]) == case["output_shape"]
    expected = image if "output" not in case else to_uint8(read_reference(case["output"]))
    assert torch.equal(padded, expected)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (3, 2), (5, 8), (8, 8), (9, 17)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bfloat16, torch.int64])
def test_reflection_of_any_size_agrees_with_numpy(size, dtype):
    image = torch.randint(0, 200, (2, 3, *size), generator=torch.Generator().manual_seed(0)).to(dtype)
    added = [(0, 0), (0, 0), *((0, -length % 8) for length in size)]
    for rule, mode in (("reflect", "reflect"), ("swinir", "symmetric")):
        if rule == "swinir":
            added = [(0, 0), (0, 0), *((0, 8 - length % 8) for length in size)]
        expected = np.pad(image.float().numpy(), added, mode=mode)
        padded = pad_to_multiple(image, 8, rule=rule)
        assert padded.dtype == dtype
        np.testing.assert_array_equal(padded.float().numpy(), expected)


def test_grl_pads_with_zeros_where_one_reflection_is_too_short():
    image = torch.rand(1, 3, 20, 7)
    padded = pad_to_multiple(image, 16, rule="grl")
    assert torch.equal(padded, F.pad(image, (0, 9, 0, 12)))
    wide = torch.rand(1, 3, 20, 9)
    assert torch.equal(pad_to_multiple(wide, 16, rule="grl"), F.pad(wide, (0, 7, 0, 12), mode="reflect"))


def test_padding_to_some_multiples_at_least():
    image = torch.rand(1, 3, 1, 6)
    padded = pad_to_multiple(image, 2, times=2)
    assert padded.shape == (1, 3, 4, 6) and torch.equal(padded, image.expand(-1, -1, 4, -1))


def test_nothing_is_copied_when_the_size_fits():
    image = torch.rand(1, 3, 16, 32)
    assert pad_to_multiple(image, 16) is image


def test_the_gradient_counts_how_often_a_pixel_is_shown():
    image = torch.rand(1, 1, 2, 3, dtype=torch.float64, requires_grad=True)
    pad_to_multiple(image, 8).sum().backward()
    assert image.grad.sum() == 64
    assert torch.autograd.gradcheck(lambda x: pad_to_multiple(x, 4), image)


def test_padding_compiles_without_graph_breaks_for_changing_sizes():
    compiled = torch.compile(lambda image: pad_to_multiple(image, 8), backend="eager", fullgraph=True, dynamic=True)
    for size in ((5, 6), (13, 7), (3, 21)):
        image = torch.rand(1, 2, *size)
        assert torch.equal(compiled(image), pad_to_multiple(image, 8))


@pytest.mark.parametrize(
    ("size", "multiple", "rule", "message"),
    [
        ((4, 4), 0, "reflect", "multiple=0"),
        ((0, 4), 2, "reflect", "0 x 4"),
        ((4, 4), 2, "zeros", "reflect, swinir, grl"),
    ],
)
def test_wrong_padding_is_explained(size, multiple, rule, message):
    with pytest.raises(ValueError, match=message):
        pad_to_multiple(torch.zeros(1, 1, *size), multiple, rule=rule)
