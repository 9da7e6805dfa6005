"""Image files to arrays and back, 8 and 16 bits per channel.

Pillow does it but for colour of 16 bits, which it cuts to 8. imagecodecs reads and writes such PNG files, tifffile such
TIFF files, every layout faithfully; OpenCV and kornia-rs misread 16-bit TIFF files of separate planes without a word.
"""

import contextlib
import io
import logging
import struct
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from PIL import Image, ImageOps

from kgt_lightning.images.formats import Format

_log = logging.getLogger(__name__)

_MAX_MEGAPIXELS = 400
_ORIENTATION_TAG = 0x0112
_PROFILE_TAG = 0x8773
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_GRAY = (tifffile.PHOTOMETRIC.MINISWHITE, tifffile.PHOTOMETRIC.MINISBLACK)


def decode(path: Path) -> tuple[np.ndarray, bytes | None]:
    """Pixels, upright uint8 or uint16 [H, W, C], and the ICC profile they refer to.

    C is 1 gray, 2 gray and alpha, 3 RGB, 4 RGB and alpha. Of several frames the first is read, with a warning in the
    log. Damaged files raise whatever the library raises, so do those of more than 400 megapixels.
    """
    # Pillow 13 garbles upright what it maps into memory (uncompressed gray TIFF); a file object is never mapped
    with path.open("rb") as file:
        start = file.read(25)
        if start.startswith(_TIFF_STARTS) and (found := _deep_tiff(path)) is not None:
            return found
        with _size_limit(), Image.open(file) as image:
            # the further frames of an MPO are thumbnails and gain maps of one image
            if image.format != "MPO":
                _warn_of_frames(path, getattr(image, "n_frames", 1))
            profile = None if image.mode in ("CMYK", "YCbCr") else image.info.get("icc_profile")
            if image.format == "PNG" and start[24] == 16:
                orientation = image.getexif().get(_ORIENTATION_TAG, 1)
                array = _upright(imagecodecs.png_decode(path.read_bytes()), orientation=orientation)
            else:
                array = np.asarray(_eight_bit(ImageOps.exif_transpose(image)))
    return np.atleast_3d(array), profile


def shape(path: Path) -> tuple[int, int, int]:
    """Channels (1 gray, 3 colour), height and width of the upright image, from the header of the file alone."""
    with path.open("rb") as file:
        if file.read(4) in _TIFF_STARTS:
            with tifffile.TiffFile(path) as tiff:
                page = tiff.pages.first
                gray = page.photometric in _GRAY
                size = page.imagelength, page.imagewidth
                orientation = page.tags.valueof(_ORIENTATION_TAG, default=1)
        else:
            file.seek(0)
            with _size_limit(), Image.open(file) as image:
                gray = Image.getmodebase(image.mode) == "L"
                size = image.height, image.width
                orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    # From 5 on they lie on their side.
    height, width = size if orientation < 5 else size[::-1]
    return 1 if gray else 3, height, width


def encode(array: np.ndarray, *, form: Format, profile: bytes | None) -> bytes:
    """Bytes of a file that holds the pixels, uint8 or uint16 [H, W, C] with C as in `decode`."""
    channels = array.shape[-1]
    array = np.ascontiguousarray(array[..., 0] if channels == 1 else array)
    buffer = io.BytesIO()
    if array.dtype == np.uint8:
        Image.fromarray(array).save(buffer, form.name, **form.options, **({"icc_profile": profile} if profile else {}))
    elif form.name == "PNG":
        return _with_profile(bytes(imagecodecs.png_encode(array)), profile)
    else:
        tifffile.imwrite(
            buffer,
            array,
            photometric="rgb" if channels >= 3 else "minisblack",
            planarconfig="contig" if channels > 1 else None,
            extrasamples=["unassalpha"] if channels in (2, 4) else None,
            compression="adobe_deflate",
            iccprofile=profile,
            metadata=None,
        )
    return buffer.getvalue()


@contextlib.contextmanager
def _size_limit() -> Iterator[None]:
    """Raise Pillow's limit for a while: as shipped it refuses what large-format cameras deliver."""
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = _MAX_MEGAPIXELS * 10**6 // 2  # Pillow warns from here on and refuses from twice as many
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _warn_of_frames(path: Path, num_frames: int) -> None:
    if num_frames > 1:
        _log.warning("%s holds %d frames: only the first is read", path, num_frames)


def _eight_bit(image: Image.Image) -> Image.Image:
    """Gray or RGB, with alpha where the file has transparency of any kind."""
    alpha = "A" if image.has_transparency_data else ""
    if image.mode in ("1", "L", "LA", "La"):
        return image.convert("L" + alpha)
    if image.mode in ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"):
        return image.convert("RGB" + alpha)
    raise ValueError(f"pixel layout {image.mode} is not supported, save it as 8 or 16 bit gray or RGB")


def _deep_tiff(path: Path) -> tuple[np.ndarray, bytes | None] | None:
    """As `decode`, of a TIFF of more than 8 bits; else None."""
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        if page.bitspersample <= 8:
            return None
        width, height = page.imagewidth, page.imagelength
        if width * height > _MAX_MEGAPIXELS * 10**6:
            raise ValueError(f"{width} x {height} pixels, at most {_MAX_MEGAPIXELS} megapixels are read")
        known = (*_GRAY, tifffile.PHOTOMETRIC.RGB)
        premultiplied = tifffile.EXTRASAMPLE.ASSOCALPHA in page.extrasamples
        if page.bitspersample != 16 or page.dtype != np.uint16 or page.photometric not in known or premultiplied:
            kind = f"TIFF of {page.bitspersample} bits ({page.dtype}), {tifffile.PHOTOMETRIC(page.photometric).name}"
            raise ValueError(f"{kind} is not supported, save it as 8 or 16 bit gray or RGB with straight alpha")
        _warn_of_frames(path, len(tiff.pages))
        array = page.asarray()
        if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
            array = 65535 - array
        if page.axes.startswith("S"):
            array = np.moveaxis(array, 0, -1)
        orientation = page.tags.valueof(_ORIENTATION_TAG, default=1)
        return np.atleast_3d(_upright(array, orientation=orientation)), page.tags.valueof(_PROFILE_TAG)


def _upright(array: np.ndarray, *, orientation: int) -> np.ndarray:
    """Undo an EXIF orientation, 1..8, of [H, W] or [H, W, C]."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return array


def _with_profile(png: bytes, profile: bytes | None) -> bytes:
    """PNG with the ICC profile right after the header chunk (PNG specification, 11.3.2.3); imagecodecs takes none."""
    if profile is None:
        return png
    chunk = b"iCCPICC profile\0\0" + zlib.compress(profile)
    framed = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return png[:33] + framed + png[33:]
