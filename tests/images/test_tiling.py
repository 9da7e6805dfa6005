import itertools
import json
from pathlib import Path

import pytest
import torch

from kgt_lightning.images.tiling import assembled, tile_starts, tiles

GOLDEN = json.loads((Path(__file__).parents[1] / "data/reference/padding/padding.json").read_text())


@torch.no_grad()
def restore_tiled(forward, image, **settings):
    return assembled(tiles(forward, image, **settings))


def identity(image):
    return image


def toy_model(image):
    """The model of the reference tiles: its result depends on the whole tile."""
    return image - image.mean(dim=(1, 2, 3), keepdim=True)


@pytest.mark.parametrize("case", GOLDEN["tile"], ids=lambda case: case["input"])
def test_published_tiles(case, read_reference):
    image = read_reference(case["input"])
    tile, overlap, scale = case["tile"], case["overlap"], case["scale"]
    assert tile_starts(image.shape[-2], tile, overlap) == case["h_starts"]
    assert tile_starts(image.shape[-1], tile, overlap) == case["w_starts"]
    restored = restore_tiled(
        lambda part: toy_model(part).repeat_interleave(scale, -2).repeat_interleave(scale, -1),
        image,
        tile=tile,
        overlap=overlap,
        scale=scale,
        blend="mean",
    )
    torch.testing.assert_close(restored, read_reference(case["output"]), atol=2e-6, rtol=0)


@pytest.mark.parametrize("length", [1, 31, 32, 33, 57, 64, 100])
@pytest.mark.parametrize("overlap", [0, 8, 31])
def test_tiles_cover_the_axis_and_share_the_overlap(length, overlap):
    starts = tile_starts(length, 32, overlap)
    assert starts[0] == 0
    assert starts[-1] + min(32, length) == length
    assert all(0 < after - before <= 32 - overlap for before, after in itertools.pairwise(starts))


@pytest.mark.parametrize("blend", ["smooth", "mean"])
@pytest.mark.parametrize(("tile", "overlap"), [(32, 8), (32, 0), (32, 31), (40, 24), (7, 3), (1, 0), (500, 16)])
@pytest.mark.parametrize("size", [(57, 64), (96, 33), (20, 90), (1, 1)])
def test_where_tiles_agree_the_result_is_theirs_to_the_bit(size, tile, overlap, blend):
    if tile < 7 and max(size) > 60:
        size = (9, 11)
    image = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    assert torch.equal(restore_tiled(identity, image, tile=tile, overlap=overlap, blend=blend), image)


def test_enlarging_tiles_agrees_with_enlarging_the_image():
    image = torch.rand(1, 3, 45, 38)
    double = torch.nn.Upsample(scale_factor=2, mode="nearest")
    assert torch.equal(restore_tiled(double, image, tile=16, overlap=5, scale=2), double(image))


def test_smooth_blending_is_a_ramp_between_two_tiles():
    """Tiles of 0 and 1 side by side: 0 and 1 outside what they share, a rise between, symmetric about its middle."""
    image = torch.zeros(1, 1, 24, 40)
    image[..., 24:] = 1
    last_column = torch.nn.Upsample(size=(24, 24))
    restored = restore_tiled(lambda part: last_column(part[..., -1:]), image, tile=24, overlap=8)[0, 0]
    assert restored[:, :16].eq(0).all()
    assert restored[:, 24:].eq(1).all()
    ramp = restored[0, 16:24]
    assert (ramp.diff() > 0).all()
    torch.testing.assert_close(ramp + ramp.flip(0), torch.ones(8))
    torch.testing.assert_close(ramp, torch.sin((torch.arange(8) + 0.5) / 8 * torch.pi / 2).square())


def test_smooth_blending_leaves_smaller_steps_than_the_mean(photo):
    """Tiles that disagree by a constant, as tiles of a real model do: the error may not jump at a tile's edge."""
    steps = {}
    for blend in ("smooth", "mean"):
        error = restore_tiled(toy_model, photo, tile=96, overlap=32, blend=blend) - photo
        steps[blend] = error.diff(dim=-1).abs().max()
    assert steps["smooth"] < 0.2 * steps["mean"]


@pytest.mark.parametrize("blend", ["smooth", "mean"])
def test_each_tile_is_run_once_and_never_exceeds_its_size(blend):
    sizes = []

    def forward(part):
        sizes.append(tuple(part.shape))
        return part[:, :1]

    image = torch.rand(2, 3, 70, 20)
    restored = restore_tiled(forward, image, tile=32, overlap=8, blend=blend)
    assert sizes == [(2, 3, 32, 20)] * 3
    assert torch.equal(restored, image[:, :1])


def test_a_tile_that_fails_does_not_spoil_the_others():
    image = torch.rand(1, 1, 50, 40)
    image[..., 2, 3] = torch.nan
    restored = restore_tiled(lambda part: part + 0 * part.mean(), image, tile=20, overlap=4)
    assert restored[..., :20, :20].isnan().all()
    assert torch.equal(restored[..., 20:, :], image[..., 20:, :])
    assert torch.equal(restored[..., 20:], image[..., 20:])


def test_images_of_a_batch_do_not_mix():
    images = torch.rand(3, 3, 50, 41)
    together = restore_tiled(toy_model, images, tile=24, overlap=8)
    alone = torch.cat([restore_tiled(toy_model, image[None], tile=24, overlap=8) for image in images])
    torch.testing.assert_close(together, alone)


def test_half_precision_tiles_are_blended_in_float32():
    image = torch.full((1, 1, 60, 60), 0.7, dtype=torch.bfloat16)
    restored = restore_tiled(identity, image, tile=32, overlap=16)
    assert restored.dtype == torch.float32
    assert torch.equal(restored, image.float())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tile": 0, "overlap": 0}, "tile=0 must be at least 1"),
        ({"tile": 8, "overlap": 8}, r"overlap=8 must lie in 0\.\.7"),
        ({"tile": 8, "overlap": -1}, r"overlap=-1 must lie in 0\.\.7"),
        ({"tile": 8, "overlap": 2, "blend": "hard"}, "'hard' must be one of smooth, mean"),
        ({"tile": 8, "overlap": 2, "scale": 2}, r"scale=2 needs \[B, C, 16, 16\]"),
        ({"tile": 8, "overlap": 2, "scale": 0}, "scale=0 at least 1"),
    ],
)
def test_wrong_tiling_is_explained_in_one_line(options, message):
    with pytest.raises(ValueError, match=message) as error:
        restore_tiled(identity, torch.zeros(1, 3, 20, 20), **options)
    assert "\n" not in str(error.value)
