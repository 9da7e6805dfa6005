"""Image files of every kind that are damaged: named in one line, or read, and then written with all that they tell."""

import io
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from damage import damaged, fewer
from hydra.utils import instantiate
from hypothesis import given
from hypothesis import strategies as st
from invariants import bounded, run
from omegaconf import OmegaConf
from PIL import Image

from kgt_lightning import restore
from kgt_lightning.images.files import encoded, read_header, read_raster, read_shape
from kgt_lightning.images.formats import EXTRAS, FORMATS
from kgt_lightning.runs.weights import weights_content

MEMORY = 256 << 20
PIXELS = np.random.default_rng(0).integers(0, 256, (10, 12, 4), np.uint8)
DEEP = PIXELS.astype(np.uint16) * 257
GRAY, RGB, RGBA = PIXELS[..., 0], PIXELS[..., :3], PIXELS


def pillow(name: str, array: np.ndarray | Image.Image, **options: object) -> bytes:
    stream = io.BytesIO()
    (Image.fromarray(array) if isinstance(array, np.ndarray) else array).save(stream, name, **options)
    return stream.getvalue()


def tiff(array: np.ndarray, **options: object) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, array, **{"photometric": "rgb" if array.ndim > 2 else "minisblack", **options})
    return stream.getvalue()


def heif() -> bytes:
    import pillow_heif

    pillow_heif.register_heif_opener()
    return pillow("HEIF", RGB)


def told() -> dict[str, object]:
    """Metadata of all kinds."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x8298] = 6, "Maker", "Ünïcode"
    exif.get_ifd(0x8769).update({0xA002: 12, 0xA003: 10, 0x9003: "2020:01:01 00:00:00"})
    exif.get_ifd(0x8825).update({1: "N", 2: (1.0, 2.0, 3.0)})
    return {
        "exif": exif,
        "xmp": b'<x:xmpmeta xmlns:x="adobe:ns:meta/" tiff:Orientation="6"/>',
        "icc_profile": b"icc" * 9,
    }


SEEDS: Mapping[str, Callable[[], bytes]] = {
    "avif": lambda: pillow("AVIF", RGB, **told()),
    "bmp": lambda: pillow("BMP", RGB),
    "palette.bmp": lambda: pillow("BMP", Image.fromarray(RGB).quantize()),
    "heic": heif,
    "jpg": lambda: pillow("JPEG", RGB, **told()),
    "gray.jpg": lambda: pillow("JPEG", GRAY, progressive=True),
    "cmyk.jpg": lambda: pillow("JPEG", Image.fromarray(RGB).convert("CMYK")),
    "mpo.jpg": lambda: pillow("MPO", RGB, save_all=True, append_images=[Image.fromarray(RGB)]),
    "png": lambda: pillow("PNG", RGBA, **{**told(), "xmp": None}),
    "palette.png": lambda: pillow("PNG", Image.fromarray(RGB).quantize(), transparency=b"\0\7"),
    "black.png": lambda: pillow("PNG", Image.fromarray(GRAY).convert("1")),
    "apng.png": lambda: pillow("PNG", RGB, save_all=True, append_images=[Image.fromarray(RGB[::-1])]),
    "deep.png": lambda: bytes(imagecodecs.png_encode(DEEP)),
    "tif": lambda: pillow("TIFF", RGB, **{**told(), "xmp": None}),
    "lzw.tif": lambda: pillow("TIFF", RGB, compression="tiff_lzw"),
    "jpeg.tif": lambda: pillow("TIFF", RGB, compression="jpeg"),
    "fax.tif": lambda: pillow("TIFF", Image.fromarray(GRAY).convert("1"), compression="group4"),
    "deep.tif": lambda: tiff(DEEP, compression="adobe_deflate", predictor=True, extrasamples=["unassalpha"]),
    "planar.tif": lambda: tiff(DEEP[..., :3].transpose(2, 0, 1).copy(), planarconfig="separate", byteorder=">"),
    "tiled.tif": lambda: tiff(DEEP[..., :3], tile=(16, 16), bigtiff=True),
    "float.tif": lambda: tiff(np.float32(RGB) / 255, compression="lzw"),
    "half.tif": lambda: tiff(np.float16(GRAY) / 255),
    "j2k.tif": lambda: tiff(RGB, compression="jpeg2000"),
    "jxl.tif": lambda: tiff(RGB, compression="jpegxl"),
    "lerc.tif": lambda: tiff(np.float32(RGB) / 255, compression="lerc"),
    "webp": lambda: pillow("WEBP", RGBA, lossless=True, **told()),
    "lossy.webp": lambda: pillow("WEBP", RGB),
    # What lies under the name of another format is read as what it is.
    "gif.png": lambda: pillow("GIF", Image.fromarray(RGB).quantize()),
    "ppm.png": lambda: pillow("PPM", RGB),
}


@pytest.fixture(scope="module")
def intact(tmp_path_factory) -> Path:
    """A folder with a file of every kind."""
    folder = tmp_path_factory.mktemp("intact")
    for name, make in SEEDS.items():
        (folder / (name if "." in name else f"plain.{name}")).write_bytes(make())
    return folder


@pytest.fixture
def small_limit(monkeypatch) -> None:
    """What is said of memory and time holds for images of up to a megapixel here."""
    monkeypatch.setattr("kgt_lightning.images.codecs._MAX_MEGAPIXELS", 1)


def read_or_named(path: Path) -> bool:
    """Whether the file can be read, after all that must hold of it was asserted."""
    with bounded(10, MEMORY):
        try:
            header = read_header(path)
        except ValueError as error:
            header = None
            named(error, path)
        try:
            raster = read_raster(path)
        except ValueError as error:
            named(error, path)
            return False
    height, width, channels = raster.array.shape
    assert header is not None, "its pixels are read, its header is not"
    assert (header.height, header.width, header.bits) == (height, width, raster.bits)
    assert header.channels == (3 if channels >= 3 else 1)
    assert header.alpha == (channels in (2, 4))
    for suffix in FORMATS:
        if FORMATS[suffix].refusal(height=height, width=width, bits=raster.bits, alpha=header.alpha) is None:
            again = path.with_name(f"again{suffix}")
            again.write_bytes(encoded(again, raster))
            written = read_raster(again).array
            again.unlink()
            assert written.shape[:2] == (height, width)
            if suffix in (".png", ".tif"):
                np.testing.assert_array_equal(written, raster.array)
    return True


def named(error: ValueError, path: Path) -> None:
    told = str(error)
    assert str(path) in told and "\n" not in told
    assert "more memory" not in told, "memory is not bounded by the number of pixels"


def test_every_kind_is_read_and_every_suffix_has_one(intact):
    for path in intact.iterdir():
        assert read_or_named(path), path
    assert {path.suffix for path in intact.iterdir()} | {".jpeg", ".tiff", ".heif"} == {*FORMATS, *EXTRAS}


@pytest.mark.parametrize("name", [name if "." in name else f"plain.{name}" for name in SEEDS])
def test_damaged_files_of_every_kind(name, intact, small_limit, tmp_path_factory):
    path = tmp_path_factory.mktemp("damaged") / name

    @fewer(5)
    @given(content=damaged((intact / name).read_bytes()))
    def read(content):
        path.write_bytes(content)
        read_or_named(path)

    read()


@pytest.fixture(scope="module")
def folder(tiny, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("here")
    config = tiny(folder / "run")
    state = instantiate(config.module).state_dict()
    content = weights_content(state=state, config=OmegaConf.to_container(config, resolve=True), step=4)
    (folder / "model.safetensors").write_bytes(content)
    return folder


@fewer(4)
@given(data=st.data())
def test_a_folder_with_damaged_files_is_restored_but_for_them(folder, intact, small_limit, data):
    photos, output = folder / "photos", folder / "restored"
    for each in (photos, output):
        shutil.rmtree(each, ignore_errors=True)
    photos.mkdir()
    shutil.copy(intact / "plain.png", photos / "good.png")
    for number, path in enumerate(
        data.draw(st.lists(st.sampled_from(sorted(intact.iterdir())), min_size=1, max_size=3))
    ):
        content = data.draw(damaged(path.read_bytes()))
        (photos / f"{number}-{path.name}").write_bytes(content[:100_000])
    arguments = ("checkpoint=model.safetensors", "input=photos", "output=restored", "device=cpu", "suffix=.tif")
    outcome = run(
        restore.main, *arguments, folder=folder, named=["photos/"], may_change=["outputs", "restored"], memory=MEMORY
    )
    assert read_shape(output / "good.tif") == (3, 12, 10)
    for path in photos.iterdir():
        written = (output / path.name).with_suffix(".tif")
        assert written.exists() or str(path.relative_to(folder)) in outcome.out + outcome.err, path.name
        if written.exists():
            assert read_or_named(written)
