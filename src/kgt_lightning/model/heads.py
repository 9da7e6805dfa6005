"""From features to the restored image."""

from torch import Tensor, nn


class ResidualHead(nn.Module):
    """restored = degraded + conv(features): for tasks whose output has the size of the input."""

    scale = 1

    def __init__(self, *, width: int, stride: int, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, channels * stride**2, 3, padding=1)
        # Training starts from the degraded image itself, instead of noise that the first steps have to unlearn.
        for parameter in self.conv.parameters():
            nn.init.zeros_(parameter)
        self.to_pixels = nn.PixelShuffle(stride)

    def forward(self, features: Tensor, degraded: Tensor) -> Tensor:
        """Restored image [B, channels, H, W], H and W those of the degraded image."""
        return degraded + self.to_pixels(self.conv(features))


class PixelShuffleHead(nn.Module):
    """Convolution, pixel shuffle and convolution: for super-resolution (arXiv 1609.05158; as SwinIR's, 64 wide)."""

    WIDTH = 64

    def __init__(self, *, width: int, stride: int, channels: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.before = nn.Sequential(nn.Conv2d(width, self.WIDTH, 3, padding=1), nn.LeakyReLU())
        steps: list[nn.Module] = []
        for factor in _factors(scale * stride):
            steps += [nn.Conv2d(self.WIDTH, self.WIDTH * factor**2, 3, padding=1), nn.PixelShuffle(factor)]
        self.upsample = nn.Sequential(*steps)
        self.last = nn.Conv2d(self.WIDTH, channels, 3, padding=1)

    def forward(self, features: Tensor, degraded: Tensor) -> Tensor:
        """Restored image [B, channels, H*scale, W*scale] of the degraded image [B, channels, H, W]."""
        return self.last(self.upsample(self.before(features)))


def _factors(scale: int) -> list[int]:
    """The scale in steps of 2 and 3.

    Raises:
        ValueError: if other prime factors are left.

    """
    steps, rest = [], scale
    for factor in (2, 3):
        while rest % factor == 0:
            steps.append(factor)
            rest //= factor
    if rest != 1 or scale < 1:
        raise ValueError(f"scale={scale} must be a product of 2s and 3s, such as 2, 3 or 4")
    return steps
