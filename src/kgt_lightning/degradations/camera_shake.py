"""Camera shake: the path of the image on the sensor during the exposure, its blur kernel, the blurred image."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kgt_lightning.config.types import NotNegative
from kgt_lightning.degradations.degradation import Degradation, quantize_8bit, seeded_by_name
from kgt_lightning.degradations.levels import Level, Levels
from kgt_lightning.images.color import to_linear, to_srgb


@dataclass(frozen=True, kw_only=True)
class CameraShake(Degradation):
    """degraded = round8(srgb(kernel * linear(clean)) + n), n ~ N(0, (noise/255)^2): one blur for the whole image.

    The sensor adds up light, so that the blur is a convolution in linear light; the result is clipped and rounded to 8
    bits, as in a camera's file. The kernel is that of a random path of the camera, see :func:`shake_path`.
    """

    shake: Level
    """Length of the path in training, in pixels: fixed, drawn from a list, or drawn uniformly from {low, high}."""
    test_shake: float | Sequence[float] | None
    """Lengths to test, see :class:`Levels`."""
    tremor: NotNegative
    """How much the hand trembles, at most: radians over the exposure."""
    pull: NotNegative
    """How strongly it comes back, at most."""
    jerks: NotNegative
    """How often it is thrown back, at most: expected number during the exposure."""
    noise: NotNegative
    """Standard deviation in 8-bit values."""
    linear_light: bool
    """Whether light is convolved; otherwise the sRGB values, as most synthetic sets do."""

    def __post_init__(self) -> None:
        _ = self.lengths

    @cached_property
    def lengths(self) -> Levels:
        """Lengths of the path in pixels."""
        return Levels(
            name="shake",
            what="pixels in 0..256",
            training=self.shake,
            test=self.test_shake,
            usual=(4, 8, 12),
            least=0,
            most=256,
        )

    @property
    def context(self) -> int:
        """Radius of the largest kernel."""
        return kernel_size(self.lengths.largest()) // 2

    @property
    def rules(self) -> str:
        """What synthetic blur does."""
        light = "linear light" if self.linear_light else "sRGB values"
        return f"synthetic shake of {light}, drawn by file name, 8 bits"

    def __call__(self, clean: Tensor, rng: np.random.Generator) -> Tensor:
        """Blurred image [C, H, W] of a clean one in [0, 1]."""
        return self.shaken(clean, rng, length=self.lengths.draw(rng))

    def test_settings(self) -> dict[str, Callable[[Tensor, str], Tensor]]:
        """The lengths to test, such as ``shake=8``: path and noise are drawn from the listed name."""
        lengths = self.lengths.to_test()
        return {f"shake={length:g}": seeded_by_name(partial(self.shaken, length=length)) for length in lengths}

    def shaken(self, clean: Tensor, rng: np.random.Generator, *, length: float) -> Tensor:
        """Image [C, H, W] of a clean one, blurred by a random path of the length."""
        path = shake_path(length=length, tremor=self.tremor, pull=self.pull, jerks=self.jerks, rng=rng)
        kernel = shake_kernel(path, kernel_size(length))
        image = to_srgb(blur(to_linear(clean), kernel)) if self.linear_light else blur(clean, kernel)
        if self.noise > 0:
            image += torch.from_numpy(rng.standard_normal(tuple(image.shape), dtype=np.float32)) * (self.noise / 255)
        return quantize_8bit(image.numpy())


Path = NDArray[np.float64]
"""Positions [T, 2] in pixels, down and to the right, at equal distances in time."""

STEPS_PER_PIXEL = 4
"""Of a path, so that its trace has no gaps."""
LEAST_STEPS = 32


def shake_path(*, length: float, tremor: float, pull: float, jerks: float, rng: np.random.Generator) -> Path:
    """Random path [T, 2] of the given length.

    In steps of 1/T of the length the image keeps its direction d, a complex number of modulus 1, but for a trembling
    hand, a pull back to where the path began, and sudden jerks that throw it back:

        d' = unit(d + tremor/sqrt(T) n - pull/T x),  n ~ N(0, 1) + i N(0, 1),  x' = x + d'/T,  path = length x

    and with probability jerks/T, d is turned by pi + u, u ~ U(-1/2, 1/2), before it. Each path has its own tremor, pull
    and jerks, drawn uniformly between 0 and what is given; they mean the same for every T. After Boracchi & Foi (IEEE
    Trans. Image Process. 21(8), 2012) and its discrete form in DeblurGAN (arXiv 1711.07064, algorithm 1).

    Args:
        length: along the path, in pixels.
        tremor: standard deviation in radians of the direction's random walk over the exposure, at most.
        pull: towards where it began, at most; at a distance of the whole length it bends the path like a circle of
            radius length/pull.
        jerks: their expected number during the exposure, at most.
        rng: all chance comes from it.

    """
    steps = max(LEAST_STEPS, math.ceil(STEPS_PER_PIXEL * length))
    tremor, pull, jerks = rng.uniform(0, (tremor, pull, jerks))
    trembling = tremor / math.sqrt(steps) * (rng.standard_normal((steps, 2)) @ [1, 1j])
    turns = np.where(rng.random(steps) < jerks / steps, -np.exp(1j * rng.uniform(-0.5, 0.5, steps)), 1)
    direction = complex(np.exp(2j * math.pi * rng.random()))
    position, positions = 0j, [0j]
    for turn, tremble in zip(turns.tolist(), trembling.tolist(), strict=True):
        direction = direction * turn + tremble - pull / steps * position
        direction /= abs(direction)
        position += direction / steps
        positions.append(position)
    path = length * np.array(positions)
    return np.stack([path.imag, path.real], axis=1)


def kernel_size(length: float) -> int:
    """Side of the smallest kernel that holds every path of the length: half of it on each side of the centroid."""
    return 2 * math.ceil(length / 2) + 1


def shake_kernel(path: Path, size: int) -> Tensor:
    """Blur kernel, float32 [size, size], that a path leaves: the share of the exposure that each pixel gets.

    Every point is split among the four pixels around it (bilinear). The centroid of the kernel is its centre, so that
    the blurred image is not moved against the sharp one.

    Raises:
        ValueError: if the size is even, or too small for the path.

    """
    around_centroid = path - path.mean(axis=0)
    least = 2 * math.ceil(np.abs(around_centroid).max()) + 1
    if size % 2 == 0 or size < least:
        raise ValueError(f"size={size} must be odd and at least {least} for this path")
    points = around_centroid + size // 2
    # A point on the last pixel gives its right or lower neighbour nothing.
    first = np.minimum(points.astype(np.int64), max(size - 2, 0))
    rest = points - first
    kernel = np.zeros((size, size))
    for down, right in ((0, 0), (0, 1), (1, 0), (1, 1))[: 4 if size > 1 else 1]:
        share = np.abs(1 - down - rest[:, 0]) * np.abs(1 - right - rest[:, 1])
        np.add.at(kernel, (first[:, 0] + down, first[:, 1] + right), share)
    return torch.from_numpy(kernel / len(path)).float()


def blur(image: Tensor, kernel: Tensor) -> Tensor:
    """Convolution [C, H, W] of an image of any size with a kernel of odd sides; beyond its edges it is mirrored."""
    down, right = (side // 2 for side in kernel.shape)
    around = torch.from_numpy(np.pad(image.numpy(), ((0, 0), (down, down), (right, right)), mode="symmetric"))
    # Of a patch of 76 x 76 pixels and a kernel of 13 x 13, 0.4 ms on one core; conv2d takes 1.5 ms.
    size = around.shape[-2:]
    product = torch.fft.rfft2(around) * torch.fft.rfft2(kernel, s=size)
    return torch.fft.irfft2(product, s=size)[:, 2 * down :, 2 * right :]
