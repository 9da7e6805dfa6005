"""Image files in and out: float32 [C, H, W] in [0, 1], with alpha, bit depth and colour profile."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NoReturn, TypeVar

import numpy as np
import torch
from PIL import UnidentifiedImageError
from torch import Tensor

from kgt_lightning.images import raw
from kgt_lightning.images.codecs import decode, encode, header
from kgt_lightning.images.color import gray, quantize
from kgt_lightning.images.formats import FORMATS, RAW, Format
from kgt_lightning.images.raster import Header, Raster
from kgt_lightning.system.files import write_atomic

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """What a file holds, upright."""

    pixels: Tensor
    """float32 [C, H, W] in [0, 1], C = 1 (gray) or 3 (RGB)."""
    alpha: Tensor | None = None
    """Opacity, float32 [1, H, W] in [0, 1]."""
    bits: Literal[8, 16, 32] = 8
    """Bits per channel in the file; 32 are floating point."""
    profile: bytes | None = None
    """ICC profile that the pixel values refer to."""

    def __post_init__(self) -> None:
        if self.pixels.ndim != 3 or self.pixels.shape[0] not in (1, 3):
            raise ValueError(f"pixels of shape {tuple(self.pixels.shape)} must be [C, H, W] with C = 1 or 3")
        if self.alpha is not None and self.alpha.shape != (1, *self.pixels.shape[1:]):
            raise ValueError(
                f"alpha {tuple(self.alpha.shape)} must be [1, H, W] with the size of pixels {tuple(self.pixels.shape)}"
            )
        if self.bits not in (8, 16, 32):
            raise ValueError(f"bits={self.bits} must be 8, 16 or 32")


def read_image(path: str | Path, *, channels: Literal[1, 3] | None = None) -> Picture:
    """Picture in the file, upright: 8 or 16 bit, gray, RGB, palette or CMYK, with or without alpha.

    `channels` = 1 makes colour gray (full-range BT.601, rounded to the file's bits as OpenCV does), 3 repeats gray.
    The EXIF orientation is applied, the ICC profile kept, other metadata dropped; of several frames the first is read.

    Raises:
        ValueError: the file is missing, damaged, no image, has more than 400 megapixels or a layout that is not known.

    """
    if channels not in (None, 1, 3):
        raise ValueError(f"channels={channels} must be 1 (gray), 3 (RGB) or None (as in the file)")
    raster = read_raster(path)
    array, profile = raster.array, raster.profile
    levels = 1 if array.dtype == np.float32 else np.iinfo(array.dtype).max
    check_unit_range(path, raster)
    planes = torch.from_numpy(array.transpose(2, 0, 1).astype(np.float32, order="C")).div_(levels)
    colours = 3 if planes.shape[0] >= 3 else 1
    picture = Picture(
        pixels=planes[:colours],
        alpha=planes[colours:] if planes.shape[0] > colours else None,
        bits=raster.bits,  # type: ignore[arg-type]
        profile=profile,
    )
    if channels in (None, colours):
        return picture
    pixels = picture.pixels
    pixels = gray(pixels) if channels == 1 else pixels.repeat(3, 1, 1)
    if channels == 1 and levels > 1:
        pixels = quantize(pixels, bits=picture.bits) / levels
    return replace(picture, pixels=pixels, profile=None)


def read_raster(path: str | Path) -> Raster:
    """What the file holds, in its own kind of numbers.

    Raises:
        ValueError: as :func:`read_image`.

    """
    return _open(path, decode)


def check_unit_range(path: str | Path, raster: Raster) -> None:
    """See to it that floating-point values lie in 0..1.

    Raises:
        ValueError: if one does not.

    """
    array = raster.array
    if array.dtype == np.float32 and not 0 <= array.min() <= array.max() <= 1:
        raise ValueError(f"{path} holds values from {array.min():g} to {array.max():g}: scale them to 0..1")


def read_header(path: str | Path) -> Header:
    """What is known of the image in the file without decoding it.

    Raises:
        ValueError: as :func:`read_image`; damage beyond the header is not seen.

    """
    return _open(path, raw.header if is_raw(path) else header)


def is_raw(path: str | Path) -> bool:
    """Whether the suffix is one of a camera's raw files."""
    return Path(path).suffix.lower() in RAW


def read_mosaic(path: str | Path) -> raw.Mosaic:
    """The mosaic in a raw file.

    Raises:
        ValueError: as :func:`read_image`, or if it is none of 2 x 2 pixels of red, green and blue.

    """
    return _open(path, raw.read_mosaic)


def read_shape(path: str | Path) -> tuple[int, int, int]:
    """Channels (1 gray, 3 colour), height and width of the upright image in the file; raises as `read_header`."""
    return read_header(path)[:3]


def write_image(path: str | Path, picture: Picture) -> None:
    """Write the picture with its bit depth and alpha, rounded half to even, in the format that the suffix names.

    JPEG has quality 95 and full chroma, WebP is lossless. Folders are made as needed; the file appears complete or
    not at all, and an existing one is replaced only by a complete one.

    Raises:
        ValueError: an unknown suffix, or a format that cannot hold the picture's bit depth, alpha, size or values.

    """
    planes = picture.pixels if picture.alpha is None else torch.cat([picture.pixels, picture.alpha.to(picture.pixels)])
    if not planes.isfinite().all():
        raise ValueError(f"{path}: the picture holds values that are not finite: check what computed it")
    array = to_samples(planes, bits=picture.bits)
    write_whole(Path(path), encoded(Path(path), Raster(array, picture.profile)))


def to_samples(planes: Tensor, *, bits: int) -> np.ndarray:
    """Samples [H, W, C] of a file of so many bits, rounded half to even, of planes [C, H, W] in [0, 1]."""
    if bits == 32:
        return planes.detach().clamp(0, 1).permute(1, 2, 0).cpu().numpy().astype(np.float32)
    array = quantize(planes.detach(), bits=bits).permute(1, 2, 0).cpu().numpy()
    return array.astype(np.uint8 if bits == 8 else np.uint16)


def format_of(path: Path) -> Format:
    """Format that the suffix names.

    Raises:
        ValueError: if none is written under it.

    """
    form = FORMATS.get(path.suffix.lower())
    if form is None:
        raise ValueError(f"{path}: suffix {path.suffix!r} must be one of {', '.join(FORMATS)}")
    return form


def encoded(path: Path, raster: Raster) -> bytes:
    """Bytes of the file at the path that holds the raster.

    Raises:
        ValueError: as :func:`write_image`.

    """
    form = format_of(path)
    height, width, channels = raster.array.shape
    refusal = form.refusal(height=height, width=width, bits=raster.bits, alpha=channels in (2, 4))
    if refusal is not None:
        raise ValueError(f"{path}: {refusal}")
    try:
        return encode(raster, form=form)
    except MemoryError as error:
        raise ValueError(f"{path} needs more memory to be written than there is") from error
    except ImportError as error:
        _refuse_unloaded(path, error)
    except Exception as error:
        raise ValueError(f"{path} cannot be written as {form.name} ({_reason(error)}): use another one") from error


def write_whole(path: Path, content: bytes) -> None:
    """Write the file, and its folders as needed: it appears complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, content)


def _open(path: str | Path, read: Callable[[Path], _T]) -> _T:
    """What ``read`` finds in the image file, or the reason why it cannot as a ValueError."""
    path = Path(path)
    if not path.is_file():
        nowhere = f"is a link to {path.readlink()}, which does not exist" if path.is_symlink() else "does not exist"
        raise ValueError(f"{path} {'is a folder' if path.is_dir() else nowhere}: name an image file")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty: replace or remove it")
    try:
        return read(path)
    except MemoryError as error:
        raise ValueError(f"{path} needs more memory to be read than there is: the file may well be whole") from error
    except ImportError as error:
        _refuse_unloaded(path, error)
    # decoders raise OSError, SyntaxError, struct.error, ... for damaged files
    except Exception as error:
        raise ValueError(f"{path} cannot be read as an image ({_reason(error)}): replace or remove it") from error


def _refuse_unloaded(path: Path, error: ImportError) -> NoReturn:
    """Codecs are loaded when a file first needs them, for which a process may have too little memory left."""
    raise ValueError(
        f"{path}: a library for it does not load ({_reason(error)}): there is too little memory, or it is not installed"
    ) from error


def _reason(error: Exception) -> str:
    """One line for a person: libraries repeat the path, break lines, or say nothing."""
    if isinstance(error, UnidentifiedImageError):
        return "no known image format"
    return " ".join(str(error).split()) or type(error).__name__
