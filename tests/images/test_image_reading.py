"""Files of every format and kind are read as they are meant; those that cannot be are named."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kgt_lightning.images.codecs import decode
from kgt_lightning.images.color import gray
from kgt_lightning.images.files import Picture, read_image, read_shape, write_image
from kgt_lightning.metrics.psnr_ssim import psnr


def save(path, planes, mode=None, **options):
    """Write [C, H, W] in [0, 1] as 8 bits with Pillow, so that reading is not checked against our own writing."""
    array = (planes.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    image = Image.fromarray(array.squeeze(-1) if array.shape[-1] == 1 else array)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".TIFF"])
@pytest.mark.parametrize("channels", [1, 3])
def test_read_lossless_files_of_8_bits(tmp_path, channels, suffix, samples):
    planes = samples(channels)
    picture = read_image(save(tmp_path / f"a{suffix}", planes))
    assert torch.equal(picture.pixels, planes)
    assert (picture.alpha, picture.bits, picture.pixels.dtype) == (None, 8, torch.float32)


@pytest.mark.parametrize(("suffix", "options"), [(".jpg", {"quality": 95}), (".jpeg", {}), (".webp", {"quality": 90})])
def test_read_lossy_files(tmp_path, photo, suffix, options):
    picture = read_image(save(tmp_path / f"a{suffix}", photo[0], **options))
    assert picture.pixels.shape == photo.shape[1:]
    assert psnr(picture.pixels[None], photo) > 30


@pytest.mark.parametrize("channels", [2, 4])
def test_read_alpha(tmp_path, channels, samples):
    planes = samples(channels)
    picture = read_image(save(tmp_path / "a.png", planes))
    assert torch.equal(picture.pixels, planes[:-1])
    assert torch.equal(picture.alpha, planes[-1:])


def test_read_one_bit(tmp_path, samples):
    planes = (samples(1) > 0.5).float()
    assert torch.equal(read_image(save(tmp_path / "a.png", planes, mode="1")).pixels, planes)


def palette_image():
    image = Image.fromarray(np.arange(4, dtype=np.uint8).reshape(2, 2)).convert("P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 51, 51, 51])
    return image


def test_read_palette(tmp_path):
    palette_image().save(tmp_path / "a.png")
    picture = read_image(tmp_path / "a.png")
    assert picture.alpha is None
    torch.testing.assert_close(picture.pixels[:, 1, 1], torch.full((3,), 0.2))
    assert picture.pixels[:, 0, 1].tolist() == [0, 1, 0]


def test_read_palette_with_transparency(tmp_path):
    palette_image().save(tmp_path / "a.png", transparency=2)
    picture = read_image(tmp_path / "a.png")
    assert picture.pixels[:, 1, 0].tolist() == [0, 0, 1]
    assert picture.alpha.flatten().tolist() == [1, 1, 0, 1]


@pytest.mark.parametrize(("channels", "transparent"), [(1, 255), (3, (255, 255, 255))])
def test_read_one_transparent_colour(tmp_path, channels, transparent, samples):
    planes = (samples(1) > 0.5).float().expand(channels, -1, -1)
    picture = read_image(save(tmp_path / "a.png", planes, transparency=transparent))
    assert torch.equal(picture.pixels, planes)
    assert torch.equal(picture.alpha, 1 - planes[:1])


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_read_cmyk(tmp_path, suffix):
    colours = torch.tensor([[1.0, 0, 0], [0, 1, 0], [1, 1, 1], [0.2, 0.2, 0.2]]).T[:, :, None, None]
    planes = colours.expand(-1, -1, 16, 16).reshape(3, 64, 16)
    picture = read_image(save(tmp_path / f"a{suffix}", planes, mode="CMYK"))
    torch.testing.assert_close(picture.pixels, planes, atol=0.03, rtol=0)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation, suffix):
    upright = np.zeros((24, 40), np.uint8)
    upright[:8, :16] = 255
    # what a camera held that way stores: the inverse of the turn that displays it
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / f"a{suffix}", exif=exif)
    pixels = read_image(tmp_path / f"a{suffix}", channels=1).pixels
    torch.testing.assert_close(pixels[0], torch.from_numpy(upright) / 255, atol=0.1, rtol=0)


@pytest.mark.parametrize("bits", [8, 16])
def test_channels_on_request(tmp_path, bits, samples):
    colour, single = samples(3, bits=bits), samples(1, bits=bits)
    write_image(tmp_path / "colour.png", Picture(pixels=colour, bits=bits))
    write_image(tmp_path / "gray.png", Picture(pixels=single, bits=bits))
    levels = 2**bits - 1
    expected = (gray(colour) * levels).round() / levels
    torch.testing.assert_close(read_image(tmp_path / "colour.png", channels=1).pixels, expected)
    assert torch.equal(read_image(tmp_path / "gray.png", channels=3).pixels, single.expand(3, -1, -1))
    assert torch.equal(read_image(tmp_path / "gray.png", channels=1).pixels, single)
    with pytest.raises(ValueError, match="channels=4 must be 1"):
        read_image(tmp_path / "gray.png", channels=4)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("suffix", "bits"), [(".png", 8), (".png", 16), (".tif", 8), (".tif", 16), (".jpg", 8)])
def test_the_shape_is_known_without_decoding(tmp_path, suffix, bits, channels, samples):
    file = tmp_path / f"image{suffix}"
    write_image(file, Picture(pixels=samples(channels, bits=bits), bits=bits))
    assert read_shape(file) == tuple(read_image(file).pixels.shape) == (channels, 9, 14)


NOISE = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))


def damaged(path):
    """First half of a valid file."""
    write_image(path, Picture(pixels=NOISE))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def damaged_16_bit(path):
    write_image(path, Picture(pixels=NOISE, bits=16))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def huge(path):
    """Header of a PNG of 30000 x 30000 pixels, as a decompression bomb has it."""
    Image.new("L", (1, 1)).save(path)
    header = b"IHDR" + struct.pack(">IIBBBBB", 30000, 30000, 8, 0, 0, 0, 0)
    path.write_bytes(path.read_bytes()[:12] + header + struct.pack(">I", zlib.crc32(header)) + path.read_bytes()[33:])


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("a.png", lambda path: None, "does not exist"),
        ("a.png", Path.mkdir, "is a folder"),
        ("a.png", Path.touch, "is empty"),
        ("a.png", lambda path: path.write_text("no image at all"), "no known image format"),
        *((f"a{suffix}", damaged, "cannot be read") for suffix in (".png", ".jpg", ".bmp", ".tif", ".webp")),
        *((f"a{suffix}", damaged_16_bit, "cannot be read") for suffix in (".png", ".tif")),
        ("a.png", huge, "exceeds limit of 400000000 pixels"),
        ("a.tif", lambda path: Image.new("I", (4, 4)).save(path), "not supported"),
    ],
)
def test_files_that_cannot_be_read_are_named_in_one_line(tmp_path, name, make, message):
    make(tmp_path / name)
    with pytest.raises(ValueError, match=message) as error:
        read_image(tmp_path / name)
    assert str(error.value).startswith(str(tmp_path / name))
    assert "\n" not in str(error.value)


def test_200_megapixels_are_allowed(tmp_path):
    Image.new("1", (20000, 10000)).save(tmp_path / "a.png")
    assert decode(tmp_path / "a.png")[0].shape == (10000, 20000, 1)
