import pytest
import torch

from kgt_lightning.analysis.figures import draw_neighbours, draw_statistics, highlight
from kgt_lightning.analysis.key_graphs import StageGraph, captured, on_image
from kgt_lightning.analysis.statistics import distances, distances_by_chance, in_degrees, overlap, overlaps
from kgt_lightning.images.files import read_image
from kgt_lightning.model import KGT
from kgt_lightning.model.layouts import Columnar, UShape


def graph(neighbours, *, height=2, width=2, window=2, margin=0):
    return StageGraph(
        stage="stage", height=height, width=width, window=window, margin=margin, neighbours=torch.tensor(neighbours)
    )


# Every node of a square of four has itself and the node 0 as neighbours.
TO_THE_FIRST = graph([[0, 1], [0, 1], [0, 2], [0, 3]])
TO_ITSELF = graph([[0], [1], [2], [3]])


def test_windows_are_laid_on_the_image():
    # 2 x 4 nodes: 0 1 | 2 3 and below 4 5 | 6 7. In each window every node has the last one as its neighbour.
    index = torch.full((2, 4, 1), 3)
    assert on_image(index, window=2, height=2, width=4, margin=0)[:, 0].tolist() == [5, 5, 7, 7, 5, 5, 7, 7]


def test_only_the_first_image_of_a_batch_counts():
    index = torch.cat([torch.zeros(1, 4, 1), torch.full((1, 4, 1), 3)])
    assert on_image(index, window=2, height=2, width=2, margin=0)[:, 0].tolist() == [0, 0, 0, 0]


def test_shifted_windows_begin_outside_and_nodes_there_are_none():
    # One node of margin: the four windows of a 2 x 2 map each hold one node of it, in different corners.
    itself = torch.arange(4).view(1, 4, 1).expand(4, 4, 1)
    assert on_image(itself, window=2, height=2, width=2, margin=1)[:, 0].tolist() == [0, 1, 2, 3]
    first = torch.zeros(4, 4, 1)  # the top left node of a window: of the image's four nodes only the last is one
    assert on_image(first, window=2, height=2, width=2, margin=1)[:, 0].tolist() == [-1, -1, -1, 3]


def test_distances_are_in_nodes():
    assert distances(TO_THE_FIRST).tolist() == pytest.approx([0, 1, 1, 0, 1, 0, 2**0.5, 0])
    assert distances(graph([[-1], [0], [-1], [3]])).tolist() == [1, 0]
    assert distances_by_chance(TO_ITSELF).mean().item() == pytest.approx((2 * 1 + 2**0.5) / 4)


def test_in_degrees_sum_to_the_edges():
    assert in_degrees(TO_THE_FIRST).tolist() == [4, 2, 1, 1]
    assert in_degrees(graph([[-1], [0], [-1], [3]])).tolist() == [1, 0, 0, 1]


def test_overlap_is_the_jaccard_index():
    assert overlap(TO_ITSELF, TO_ITSELF) == 1
    assert overlap(TO_ITSELF, graph([[1], [2], [3], [0]])) == 0
    # One of two, for every node.
    assert overlap(TO_ITSELF, TO_THE_FIRST) == 0.5
    beyond = graph([[0, -1], [-1, -1], [0, -1], [0, -1]])
    assert overlap(beyond, beyond) == 1, "nodes beyond the edge do not count, nor a node that sees only such"
    assert overlap(graph([[0, -1]] * 4), graph([[1, -1]] * 4)) == 0, "-1 is no node in common"
    assert overlap(TO_ITSELF, graph([[0]], height=1, width=1)) is None
    values = overlaps([TO_ITSELF, TO_THE_FIRST, graph([[0]], height=1, width=1)])
    assert values[0, 1] == values[1, 0] == 0.5
    assert values[0, 2].isnan()


def backbone(layout, *, shift=False, **settings):
    def wire(*, stage, width, shift):
        return layout(stage=stage, width=width, shift=shift, **settings)

    torch.manual_seed(0)
    return KGT(
        channels=3, width=8, layout=wire, window=4, k=5, train_k=None, stride=2, ffn_ratio=2, share_graph=True,
        shift=shift, mixer=None, attention="reference", checkpointing=False, compile=False,
    )  # fmt: skip


@pytest.mark.parametrize("gradients", [False, True], ids=["in parts", "at once"])
def test_what_the_stages_build_is_captured(monkeypatch, gradients):
    from kgt_lightning.model import stage as module

    model = backbone(Columnar, shift=True, depths=[1, 2], heads=2)
    monkeypatch.setattr(module.Stage, "NODES_AT_ONCE", 32)
    built, build = [], module.build_key_graph
    monkeypatch.setattr(module, "build_key_graph", lambda *given: built.append(build(*given)) or built[-1])
    with torch.set_grad_enabled(gradients), captured(model) as graphs:
        model(torch.rand(2, 3, 16, 32))
    assert [(each.stage, each.height, each.width, each.margin) for each in graphs] == [
        ("stages.0", 8, 16, 0),
        ("stages.1", 8, 16, 2),
    ]
    for each, made in zip(graphs, built, strict=True):
        expected = on_image(made.index, window=4, height=8, width=16, margin=each.margin)
        assert torch.equal(each.neighbours, expected)
        assert each.neighbours.shape == (128, 5)
    # A node is always among the nodes of its own window.
    assert distances(graphs[0]).max() <= 3 * 2**0.5


def test_the_model_is_left_as_it_was():
    model = backbone(Columnar, depths=[1, 1], heads=2)
    with pytest.raises(RuntimeError, match="interrupted"), captured(model):
        raise RuntimeError("interrupted")
    assert not any(each._forward_hooks or each._forward_pre_hooks for each in model.modules())


def test_the_u_shape_has_stages_of_several_sizes(photo, tmp_path):
    model = backbone(UShape, depths=[1, 1], heads=[1, 2], final_depth=1)
    with torch.no_grad(), captured(model) as graphs:
        model(photo[..., :64, :96])
    assert [each.width for each in graphs] == [48, 24, 48, 48]
    draw_neighbours(photo[0, :, :64, :96], graphs, [(0.0, 0.0), (0.999, 0.999)], tmp_path / "neighbours.png")
    draw_statistics(graphs, tmp_path / "statistics.png")
    for file in tmp_path.iterdir():
        assert read_image(file).pixels.std() > 0.05
    draw_statistics(graphs[:1], tmp_path / "one.png")  # no overlap of a stage with itself alone
    widths = [read_image(tmp_path / name).pixels.shape[-1] for name in ("one.png", "statistics.png")]
    assert widths[0] == pytest.approx(2 / 3 * widths[1], abs=2)


def test_neighbours_keep_their_colour_and_all_else_is_darkened():
    gray = torch.full((1, 4, 6), 0.8)
    shown = highlight(gray, graph([[1, -1], [0, 1], [0, 2], [0, 3]]), 0)
    assert shown.shape == (3, 4, 6)
    expected = torch.full((4, 6), 0.4 * 0.8)
    expected[:2, 3:] = 0.8
    torch.testing.assert_close(shown, expected.expand(3, -1, -1))
