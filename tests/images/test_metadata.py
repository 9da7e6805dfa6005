"""What a file tells beside its pixels comes back, from every format to every other."""

import struct

import numpy as np
import pytest
from PIL import Image

from kgt_lightning.images.codecs import decode, encode, header
from kgt_lightning.images.formats import FORMATS
from kgt_lightning.images.metadata import ORIENTATION, jpeg_quality

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="6" xmp:Rating="4"/></x:xmpmeta>'
EXIF_IFD, GPS_IFD = 0x8769, 0x8825


@pytest.fixture
def photo_file(tmp_path):
    """A JPEG of 32 x 16 pixels that lies on its side, as a telephone writes it, with a thumbnail's directory."""
    exif = Image.Exif()
    exif.update({0x0112: 6, 0x010F: "Fuji", 0x013B: "J\u00c3\u00b6rg"})  # the bytes of UTF-8, as Pillow reads them
    exif.get_ifd(EXIF_IFD).update({0x829A: 0.004, 0xA002: 32, 0xA003: 16, 0x9003: "2025:07:01 12:00:00"})
    exif.get_ifd(GPS_IFD).update({1: "N", 2: (47.0, 22.0, 12.0)})
    file = tmp_path / "a.jpg"
    exif[0x013B] = exif[0x013B].encode("latin-1")
    Image.new("RGB", (32, 16), (200, 100, 50)).save(file, exif=exif, xmp=XMP, icc_profile=b"a profile", quality=75)
    return file


@pytest.mark.parametrize("suffix", [suffix for suffix, form in FORMATS.items() if form.metadata])
@pytest.mark.parametrize("bits", [8, 16])
def test_metadata_come_back(photo_file, tmp_path, suffix, bits):
    form = FORMATS[suffix]
    if bits == 16 and not form.deep:
        pytest.skip(f"{form.name} holds 8 bits")
    raster = decode(photo_file)
    assert (raster.array.shape, raster.quality) == ((32, 16, 3), 75)
    raster = raster._replace(array=raster.array.astype(np.uint16) * 257 if bits == 16 else raster.array)
    (tmp_path / f"b{suffix}").write_bytes(encode(raster, form=form))
    again = decode(tmp_path / f"b{suffix}")
    assert again.array.shape == (32, 16, 3), "it lies as it is to be seen, once"
    assert again.profile == b"a profile"
    assert again.xmp == XMP.replace(b'Orientation="6"', b'Orientation="1"')
    exif = Image.Exif()
    exif.load(again.exif)
    assert 0x0112 not in exif
    assert (exif[0x010F], exif[0x013B]) == ("Fuji", "J\u00c3\u00b6rg")
    details = exif.get_ifd(EXIF_IFD)
    assert (details[0xA002], details[0xA003], details[0x9003]) == (16, 32, "2025:07:01 12:00:00")
    assert float(details[0x829A]) == 0.004
    assert [float(part) for part in exif.get_ifd(GPS_IFD)[2]] == [47, 22, 12]


def chunks_of(png):
    place = 8
    while place < len(png):
        (size,) = struct.unpack(">I", png[place : place + 4])
        yield png[place + 4 : place + 8], png[place : place + 12 + size]
        place += 12 + size


def test_orientation_of_a_png_whose_metadata_stand_behind_the_pixels(tmp_path):
    """As exiftool writes them."""
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    file = tmp_path / "a.png"
    Image.new("L", (30, 20)).save(file, exif=exif)
    chunks = dict(chunks_of(file.read_bytes()))
    order = (b"IHDR", b"IDAT", b"eXIf", b"IEND")
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks[name] for name in order))
    assert header(file)[1:3] == decode(file).array.shape[:2] == (30, 20)


def test_the_header_of_a_png_is_read_without_its_pixels(tmp_path):
    file = tmp_path / "a.png"
    Image.new("L", (30, 20)).save(file)
    cut = file.read_bytes()
    file.write_bytes(cut[: cut.index(b"IDAT") + 5])
    assert header(file)[1:3] == (20, 30)


def test_damaged_metadata_do_not_cost_the_picture(tmp_path, caplog):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert decode(tmp_path / "a.jpg").array.shape == (8, 8, 3)


@pytest.mark.parametrize("quality", [1, 10, 49, 50, 75, 90, 100])
def test_quality_is_read_from_the_tables(tmp_path, quality):
    Image.new("L", (8, 8)).save(tmp_path / "a.jpg", quality=quality)
    with Image.open(tmp_path / "a.jpg") as image:
        assert jpeg_quality(image.quantization[0]) == quality
