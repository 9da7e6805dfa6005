"""
k from 1 to all
===============

k can be set anew at any time, without training. What does it do to the quality and to the time of the attention?
"""

# %%
# The denoiser that the package brings was trained with k = 16 of 64 nodes. A noisy photograph restored with other
# values:
import matplotlib.pyplot as plt
import skimage.data
import torch

import kgt_lightning
from kgt_lightning.degradations.noise import seeded_noise

clean = torch.from_numpy(skimage.data.chelsea()).permute(2, 0, 1).float()[:, :256, 120:376] / 255
noisy = seeded_noise(clean, sigma=25)[None]
network = kgt_lightning.pretrained("denoise").restorer.network
ks = [1, 2, 4, 8, 16, 32, 64]
with torch.no_grad():
    restored = [network(noisy, k).clamp(0, 1)[0] for k in ks]
psnr = [float(-10 * (image - clean).square().mean().log10()) for image in restored]
for k, value in zip(ks, psnr, strict=True):
    print(f"k={k:2}  {value:.2f} dB")

# %%
# One photograph says little about small differences: a curve over a whole test set, with seeds, is in `k from 8
# to 256 <../../experiments/k/README.html>`_. What one sees here is the shape: too few neighbours cost quality,
# and beyond the k of the training nothing is gained.
figure, axes = plt.subplots(figsize=(5, 3), layout="constrained")
axes.plot(ks, psnr, "o-")
axes.axvline(16, color="gray", linewidth=0.8, label="k in training")
axes.set(xlabel="k", ylabel="PSNR in dB", title="one photograph, sigma 25")
axes.set_xscale("log", base=2)
axes.ticklabel_format(axis="y", useOffset=False)
axes.legend()
plt.show()

# %%
# The time of the attention alone, over windows of 1024 nodes as the paper's. It grows with k, the graph's own
# does not.
from statistics import median
from time import perf_counter

from kgt_lightning.ops import build_key_graph, key_graph_attention

torch.manual_seed(0)
q, k_, v = torch.randn(3, 2, 6, 1024, 30).unbind()  # windows, heads, nodes, width of a head
nodes = torch.randn(2, 1024, 180)
many = [16, 64, 256, 512, 1024]


def milliseconds(call) -> float:
    """Median of five calls, after one that does not count."""
    times = []
    for _ in range(6):
        started = perf_counter()
        call()
        times.append(1000 * (perf_counter() - started))
    return median(times[1:])


def attention(graph) -> torch.Tensor:
    """Mixed values over the neighbours of the graph."""
    return key_graph_attention(q, k_, v, graph, scale=30**-0.5, bias_table=None, impl="auto")


with torch.no_grad():
    graphs = {k: build_key_graph(nodes, k) for k in many}
    sparse = [milliseconds(lambda k=k: attention(graphs[k])) for k in many]
    build = [milliseconds(lambda k=k: build_key_graph(nodes, k)) for k in many[:-1]]
    dense = milliseconds(lambda: torch.nn.functional.scaled_dot_product_attention(q, k_, v))
figure, axes = plt.subplots(figsize=(5, 3), layout="constrained")
axes.plot(many, sparse, "o-", label="Key-Graph Attention")
axes.plot(many[:-1], build, "s--", label="Key-Graph itself, once a stage")
axes.axhline(dense, color="gray", label="dense attention")
axes.set(xlabel="k of 1024", ylabel="ms", title="two windows, 6 heads, this machine", ylim=(0, None))
axes.set_xscale("log", base=2)
axes.legend(fontsize="small")
plt.show()
