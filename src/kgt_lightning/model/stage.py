"""A stage builds the Key-Graph once and shares it with all its layers, or builds one for each, as an ablation.

Shapes: B images, C channels, W windows, M window side, N = M*M nodes of a window, S = 2M-1 steps,
H heads, D head width.
"""

import math
from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from kgt_lightning.model.feed_forward import FFNS, make_ffn
from kgt_lightning.model.linear import Linear
from kgt_lightning.ops import KeyGraph, build_key_graph, key_graph_attention, merge_windows, split_windows
from kgt_lightning.ops.attention.native import split_heads


class MixerFactory(Protocol):
    """Makes the attention of a layer: a module from normed nodes [W, N, C] and their KeyGraph to nodes of that shape.

    It sees a few windows of one stage at a time, and treats each by itself. See :class:`KeyGraphAttention`.
    """

    def __call__(self, *, width: int, heads: int, window: int) -> nn.Module:
        """Module for nodes of so many channels, in windows of so many nodes a side."""
        ...


class Stage(nn.Module):
    """Key-Graph Constructor, layers that share its graph, and a convolution with a residual around the whole stage."""

    NODES_AT_ONCE = 4096

    def __init__(
        self,
        *,
        width: int,
        heads: int,
        depth: int,
        window: int,
        ffn_ratio: float,
        mixer: MixerFactory,
        ffn: str = "linear",
        share_graph: bool = True,
        shifted: bool = False,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.window = window
        self.share_graph = share_graph
        self.shifted = shifted
        self.checkpointing = checkpointing
        self.layers = nn.ModuleList(
            Layer(width=width, heads=heads, window=window, ffn_ratio=ffn_ratio, mixer=mixer, ffn=ffn)
            for _ in range(depth)
        )
        self.node_by_node = FFNS[ffn].node_by_node
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, features_BCHW: Tensor, k: int) -> Tensor:
        """Features of the same shape [B, C, H, W]; H and W are multiples of the window, k lies in 1..N."""
        # Half a window of mirrored nodes on each side moves the borders of the windows. Rolling the features instead,
        # as shifted windows usually do, would make neighbours of opposite ends of the image.
        margin = self.window // 2 if self.shifted else 0
        inside = F.pad(features_BCHW, (margin, -margin % self.window) * 2, "reflect") if margin else features_BCHW
        height, width = inside.shape[-2:]

        nodes_WNC = split_windows(inside, self.window)
        graph = build_key_graph(nodes_WNC, k)
        # A traced loop over parts would have the length that it had for one size of images.
        whole = torch.is_grad_enabled() or torch.compiler.is_compiling() or nodes_WNC.device.type != "cpu"
        if whole or not self.node_by_node:
            nodes_WNC = self._through_layers(nodes_WNC, graph, (height, width), [None] * len(self.layers))
        else:
            nodes_WNC = self._part_by_part(nodes_WNC, graph)
        inside = merge_windows(nodes_WNC, self.window, height, width)

        height, width = features_BCHW.shape[-2:]
        inside = inside[..., margin : margin + height, margin : margin + width]
        return features_BCHW + self.conv(inside)

    def _through_layers(
        self, nodes_WNC: Tensor, graph: KeyGraph, size: tuple[int, int], bias_tables: Sequence[Tensor | None]
    ) -> Tensor:
        for i, (layer, table) in enumerate(zip(self.layers, bias_tables, strict=True)):
            if i > 0 and not self.share_graph:
                graph = build_key_graph(nodes_WNC, graph.k)
            if self.checkpointing and torch.is_grad_enabled():
                nodes_WNC = checkpoint(layer, nodes_WNC, graph, size, table, use_reentrant=False)
            else:
                nodes_WNC = layer(nodes_WNC, graph, size, table)
        return nodes_WNC

    def _part_by_part(self, nodes_WNC: Tensor, graph: KeyGraph) -> Tensor:
        """The same, a few windows at a time through all layers, so that they stay in the processor's cache.

        Windows do not see each other inside a stage. The time per pixel then does not grow with the image.
        """
        windows = max(1, self.NODES_AT_ONCE // nodes_WNC.shape[1])
        attentions = [layer.attention for layer in self.layers]
        tables = [each.position() if isinstance(each, KeyGraphAttention) else None for each in attentions]
        parts = [
            self._through_layers(part, graph.windows(i * windows, (i + 1) * windows), (0, 0), tables)
            for i, part in enumerate(nodes_WNC.split(windows))
        ]
        return torch.cat(parts)


class Layer(nn.Module):
    """x = x + KGA(LN(x), graph); x = x + FFN(LN(x)) (arXiv 2402.02634, section 3.3)."""

    def __init__(self, *, width: int, heads: int, window: int, ffn_ratio: float, mixer: MixerFactory, ffn: str) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = mixer(width=width, heads=heads, window=window)
        self.ffn_norm = nn.LayerNorm(width)
        self.ffn = make_ffn(ffn, width=width, hidden=int(width * ffn_ratio), window=window)

    def forward(self, nodes_WNC: Tensor, graph: KeyGraph, size: tuple[int, int], bias_table: Tensor | None) -> Tensor:
        """Nodes of the same shape [W, N, C]; ``size`` is that of the features the windows make up.

        What is known before of a :class:`KeyGraphAttention` is its ``bias_table``, the same for all parts of an image.
        """
        known = () if bias_table is None else (bias_table,)
        nodes_WNC = nodes_WNC + self.attention(self.attention_norm(nodes_WNC), graph, *known)
        return nodes_WNC + self.ffn(self.ffn_norm(nodes_WNC), size)


class KeyGraphAttention(nn.Module):
    """Multi-head attention over the neighbours of each node, with cosine scores and a continuous position bias.

    Scores are the cosine similarity of query and key times a learned factor of each head (arXiv 2111.09883, equation
    2). With the position bias below this is the reading that gives the published parameter counts.
    """

    MAX_SCALE = 100.0

    def __init__(self, *, width: int, heads: int, window: int, implementation: str) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(
                f"width={width} must be a multiple of heads={heads}: change model.width, or model.layout.widths and"
                " model.layout.heads"
            )
        self.heads = heads
        self.implementation = implementation
        self.qkv = Linear(width, 3 * width)
        self.projection = Linear(width, width)
        self.log_scale = nn.Parameter(torch.full((heads, 1, 1), math.log(10)))
        self.position: nn.Module = PositionBias(heads=heads, window=window)

    def forward(self, nodes_WNC: Tensor, graph: KeyGraph, bias_table: Tensor | None = None) -> Tensor:
        """Nodes of the same shape [W, N, C]; the bias table is made where it is not given."""
        windows, num_nodes, width = nodes_WNC.shape
        qkv = self.qkv(nodes_WNC).view(windows, num_nodes, 3, self.heads, width // self.heads)
        q_WHND, k_WHND, v_WHND = split_heads(qkv)
        mixed_WHND = key_graph_attention(
            q_WHND,
            k_WHND,
            v_WHND,
            graph,
            scale=self.log_scale.clamp(max=math.log(self.MAX_SCALE)).exp().flatten(),
            cosine=True,
            bias_table=self.position() if bias_table is None else bias_table,
            impl=self.implementation,
        )
        return self.projection(mixed_WHND.transpose(1, 2).reshape(windows, num_nodes, width))


class PositionBias(nn.Module):
    """Table [H, (2M-1)*(2M-1)] of 16 sigmoid(MLP(offset)) over log-spaced offsets (arXiv 2111.09883, section 3.3)."""

    steps: Tensor

    def __init__(self, *, heads: int, window: int, hidden: int = 512) -> None:
        super().__init__()
        steps = torch.arange(1 - window, window) / max(window - 1, 1) * 8
        steps = steps.sign() * (steps.abs() + 1).log2() / math.log2(8)
        self.register_buffer("steps", steps, persistent=False)
        self.mlp = nn.Sequential(nn.Linear(2, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, heads, bias=False))

    def forward(self) -> Tensor:
        """Bias table [H, (2M-1)*(2M-1)], rows by vertical and columns by horizontal offset of query and key."""
        first, activation, last = self.mlp
        assert isinstance(first, nn.Linear)
        # The first layer of an offset is a part of its row and a part of its column: no product for each pair.
        row_SC, column_SC = (self.steps[:, None] * weight_C for weight_C in first.weight.unbind(1))
        hidden_SSC = activation((row_SC + first.bias)[:, None] + column_SC)
        return 16 * torch.sigmoid(last(hidden_SSC.flatten(0, 1))).transpose(0, 1)
