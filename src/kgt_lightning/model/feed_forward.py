"""Feed-forward networks of a layer: node by node as published, or with convolutions that cross the window borders.

Shapes: B images, C channels, W windows, M window side, N = M*M nodes of a window.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from kgt_lightning.model.linear import Linear
from kgt_lightning.ops import merge_windows, split_windows


class LinearFFN(nn.Sequential):
    """Linear, GELU, Linear: every node by itself (arXiv 2402.02634, section 3.3)."""

    node_by_node = True
    """Whether a node's result depends on that node alone, so that windows may be computed one after the other."""

    def __init__(self, *, width: int, hidden: int, window: int) -> None:
        super().__init__(Linear(width, hidden), nn.GELU(), Linear(hidden, width))

    def forward(self, input: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Nodes of the same shape [W, N, C]; the size of the features the windows make up makes no difference."""
        return super().forward(input)


class DepthwiseFFN(nn.Module):
    """Linear, depthwise 3x3 convolution, GELU, Linear (as the LeFF of arXiv 2106.03106, section 3.2)."""

    node_by_node = False

    def __init__(self, *, width: int, hidden: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.expand = nn.Conv2d(width, hidden, 1)
        self.mix = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.reduce = nn.Conv2d(hidden, width, 1)

    def forward(self, nodes_WNC: Tensor, size: tuple[int, int]) -> Tensor:
        """Nodes of the same shape [W, N, C]; ``size`` is that of the features the windows make up."""
        features_BCHW = merge_windows(nodes_WNC, self.window, *size)
        return split_windows(self.reduce(F.gelu(self.mix(self.expand(features_BCHW)))), self.window)


class GatedFFN(nn.Module):
    """GELU(depthwise(expand x)) times depthwise(expand x), reduced (GDFN of arXiv 2111.09881, equation 2)."""

    node_by_node = False

    def __init__(self, *, width: int, hidden: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.expand = nn.Conv2d(width, 2 * hidden, 1)
        self.mix = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden)
        self.reduce = nn.Conv2d(hidden, width, 1)

    def forward(self, nodes_WNC: Tensor, size: tuple[int, int]) -> Tensor:
        """Nodes of the same shape [W, N, C]; ``size`` is that of the features the windows make up."""
        features_BCHW = merge_windows(nodes_WNC, self.window, *size)
        gate, value = self.mix(self.expand(features_BCHW)).chunk(2, dim=1)
        return split_windows(self.reduce(F.gelu(gate) * value), self.window)


class ConvFFN(nn.Module):
    """3x3 convolution, GELU, 3x3 convolution: dense, which costs more parameters and fewer passes over memory."""

    node_by_node = False

    def __init__(self, *, width: int, hidden: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.expand = nn.Conv2d(width, hidden, 3, padding=1)
        self.reduce = nn.Conv2d(hidden, width, 3, padding=1)

    def forward(self, nodes_WNC: Tensor, size: tuple[int, int]) -> Tensor:
        """Nodes of the same shape [W, N, C]; ``size`` is that of the features the windows make up."""
        features_BCHW = merge_windows(nodes_WNC, self.window, *size)
        return split_windows(self.reduce(F.gelu(self.expand(features_BCHW))), self.window)


FeedForward = LinearFFN | DepthwiseFFN | GatedFFN | ConvFFN

FFNS: dict[str, type[FeedForward]] = {
    "linear": LinearFFN,
    "depthwise": DepthwiseFFN,
    "gated": GatedFFN,
    "conv": ConvFFN,
}


def make_ffn(name: str, *, width: int, hidden: int, window: int) -> FeedForward:
    """The feed-forward network of this name.

    Raises:
        ValueError: if there is none.

    """
    if name not in FFNS:
        raise ValueError(f"model.ffn={name!r} must be one of {', '.join(FFNS)}")
    return FFNS[name](width=width, hidden=hidden, window=window)
