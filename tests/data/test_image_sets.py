import numpy as np
import pytest
from PIL import Image

from kgt_lightning.data.image_sets import BUNDLED_TEST, BUNDLED_TRAIN, bundled_set, folder_set, version


@pytest.fixture
def folder(tmp_path):
    """Two colour images and one below them."""
    rng = np.random.default_rng(0)
    (tmp_path / "set" / "below").mkdir(parents=True)
    for name, size in (("a.png", (5, 7)), ("b.png", (6, 4)), ("below/a.png", (3, 3))):
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(tmp_path / "set" / name)
    return tmp_path / "set"


def test_a_folder_is_a_set(folder):
    found = folder_set(folder, channels=1)
    assert found.name == "set"
    assert [each.name for each in found.entries] == ["a", "b", "below/a"]
    assert found.entries[0].clean.read().shape == (1, 5, 7)


def test_names_stay_unique(folder):
    Image.open(folder / "a.png").save(folder / "a.bmp")
    names = [each.name for each in folder_set(folder, channels=3).entries]
    assert sorted(names) == ["a.bmp", "a.png", "b", "below/a"]


def test_the_bundled_images_are_read():
    for channels in (1, 3):
        for entry in bundled_set("bundled", [*BUNDLED_TRAIN, *BUNDLED_TEST], channels=channels).entries:
            image = entry.clean.read()
            assert image.shape[0] == channels
            assert min(image.shape[1:]) >= 300
            assert 0 <= image.min() < 0.3 < 0.6 < image.max() <= 1


def test_a_version_changes_with_the_sizes_of_the_images(folder):
    entries = folder_set(folder, channels=3).entries
    before = version(entries, scale=1)
    assert before.startswith("3 images ")
    assert version(entries, scale=1) == before
    Image.new("RGB", (4, 5)).save(folder / "b.png")
    assert version(entries, scale=1) != before
