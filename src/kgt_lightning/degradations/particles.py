"""What falls through the air: particles at random distances, each smeared along its way while the shutter is open."""

from typing import NamedTuple

import numpy as np

FARTHEST = 4.0
"""Distance of the farthest particles that are drawn one by one, in units of the nearest; the veil stands for those
beyond."""
_REACH = 2.4
"""Radii at which a particle has faded below one 8-bit level."""


class Particles(NamedTuple):
    """Places in the picture, all float32 [N]."""

    y: np.ndarray
    """Pixels from the top; some lie outside and reach in."""
    x: np.ndarray
    """Pixels from the left."""
    nearness: np.ndarray
    """1 / distance, 1 for the nearest: what sizes and speeds in the picture are proportional to."""

    def __len__(self) -> int:
        return len(self.y)


def scatter(size: tuple[int, int], *, density: float, margin: float, rng: np.random.Generator) -> Particles:
    """Particles spread evenly over the air in front of a picture of height x width.

    Their number is Poisson distributed with ``density`` per pixel, on the picture and ``margin`` pixels around it. The
    view widens with the distance z, so z is distributed as z^2 in 1..FARTHEST.
    """
    height, width = (side + 2 * margin for side in size)
    uniform = rng.random((3, rng.poisson(density * height * width)), dtype=np.float32)
    distance = np.cbrt(1 + uniform[2] * (FARTHEST**3 - 1))
    return Particles(uniform[0] * height - margin, uniform[1] * width - margin, 1 / distance)


def draw(
    particles: Particles, *, size: tuple[int, int], motion: np.ndarray, radius: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    """Picture [H, W], float32: the sum over all particles of weight * exp(-(d / radius)^2).

    d is the distance in pixels to the segment that the particle moved along while the shutter was open.

    Args:
        particles: N of them, each in the middle of its segment.
        size: H and W.
        motion: [2, N], segments as down and right, in pixels.
        radius: [N] in pixels; below about half a pixel a particle flickers with its place.
        weight: [N].

    """
    height, width = size
    picture = np.zeros(height * width)
    reach = np.abs(motion) / 2 + _REACH * radius
    # Windows of few sizes, powers of two, so that all particles of one size are drawn at once.
    windows = 2 ** np.ceil(np.log2(np.maximum(reach, 4))).astype(int)
    middle = np.rint(np.stack([particles.y, particles.x])).astype(int)
    visible = np.flatnonzero(((middle + windows >= 0) & (middle - windows < np.array([[height], [width]]))).all(0))
    for tall, wide in np.unique(windows[:, visible], axis=1).T:
        chosen = visible[(windows[:, visible] == [[tall], [wide]]).all(0)]
        # So many at once that their windows fit into a cache.
        at_once = max(1, 2**16 // ((2 * tall + 1) * (2 * wide + 1)))
        for first in range(0, len(chosen), at_once):
            some = chosen[first : first + at_once]
            rows = middle[0, some, None] + np.arange(-tall, tall + 1)
            columns = middle[1, some, None] + np.arange(-wide, wide + 1)
            down = (rows - particles.y[some, None]).astype(np.float32)[:, :, None]
            right = (columns - particles.x[some, None]).astype(np.float32)[:, None, :]
            move_down, move_right = motion[:, some, None, None]
            squared_length = np.maximum(move_down**2 + move_right**2, 1e-6)
            along = np.clip(down * (move_down / squared_length) + right * (move_right / squared_length), -0.5, 0.5)
            squared = (down - along * move_down) ** 2 + (right - along * move_right) ** 2
            value = weight[some, None, None] * np.exp(squared / -(radius[some, None, None] ** 2))
            inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
            places = (rows[:, :, None] * width + columns[:, None, :])[inside]
            picture += np.bincount(places, value[inside], minlength=height * width)
    return picture.reshape(size).astype(np.float32)
