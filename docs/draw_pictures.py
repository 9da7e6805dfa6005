"""Makes the pictures of README and site: python docs/draw_pictures.py [name ...], or make pictures."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import skimage.data
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from torch import Tensor
from torch.nn.functional import normalize, pixel_unshuffle

import kgt_lightning
from kgt_lightning.analysis.figures import highlight
from kgt_lightning.analysis.key_graphs import StageGraph
from kgt_lightning.benchmarks.report import draw
from kgt_lightning.degradations.jpeg import compress
from kgt_lightning.degradations.noise import seeded_noise
from kgt_lightning.images.files import Picture, write_image
from kgt_lightning.ops import build_key_graph, split_windows

FOLDER = Path(__file__).with_name("pictures")
WINDOW, PATCH = 32, 8
PLACES = {"the eye": (11, 5), "the nose": (30, 18), "the forehead": (3, 2)}
BLUE, GRAY, GREEN = "#cfe2ff", "#ececec", "#d7f0d7"


def crop(name: str, top: int, left: int, side: int = 256) -> Tensor:
    """Square part [3, side, side] in [0, 1] of a photograph that comes with scikit-image."""
    pixels = getattr(skimage.data, name)()[top : top + side, left : left + side]
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255


def photo() -> Tensor:
    """The cat that all drawings show."""
    return crop("chelsea", 0, 120)


def pixel_graph(k: int) -> StageGraph:
    """Key-Graph of the cat's patches of 8 x 8 pixels, described by their pixels, in one window of 32 x 32."""
    patches = pixel_unshuffle(photo()[None], PATCH)
    nodes = split_windows(patches - patches.mean(), WINDOW)
    neighbours = build_key_graph(normalize(nodes, dim=-1), k).index[0].long()
    return StageGraph(stage="", height=WINDOW, width=WINDOW, window=WINDOW, margin=0, neighbours=neighbours)


def restored_rows(file: Path, *, model: str, degrade: Callable[[Tensor], Tensor], photos: list[Tensor]) -> None:
    """Write rows degraded | restored | clean, one for each photograph, pixel for pixel."""
    restore = kgt_lightning.pretrained(model)
    rows = []
    for clean in photos:
        degraded = degrade(clean)
        with torch.no_grad():
            restored = restore(degraded[None])[0]
        for name, image in (("degraded", degraded), ("restored", restored)):
            db = -10 * (image - clean).square().mean().log10()
            print(f"{file.name}: {name} {db:.2f} dB")
        rows.append(spaced([degraded.clamp(0, 1), restored, clean], axis=2))
    write_image(file, Picture(pixels=spaced(rows, axis=1)))


def spaced(images: list[Tensor], *, axis: int) -> Tensor:
    """The images [3, H, W] beside (axis 2) or above (1) each other, six white pixels between."""
    shape = list(images[0].shape)
    shape[axis] = 6
    parts = [part for image in images for part in (torch.ones(shape), image)][1:]
    return torch.cat(parts, dim=axis)


def denoise() -> None:
    """Noisy, restored, clean: two photographs, sigma 25."""
    photos = [photo(), crop("coffee", 60, 130)]
    restored_rows(
        FOLDER / "denoise.jpg", model="denoise", degrade=lambda clean: seeded_noise(clean, sigma=25), photos=photos
    )


def jpeg() -> None:
    """Compressed, restored, clean: two photographs, quality 10."""
    photos = [photo(), crop("coffee", 60, 130)]
    restored_rows(FOLDER / "jpeg.jpg", model="jpeg", degrade=lambda clean: compress(clean, 10), photos=photos)


def key_graph() -> None:
    """The photograph, and the neighbours of an eye, the nose and the forehead."""
    figure = Figure(figsize=(11, 3.05), layout="constrained")
    panels = figure.subplots(1, 4)
    show(panels[0], photo(), "the photograph")
    graph = pixel_graph(64)
    for axes, (name, place) in zip(panels[1:], PLACES.items(), strict=True):
        neighbours(axes, graph, place, f"64 neighbours of {name}")
    figure.savefig(FOLDER / "key_graph.png", dpi=110)


def node() -> None:
    """From pixels to nodes: patches become vectors."""
    figure = Figure(figsize=(8, 2.7), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=[1, 1, 1.1])
    part = photo()[:, 64:128, 0:64]
    show(left, part, "pixels")
    show(middle, part, "nodes of 8 x 8 pixels")
    for place in range(8, 64, 8):
        middle.axhline(place - 0.5, color="white", linewidth=0.8)
        middle.axvline(place - 0.5, color="white", linewidth=0.8)
    square(middle, (3, 5))
    right.bar(range(16), pixel_unshuffle(part[None], 8)[0, ::12, 3, 5], color="tab:red")
    right.set_title("the red node: a vector of C numbers", fontsize=10)
    right.set(xticks=[], yticks=[])
    figure.savefig(FOLDER / "node.png", dpi=110)


def window() -> None:
    """The windows of two stages: those of every second stage may be moved by half their side."""
    figure = Figure(figsize=(6, 3), layout="constrained")
    for axes, start, title in zip(figure.subplots(1, 2), (0, 32), ("windows", "moved by half"), strict=True):
        show(axes, photo(), title)
        for place in range(start, 257, 64):
            axes.axhline(place - 0.5, color="white", linewidth=1.5)
            axes.axvline(place - 0.5, color="white", linewidth=1.5)
    figure.savefig(FOLDER / "window.png", dpi=110)


def similarity() -> None:
    """The rows of the similarity that a Key-Graph keeps: 64 nodes of a part of the photograph."""
    nodes = split_windows(pixel_unshuffle(photo()[None, :, 64:128, 0:64], PATCH), 8)
    nodes = normalize(nodes - nodes.mean(), dim=-1)
    scores = (nodes @ nodes.transpose(1, 2))[0]
    figure = Figure(figsize=(6.4, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.imshow(scores, cmap="viridis")
    left.set_title(r"similarity $A = V V^\top$ of 64 nodes", fontsize=10)
    right.imshow(build_key_graph(nodes, 8).mask[0], cmap="gray_r")
    right.set_title("kept: the 8 largest of each row", fontsize=10)
    for axes in (left, right):
        axes.set(xlabel="node j", ylabel="node i", xticks=[0, 63], yticks=[0, 63])
    figure.savefig(FOLDER / "similarity.png", dpi=110)


def stage() -> None:
    """What a stage consists of, and where the graph goes: shared, or built anew for each layer."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    for axes, shared in zip(figure.subplots(2, 1), (True, False), strict=True):
        axes.set(xlim=(0, 12.4), ylim=(0, 2.3), aspect="equal")
        axes.set_axis_off()
        title = "shared: one Key-Graph for the stage" if shared else "rebuilt: one for each layer (ablation)"
        axes.text(0.1, 2.1, title, fontsize=10)
        for i in range(3):
            start = 2.2 + 2.9 * i
            box(axes, (start, 0.2), "layer: attention, FFN", BLUE)
            arrow(axes, (start - 0.5 if i else 0.3, 0.5), (start, 0.5))
            if i == 0 or not shared:
                box(axes, (start, 1.2), "Key-Graph Constructor", GREEN)
                # What the constructor sees: the input of the layer.
                arrow(axes, (start - 0.3, 0.5), (start, 1.5))
                arrow(axes, (start + 1.2, 1.2), (start + 1.2, 0.8))
            else:
                arrow(axes, (start - (0.5 if i == 1 else 1.7), 1.5), (start + 1.2, 1.5), head=False)
                arrow(axes, (start + 1.2, 1.5), (start + 1.2, 0.8))
        axes.text(0.1, 0.62, "nodes", fontsize=9)
        arrow(axes, (10.4, 0.5), (10.9, 0.5))
        box(axes, (10.9, 0.2), "conv", GRAY, width=1.3)
    figure.savefig(FOLDER / "stage.png", dpi=110)


def neighbours_of_k() -> None:
    """The neighbours of the eye for several k."""
    figure = Figure(figsize=(11, 3.05), layout="constrained")
    for axes, k in zip(figure.subplots(1, 4), (4, 16, 64, 256), strict=True):
        neighbours(axes, pixel_graph(k), PLACES["the eye"], f"k = {k} of 1024")
    figure.savefig(FOLDER / "k.png", dpi=110)


def measured() -> None:
    """The plots that are in experiments/kernels, anew from the numbers beside them."""
    for plot in sorted((FOLDER.parents[1] / "experiments" / "kernels").rglob("*.png")):
        # Measured before there were other models beside ours.
        numbers = json.loads(plot.with_suffix(".json").read_text())
        rows = [{"model": row.get("attention"), **row} for row in numbers["rows"]]
        draw(rows, plot, what=plot.stem)


def show(axes: Axes, image: Tensor, title: str) -> None:
    """The image without axes."""
    axes.imshow(image.permute(1, 2, 0), interpolation="nearest")
    axes.set_title(title, fontsize=10)
    axes.set_axis_off()


def neighbours(axes: Axes, graph: StageGraph, place: tuple[int, int], title: str) -> None:
    """The cat, in colour only the neighbours of the node, which has a red frame."""
    show(axes, highlight(photo(), graph, place[0] * WINDOW + place[1]), title)
    square(axes, place)


def square(axes: Axes, place: tuple[int, int]) -> None:
    """Red frame around a node."""
    corner = (place[1] * PATCH - 0.5, place[0] * PATCH - 0.5)
    axes.add_patch(Rectangle(corner, PATCH, PATCH, fill=False, color="red", linewidth=2))


def box(axes: Axes, corner: tuple[float, float], text: str, colour: str, *, width: float = 2.4) -> None:
    """Box with a text."""
    axes.add_patch(FancyBboxPatch(corner, width, 0.6, boxstyle="round,pad=0,rounding_size=0.1", fc=colour, ec="black"))
    axes.text(corner[0] + width / 2, corner[1] + 0.3, text, ha="center", va="center", fontsize=8)


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], *, head: bool = True) -> None:
    """Line from here to there."""
    style = "-|>" if head else "-"
    axes.add_patch(
        FancyArrowPatch(start, end, arrowstyle=style, mutation_scale=10, shrinkA=0, shrinkB=0, color="black")
    )


PICTURES = {
    make.__name__: make
    for make in (denoise, jpeg, key_graph, node, window, similarity, stage, neighbours_of_k, measured)
}

if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for wanted in sys.argv[1:] or PICTURES:
        PICTURES[wanted]()
