import contextlib
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tifffile
from PIL import Image, UnidentifiedImageError

from kgt_lightning.images.codecs import decode, header


@pytest.fixture
def samples():
    """Random uint16 samples [H, W, C] whose low bytes matter."""
    return np.random.default_rng(0).integers(0, 65536, (9, 14, 4), dtype=np.uint16)


@pytest.mark.parametrize("compression", [None, "lzw", "adobe_deflate"])
@pytest.mark.parametrize("predictor", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bit_tiff_as_other_programs_write_it(samples, tmp_path, channels, predictor, compression):
    expected = np.ascontiguousarray(samples[..., :channels])
    tifffile.imwrite(
        tmp_path / "a.tif",
        expected.squeeze(),
        photometric="rgb" if channels > 2 else "minisblack",
        planarconfig="contig" if channels > 1 else None,
        extrasamples=["unassalpha"] if channels in (2, 4) else None,
        compression=compression,
        predictor=predictor and compression is not None,
        byteorder=">",
    )
    array = decode(tmp_path / "a.tif").array
    np.testing.assert_array_equal(array, expected)


def test_tiff_of_separate_planes(samples, tmp_path):
    planes = np.ascontiguousarray(samples[..., :3].transpose(2, 0, 1))
    tifffile.imwrite(tmp_path / "a.tif", planes, photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(decode(tmp_path / "a.tif")[0], samples[..., :3])


def test_tiff_in_which_zero_is_white(samples, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", samples[..., 0], photometric="miniswhite")
    np.testing.assert_array_equal(decode(tmp_path / "a.tif")[0][..., 0], 65535 - samples[..., 0])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_16_bits_is_that_of_8_bits(samples, tmp_path, orientation):
    """Pillow turns the 8-bit file; the 16-bit one must come out the same way."""
    for name, array in (("8.tif", (samples >> 8).astype(np.uint8)), ("16.tif", samples)):
        tags = [(0x0112, "H", 1, orientation, True)]
        tifffile.imwrite(tmp_path / name, np.ascontiguousarray(array[..., :3]), photometric="rgb", extratags=tags)
    shallow, deep = decode(tmp_path / "8.tif")[0], decode(tmp_path / "16.tif")[0]
    assert (shallow.dtype, deep.dtype) == (np.uint8, np.uint16)
    np.testing.assert_array_equal(shallow, deep >> 8)


@pytest.mark.parametrize("dtype", [np.float64, np.uint32, np.int16])
def test_tiff_of_other_sample_types_is_refused(tmp_path, dtype):
    tifffile.imwrite(tmp_path / "a.tif", np.ones((4, 5, 3), dtype), photometric="rgb")
    with pytest.raises(Exception, match=r"not supported|cannot identify"):
        decode(tmp_path / "a.tif")


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_floating_point_tiff_is_read_as_it_stands(tmp_path, dtype):
    expected = np.random.default_rng(0).uniform(-1, 3, (4, 5, 3)).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", expected, photometric="rgb")
    raster = decode(tmp_path / "a.tif")
    assert raster.bits == 32
    np.testing.assert_array_equal(raster.array, expected.astype(np.float32))


@pytest.mark.parametrize("compression", ["jpeg2000", "jpegxl", "lerc", "png", "webp"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiff_of_compressions_that_pillow_does_not_read(samples, tmp_path, compression, dtype):
    if compression == "webp" and dtype == np.uint16:
        pytest.skip("WebP holds 8 bits")
    expected = np.ascontiguousarray(samples[..., :3].astype(dtype))
    arguments = {"lossless": True} if compression in ("jpegxl", "webp") else {}
    tifffile.imwrite(
        tmp_path / "a.tif", expected, photometric="rgb", compression=compression, compressionargs=arguments
    )
    # what is written as JPEG 2000 here has a loss
    atol = 2 if compression == "jpeg2000" else 0
    np.testing.assert_allclose(decode(tmp_path / "a.tif").array.astype(int), expected, rtol=0, atol=atol)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({322: 60000, 323: 60000}, "its tiles of 60000 x 60000 pixels are larger than what is read"),
        ({325: [2**30] * 4}, "a part of it has 1073741824 bytes by its header, the file has"),
    ],
    ids=["tiles", "bytes"],
)
def test_tiff_whose_parts_would_fill_the_memory_is_refused(tmp_path, changes, message):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((32, 32, 3), np.uint16), photometric="rgb", tile=(16, 16), compression="zlib")
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        for tag, value in changes.items():
            tiff.pages.first.tags[tag].overwrite(value, dtype="I")
    with pytest.raises(ValueError, match=message):
        decode(path)


@pytest.mark.parametrize(("small", "kind"), [(2**26, ValueError), (0, MemoryError)])
def test_memory_that_a_small_picture_lacks_is_the_fault_of_its_parts(tmp_path, monkeypatch, small, kind):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((32, 32, 3), np.uint16), photometric="rgb", compression="lerc")

    def asarray(*_, **__):
        raise MemoryError("for what LERC tells of")

    monkeypatch.setattr(tifffile.TiffPage, "asarray", asarray)
    monkeypatch.setattr("kgt_lightning.images.codecs._SMALL_BYTES", small)
    with pytest.raises(kind, match=r"far larger than 32 x 32 pixels" if kind is ValueError else "LERC"):
        decode(tmp_path / "a.tif")


@pytest.mark.parametrize(("height", "width"), [(0, 2**31), (0, 8), (8, 0)])
def test_a_header_of_no_pixels_is_no_image(tmp_path, height, width):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((8, 8, 3), np.uint16), photometric="rgb")
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        for tag, value in ((256, width), (257, height)):
            tiff.pages.first.tags[tag].overwrite(value, dtype="I")
    for read in (header, decode):
        with pytest.raises(ValueError, match=f"{width} x {height} pixels are no image"):
            read(path)


def test_a_length_inside_a_damaged_file_takes_no_memory(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (12, 10), (10, 20, 30)).save(path)
    content = bytearray(path.read_bytes())
    place = content.index(b"IDAT") - 4
    content[place : place + 4] = (2**30).to_bytes(4, "big")
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with contextlib.suppress(OSError, SyntaxError):
            decode(path)
        assert tracemalloc.get_traced_memory()[1] < 2**27
    finally:
        tracemalloc.stop()


def test_further_frames_are_reported(tmp_path, caplog):
    frames = [Image.new("L", (6, 5), value) for value in (10, 20)]
    frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:])
    array = decode(tmp_path / "a.tif").array
    assert (array == 10).all()
    assert "holds 2 frames: only the first is read" in caplog.text


def test_the_size_limit_of_pillow_is_that_of_before_after_many_threads(tmp_path):
    Image.new("L", (300, 300)).save(tmp_path / "a.png")
    before = Image.MAX_IMAGE_PIXELS
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: (header(tmp_path / "a.png"), decode(tmp_path / "a.png")), range(100)))
    assert before == Image.MAX_IMAGE_PIXELS


def test_the_size_limit_of_pillow_is_left_as_it_was(tmp_path):
    before = Image.MAX_IMAGE_PIXELS
    Image.new("L", (6, 5)).save(tmp_path / "a.png")
    decode(tmp_path / "a.png")
    assert before == Image.MAX_IMAGE_PIXELS


def test_a_format_for_which_pillow_would_start_a_program_is_not_opened(tmp_path):
    """EPS under another name: Pillow would hand it to Ghostscript."""
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", format="EPS")
    for read in (decode, header):
        with pytest.raises(UnidentifiedImageError):
            read(tmp_path / "a.png")
