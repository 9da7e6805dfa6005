# %% [markdown]
# # Whom does a patch look at?
# The Key-Graph of a image: the k nodes of a window that are most similar to a chosen one.
# Run as a script, or open it as a notebook (`jupytext --to ipynb notebooks/key_graph.py`).

# %%
import skimage.data
import torch
from torch import Tensor

from kgt_lightning.images.files import Picture, write_image
from kgt_lightning.ops import build_key_graph, split_windows
from kgt_lightning.training.callbacks import side_by_side

WINDOW, PATCH = 32, 8

# %% [markdown]
# A node is a patch of 8 x 8 pixels here, described by its pixels; one window covers 256 x 256 pixels.

# %%
image = torch.from_numpy(skimage.data.chelsea().copy()).permute(2, 0, 1).float()[:, :256, 120:376] / 255
patches = torch.nn.functional.pixel_unshuffle(image[None], PATCH)
nodes = split_windows(patches - patches.mean(), WINDOW)
graph = build_key_graph(torch.nn.functional.normalize(nodes, dim=-1), k=64)


# %%
def neighbours(node: int) -> Tensor:
    """The image, all but the neighbours of the node darkened."""
    kept = torch.zeros(WINDOW**2)
    kept[graph.index[0, node].long()] = 1
    kept = kept.view(1, WINDOW, WINDOW).repeat_interleave(PATCH, 1).repeat_interleave(PATCH, 2)
    return image * (0.25 + 0.75 * kept)


# %% [markdown]
# An eye, the nose and the forehead: each finds its like all over the window, not only nearby.

# %%
eye, nose, forehead = 13 * WINDOW + 8, 26 * WINDOW + 14, 3 * WINDOW + 2
picture = side_by_side(image, *(neighbours(node) for node in (eye, nose, forehead)))
write_image("outputs/key_graph.png", Picture(pixels=picture))
