"""Small models: two stages, windows of 4 x 4 nodes."""

from functools import partial

import pytest
import torch

from kgt_lightning.model import KGT, Columnar, PixelShuffleHead, ResidualHead, Restorer, UShape

LAYOUTS = {
    "columnar": partial(Columnar, depths=[2, 1], heads=2),
    "ushape": partial(UShape, depths=[1, 2], heads=[2, 4], final_depth=1),
}


@pytest.fixture
def make_restorer():
    """Makes a restorer with seeded weights; unless asked for fresh, its head does not begin at zero."""

    def make(layout="columnar", *, scale=1, fresh_head=False, **changes):
        torch.manual_seed(0)
        settings = {
            "channels": 3,
            "width": 8,
            "window": 4,
            "k": 5,
            "train_k": None,
            "stride": 1,
            "ffn_ratio": 2,
            "share_graph": True,
            "shift": False,
            "mixer": None,
            "attention": "reference",
            "checkpointing": False,
            "compile": False,
        }
        backbone = KGT(layout=LAYOUTS[layout], **{**settings, **changes})
        make_head = ResidualHead if scale == 1 else PixelShuffleHead
        head = make_head(width=backbone.width, stride=backbone.stride, channels=backbone.channels, scale=scale)
        if not fresh_head:
            for parameter in head.parameters():
                torch.nn.init.normal_(parameter, std=0.1)
        return Restorer(backbone=backbone, head=head)

    return make
