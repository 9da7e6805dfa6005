"""Raw files of cameras: what the sensor measured, and the way from its colours to those of sRGB."""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from PIL import Image

from kgt_lightning.config.extras import require
from kgt_lightning.images.color import quantize, to_linear, to_srgb
from kgt_lightning.images.metadata import kept_exif
from kgt_lightning.images.raster import Header, Raster, upright

_ROWS = 256
_TURNS = {0: 1, 3: 3, 5: 8, 6: 6}
"""EXIF orientation by LibRaw's number for it."""
_SRGB_TO_XYZ = np.array(
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
)
"""At D65 (IEC 61966-2-1)."""


class Mosaic(NamedTuple):
    """A raw file as a picture of one channel."""

    raster: Raster
    """uint16 [H, W, 1] as the sensor lies: black is 0, of each colour white is 65535, encoded as sRGB encodes light."""
    pattern: str
    """Colours of the first two rows of two pixels, such as "RGGB"."""
    to_srgb: np.ndarray
    """Linear light [3] of sRGB is this matrix [3, 3] times that of the camera's colours; gray stays gray."""
    orientation: int
    """By which EXIF says how the sensor lay."""


def read_mosaic(path: Path) -> Mosaic:
    """The mosaic in a raw file, balanced for the white of the shot, or else of daylight.

    Raises:
        ValueError: if the file holds no Bayer mosaic of red, green and blue, or its colours are not known.

    """
    with _opened(path) as raw:
        raw.unpack()
        if raw.raw_type.name != "Flat":
            raise ValueError("it holds no mosaic but whole colours: develop it in another program")
        if raw.raw_pattern is None or raw.raw_pattern.shape != (2, 2):
            raise ValueError(
                "its mosaic is none of 2 x 2 pixels (X-Trans is one of 6 x 6): develop it in another program"
            )
        names = raw.color_desc.decode()
        if not set(names) <= set("RGB"):
            raise ValueError(
                f"its mosaic has the colours {names}, not red, green and blue: develop it in another program"
            )
        colours = raw.raw_colors_visible
        tables = np.stack([_encoding(raw, index) for index in range(len(names))])
        array = tables[colours, raw.raw_image_visible][..., None]
        pattern = "".join(names[index] for index in colours[:2, :2].flat)
        return Mosaic(Raster(array, exif=_exif(raw, path)), pattern, _camera_to_srgb(raw), _orientation(raw))


def header(path: Path) -> Header:
    """What is known of the mosaic, upright, without decoding it."""
    with _opened(path) as raw:
        height, width = raw.sizes.height, raw.sizes.width
        return Header(1, *((height, width) if _orientation(raw) < 5 else (width, height)), bits=16, alpha=False)


def developed(mosaic: Mosaic, restored: np.ndarray) -> Raster:
    """Upright picture in sRGB of the camera's colours, uint16 [H, W, 3], that were restored of its mosaic."""
    made = np.empty_like(restored)
    matrix = torch.from_numpy(mosaic.to_srgb.astype(np.float32))
    for top in range(0, len(restored), _ROWS):
        light = to_linear(torch.from_numpy(restored[top : top + _ROWS].astype(np.float32) / 65535))
        made[top : top + _ROWS] = quantize(to_srgb((light @ matrix.T).clamp(0, 1)), bits=16).numpy().astype(np.uint16)
    return mosaic.raster._replace(array=upright(made, orientation=mosaic.orientation))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    require("reading raw files", "raw", "rawpy")
    import rawpy

    with contextlib.closing(rawpy.RawPy()) as raw:
        try:
            raw.open_file(str(path))
            yield raw
        except rawpy.LibRawError as error:
            reason = error.args[0] if error.args else b""
            raise ValueError(reason.decode() if isinstance(reason, bytes) else str(reason)) from error


def _encoding(raw: Any, colour: int) -> np.ndarray:
    """Value in the mosaic, uint16 [65536], of each that the sensor may have measured for a colour."""
    balance = next(each for each in (raw.camera_whitebalance, raw.daylight_whitebalance, [1, 1, 1, 1]) if each[0] > 0)
    gains = np.array(balance, np.float64)
    gains[3] = gains[3] or gains[1]  # the second green, where it is not told
    black = raw.black_level_per_channel[colour]
    light = (np.arange(65536) - black) / (raw.white_level - black) * gains[colour] / gains.min()
    return quantize(to_srgb(torch.from_numpy(light).clamp(0, 1)), bits=16).numpy().astype(np.uint16)


def _camera_to_srgb(raw: Any) -> np.ndarray:
    """The matrix of a DNG; of other files the inverse of sRGB to camera, whose rows are made to sum to 1 as there.

    So white stays white after the white balance. After dcraw, which LibRaw follows.
    """
    if raw.color_matrix[0, 0] > 0:
        given: np.ndarray = raw.color_matrix[:, :3].astype(np.float64)
        return given
    of_srgb = raw.rgb_xyz_matrix[:3] @ _SRGB_TO_XYZ
    if not np.abs(of_srgb.sum(1)).min() > 0:
        raise ValueError("it does not tell the camera's colours, nor does LibRaw know them: convert it to DNG")
    inverse: np.ndarray = np.linalg.inv(of_srgb / of_srgb.sum(1, keepdims=True))
    return inverse


def _orientation(raw: Any) -> int:
    return _TURNS.get(raw.sizes.flip, 1)


def _exif(raw: Any, path: Path) -> bytes | None:
    """EXIF of the file where it is laid out as TIFF, or else of the JPEG file that cameras put into it."""
    with path.open("rb") as file:
        if file.read(4) in (b"II*\0", b"MM\0*"):
            file.seek(0)
            return kept_exif(lambda: _read_exif(file), path)
    with contextlib.suppress(Exception), Image.open(io.BytesIO(raw.extract_thumb().data)) as image:  # if it is a JPEG
        return kept_exif(image.getexif, path)
    return None


def _read_exif(file: BinaryIO) -> Image.Exif:
    exif = Image.Exif()
    exif.load_from_fp(file)
    return exif
