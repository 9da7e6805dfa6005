"""What is written is read again, by other programs too; what a format cannot hold is refused; nothing is left half."""

import resource

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from kgt_lightning.images.files import Picture, read_image, write_image
from kgt_lightning.images.formats import FORMATS
from kgt_lightning.metrics.psnr_ssim import psnr


@pytest.mark.parametrize("profile", [None, b"stands for a colour profile"])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff"])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_round_trip_keeps_everything(tmp_path, channels, alpha, bits, suffix, profile, samples):
    planes = samples(channels + alpha, bits=bits)
    picture = Picture(pixels=planes[:channels], alpha=planes[channels:] if alpha else None, bits=bits, profile=profile)
    write_image(tmp_path / f"a{suffix}", picture)
    again = read_image(tmp_path / f"a{suffix}")
    assert torch.equal(again.pixels, picture.pixels)
    assert again.alpha is None if picture.alpha is None else torch.equal(again.alpha, picture.alpha)
    assert (again.bits, again.profile) == (bits, profile)


@pytest.mark.parametrize(("suffix", "alpha"), [(".webp", False), (".webp", True), (".bmp", False)])
def test_round_trip_in_other_lossless_formats(tmp_path, suffix, alpha, samples):
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


def test_jpeg_is_close_to_the_photo(tmp_path, photo):
    write_image(tmp_path / "a.jpg", Picture(pixels=photo[0]))
    assert psnr(read_image(tmp_path / "a.jpg").pixels[None], photo) > 40


def test_a_16_bit_file_is_one_for_other_programs(tmp_path, samples):
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
        ("a.gif", Picture(pixels=torch.zeros(3, 4, 4)), r"suffix '\.gif' must be one of \.avif, .*\.webp"),
        ("a", Picture(pixels=torch.zeros(3, 4, 4)), "suffix '' must be one of"),
        (
            "a.jpg",
            Picture(pixels=torch.zeros(3, 4, 4), bits=16),
            r"JPEG cannot hold 16 bits .*: use \.png, \.tif, \.tiff$",
        ),
        (
            "a.bmp",
            Picture(pixels=torch.zeros(3, 4, 4), alpha=torch.zeros(1, 4, 4)),
            "BMP cannot hold alpha: use .avif, .png",
        ),
        ("a.png", Picture(pixels=torch.full((3, 4, 4), torch.nan)), "not finite"),
        (
            "a.webp",
            Picture(pixels=torch.zeros(1, 1, 20000)),
            r"WEBP cannot hold sides above 16383 pixels, these are 20000 x 1: use \.avif",
        ),
        (
            "a.avif",
            Picture(pixels=torch.zeros(1, 1, 2**15 + 1)),
            r"AVIF cannot hold sides above 32768 pixels, these are 32769 x 1: use \.bmp",
        ),
    ],
)
def test_what_a_format_cannot_hold_is_refused_in_one_line(tmp_path, name, picture, message):
    with pytest.raises(ValueError, match=message) as error:
        write_image(tmp_path / "new" / name, picture)
    assert str(tmp_path / "new" / name) in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "new").exists()


def test_formats_hold_so_many_pixels_in_all():
    size = {"height": 2**14, "width": 2**14 + 1, "bits": 8, "alpha": False}
    told = FORMATS[".avif"].refusal(**size)
    assert told is not None and told.startswith("AVIF cannot hold more than 268435456 pixels, these are 16385 x 16384")
    assert ".avif" not in told and ".png" in told
    assert FORMATS[".png"].refusal(**size) is None


@pytest.mark.parametrize("suffix", [".avif", ".webp", ".jpg", ".png"])
def test_the_longest_side_that_a_format_holds_can_be_read(tmp_path, suffix):
    side = FORMATS[suffix].side
    write_image(tmp_path / f"a{suffix}", Picture(pixels=torch.zeros(3, 2, side)))
    assert read_image(tmp_path / f"a{suffix}").pixels.shape == (3, 2, side)


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


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.png"
    write_image(path, Picture(pixels=torch.zeros(3, 4, 4)))
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        with pytest.raises(OSError, match=r"a\.png"):
            write_image(path, Picture(pixels=torch.ones(3, 4, 4)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_codec_that_does_not_load_is_no_fault_of_the_file(tmp_path, monkeypatch, samples):
    """As where a process has too little memory left."""
    picture = Picture(pixels=samples(3, bits=16), bits=16)
    write_image(tmp_path / "a.png", picture)

    def fail(*_):
        raise ImportError("could not import name 'png'")

    for codec in ("png_decode", "png_encode"):
        monkeypatch.setattr(f"imagecodecs.{codec}", fail)
    for use in (read_image, lambda path: write_image(path, picture)):
        with pytest.raises(ValueError, match=r"a.png: a library for it does not load \(could .*: there is too little"):
            use(tmp_path / "a.png")
