"""
What is a Key-Graph?
====================

For every node of a window, the k nodes of the window that are most similar to it. Here they are looked at twice: on the
pixels of a photograph, and inside a trained model.
"""

# %%
# A photograph is cut into nodes. Here a node is a patch of 8 x 8 pixels, described by its pixels, and one window of
# 32 x 32 nodes covers all 256 x 256 pixels.
import matplotlib.pyplot as plt
import skimage.data
import torch
from torch.nn.functional import normalize, pixel_unshuffle

from kgt_lightning.ops import build_key_graph, split_windows

WINDOW, PATCH = 32, 8
photo = torch.from_numpy(skimage.data.chelsea()).permute(2, 0, 1).float()[:, :256, 120:376] / 255
patches = pixel_unshuffle(photo[None], PATCH)
nodes = split_windows(patches - patches.mean(), WINDOW)
nodes.shape  # windows, nodes, channels

# %%
# The Key-Graph keeps the k largest entries in each row of the similarity of all nodes,
# :math:`A = V V^\top`. Of unit vectors that is the cosine of their angle.
graph = build_key_graph(normalize(nodes, dim=-1), k=64)
graph.index.shape  # windows, nodes, neighbours

# %%
# An eye, the nose and the forehead (red): each finds its like (bright) all over the window, not only nearby.
from kgt_lightning.analysis.figures import highlight
from kgt_lightning.analysis.key_graphs import StageGraph

on_photo = StageGraph(
    stage="pixels", height=WINDOW, width=WINDOW, window=WINDOW, margin=0, neighbours=graph.index[0].long()
)
places = {"the eye": (11, 5), "the nose": (30, 18), "the forehead": (3, 2)}
figure, panels = plt.subplots(1, 4, figsize=(12, 3.4), layout="constrained")
panels[0].imshow(photo.permute(1, 2, 0))
panels[0].set_title("the photograph")
for axes, (name, (row, column)) in zip(panels[1:], places.items(), strict=True):
    axes.imshow(highlight(photo, on_photo, row * WINDOW + column).permute(1, 2, 0))
    axes.set_title(f"64 neighbours of {name}")
    axes.add_patch(plt.Rectangle((column * PATCH, row * PATCH), PATCH, PATCH, fill=False, color="red", linewidth=2))
for axes in panels:
    axes.set_axis_off()
plt.show()

# %%
# Inside a model nodes are learned features. The denoiser that the package brings has one stage of two layers with
# windows of 8 x 8 nodes at a quarter of the resolution, so that a window is 32 pixels wide. Each node keeps 16 of 64.
import kgt_lightning
from kgt_lightning.analysis.key_graphs import captured

network = kgt_lightning.pretrained("denoise").restorer.network
noisy = photo[None] + 25 / 255 * torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
with torch.no_grad(), captured(network.backbone) as graphs:
    network(noisy)
[stage] = graphs
print(f"{stage.stage}: {len(stage.neighbours)} nodes, {stage.neighbours.shape[1]} neighbours each")

# %%
# Whom three nodes have as neighbours. A node at an edge chooses nodes along the edge; the choice was learned from
# nothing but the wish to restore.
from pathlib import Path
from tempfile import TemporaryDirectory

from kgt_lightning.analysis.figures import draw_neighbours

with TemporaryDirectory() as folder:
    file = Path(folder) / "neighbours.png"
    draw_neighbours(noisy[0], graphs, [(0.42, 0.28), (0.62, 0.08), (0.94, 0.54)], file)
    picture = plt.imread(file)
plt.figure(figsize=(picture.shape[1] / 100, picture.shape[0] / 100)).add_axes((0, 0, 1, 1)).imshow(picture)
plt.axis("off")
plt.show()

# %%
# Is what is similar simply what is near? The mean distance of neighbours, and of all nodes of a window:
from kgt_lightning.analysis.statistics import distances, distances_by_chance

near, chance = distances(stage).mean(), distances_by_chance(stage).mean()
print(f"neighbours: {4 * near:.1f} pixels away on average; all nodes of the window: {4 * chance:.1f}")
