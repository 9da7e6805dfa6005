"""Feed-forward networks: one node alone, or with the neighbours on both sides of a window's border."""

import pytest
import torch

from kgt_lightning.model.feed_forward import FFNS, make_ffn
from kgt_lightning.ops import merge_windows, split_windows


@pytest.fixture(params=FFNS)
def ffn(request):
    torch.manual_seed(0)
    return make_ffn(request.param, width=6, hidden=8, window=4).double()


@pytest.fixture
def features():
    return torch.randn(2, 6, 8, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def through(ffn, features):
    return merge_windows(ffn(split_windows(features, 4), (8, 12)), 4, 8, 12)


def test_a_change_reaches_the_neighbours_across_the_border_unless_it_is_node_by_node(ffn, features):
    moved = features.clone()
    moved[0, :, 3, 4] += 1
    changed = (through(ffn, moved) - through(ffn, features)).abs().amax(1) > 1e-12
    assert not changed[1].any()
    rows, columns = changed[0].nonzero(as_tuple=True)
    # Two convolutions of 3 x 3 reach two nodes, a depthwise one reaches one.
    reach = 0 if ffn.node_by_node else 2 if type(ffn).__name__ == "ConvFFN" else 1
    assert (int(rows.min()), int(rows.max())) == (3 - reach, 3 + reach)
    assert (int(columns.min()), int(columns.max())) == (4 - reach, 4 + reach)


def test_every_weight_has_a_gradient(ffn, features):
    through(ffn, features).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in ffn.parameters())


def test_the_gate_multiplies(features):
    ffn = make_ffn("gated", width=6, hidden=8, window=4).double()
    with torch.no_grad():
        ffn.mix.weight[8:], ffn.mix.bias[8:] = 0, 0
        assert torch.equal(through(ffn, features), ffn.reduce.bias[:, None, None].expand_as(features))


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match=r"model\.ffn='mlp' must be one of linear, depthwise, gated, conv"):
        make_ffn("mlp", width=6, hidden=8, window=4)
