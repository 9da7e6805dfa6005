"""The Key-Graph and the attention over it: plain PyTorch, usable without the rest of the package."""

from kgt_lightning.ops.attention.dispatch import available_implementations, key_graph_attention
from kgt_lightning.ops.key_graph.graph import KeyGraph, build_key_graph, merge_windows, split_windows

__all__ = [
    "KeyGraph",
    "available_implementations",
    "build_key_graph",
    "key_graph_attention",
    "merge_windows",
    "split_windows",
]
