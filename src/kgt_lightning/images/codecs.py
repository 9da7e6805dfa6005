"""Image files to arrays and back: 8 and 16 bits per channel, and TIFF of floating point.

Pillow does it but for colour of 16 bits, which it cuts to 8. imagecodecs reads and writes such PNG files, tifffile such
TIFF files, every layout faithfully; OpenCV and kornia-rs misread 16-bit TIFF files of separate planes without a word.
"""

import contextlib
import io
import logging
import os
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import imagecodecs
import numpy as np
import tifffile
from PIL import Image

from kgt_lightning.config.extras import require
from kgt_lightning.images.formats import EXTRAS, RAW, Format, pillow_formats
from kgt_lightning.images.metadata import (
    ORIENTATION,
    early_exif,
    jpeg_quality,
    kept_exif,
    kept_xmp,
    sized,
    with_chunks,
    with_tags,
)
from kgt_lightning.images.raster import Header, Raster, upright

_log = logging.getLogger(__name__)
_size_limit_lock = threading.Lock()
# Of a damaged file it logs a line for every tag; that it cannot be read is raised.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)

_MAX_MEGAPIXELS = 400
_ROWS = 256
"""Of an image that Pillow has decoded, converted at once: the whole would be held three times."""
_SMALL_BYTES = 2**26
"""Of pixels, for which there is memory: if there is not, what is compressed inside a TIFF tells of another size."""
_MUCH = 2**20
"""Bytes that are read at once without a look at how many there are."""
_PROFILE_TAG = 0x8773
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_GRAY = (tifffile.PHOTOMETRIC.MINISWHITE, tifffile.PHOTOMETRIC.MINISBLACK)
_FLOATS = (np.float16, np.float32)
_TIFFFILE_ONLY = {22610, 33003, 33004, 33005, 34712, 34887, 34933, 34934, 50001, 50002, 52546}
"""Compressions that Pillow does not read: JPEG 2000, JPEG XR, LERC, PNG, WebP and JPEG XL."""


def decode(path: Path) -> Raster:
    """Pixels of the file, upright, and its metadata.

    Of several frames the first is read, with a warning in the log. Damaged files raise whatever the library raises, so
    do those of more than 400 megapixels, and raw files, of which :func:`raw.read_mosaic` reads the mosaic.
    """
    if path.suffix.lower() in RAW:
        raise ValueError("it is a raw file, the mosaic of a sensor: kgt restore task=demosaic makes a picture of it")
    # Pillow 13 garbles upright what it maps into memory (uncompressed gray TIFF); a file object is never mapped
    with opened(path) as file:
        start = file.read(25)
        if start.startswith(TIFF_STARTS) and (found := _by_tifffile(path)) is not None:
            array, profile, orientation = found
        else:
            array = None
        with _size_limit(path), contextlib.ExitStack() as stack:
            try:
                image = stack.enter_context(Image.open(file, formats=pillow_formats(path)))
            except Exception:
                # Pillow does not know every layout of TIFF that tifffile reads.
                if array is None:
                    raise
                return Raster(np.atleast_3d(upright(array, orientation=orientation)), profile)
            if array is None:
                # the further frames of an MPO are thumbnails and gain maps of one image
                if image.format != "MPO":
                    _warn_of_frames(path, getattr(image, "n_frames", 1))
                profile = None if image.mode in ("CMYK", "YCbCr") else image.info.get("icc_profile")
                deep = image.format == "PNG" and start[24] == 16
                array = imagecodecs.png_decode(path.read_bytes()) if deep else _eight_bit(image)
                orientation = image.getexif().get(ORIENTATION, 1)
            tables = getattr(image, "quantization", None) if image.format in ("JPEG", "MPO") else None
            return Raster(
                np.atleast_3d(upright(array, orientation=orientation)),
                profile,
                kept_exif(image.getexif, path),
                kept_xmp(image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")),
                jpeg_quality(tables[0]) if tables else None,
            )


def header(path: Path) -> Header:
    """What is known of the upright image without decoding it."""
    with opened(path) as file:
        start = file.read(25)
        if start.startswith(TIFF_STARTS):
            with tifffile.TiffFile(path) as tiff:
                page = tiff.pages.first
                channels = 1 if page.photometric in _GRAY or page.samplesperpixel < 3 else 3
                height, width = page.imagelength, page.imagewidth
                orientation = page.tags.valueof(ORIENTATION, default=1)
                bits = 32 if page.dtype in _FLOATS else 16 if page.bitspersample > 8 else 8
                alpha = bool(set(page.extrasamples) & {1, 2})
        else:
            file.seek(0)
            with _size_limit(), Image.open(file, formats=pillow_formats(path)) as image:
                channels = 1 if Image.getmodebase(image.mode) == "L" else 3
                height, width = image.height, image.width
                orientation = early_exif(image).get(ORIENTATION, 1)
                bits = 16 if image.format == "PNG" and start[24] == 16 else 8
                alpha = image.has_transparency_data
    _check_size(height, width)
    # From 5 on they lie on their side.
    height, width = (height, width) if orientation < 5 else (width, height)
    return Header(channels, height, width, bits, alpha)


def encode(raster: Raster, *, form: Format) -> bytes:
    """Bytes of a file that holds the pixels and what the format takes of the metadata."""
    array, channels = raster.array, raster.array.shape[-1]
    array = np.ascontiguousarray(array[..., 0] if channels == 1 else array)
    exif = sized(raster.exif, raster.array)
    if form.name == "PNG":
        return with_chunks(bytes(imagecodecs.png_encode(array)), profile=raster.profile, exif=exif, xmp=raster.xmp)
    buffer = io.BytesIO()
    if form.name == "TIFF":
        tifffile.imwrite(
            buffer,
            array,
            byteorder="<",
            photometric="rgb" if channels >= 3 else "minisblack",
            planarconfig="contig" if channels > 1 else None,
            extrasamples=["unassalpha"] if channels in (2, 4) else None,
            compression="adobe_deflate",
            iccprofile=raster.profile,
            metadata=None,
            software=False,
        )
        return with_tags(buffer.getvalue(), exif=exif, xmp=raster.xmp)
    told = {"icc_profile": raster.profile, "exif": exif, "xmp": raster.xmp} if form.metadata else {}
    options = {**form.options, **{name: value for name, value in told.items() if value is not None}}
    Image.fromarray(array).save(buffer, form.name, **options)
    return buffer.getvalue()


def opened(path: Path) -> BinaryIO:
    """The file; Pillow learns the formats of an extra first."""
    if extra := EXTRAS.get(path.suffix.lower()):
        require(f"reading {path.suffix.lower()}", *extra)
        if extra[0] == "heif":
            import pillow_heif

            pillow_heif.register_heif_opener()
    return _BoundedReader(io.FileIO(path))


class _BoundedReader(io.BufferedReader):
    """A file that asks for no more memory than it holds: lengths inside a damaged one may be gigabytes."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _MUCH:
            size = min(size, max(os.fstat(self.fileno()).st_size - self.tell(), 0))
        return super().read(size)


def _check_size(height: int, width: int) -> None:
    if min(width, height) < 1:
        raise ValueError(f"{width} x {height} pixels are no image")
    if width * height > _MAX_MEGAPIXELS * 10**6:
        raise ValueError(f"{width} x {height} pixels, at most {_MAX_MEGAPIXELS} megapixels are read")


@contextlib.contextmanager
def _size_limit(path: Path | None = None) -> Iterator[None]:
    """Raise Pillow's limit for a while: as shipped it refuses what large-format cameras deliver.

    What Pillow warns of, such as tags that it cannot read, is said of the path, if one is given. One thread at a time:
    the limit belongs to the process, and a second thread would put back the raised one.
    """
    with _size_limit_lock, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        before = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = _MAX_MEGAPIXELS * 10**6 // 2  # Pillow warns here and refuses twice as many
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before
    for message in dict.fromkeys(str(each.message) for each in caught if path and each.category is UserWarning):
        _log.warning("%s: %s", path, " ".join(message.split()))


def _warn_of_frames(path: Path, num_frames: int) -> None:
    if num_frames > 1:
        _log.warning("%s holds %d frames: only the first is read", path, num_frames)


def _eight_bit(image: Image.Image) -> np.ndarray:
    """Gray or RGB, with alpha where the file has transparency of any kind."""
    alpha = "A" if image.has_transparency_data else ""
    if image.mode in ("1", "L", "LA", "La"):
        mode = "L" + alpha
    elif image.mode in ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"):
        mode = "RGB" + alpha
    else:
        raise ValueError(f"pixel layout {image.mode} is not supported, save it as 8 or 16 bit gray or RGB")
    image.load()
    array = np.empty((image.height, image.width, len(mode)), np.uint8)
    for top in range(0, image.height, _ROWS):
        rows = image.crop((0, top, image.width, min(top + _ROWS, image.height)))
        rows.info = image.info  # one transparent colour is told there
        array[top : top + _ROWS] = np.asarray(rows if rows.mode == mode else rows.convert(mode)).reshape(
            -1, image.width, len(mode)
        )
    return array


def _by_tifffile(path: Path) -> tuple[np.ndarray, bytes | None, int] | None:
    """Pixels as they lie in the file, ICC profile and orientation of a TIFF that Pillow does not read; else None."""
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        if page.bitspersample <= 8 and page.compression not in _TIFFFILE_ONLY:
            return None
        width, height = page.imagewidth, page.imagelength
        _check_size(height, width)
        known = (*_GRAY, tifffile.PHOTOMETRIC.RGB)
        laid_out = page.photometric in known and page.samplesperpixel in (
            (1, 2) if page.photometric in _GRAY else (3, 4)
        )
        premultiplied = tifffile.EXTRASAMPLE.ASSOCALPHA in page.extrasamples
        if page.dtype not in (np.uint8, np.uint16, *_FLOATS) or not laid_out or premultiplied:
            kind = f"TIFF of {page.bitspersample} bits ({page.dtype}), {tifffile.PHOTOMETRIC(page.photometric).name}"
            raise ValueError(
                f"{kind} of {page.samplesperpixel} samples is not supported, save it as 8 or 16 bit or float32 gray or"
                " RGB with straight alpha"
            )
        if page.dtype == np.uint16 and page.bitspersample != 16:
            raise ValueError(f"TIFF of {page.bitspersample} bits is not supported, save it as one of 8 or 16 bits")
        # Memory for a whole tile or strip is taken at once, however small the picture is.
        if page.tilewidth * page.tilelength > _MAX_MEGAPIXELS * 10**6:
            raise ValueError(f"its tiles of {page.tilewidth} x {page.tilelength} pixels are larger than what is read")
        if (largest := max(page.databytecounts, default=0)) > path.stat().st_size:
            raise ValueError(f"a part of it has {largest} bytes by its header, the file has {path.stat().st_size}")
        _warn_of_frames(path, len(tiff.pages))
        try:
            array = page.asarray()
        except MemoryError as error:
            if page.nbytes > _SMALL_BYTES:
                raise
            raise ValueError(f"its parts say that they are far larger than {width} x {height} pixels") from error
        if array.dtype in _FLOATS:
            array = array.astype(np.float32, copy=False)
            if not np.isfinite(array).all():
                raise ValueError("it holds values that are not finite")
        if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
            array = (1 if array.dtype == np.float32 else np.iinfo(array.dtype).max) - array
        if page.axes.startswith("S"):
            array = np.moveaxis(array, 0, -1)
        if array.size == 0 or array.shape[:2] != (height, width):
            raise ValueError(f"it holds no image of {width} x {height} pixels")
        return array, page.tags.valueof(_PROFILE_TAG), page.tags.valueof(ORIENTATION, default=1)
