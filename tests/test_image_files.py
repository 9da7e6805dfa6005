import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from kgt_lightning.codecs import decode
from kgt_lightning.images import Picture, gray, list_images, read_image, read_shape, write_image
from kgt_lightning.metrics import psnr


def samples(channels, *, bits=8, height=9, width=14):
    generator = torch.Generator().manual_seed(channels + bits)
    return torch.randint(0, 2**bits, (channels, height, width), generator=generator).float() / (2**bits - 1)


def save(path, planes, mode=None, **options):
    """Write [C, H, W] in [0, 1] as 8 bits with Pillow, so that reading is not checked against our own writing."""
    array = (planes.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    image = Image.fromarray(array.squeeze(-1) if array.shape[-1] == 1 else array)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".TIFF"])
@pytest.mark.parametrize("channels", [1, 3])
def test_read_lossless_files_of_8_bits(tmp_path, channels, suffix):
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
def test_read_alpha(tmp_path, channels):
    planes = samples(channels)
    picture = read_image(save(tmp_path / "a.png", planes))
    assert torch.equal(picture.pixels, planes[:-1])
    assert torch.equal(picture.alpha, planes[-1:])


def test_read_one_bit(tmp_path):
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
def test_read_one_transparent_colour(tmp_path, channels, transparent):
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
def test_channels_on_request(tmp_path, bits):
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


@pytest.mark.parametrize("profile", [None, b"stands for a colour profile"])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff"])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_round_trip_keeps_everything(tmp_path, channels, alpha, bits, suffix, profile):
    planes = samples(channels + alpha, bits=bits)
    picture = Picture(pixels=planes[:channels], alpha=planes[channels:] if alpha else None, bits=bits, profile=profile)
    write_image(tmp_path / f"a{suffix}", picture)
    again = read_image(tmp_path / f"a{suffix}")
    assert torch.equal(again.pixels, picture.pixels)
    assert again.alpha is None if picture.alpha is None else torch.equal(again.alpha, picture.alpha)
    assert (again.bits, again.profile) == (bits, profile)


@pytest.mark.parametrize(("suffix", "alpha"), [(".webp", False), (".webp", True), (".bmp", False)])
def test_round_trip_in_other_lossless_formats(tmp_path, suffix, alpha):
    planes = samples(3 + alpha)
    write_image(tmp_path / f"a{suffix}", Picture(pixels=planes[:3], alpha=planes[3:] if alpha else None))
    again = read_image(tmp_path / f"a{suffix}")
    assert torch.equal(again.pixels, planes[:3])
    assert not alpha or torch.equal(again.alpha, planes[3:])


@pytest.mark.parametrize("height", [1, 2, 7])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif", ".webp"])
def test_odd_sizes(tmp_path, suffix, height):
    picture = Picture(pixels=torch.full((3, height, 5), 0.4))
    write_image(tmp_path / f"a{suffix}", picture)
    torch.testing.assert_close(read_image(tmp_path / f"a{suffix}").pixels, picture.pixels, atol=0.02, rtol=0)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("suffix", "bits"), [(".png", 8), (".png", 16), (".tif", 8), (".tif", 16), (".jpg", 8)])
def test_the_shape_is_known_without_decoding(tmp_path, suffix, bits, channels):
    file = tmp_path / f"image{suffix}"
    write_image(file, Picture(pixels=samples(channels, bits=bits), bits=bits))
    assert read_shape(file) == tuple(read_image(file).pixels.shape) == (channels, 9, 14)


def test_jpeg_is_close_to_the_photo(tmp_path, photo):
    write_image(tmp_path / "a.jpg", Picture(pixels=photo[0]))
    assert psnr(read_image(tmp_path / "a.jpg").pixels[None], photo) > 40


def test_a_16_bit_file_is_one_for_other_programs(tmp_path):
    planes = samples(3, bits=16)
    write_image(tmp_path / "a.tif", Picture(pixels=planes, bits=16))
    expected = (planes.permute(1, 2, 0) * 65535).round().numpy().astype(np.uint16)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), expected)
    write_image(tmp_path / "a.png", Picture(pixels=planes, bits=16, profile=b"profile"))
    seen = Image.open(tmp_path / "a.png")
    np.testing.assert_allclose(np.asarray(seen), expected >> 8, atol=1)


@pytest.mark.parametrize(
    ("name", "picture", "message"),
    [
        ("a.gif", Picture(pixels=torch.zeros(3, 4, 4)), r"suffix '\.gif' must be one of \.bmp, .*\.webp"),
        ("a", Picture(pixels=torch.zeros(3, 4, 4)), "suffix '' must be one of"),
        (
            "a.jpg",
            Picture(pixels=torch.zeros(3, 4, 4), bits=16),
            r"JPEG cannot hold 16 bits .*: use \.png, \.tif, \.tiff",
        ),
        ("a.bmp", Picture(pixels=torch.zeros(3, 4, 4), alpha=torch.zeros(1, 4, 4)), "BMP cannot hold alpha: use .png"),
        ("a.png", Picture(pixels=torch.full((3, 4, 4), torch.nan)), "not finite"),
        ("a.webp", Picture(pixels=torch.zeros(1, 1, 20000)), "cannot be written as WEBP"),
    ],
)
def test_what_a_format_cannot_hold_is_refused_in_one_line(tmp_path, name, picture, message):
    with pytest.raises(ValueError, match=message) as error:
        write_image(tmp_path / "new" / name, picture)
    assert str(tmp_path / "new" / name) in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "fields",
    [
        {"pixels": torch.zeros(4, 4)},
        {"pixels": torch.zeros(4, 8, 8)},
        {"pixels": torch.zeros(3, 8, 8), "alpha": torch.zeros(1, 8, 9)},
        {"pixels": torch.zeros(3, 8, 8), "bits": 12},
    ],
)
def test_a_picture_checks_its_parts(fields):
    with pytest.raises(ValueError, match="must be"):
        Picture(**fields)


def test_folders_are_made_and_permissions_are_those_of_any_new_file(tmp_path):
    write_image(tmp_path / "new" / "folder" / "a.png", Picture(pixels=torch.zeros(3, 4, 4)))
    (tmp_path / "other").write_bytes(b"")
    assert (tmp_path / "new/folder/a.png").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    write_image(path, Picture(pixels=torch.zeros(3, 4, 4)))
    before = path.read_bytes()
    write_bytes = Path.write_bytes

    def full_disk(self, data):
        write_bytes(self, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_image(path, Picture(pixels=torch.ones(3, 4, 4)))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def damaged(path):
    """First half of a valid file."""
    write_image(path, Picture(pixels=samples(3, height=64, width=64)))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def damaged_16_bit(path):
    write_image(path, Picture(pixels=samples(3, bits=16, height=64, width=64), bits=16))
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
        ("a.tif", lambda path: Image.new("F", (4, 4)).save(path), "not supported"),
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


def test_list_images(tmp_path):
    names = ["10.png", "2.JPG", "1/b.webp", "1/a.TIFF", "a.bmp", "1.jpeg", "b.tif"]
    others = [".hidden.png", ".cache/a.png", "notes.txt", "png", "1/.DS_Store", "a.gif"]
    for name in names + others:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    expected = ["1/a.TIFF", "1/b.webp", "1.jpeg", "2.JPG", "10.png", "a.bmp", "b.tif"]
    assert [path.relative_to(tmp_path).as_posix() for path in list_images(str(tmp_path))] == expected


def test_a_hidden_folder_may_be_listed_itself(tmp_path):
    (tmp_path / ".kept").mkdir()
    (tmp_path / ".kept" / "a.png").touch()
    assert list_images(tmp_path / ".kept") == [tmp_path / ".kept" / "a.png"]


@pytest.mark.parametrize(
    ("make", "message"),
    [(lambda path: None, "does not exist"), (Path.touch, "is a file"), (Path.mkdir, "holds no image")],
)
def test_folders_without_images_are_named(tmp_path, make, message):
    make(tmp_path / "photos")
    with pytest.raises(ValueError, match=rf"photos {message}.*\.bmp, \.jpeg, \.jpg, \.png, \.tif, \.tiff, \.webp"):
        list_images(tmp_path / "photos")
