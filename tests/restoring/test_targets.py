import pytest
import torch

from kgt_lightning.images.files import Picture, write_image
from kgt_lightning.restoring.targets import targets


@pytest.fixture
def folder(tmp_path):
    for name in ("a.png", "below/b.jpg"):
        write_image(tmp_path / "in" / name, Picture(pixels=torch.zeros(3, 8, 8)))
    return tmp_path / "in"


def test_the_source_is_never_replaced(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    for name in ("in", "link", "in/../in"):
        with pytest.raises(ValueError, match="folder of the input"):
            targets(folder, str(tmp_path / name))
        with pytest.raises(ValueError, match="folder of the input"):
            targets(folder / "a.png", str(tmp_path / name))


def test_what_was_restored_into_the_source_is_not_restored_again(folder):
    write_image(folder / "out" / "old.png", Picture(pixels=torch.zeros(3, 8, 8)))
    assert set(targets(folder, str(folder / "out"))) == {folder / "a.png", folder / "below/b.jpg"}


@pytest.mark.parametrize(
    ("output", "suffix", "expected"),
    [
        ("out", None, ["out/a.png", "out/below/b.jpg"]),
        ("out", ".tif", ["out/a.tif", "out/below/b.tif"]),
        ("out/{name}-clean{suffix}", None, ["out/a-clean.png", "out/b-clean.jpg"]),
        ("out/{folder}/{name}", ".webp", ["out/a.webp", "out/below/b.webp"]),
        ("{name}.png", None, ["a.png", "b.png"]),
    ],
)
def test_names_of_results(folder, output, suffix, expected):
    found = targets(folder, output, suffix=suffix)
    assert [target.as_posix() for target in found.values()] == expected


@pytest.mark.parametrize(
    ("output", "suffix", "message"),
    [
        ("{nmae}.png", None, r"output=\{nmae\}.png is no pattern: it may hold \{folder\}, \{name\} and \{suffix\}"),
        ("{", None, "is no pattern"),
        ("{name.__class__}", ".gif", r"suffix=\.gif must be one of \.avif"),
        ("same-{suffix}", ".png", "would both be written to same-.png"),
        ("x" * 250 + "{name}{suffix}", None, None),
        ("x" * 250 + "/{name}" + "y" * 260 + "{suffix}", None, "names of more than 255 bytes are not possible"),
        ("x" * 260, None, "output=xxx.*names of more than 255 bytes"),
    ],
)
def test_names_that_cannot_be_are_said_at_once(folder, output, suffix, message):
    if message is None:
        targets(folder, output, suffix=suffix)
        return
    with pytest.raises(ValueError, match=message) as error:
        targets(folder, output, suffix=suffix)
    assert "\n" not in str(error.value)


def test_a_format_that_is_only_read_needs_a_suffix(tmp_path):
    (tmp_path / "a.heic").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"a.heic cannot be written as .heic: add suffix=<one of"):
        targets(tmp_path, str(tmp_path / "out"))
    assert targets(tmp_path, "out", suffix=".png")[tmp_path / "a.heic"].name == "a.png"
