import errno
import os

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from kgt_lightning import restore as command
from kgt_lightning.images.files import Picture, read_image, read_raster, write_image
from kgt_lightning.restoring import files
from kgt_lightning.restoring.picture import restore
from kgt_lightning.runs.checkpoint import load_checkpoint


@pytest.fixture(scope="module")
def module(trained):
    return load_checkpoint(trained).module()


@pytest.fixture
def run(run_command, trained, tmp_path):
    def run_restore(source, *arguments):
        places = (f"checkpoint={trained}", f"input={source}", f"output={tmp_path / 'out'}", "device=cpu")
        return run_command(command.main, *places, *arguments)

    return run_restore


@pytest.fixture
def pixels():
    return torch.rand(3, 20, 24, generator=torch.Generator().manual_seed(0))


def test_a_file_is_restored_under_its_name(run, module, pixels, tmp_path):
    write_image(tmp_path / "a.png", Picture(pixels=pixels))
    code, _, errors = run(tmp_path / "a.png")
    assert code == 0, errors
    found = read_image(tmp_path / "out" / "a.png")
    with torch.no_grad():
        expected = module(read_image(tmp_path / "a.png").pixels[None])[0].clamp(0, 1)
    torch.testing.assert_close(found.pixels, expected, rtol=0, atol=0.51 / 255)
    assert [file.name for file in (tmp_path / "out").glob("[!.]*")] == ["a.png"]


def test_a_folder_is_restored_as_it_is_laid_out(run, pixels, tmp_path):
    names = ["a.png", "a.tif", "below/a.png", "below/deep/b.jpg"]
    for name in names:
        write_image(tmp_path / "in" / name, Picture(pixels=pixels))
    (tmp_path / "in" / "notes.txt").write_text("no image")
    assert run(tmp_path / "in")[0] == 0
    files = sorted(file.relative_to(tmp_path / "out").as_posix() for file in (tmp_path / "out").rglob("[!.]*.*"))
    assert files == names


def test_a_model_of_white_noise_says_that_compression_changes_noise(run, pixels, tmp_path):
    for name in ("a.png", "b.jpg"):
        write_image(tmp_path / name, Picture(pixels=pixels))
    assert "compression" not in run(tmp_path / "a.png")[1]
    assert "1 of the images are JPEG files, such as" in run(tmp_path / "b.jpg")[1]


@pytest.mark.parametrize(
    ("channels", "alpha", "bits"), [(3, False, 8), (3, True, 8), (3, True, 16), (1, False, 16), (1, True, 8)]
)
def test_bits_and_layout_of_the_file_are_kept(run, pixels, tmp_path, channels, alpha, bits):
    opacity = torch.linspace(0, 1, 24).expand(1, 20, 24) if alpha else None
    write_image(tmp_path / "a.png", Picture(pixels=pixels[:channels], alpha=opacity, bits=bits))
    assert run(tmp_path / "a.png")[0] == 0
    source, found = (read_image(path) for path in (tmp_path / "a.png", tmp_path / "out" / "a.png"))
    assert (found.pixels.shape, found.bits) == (source.pixels.shape, bits)
    assert (found.alpha is None) == (source.alpha is None)
    if alpha:
        assert torch.equal(found.alpha, source.alpha)


@pytest.mark.parametrize("values", [(-3.14, 3e-9, *np.linspace(-3, 3.14)), (0, 1e-9, *np.linspace(0, 5e4))])
def test_floating_point_that_the_model_leaves_alone_comes_back_to_the_bit(run, module, tmp_path, monkeypatch, values):
    monkeypatch.setattr(type(module), "forward", lambda self, degraded: degraded)
    tifffile.imwrite(tmp_path / "a.tif", np.resize(np.array(values, np.float32), (20, 24)))
    assert run(tmp_path / "a.tif")[0] == 0
    source, found = (read_raster(path) for path in (tmp_path / "a.tif", tmp_path / "out" / "a.tif"))
    np.testing.assert_array_equal(found.array, source.array)


@pytest.mark.parametrize("mixing", [(), ("texture=1",), ("texture=1", "strength=0.5"), ("strength=0", "texture=1")])
def test_floating_point_is_restored_alike_wherever_it_lies(run, module, photo, tmp_path, monkeypatch, mixing):
    """Also the noise, above which texture is brought back, is that of the values that the model is given."""
    monkeypatch.setattr(
        type(module), "forward", lambda self, degraded: degraded.mean((2, 3), keepdim=True) + 0 * degraded
    )
    noisy = photo[0, :, 100:164, 100:172] + 0.05 * torch.randn(3, 64, 72, generator=torch.Generator().manual_seed(0))
    within = noisy.clamp(0, 1).permute(1, 2, 0).numpy()
    within[0, :2] = [[0], [1]]  # all of it, so that the other is brought to the same
    (tmp_path / "in").mkdir()
    for name, values in (("within", within), ("beyond", 4 * within - 1)):
        tifffile.imwrite(tmp_path / "in" / f"{name}.tif", values, photometric="rgb")
    code, _, errors = run(tmp_path / "in", *mixing)
    assert code == 0, errors
    found, beyond = (read_raster(tmp_path / "out" / f"{name}.tif").array for name in ("within", "beyond"))
    np.testing.assert_allclose((beyond + 1) / 4, found, atol=1e-6)
    assert np.array_equal(found, within) == ("strength=0" in mixing)


def test_values_whose_span_no_float_holds_are_refused(run, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.resize(np.array((-3e38, 3e38), np.float32), (20, 24)))
    code, _, errors = run(tmp_path / "a.tif")
    assert code == 2
    assert "a.tif: it holds values from -3e+38 to 3e+38: scale them to 0..1" in errors


def test_cmyk_and_palette_become_rgb(run, tmp_path):
    picture = Image.fromarray(np.full((20, 24, 3), 128, np.uint8))
    (tmp_path / "in").mkdir()
    picture.convert("CMYK").save(tmp_path / "in" / "a.jpg")
    picture.convert("P").save(tmp_path / "in" / "b.png")
    code, _, errors = run(tmp_path / "in")
    assert code == 0, errors
    assert all(read_image(file).pixels.shape == (3, 20, 24) for file in (tmp_path / "out").glob("[!.]*"))


def test_gray_goes_through_a_colour_model_and_colour_through_a_gray_one(module, pixels, tiny, tmp_path):
    restored = restore(module, pixels[:1], tile=64, overlap=8)
    assert restored.shape == (1, 20, 24)

    class Brighter:
        """A gray model that is easy to predict."""

        network = type("Network", (), {"scale": 1, "backbone": type("Backbone", (), {"channels": 1})})
        device = torch.device("cpu")
        degraded_channels = grid = 1

        def baseline(self, part):
            return part

        def __call__(self, part):
            assert part.shape[1] == 1
            return part + 0.5

    torch.testing.assert_close(restore(Brighter(), pixels, tile=16, overlap=4), pixels + 0.5)


def test_files_that_are_there_are_kept_without_permission(run, pixels, tmp_path):
    for name in ("a.png", "b.png"):
        write_image(tmp_path / "in" / name, Picture(pixels=pixels))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "b.png").write_bytes(b"mine")
    code, _, errors = run(tmp_path / "in")
    assert code == 2
    assert "b.png is already there: choose another output, or set overwrite=true" in errors
    assert (tmp_path / "out" / "b.png").read_bytes() == b"mine"
    assert not (tmp_path / "out" / "a.png").exists(), "it is found before any work"
    assert run(tmp_path / "in", "overwrite=true")[0] == 0
    assert read_image(tmp_path / "out" / "b.png").pixels.shape == pixels.shape


def test_a_folder_goes_on_where_it_stopped(run, pixels, tmp_path, monkeypatch):
    for name in ("a.png", "b.png", "c.png"):
        write_image(tmp_path / "in" / name, Picture(pixels=pixels))
    assert run(tmp_path / "in")[0] == 0
    first = {file: file.read_bytes() for file in (tmp_path / "out").glob("*.png")}
    (tmp_path / "out" / "b.png").unlink()
    with (tmp_path / "out" / ".restored.jsonl").open("a") as file:
        file.write('{"file": "b.p')  # as a kill leaves it
    code, out, errors = run(tmp_path / "in")
    assert code == 0, errors
    assert "2 of 3 images are finished already" in out
    assert out.count("1/1") == 1
    assert {file: file.read_bytes() for file in first} == first
    # Another source, another setting, or a result that was changed: it is none of ours.
    assert run(tmp_path / "in", "strength=0.5")[0] == 2
    write_image(tmp_path / "in" / "a.png", Picture(pixels=1 - pixels))
    code, _, errors = run(tmp_path / "in")
    assert code == 2
    assert "a.png is already there" in errors


def test_strength_blends(run, pixels, tmp_path):
    write_image(tmp_path / "a.png", Picture(pixels=pixels))
    found = {}
    for strength in (0, 0.5, 1):
        assert run(tmp_path / "a.png", f"strength={strength}", "overwrite=true")[0] == 0
        found[strength] = read_image(tmp_path / "out" / "a.png").pixels
    assert torch.equal(found[0], read_image(tmp_path / "a.png").pixels)
    torch.testing.assert_close(
        found[0.5], (found[0] + found[1]) / 2, rtol=0, atol=0.02
    )  # values that were clipped differ


@pytest.mark.parametrize("alpha", [False, True])
def test_what_a_format_cannot_hold_is_said_before_anything_is_restored(run, pixels, tmp_path, alpha):
    write_image(tmp_path / "in" / "a.png", Picture(pixels=pixels))
    opacity = torch.full((1, 20, 24), 0.5) if alpha else None
    write_image(tmp_path / "b.png", Picture(pixels=pixels, alpha=opacity, bits=8 if alpha else 16))
    (tmp_path / "b.png").rename(tmp_path / "in" / "b.jpg")
    code, _, errors = run(tmp_path / "in")
    assert code == 2
    assert "b.jpg cannot be written as b.jpg: JPEG cannot hold" in errors
    assert "suffix=.png" in errors
    assert not (tmp_path / "out").exists()
    assert run(tmp_path / "in", "suffix=.tif")[0] == 0
    assert sorted(file.name for file in (tmp_path / "out").glob("[!.]*")) == ["a.tif", "b.tif"]


def test_a_header_of_a_size_that_is_never_read_does_not_stop_the_others(run, pixels, tmp_path):
    for name in ("a.tif", "b.tif"):
        write_image(tmp_path / "in" / name, Picture(pixels=pixels))
    with tifffile.TiffFile(tmp_path / "in" / "a.tif", mode="r+b") as tiff:
        tiff.pages.first.tags["ImageWidth"].overwrite(2**32 - 1, dtype="I")
    code, _, errors = run(tmp_path / "in")
    assert code == 2
    assert "1 of 2 images could not be restored, the first: " in errors
    assert "a.tif cannot be read as an image (4294967295 x 20 pixels, at most 400 megapixels are read)" in errors
    assert (tmp_path / "out" / "b.tif").exists()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory"),
            "needs more memory to be restored than there is: try tile=",
        ),
        (OSError(errno.ENOSPC, "No space left on device", "out/a.png"), "cannot be written, the disk is full"),
    ],
)
def test_want_of_memory_or_disk_costs_one_image(run, pixels, tmp_path, monkeypatch, error, told):
    for name in ("a.png", "b.png"):
        write_image(tmp_path / "in" / name, Picture(pixels=pixels))
    whole = files.restore_raster
    given = iter([error, None])

    def once(*arguments, **options):
        if error := next(given):
            raise error
        return whole(*arguments, **options)

    monkeypatch.setattr(files, "restore_raster", once)
    code, _, errors = run(tmp_path / "in")
    assert code == 2
    assert "error: 1 of 2 images could not be restored, the first: " in errors
    assert f"a.png {told}" in errors
    assert [file.name for file in (tmp_path / "out").glob("[!.]*")] == ["b.png"]


def test_one_damaged_file_does_not_cost_the_others(run, pixels, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(b"no image")
    write_image(tmp_path / "in" / "b.tif", Picture(pixels=pixels))
    (tmp_path / "in" / "b.tif").write_bytes((tmp_path / "in" / "b.tif").read_bytes()[:-300])
    write_image(tmp_path / "in" / "c.png", Picture(pixels=pixels))
    code, _, errors = run(tmp_path / "in")
    assert code == 2
    assert "error: 2 of 3 images could not be restored" in errors
    assert "a.png cannot be read" in errors
    assert [file.name for file in (tmp_path / "out").glob("[!.]*")] == ["c.png"]


def test_links_that_lead_nowhere_and_files_that_vanish_are_named(run, pixels, tmp_path, monkeypatch):
    for name in ("a.png", "b.png"):
        write_image(tmp_path / "in" / name, Picture(pixels=pixels))
    (tmp_path / "in" / "c.png").symlink_to("gone.png")
    check = command.check_format

    def vanishing(path, *arguments, **options):
        check(path, *arguments, **options)
        if path.name == "a.png":
            path.unlink()

    monkeypatch.setattr(command, "check_format", vanishing)
    code, output, errors = run(tmp_path / "in")
    assert code == 2
    assert "error: 2 of 3 images could not be restored" in errors
    assert "in/a.png does not exist: name an image file" in output
    assert "in/c.png is a link to gone.png, which does not exist: name an image file" in output
    assert [file.name for file in (tmp_path / "out").glob("[!.]*")] == ["b.png"]


def test_a_folder_that_may_not_be_read_is_named(run, pixels, tmp_path, monkeypatch):
    write_image(tmp_path / "in" / "locked" / "a.png", Picture(pixels=pixels))
    scandir = os.scandir

    def refused(path):  # root may read everything
        if str(path).endswith("locked"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    code, _, errors = run(tmp_path / "in")
    assert code == 2
    assert errors.splitlines()[-1] == f"error: {tmp_path}/in/locked: Permission denied"
