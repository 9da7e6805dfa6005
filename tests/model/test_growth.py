"""A deeper model with the weights of a shallower one computes the same, and learns from there."""

from functools import partial

import pytest
import torch
from torch import nn

from kgt_lightning.model import KGT, Columnar, ConvUShape, ResidualHead, Restorer, UShape
from kgt_lightning.model.growth import grow

CONV_U = partial(ConvUShape, widths=[12, 16], heads=[0, 0, 2])


class Mean(nn.Module):
    """A mixer of someone else."""

    def __init__(self, *, width, heads, window):
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, nodes, graph):
        return self.linear(nodes.mean(1, keepdim=True)).expand_as(nodes)


def restorer(layout, *, seed, **changes):
    torch.manual_seed(seed)
    settings = {"width": 8, "window": 4, "k": 5, "train_k": None, "stride": 1, "ffn": "conv", "ffn_ratio": 1}
    switches = {"share_graph": True, "shift": True, "mixer": None, "attention": "reference", "checkpointing": False}
    backbone = KGT(channels=3, layout=layout, compile=False, **{**settings, **switches, **changes})
    head = ResidualHead(width=8, stride=1, channels=3, scale=1)
    nn.init.normal_(head.conv.weight, std=0.1)
    return Restorer(backbone=backbone, head=head)


@pytest.mark.parametrize("ffn", ["linear", "conv", "gated"])
@pytest.mark.parametrize(
    ("before", "after", "number"),
    [
        (partial(Columnar, depths=[1], heads=2), partial(Columnar, depths=[2, 1], heads=2), 2),
        (
            partial(UShape, depths=[1, 1], heads=[2, 2], final_depth=1),
            partial(UShape, depths=[1, 3], heads=[2, 2], final_depth=2),
            3,
        ),
        (partial(CONV_U, depths=[1, 1, 1], up_depths=[1, 1]), partial(CONV_U, depths=[1, 2, 2], up_depths=[3, 1]), 4),
    ],
    ids=["columnar", "ushape", "conv_ushape"],
)
def test_a_grown_model_begins_where_the_shallower_one_was(ffn, before, after, number):
    shallow, deep = restorer(before, seed=0, ffn=ffn), restorer(after, seed=1, ffn=ffn)
    added = grow(deep, shallow.state_dict().keys())
    assert len(added) == number
    missing, unexpected = deep.load_state_dict(shallow.state_dict(), strict=False)
    assert not unexpected
    assert all(name.startswith(tuple(f"{block}." for block in added)) for name in missing)

    image = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(deep(image), shallow(image), rtol=0, atol=1e-6)
    optimizer = torch.optim.SGD(deep.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        deep(image).square().sum().backward()
        optimizer.step()
    still = [name for name, weight in deep.named_parameters() if not weight.grad.any()]
    assert still == [], "from the second step on all of them learn"


def test_what_cannot_become_the_identity_is_left_out():
    layout = partial(Columnar, heads=2)
    model = restorer(partial(layout, depths=[2]), seed=0, mixer=Mean)
    known = restorer(partial(layout, depths=[1]), seed=0, mixer=Mean).state_dict().keys()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    assert grow(model, known) == []
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert grow(model, model.state_dict().keys()) == []
