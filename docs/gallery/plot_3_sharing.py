"""
Shared or rebuilt graphs
========================

A stage builds its Key-Graph once and shares it with all its layers. ``model.share_graph=false`` builds one for every
layer instead. What does sharing save, and what does it miss?
"""

# %%
# A stage of six layers on random features, 4 windows of 32 x 32 nodes:
from functools import partial
from statistics import median
from time import perf_counter

import matplotlib.pyplot as plt
import torch

from kgt_lightning.model import KeyGraphAttention, Stage

WINDOW, K = 32, 64


def stage(*, share_graph: bool) -> Stage:
    """Stage of six layers, the same weights at every call."""
    torch.manual_seed(0)
    mixer = partial(KeyGraphAttention, implementation="auto")
    return Stage(width=60, heads=2, depth=6, window=WINDOW, ffn_ratio=2, mixer=mixer, share_graph=share_graph).eval()


features = torch.randn(1, 60, 64, 64, generator=torch.Generator().manual_seed(1))


def milliseconds(module: Stage) -> float:
    """Median of five calls, after one that does not count."""
    times = []
    for _ in range(6):
        started = perf_counter()
        module(features, K)
        times.append(1000 * (perf_counter() - started))
    return median(times[1:])


shared, rebuilt = stage(share_graph=True), stage(share_graph=False)
with torch.no_grad():
    times = {"shared": milliseconds(shared), "rebuilt": milliseconds(rebuilt)}
for name, value in times.items():
    print(f"{name:8} {value:6.1f} ms a stage")

# %%
# The operations, counted: the graph costs N x N x C multiplications each time that it is built, the attention 2 N
# k C.
nodes, width, depth = WINDOW**2, 60, 6
graph_cost, attention_cost = nodes * nodes * width, 2 * nodes * K * width
print(f"graph {graph_cost / 1e6:.0f} million, attention of a layer {attention_cost / 1e6:.0f} million, per window")
print(f"attention with graphs: shared {(graph_cost + depth * attention_cost) / 1e6:.0f},", end=" ")
print(f"rebuilt {depth * (graph_cost + attention_cost) / 1e6:.0f} million")

# %%
# What is missed: after each layer the nodes have changed, and a graph that is built anew chooses other
# neighbours. Here it is asked, layer by layer, of the trained denoiser that the package brings.
import skimage.data

import kgt_lightning
from kgt_lightning.degradations.noise import seeded_noise
from kgt_lightning.ops import build_key_graph

clean = torch.from_numpy(skimage.data.chelsea()).permute(2, 0, 1).float()[:, :256, 120:376] / 255
network = kgt_lightning.pretrained("denoise").restorer.network
[trained] = (module for module in network.modules() if isinstance(module, Stage))
seen = []
hooks = [layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0])) for layer in trained.layers]
with torch.no_grad():
    network(seeded_noise(clean, sigma=25)[None])
for hook in hooks:
    hook.remove()
first, second = (build_key_graph(nodes, 16).mask for nodes in seen)
kept = (first & second).sum(-1).float() / 16
print(f"a graph built for the second layer keeps {kept.mean():.0%} of the neighbours; by chance it would be 25%")

# %%
figure, axes = plt.subplots(figsize=(5, 3), layout="constrained")
axes.hist((16 * kept).flatten().numpy(), bins=torch.arange(-0.5, 17.5).numpy(), rwidth=0.9)
axes.set(xlabel="neighbours of 16 that stay when the graph is built anew", ylabel="nodes", xticks=range(0, 17, 4))
axes.set_title("graphs of the first and of the second layer")
plt.show()

# %%
# Whether that matters for the quality is asked in `the layout experiment
# <../../experiments/layout/README.html>`_: in short runs sharing costs none.
