"""The U-shape of convolutions and Key-Graph stages: shapes, where attention is, and that nothing ends at a border."""

from functools import partial

import pytest
import torch

from kgt_lightning.analysis.key_graphs import captured
from kgt_lightning.model import KGT, ConvUShape, ResidualHead, Restorer, Stage

LEVELS = {"widths": [12, 16], "depths": [1, 1, 2], "up_depths": [1, 1], "heads": [0, 0, 2]}


def restorer(*, shift=False, **levels):
    torch.manual_seed(0)
    backbone = KGT(
        channels=3,
        width=8,
        layout=partial(ConvUShape, **{**LEVELS, **levels}),
        window=4,
        k=5,
        train_k=None,
        stride=1,
        ffn="conv",
        ffn_ratio=1,
        share_graph=True,
        shift=shift,
        mixer=None,
        attention="reference",
        checkpointing=False,
        compile=False,
    )
    head = ResidualHead(width=8, stride=1, channels=3, scale=1)
    torch.nn.init.normal_(head.conv.weight, std=0.1)
    return Restorer(backbone=backbone, head=head)


def test_any_size_is_restored_and_every_weight_learns():
    model = restorer(heads=[0, 2, 2], shift=True)
    assert model.backbone.multiple == 16
    degraded = torch.rand(2, 3, 21, 34)
    restored = model(degraded)
    assert restored.shape == degraded.shape
    restored.square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())


def test_levels_without_heads_have_convolutions_only_and_those_with_share_one_graph():
    model = restorer(heads=[0, 2, 2])
    with captured(model.backbone) as graphs:
        model(torch.rand(1, 3, 32, 32))
    found = {each.stage: (each.height, tuple(each.neighbours.shape)) for each in graphs}
    assert found == {"down_stages.1": (16, (256, 5)), "latent_stage": (8, (64, 5)), "up_stages.1": (16, (256, 5))}
    assert not any(isinstance(each, Stage) for each in model.backbone.layout.down_stages[0].modules())


def test_the_same_in_training_and_in_use():
    model = restorer()
    degraded = torch.rand(1, 3, 32, 48)
    with torch.no_grad():
        used = model(degraded)
    torch.testing.assert_close(used, model(degraded).detach())


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ({"depths": [1, 1]}, r"widths=\[12, 16\] makes 3 levels: depths=\[1, 1\]"),
        ({"up_depths": [1, 1, 1]}, r"up_depths=\[1, 1, 1\] all but the last"),
        ({"widths": [12, 18]}, r"widths=\[12, 18\] must be multiples of 4"),
    ],
)
def test_levels_that_do_not_fit_are_refused(levels, message):
    with pytest.raises(ValueError, match=message):
        restorer(**levels)
