import numpy as np
import pytest
from PIL import Image

from kgt_lightning.data.image_sets import BUNDLED_TEST, BUNDLED_TRAIN, bundled_set, folder_set, version


@pytest.fixture
def folder(tmp_path):
    """Two colour photographs and one below them."""
    rng = np.random.default_rng(0)
    (tmp_path / "set" / "below").mkdir(parents=True)
    for name, size in (("a.png", (5, 7)), ("b.png", (6, 4)), ("below/a.png", (3, 3))):
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(tmp_path / "set" / name)
    return tmp_path / "set"


def test_a_folder_is_a_set(folder):
    found = folder_set(folder, channels=1)
    assert found.name == "set"
    assert [each.name for each in found.photographs] == ["a", "b", "below/a"]
    assert found.photographs[0].clean.read().shape == (1, 5, 7)


def test_names_stay_unique(folder):
    Image.open(folder / "a.png").save(folder / "a.bmp")
    names = [each.name for each in folder_set(folder, channels=3).photographs]
    assert sorted(names) == ["a.bmp", "a.png", "b", "below/a"]


def test_the_bundled_photographs_are_read():
    for channels in (1, 3):
        for photograph in bundled_set("bundled", [*BUNDLED_TRAIN, *BUNDLED_TEST], channels=channels).photographs:
            image = photograph.clean.read()
            assert image.shape[0] == channels
            assert min(image.shape[1:]) >= 300
            assert 0 <= image.min() < 0.3 < 0.6 < image.max() <= 1


def test_a_version_changes_with_the_sizes_of_the_images(folder):
    photographs = folder_set(folder, channels=3).photographs
    before = version(photographs, scale=1)
    assert before.startswith("3 images ")
    assert version(photographs, scale=1) == before
    Image.new("RGB", (4, 5)).save(folder / "b.png")
    assert version(photographs, scale=1) != before
