"""JPEG compression by the real encoder."""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from kgt_lightning.degradations.degradation import Degradation
from kgt_lightning.degradations.levels import Levels
from kgt_lightning.images.color import to_uint8

BLOCK = 16
"""Side in pixels of what colour JPEG codes on its own: 8 x 8 values of chroma at half the resolution."""


@dataclass(frozen=True, kw_only=True)
class JPEGCompression(Degradation):
    """degraded = decode(encode(clean, quality)): libjpeg's tables, colour in 4:2:0, 8 bits.

    The blocks of a patch lie at a random phase and are whole, as in a random crop of a compressed image: GRL's
    order, compression before cropping. KAIR and SwinIR compress a crop 8 pixels larger, half of the time from its
    corner, so that chroma blocks are cut. Here the patch comes with one block more on each side, which gives the very
    pixels of the compressed image at the price of a small one.
    """

    quality: int | Sequence[int] | Mapping[str, int]
    """In training, 1 to 100 as libjpeg counts: fixed, drawn from a list, or from {low, high}, both included."""
    test_quality: int | Sequence[int] | None
    """Qualities to test, see :class:`Levels`."""
    context = BLOCK

    def __post_init__(self) -> None:
        _ = self.levels

    @cached_property
    def levels(self) -> Levels:
        """Qualities as libjpeg counts them."""
        return Levels(
            name="quality",
            what="a whole number in 1..100",
            training=self.quality,
            test=self.test_quality,
            usual=(10, 20, 30, 40),
            least=1,
            most=100,
            whole=True,
        )

    def __call__(self, clean: Tensor, rng: np.random.Generator) -> Tensor:
        """Compressed image [C, H, W] of a clean one in [0, 1], its first block cut at a random pixel."""
        quality = int(self.levels.draw(rng))
        top, left = (int(phase) for phase in rng.integers(BLOCK, size=2))
        return compress(F.pad(clean, (left, 0, top, 0), mode="replicate"), quality)[:, top:, left:]

    def test_settings(self) -> dict[str, Callable[[Tensor, str], Tensor]]:
        """The qualities to test, such as ``quality=10``: the whole image is compressed, whatever its name."""
        return {f"quality={each:g}": partial(_compressed, quality=int(each)) for each in self.levels.to_test()}


def compress(image: Tensor, quality: int) -> Tensor:
    """Image [..., C, H, W], values n/255, after JPEG of this quality, as Pillow and OpenCV write it: 4:2:0 in colour.

    The image, in [0, 1], is rounded to 8 bits first; C is 1 (gray) or 3 (RGB). Without gradient.

    Raises:
        ValueError: if the image has another number of channels, or the quality does not lie in 1..100.

    """
    if image.ndim < 3 or image.shape[-3] not in (1, 3):
        raise ValueError(f"image of shape {tuple(image.shape)} must be [..., C, H, W] with C = 1 (gray) or 3 (RGB)")
    if not isinstance(quality, int) or not 1 <= quality <= 100:
        raise ValueError(f"quality={quality} must be a whole number in 1..100")
    pixels = to_uint8(image.detach()).cpu().movedim(-3, -1).contiguous()
    decoded = torch.empty_like(pixels)
    shape = pixels.shape[-3:]
    for before, after in zip(pixels.reshape(-1, *shape).numpy(), decoded.view(-1, *shape).numpy(), strict=True):
        file = io.BytesIO()
        Image.fromarray(before.squeeze(-1) if shape[-1] == 1 else before).save(file, "JPEG", quality=quality)
        after[...] = np.atleast_3d(np.asarray(Image.open(file)))
    return decoded.movedim(-1, -3).contiguous().to(image) / 255


def _compressed(clean: Tensor, name: str, *, quality: int) -> Tensor:
    return compress(clean, quality)
