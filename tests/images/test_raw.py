"""Raw files of a camera that is known to the last digit, whose pictures are known too."""

import re

import numpy as np
import pytest
import skimage.data
import tifffile
import torch
from PIL import Image

from kgt_lightning import restore as command
from kgt_lightning.images.color import to_linear
from kgt_lightning.images.files import read_header, read_image, read_mosaic, read_raster

rawpy = pytest.importorskip("rawpy")

TO_CAMERA = np.array([[0.6097, -0.2152, -0.0514], [-0.4512, 1.2457, 0.2294], [-0.0862, 0.2092, 0.5822]])
"""From XYZ to the camera's colours: ColorMatrix1 of a DNG."""
TO_XYZ = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
"""From linear sRGB (IEC 61966-2-1)."""
BLACK, WHITE = 512, 16000
BAYER = {"RGGB": (0, 1, 1, 2), "GRBG": (1, 0, 2, 1), "GBRG": (1, 2, 0, 1), "BGGR": (2, 1, 1, 0)}
X_TRANS = (1, 1, 0, 1, 1, 2, 1, 1, 2, 1, 1, 0, 2, 0, 1, 0, 2, 1, 1, 1, 2, 1, 1, 0, 1, 1, 0, 1, 1, 2, 0, 2, 1, 2, 0, 1)


@pytest.fixture
def photograph():
    """Float64 [H, W, 3] in [0, 1]."""
    return skimage.data.chelsea()[90:154, 110:200] / 255


def write_dng(file, picture, *, colours=BAYER["RGGB"], model="One", to_camera=TO_CAMERA, told=True, orientation=1):
    """What the sensor measures of a picture in sRGB by the light of D65, as a DNG."""
    side = int(len(colours) ** 0.5)
    rows, columns = np.indices(picture.shape[:2])
    seen = np.array(colours).reshape(side, side)[rows % side, columns % side]
    matrix = to_camera @ TO_XYZ
    white = matrix.sum(1) / matrix.sum(1).max()
    light = to_linear(torch.from_numpy(picture)).numpy() @ matrix.T / matrix.sum(1).max()
    measured = np.take_along_axis(light, seen[..., None], -1)[..., 0].clip(0, 1)

    def rational(values):
        return [part for value in np.ravel(values) for part in (round(value * 10**6), 10**6)]

    tags = [
        (271, "s", 0, model.partition(" ")[0]),
        (272, "s", 0, model),
        (274, "H", 1, orientation),
        (315, "s", 0, "Joan"),
        (33421, "H", 2, (side, side)),
        (33422, "B", len(colours), bytes(colours)),
        (50706, "B", 4, bytes((1, 4, 0, 0))),
        (50708, "s", 0, model),
        (50714, "H", 1, BLACK),
        (50717, "H", 1, WHITE),
    ]
    if told:
        tags += [(50721, "2i", 9, rational(to_camera)), (50728, "2I", 3, rational(white)), (50778, "H", 1, 21)]
    tifffile.imwrite(
        file,
        np.round(measured * (WHITE - BLACK) + BLACK).astype(np.uint16),
        photometric="cfa",
        extratags=[(*tag, True) for tag in tags],
        metadata=None,
        software=False,
    )


@pytest.fixture
def run(run_command, tmp_path):
    def run_restore(*arguments):
        places = (f"input={tmp_path / 'in'}", f"output={tmp_path / 'out'}", "device=cpu")
        return run_command(command.main, *places, *arguments)

    (tmp_path / "in").mkdir()
    return run_restore


def psnr(found, expected):
    return -10 * np.log10(np.mean((found - expected) ** 2))


def test_a_raw_file_becomes_the_picture(run, photograph, tmp_path):
    """In any pattern, and better than by LibRaw's interpolation; a photograph beside it is no mosaic."""
    for pattern, colours in BAYER.items():
        write_dng(tmp_path / "in" / f"{pattern}.dng", photograph, colours=colours)
    code, said, errors = run("task=demosaic")
    assert code == 0, errors
    for pattern in BAYER:
        assert f"{pattern}.tif (mosaic {pattern}, " in said
        restored = read_raster(tmp_path / "out" / f"{pattern}.tif")
        assert (restored.array.dtype, restored.array.shape) == (np.uint16, photograph.shape)
        with rawpy.imread(str(tmp_path / "in" / f"{pattern}.dng")) as raw:
            linear = raw.postprocess(
                demosaic_algorithm=rawpy.DemosaicAlgorithm.LINEAR,
                use_camera_wb=True,
                no_auto_bright=True,
                output_bps=16,
                gamma=(2.4, 12.92),
            )
        ours, theirs = (psnr(each / 65535, photograph) for each in (restored.array, linear))
        assert ours > 38
        assert ours > theirs + 8
        assert np.abs((restored.array / 65535 - photograph).mean((0, 1))).max() < 1 / 255, "colours are right"
    exif = Image.Exif()
    exif.load(restored.exif)
    assert set(exif) <= {271, 272, 282, 283, 296, 315, 0x8769, 0x8825}, "nothing of how the mosaic lay"
    assert exif[315] == "Joan"


def test_it_is_upright(photograph, tmp_path):
    file = tmp_path / "a.dng"
    write_dng(file, photograph, orientation=6)
    assert read_header(file) == (1, 90, 64, 16, False)
    assert read_mosaic(file).orientation == 6
    assert read_mosaic(file).raster.array.shape == (64, 90, 1)


def test_black_is_black_and_white_is_white(tmp_path):
    file = tmp_path / "a.dng"
    picture = np.zeros((40, 60, 3))
    picture[:, 30:] = 1
    write_dng(file, picture)
    mosaic = read_mosaic(file).raster.array[..., 0]
    assert set(mosaic[:, :30].flat) == {0}
    assert mosaic[:, 30:].min() > 65400, "of every colour, after the white balance"


def test_colours_of_a_camera_that_libraw_knows(photograph, tmp_path):
    """Where the file tells neither white nor matrix."""
    file = tmp_path / "a.dng"
    canon = np.array([[4716, 603, -830], [-7798, 15474, 2480], [-1496, 1937, 6651]]) / 10000
    write_dng(file, photograph, model="Canon EOS 5D Mark II", to_camera=canon, told=False)
    found = read_mosaic(file)
    matrix = canon @ TO_XYZ
    np.testing.assert_allclose(found.to_srgb @ (matrix / matrix.sum(1, keepdims=True)), np.eye(3), atol=1e-3)
    np.testing.assert_allclose(found.to_srgb.sum(1), 1, atol=1e-6)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"colours": X_TRANS}, "its mosaic is none of 2 x 2 pixels (X-Trans is one of 6 x 6)"),
        ({"told": False}, "it does not tell the camera's colours, nor does LibRaw know them"),
    ],
)
def test_what_is_no_bayer_mosaic_is_refused(run, photograph, tmp_path, how, reason):
    write_dng(tmp_path / "in" / "a.dng", photograph, **how)
    code, _, errors = run("task=demosaic")
    assert code == 2 and f"a.dng cannot be read as an image ({reason}" in errors
    assert not list((tmp_path / "out").glob("*"))


def test_damage_and_whole_colours_are_named(photograph, tmp_path):
    file = tmp_path / "a.dng"
    write_dng(file, photograph)
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(ValueError, match=re.escape("a.dng cannot be read as an image (Input/output error)")):
        read_mosaic(file)
    tags = [(50706, "B", 4, bytes((1, 4, 0, 0)), True), (271, "s", 0, "One", True), (272, "s", 0, "One", True)]
    tifffile.imwrite(file, np.ones((64, 64, 3), np.uint16), photometric="linear_raw", extratags=tags, metadata=None)
    with pytest.raises(ValueError, match="holds no mosaic but whole colours"):
        read_mosaic(file)


def test_raw_files_are_for_the_model_for_mosaics(run, photograph, tmp_path):
    write_dng(tmp_path / "in" / "a.dng", photograph)
    with pytest.raises(ValueError, match="it is a raw file, the mosaic of a sensor: kgt restore task=demosaic"):
        read_image(tmp_path / "in" / "a.dng")
    code, _, errors = run("task=denoise")
    assert code == 2 and "holds no image" in errors, "other tasks pass raw files of a folder by"
    code, _, errors = run("task=denoise", f"input={tmp_path / 'in' / 'a.dng'}")
    assert code == 2 and "a.dng is a raw file, this model restores pictures: take task=demosaic first" in errors
    code, _, errors = run("task=demosaic", "suffix=.jpg")
    assert code == 2 and "JPEG cannot hold 16 bits per channel" in errors
