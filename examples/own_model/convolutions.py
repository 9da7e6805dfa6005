"""Two backbones without attention: see kgt_lightning.model.Backbone for the four attributes that they have."""

import torch
from torch import Tensor, nn


class DnCNN(nn.Module):
    """Features of a plain column of 3x3 convolutions and ReLU, DnCNN's plan without batch normalisation.

    arXiv 1608.03981; with ``stride`` 2 it is FFDNet's plan (arXiv 1710.04026).
    """

    def __init__(self, *, channels: int, width: int, depth: int, stride: int) -> None:
        super().__init__()
        self.channels, self.width, self.stride, self.multiple = channels, width, stride, stride
        layers: list[nn.Module] = [nn.PixelUnshuffle(stride)]
        for i in range(depth):
            convolution = nn.Conv2d(width if i else channels * stride**2, width, 3, padding=1)
            # PyTorch's own start shrinks the signal in every layer: without normalisation nothing arrives at the last.
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            layers += [convolution, nn.ReLU()]
        self.layers = nn.Sequential(*layers)

    def forward(self, image: Tensor) -> Tensor:
        """Features [B, width, H/stride, W/stride] of an image [B, channels, H, W]."""
        return self.layers(image)


class NAFNet(nn.Module):
    """Features of NAFNet's blocks in one column, at one resolution (arXiv 2204.04676; theirs is U-shaped)."""

    def __init__(self, *, channels: int, width: int, depth: int, stride: int) -> None:
        super().__init__()
        self.channels, self.width, self.stride, self.multiple = channels, width, stride, stride
        self.stem = nn.Sequential(nn.PixelUnshuffle(stride), nn.Conv2d(channels * stride**2, width, 3, padding=1))
        self.blocks = nn.Sequential(*(NAFBlock(width) for _ in range(depth)))

    def forward(self, image: Tensor) -> Tensor:
        """Features [B, width, H/stride, W/stride] of an image [B, channels, H, W]."""
        return self.blocks(self.stem(image))


class NAFBlock(nn.Module):
    """x = x + b conv(attend(gate(depthwise(conv(LN(x)))))); x = x + c conv(gate(conv(LN(x)))), figure 3 c there.

    gate(x) is the product of the two halves of the channels, attend(x) = x * conv(mean of x over the image).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix = nn.Sequential(
            ChannelNorm(width),
            nn.Conv2d(width, 2 * width, 1),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=2 * width),
            Gate(),
            ChannelAttention(width),
            nn.Conv2d(width, width, 1),
            Scale(width),
        )
        self.feed = nn.Sequential(
            ChannelNorm(width), nn.Conv2d(width, 2 * width, 1), Gate(), nn.Conv2d(width, width, 1), Scale(width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Features of the same shape [B, C, H, W]."""
        x = x + self.mix(x)
        return x + self.feed(x)


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of each pixel."""

    def forward(self, x: Tensor) -> Tensor:
        """Of the same shape [B, C, H, W]."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Gate(nn.Module):
    """One half of the channels times the other."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] of [B, 2C, H, W]."""
        first, second = x.chunk(2, dim=1)
        return first * second


class ChannelAttention(nn.Module):
    """Channels weighted by a linear map of their means over the image."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Of the same shape [B, C, H, W]."""
        return x * self.conv(x.mean(dim=(2, 3), keepdim=True))


class Scale(nn.Module):
    """A learned factor for each channel, 0 at first: a block begins as the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.zeros(width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Of the same shape [B, C, H, W]."""
        return x * self.factor
