"""A stage builds one graph, shares it, and mixes nodes inside its windows only."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F

import kgt_lightning.model.stage as stage_module
from kgt_lightning.model import KeyGraphAttention, Stage
from kgt_lightning.ops import available_implementations, split_windows
from kgt_lightning.ops.attention.reference import expand_bias


def make_stage(attention="reference", **changes):
    torch.manual_seed(0)
    mixer = partial(KeyGraphAttention, implementation=attention)
    settings = {"width": 8, "heads": 2, "depth": 3, "window": 4, "ffn_ratio": 2, "mixer": mixer}
    return Stage(**{**settings, **changes}).double()


@pytest.fixture
def features():
    return torch.randn(2, 8, 8, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_all_layers_share_the_graph_of_the_input(features, monkeypatch):
    built, used = [], []
    build, attend = stage_module.build_key_graph, stage_module.key_graph_attention

    def noting_build(nodes, k):
        built.append((nodes, build(nodes, k)))
        return built[-1][1]

    def noting_attend(q, k, v, graph, **options):
        used.append(graph)
        return attend(q, k, v, graph, **options)

    monkeypatch.setattr(stage_module, "build_key_graph", noting_build)
    monkeypatch.setattr(stage_module, "key_graph_attention", noting_attend)
    make_stage()(features, 5)
    [(nodes, graph)] = built
    torch.testing.assert_close(nodes, split_windows(features, 4))
    assert graph.k == 5
    assert len(used) == 3
    assert all(each is graph for each in used)


@pytest.mark.parametrize("training", [True, False])
def test_without_sharing_each_layer_gets_the_graph_of_its_own_input(features, monkeypatch, training):
    used = []
    attend = stage_module.key_graph_attention
    monkeypatch.setattr(
        stage_module,
        "key_graph_attention",
        lambda q, k, v, graph, **rest: used.append(graph) or attend(q, k, v, graph, **rest),
    )
    inputs = []
    stage = make_stage(share_graph=False)
    for layer in stage.layers:
        layer.register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
    with torch.set_grad_enabled(training):
        stage(features, 5)
    assert len(used) == len(inputs) == 3
    for graph, nodes in zip(used, inputs, strict=True):
        assert torch.equal(graph.index, stage_module.build_key_graph(nodes, 5).index)
    assert not torch.equal(used[0].index, used[2].index)


def test_all_neighbours_is_full_window_attention(features):
    """Against Swin V2's attention, written out: cosine similarity times a factor, plus bias, over the whole window."""
    attention = make_stage().layers[0].attention
    nodes = split_windows(features, 4)
    q, k, v = attention.qkv(nodes).view(len(nodes), 16, 3, 2, 4).permute(2, 0, 3, 1, 4)
    scores = F.cosine_similarity(q[:, :, :, None], k[:, :, None], dim=-1) * attention.log_scale.exp()
    full = (scores + expand_bias(attention.position(), 16)).softmax(-1) @ v
    expected = attention.projection(full.transpose(1, 2).reshape(len(nodes), 16, 8))
    graph = stage_module.build_key_graph(nodes, 16)
    torch.testing.assert_close(attention(nodes, graph), expected)


@pytest.mark.parametrize("impl", ["mask", "gather"])
def test_implementations_agree(features, impl):
    expected = make_stage()(features, 5)
    torch.testing.assert_close(make_stage(attention=impl)(features, 5), expected)


def changed_by(stage, features, y, x):
    """Columns and rows of the nodes that the layers change when one input node changes."""
    stage.conv = torch.nn.Identity()  # reaches one node further
    moved = features.clone()
    moved[0, 0, y, x] += 1  # in one channel: LayerNorm would remove the same change of all
    with torch.no_grad():
        difference = (stage(moved, 16) - stage(features, 16))[0].abs().amax(0)
    rows, columns = difference.gt(1e-9).nonzero(as_tuple=True)
    return (int(rows.min()), int(rows.max())), (int(columns.min()), int(columns.max()))


def test_a_change_stays_in_its_window(features):
    assert changed_by(make_stage(), features, 3, 4) == ((0, 3), (4, 7))


def test_a_shifted_stage_crosses_the_borders_of_the_windows(features):
    # Windows begin at 2 nodes before the border: the node at (3, 4) shares its window with rows and columns 2..5.
    assert changed_by(make_stage(shifted=True), features, 3, 4) == ((2, 5), (2, 5))


def test_a_shifted_stage_does_not_join_opposite_ends(features):
    assert changed_by(make_stage(shifted=True), features, 0, 0) == ((0, 1), (0, 1))


@pytest.mark.parametrize("window", [1, 3])
def test_shift_of_odd_windows(window):
    features = torch.randn(1, 8, 6, 3, dtype=torch.float64)
    assert make_stage(window=window, shifted=True)(features, 1).shape == features.shape


@pytest.mark.parametrize("attention", [name for name in ("reference", "native") if name in available_implementations()])
def test_checkpointing_gives_the_same_gradients(features, attention):
    gradients = []
    for checkpointing in (False, True):
        stage = make_stage(attention, checkpointing=checkpointing)
        stage(features, 5).square().sum().backward()
        gradients.append({name: parameter.grad for name, parameter in stage.named_parameters()})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=0, atol=0)


def test_checkpointing_computes_layers_again_in_the_backward_pass(features, monkeypatch):
    calls = []
    attend = stage_module.key_graph_attention
    monkeypatch.setattr(
        stage_module, "key_graph_attention", lambda *args, **options: calls.append(1) or attend(*args, **options)
    )
    output = make_stage(checkpointing=True)(features, 5)
    assert len(calls) == 3
    output.sum().backward()
    assert len(calls) == 6


def test_position_bias_follows_the_offset_alone():
    bias = expand_bias(make_stage().layers[0].attention.position(), 16)
    assert ((bias > 0) & (bias < 16)).all()
    # Node (0, 0) to (1, 2) is as far as (2, 1) to (3, 3), and not as (1, 2) to (0, 0).
    torch.testing.assert_close(bias[:, 0, 6], bias[:, 9, 15])
    assert (bias[:, 0, 6] != bias[:, 6, 0]).all()


def test_position_bias_is_the_network_of_each_offset():
    """Swin V2's, written out: the network sees the vertical and the horizontal offset of every pair."""
    position = make_stage().layers[0].attention.position
    offsets = torch.cartesian_prod(position.steps, position.steps)
    expected = 16 * torch.sigmoid(position.mlp(offsets)).T
    torch.testing.assert_close(position(), expected)
    parameters = list(position.parameters())
    weights = torch.linspace(-1, 1, expected.numel(), dtype=expected.dtype).view_as(expected)
    gradients = [torch.autograd.grad((table * weights).sum(), parameters) for table in (position(), expected)]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="width=8 must be a multiple of heads=3"):
        make_stage(heads=3)


def test_parts_give_what_the_whole_gives(features, monkeypatch):
    """Without gradients a few windows at a time go through the layers: here five of twelve, so that two are left."""
    stage = make_stage()
    whole = stage(features, 5)
    monkeypatch.setattr(Stage, "NODES_AT_ONCE", 5 * 16)
    calls = []
    for layer in stage.layers:
        layer.attention.position.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        torch.testing.assert_close(stage(features, 5), whole)
    assert len(calls) == len(stage.layers)  # for all parts together
