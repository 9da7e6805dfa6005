"""A photograph comes back whole, as exiftool sees it, which knows nothing of this package's reading and writing."""

import json
import shutil
import subprocess

import imagecodecs
import numpy as np
import pytest
import skimage.data
import tifffile
from PIL import Image, ImageCms

from kgt_lightning import restore as command
from kgt_lightning.images.codecs import decode

pytestmark = pytest.mark.skipif(shutil.which("exiftool") is None, reason="needs exiftool: libimage-exiftool-perl")

DISPLAY_P3 = {
    "rXYZ": (0.51512, 0.2412, -0.00105),
    "gXYZ": (0.29198, 0.69225, 0.04189),
    "bXYZ": (0.1571, 0.06657, 0.78407),
}
"""Primaries adapted to D50, as in Apple's profile."""
TOLD = {
    "GPS:GPSLatitude": 47.3667,
    "GPS:GPSLatitudeRef": "N",
    "GPS:GPSLongitude": 8.55,
    "GPS:GPSLongitudeRef": "W",
    "IFD0:Make": "Fuji",
    "IFD0:Artist": "Jörg",
    "ExifIFD:ExposureTime": 0.004,
    "ExifIFD:LensModel": "XF 23mm",
    "ExifIFD:DateTimeOriginal": "2025:07:01 12:00:00",
    "XMP-xmp:Rating": 4,
}
FILES = {".png": (16, 4), ".tif": (16, 4), ".jpg": (8, 3), ".webp": (8, 4), ".avif": (8, 4)}
"""Bits and channels of what is written in each format."""


def exiftool(*arguments):
    ended = subprocess.run(["exiftool", "-n", *map(str, arguments)], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def display_p3():
    """Profile of the primaries of Display P3: that of sRGB with others in their place."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for i in range(int.from_bytes(profile[128:132], "big")):
        entry = profile[132 + 12 * i : 144 + 12 * i]
        name, place = entry[:4].decode(), int.from_bytes(entry[4:8], "big")
        for j, value in enumerate(DISPLAY_P3.get(name, ())):
            start = place + 8 + 4 * j
            profile[start : start + 4] = round(value * 65536).to_bytes(4, "big", signed=True)
    return bytes(profile)


def write_pixels(file, array):
    if file.suffix == ".png":
        file.write_bytes(imagecodecs.png_encode(array))
    elif file.suffix == ".tif":
        tifffile.imwrite(file, array, photometric="rgb", extrasamples=["unassalpha"], metadata=None)
    else:
        exif = Image.Exif()
        exif[0x0112] = 6
        # AVIF turns by a box of its own, which Pillow writes and exiftool does not, as little as its profile.
        Image.fromarray(array).save(file, exif=exif, quality=90, icc_profile=display_p3())


@pytest.fixture
def pixels():
    """For each format a photograph that lies on its side [32, 48, C]."""
    colours = skimage.data.chelsea()[100:132, 120:168].astype(np.uint16) * 257 + 3  # low bytes of their own
    alpha = np.linspace(0, 65535, 48).astype(np.uint16)[None, :, None].repeat(32, 0)
    deep = np.concatenate([colours, alpha], -1)
    return {
        suffix: np.ascontiguousarray((deep if bits == 16 else (deep >> 8).astype(np.uint8))[..., :channels])
        for suffix, (bits, channels) in FILES.items()
    }


@pytest.fixture
def photographs(pixels, tmp_path):
    """Files with everything that cameras and people write into them."""
    files = [tmp_path / "in" / f"a{suffix}" for suffix in FILES]
    files[0].parent.mkdir()
    for file in files:
        write_pixels(file, pixels[file.suffix])
    profile, thumbnail = tmp_path / "p3.icc", tmp_path / "thumbnail.jpg"
    profile.write_bytes(display_p3())
    Image.new("RGB", (16, 12)).save(thumbnail)
    words = ["-Orientation=6", *(f"-{name}={value}" for name, value in TOLD.items())]
    words += [f"-ICC_Profile<={profile}", f"-ThumbnailImage<={thumbnail}"]
    exiftool("-q", "-overwrite_original", *words, *files)
    return files


def is_about_the_picture(tag):
    """Not about how the file is laid out."""
    group = tag.partition(":")[0]
    return tag in TOLD or group in ("GPS", "ExifIFD") or group.startswith(("ICC", "XMP-"))


def test_a_photograph_comes_back_whole(run_command, photographs, pixels, tmp_path):
    places = ("task=denoise", f"input={tmp_path / 'in'}", f"output={tmp_path / 'out'}")
    code, _, errors = run_command(command.main, *places, "device=cpu", "strength=0")
    assert code == 0, errors
    results = [tmp_path / "out" / file.name for file in photographs]
    before, after = (json.loads(exiftool("-j", "-G1", *files)) for files in (photographs, results))
    for result, source, found in zip(results, before, after, strict=True):
        told = {tag: value for tag, value in source.items() if is_about_the_picture(tag)}
        assert TOLD.items() <= told.items(), "the photograph holds what the test is about"
        assert told["ICC_Profile:RedMatrixColumn"].startswith("0.51512 0.2412")
        assert {tag: found.get(tag) for tag in told} == told, result.name
        assert source["IFD0:Orientation"] == 6
        assert "IFD1:ThumbnailImage" in source or result.suffix == ".tif"
        assert not any("Orientation" in tag or "Thumbnail" in tag for tag in found), result.name
        bits, channels = FILES[result.suffix]
        sizes = {".png": "PNG:BitDepth", ".tif": "IFD0:BitsPerSample"}
        assert str(found.get(sizes.get(result.suffix), bits)) in (f"{bits}", " ".join([f"{bits}"] * channels))
        restored, expected = decode(result).array, np.rot90(pixels[result.suffix], -1)
        assert (restored.dtype, restored.shape) == (expected.dtype, (48, 32, channels))
        if bits == 16:
            np.testing.assert_array_equal(restored, expected)
        else:  # JPEG and AVIF lose a little, here and in the photograph
            assert np.abs(restored.astype(float) - expected).mean() < 5
