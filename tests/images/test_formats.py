"""Images in folders are found in an order that is the same everywhere."""

from pathlib import Path

import pytest

from kgt_lightning.images.formats import list_images


def test_list_images(tmp_path):
    names = ["10.png", "2.JPG", "1/b.webp", "1/a.TIFF", "a.bmp", "1.jpeg", "b.tif"]
    others = [".hidden.png", ".cache/a.png", "notes.txt", "png", "1/.DS_Store", "a.gif"]
    for name in names + others:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    expected = ["1/a.TIFF", "1/b.webp", "1.jpeg", "2.JPG", "10.png", "a.bmp", "b.tif"]
    assert [path.relative_to(tmp_path).as_posix() for path in list_images(str(tmp_path))] == expected


def test_pictures_in_other_formats_are_counted(tmp_path, caplog):
    for name in ("a.HEIC", "b.gif", "1/c.GIF", "d.dng", "notes.txt", ".e.jxl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=r"holds no image .*1 \.dng, 2 \.gif, 1 \.heic\): put files"):
        list_images(tmp_path)
    (tmp_path / "a.png").touch()
    assert list_images(tmp_path) == [tmp_path / "a.png"]
    assert caplog.messages == [f"{tmp_path}: pictures in other formats are left out: 1 .dng, 2 .gif, 1 .heic"]
    assert len(list_images(tmp_path, suffixes=[".heic"])) == 1


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
