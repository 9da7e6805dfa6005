"""What the field measures against: DnCNN, and a transformer of dense windows built as SwinIR."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kgt_lightning.ops import merge_windows, split_windows


class DnCNN(nn.Module):
    """Image of the same size by 20 plain convolutions, as CDnCNN-B (arXiv 1608.03981) with its norms folded."""

    def __init__(self, *, channels: int, width: int = 64, depth: int = 20) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1)]
        for _ in range(depth - 2):
            layers += [nn.ReLU(inplace=True), nn.Conv2d(width, width, 3, padding=1)]
        self.layers = nn.Sequential(*layers, nn.ReLU(inplace=True), nn.Conv2d(width, channels, 3, padding=1))

    def forward(self, image: Tensor) -> Tensor:
        """Restored image [B, C, H, W] of one of the same shape."""
        return image - self.layers(image)


class DenseWindows(nn.Module):
    """Backbone of windows of 8 x 8 whose nodes all attend to each other, shifted in every second layer, as SwinIR.

    Stem, norms, convolutions and hidden layers of twice the width stand where those of SwinIR do (arXiv 2108.10257,
    figure 2); scores, bias, mask and softmax are computed in memory, as in its authors' code.
    """

    def __init__(self, *, channels: int, width: int, stride: int, heads: int, depths: Sequence[int]) -> None:
        super().__init__()
        self.channels, self.width, self.stride, self.multiple = channels, width, stride, _Layer.WINDOW * stride
        self.stem = nn.Sequential(nn.PixelUnshuffle(stride), nn.Conv2d(channels * stride**2, width, 3, padding=1))
        self.first_norm, self.last_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.stages = nn.ModuleList(
            nn.ModuleList(_Layer(width=width, heads=heads, shifted=i % 2 == 1) for i in range(depth))
            for depth in depths
        )
        self.convs = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in depths)
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """Features [B, width, H/stride, W/stride] of an image [B, channels, H, W]."""
        features_BCHW = self.stem(image).contiguous(memory_format=torch.channels_last)
        deep_BHWC = self.first_norm(features_BCHW.permute(0, 2, 3, 1))
        for stage, conv in zip(self.stages, self.convs, strict=True):
            before_BHWC = deep_BHWC
            for layer in stage:  # type: ignore[attr-defined]
                deep_BHWC = layer(deep_BHWC)
            deep_BHWC = before_BHWC + conv(deep_BHWC.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return features_BCHW + self.conv(self.last_norm(deep_BHWC).permute(0, 3, 1, 2))


class _Layer(nn.Module):
    WINDOW = 8
    places: Tensor

    def __init__(self, *, width: int, heads: int, shifted: bool) -> None:
        super().__init__()
        self.heads, self.shift = heads, self.WINDOW // 2 if shifted else 0
        self.norm, self.ffn_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.projection = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.ffn = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.bias = nn.Parameter(torch.zeros((2 * self.WINDOW - 1) ** 2, heads))
        y, x = torch.meshgrid(torch.arange(self.WINDOW), torch.arange(self.WINDOW), indexing="ij")
        place = (y * (2 * self.WINDOW - 1) + x).flatten()
        self.register_buffer("places", place[:, None] - place[None] + (self.WINDOW - 1) * 2 * self.WINDOW)

    def forward(self, nodes_BHWC: Tensor) -> Tensor:
        nodes_BHWC = nodes_BHWC + self._attend(self.norm(nodes_BHWC))
        return nodes_BHWC + self.ffn(self.ffn_norm(nodes_BHWC))

    def _attend(self, nodes_BHWC: Tensor) -> Tensor:
        height, width, channels = nodes_BHWC.shape[1:]
        if self.shift:
            nodes_BHWC = nodes_BHWC.roll((-self.shift, -self.shift), dims=(1, 2))
        windows_WNC = split_windows(nodes_BHWC.permute(0, 3, 1, 2), self.WINDOW)
        qkv = self.qkv(windows_WNC).unflatten(-1, (3, self.heads, channels // self.heads)).permute(2, 0, 3, 1, 4)
        q_WHND, k_WHND, v_WHND = qkv.unbind()
        scores_WHNN = (q_WHND * (channels // self.heads) ** -0.5) @ k_WHND.mT + self.bias[self.places].permute(2, 0, 1)
        if self.shift:
            scores_WHNN = scores_WHNN + self._mask(height, width, scores_WHNN)[:, None]
        mixed_WHND = scores_WHNN.softmax(-1) @ v_WHND
        out = merge_windows(self.projection(mixed_WHND.transpose(1, 2).flatten(2)), self.WINDOW, height, width)
        out_BHWC = out.permute(0, 2, 3, 1)
        return out_BHWC.roll((self.shift, self.shift), dims=(1, 2)) if self.shift else out_BHWC

    def _mask(self, height: int, width: int, like: Tensor) -> Tensor:
        """[W, N, N]: -100 between nodes that only the roll has brought together."""
        rows, columns = (
            torch.bucketize(torch.arange(side, device=like.device), side - torch.tensor([self.WINDOW, self.shift]))
            for side in (height, width)
        )
        part = split_windows((3.0 * rows[:, None] + columns)[None, None], self.WINDOW)
        apart = (part != part.mT).to(like.dtype)
        return -100 * apart.repeat(len(like) // len(apart), 1, 1)
