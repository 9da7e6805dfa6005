import pytest
import torch
from hydra.utils import instantiate

from kgt_lightning.restoring.picture import aligned, restore


def test_tiles_restore_what_the_whole_does(tiny, tmp_path):
    """Windows that lie alike see the same nodes, so that only what lies at the edges of tiles can differ."""
    torch.manual_seed(0)
    config = tiny(tmp_path)
    module = instantiate(config.module).eval()
    torch.nn.init.normal_(module.network.head.conv.weight, std=0.05)
    image = torch.rand(3, 96, 96)
    whole = restore(module, image, tile=96, overlap=0)
    tiled = restore(module, image, tile=64, overlap=32)
    assert (whole - image).abs().mean() > 0.01
    # Far from what is blended nothing differs.
    torch.testing.assert_close(tiled[:, :24, :24], whole[:, :24, :24], rtol=0, atol=1e-5)
    assert (tiled - whole).square().mean() < 0.01 * (whole - image).square().mean()


@pytest.mark.parametrize(
    ("tile", "overlap", "multiple", "expected"),
    [
        (256, 32, 32, (256, 32)),
        (256, 32, 8, (256, 32)),
        (100, 10, 32, (96, 32)),
        (20, 10, 32, (32, 10)),
        (256, 32, 256, (256, 32)),
        (256, 0, 32, (256, 0)),
    ],
)
def test_tiles_are_whole_windows(tile, overlap, multiple, expected):
    assert aligned(tile, overlap, multiple=multiple) == expected
