import multiprocessing
import os
import pickle

import numpy as np
import pytest
from PIL import Image

from kgt_lightning.data.image_sets import folder_set
from kgt_lightning.data.pixel_cache import PixelCache


@pytest.fixture
def folder(tmp_path):
    """Two colour images and one below them."""
    rng = np.random.default_rng(0)
    (tmp_path / "set" / "below").mkdir(parents=True)
    for name, size in (("a.png", (5, 7)), ("b.png", (6, 4)), ("below/a.png", (3, 3))):
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(tmp_path / "set" / name)
    return tmp_path / "set"


def cache(folder, *, channels=3):
    sources = [each.clean for each in folder_set(folder, channels=channels).entries]
    return PixelCache(sources, channels=channels, folder=folder / "cache")


def pixels(folder):
    return [np.asarray(Image.open(folder / name)) for name in ("a.png", "b.png", "below/a.png")]


def assert_holds(found, expected):
    assert len(found) == len(expected)
    for index, each in enumerate(expected):
        np.testing.assert_array_equal(found[index], each)


def test_the_cache_holds_the_pixels(folder):
    assert_holds(cache(folder), pixels(folder))
    assert_holds(pickle.loads(pickle.dumps(cache(folder))), pixels(folder))


def test_the_cache_is_written_once(folder):
    cache(folder)
    before = {file: file.stat().st_mtime_ns for file in (folder / "cache").iterdir()}
    assert len(before) == 2
    cache(folder)
    assert before == {file: file.stat().st_mtime_ns for file in (folder / "cache").iterdir()}


def test_gray_and_colour_do_not_share_a_cache(folder):
    cache(folder)
    assert cache(folder, channels=1)[0].shape == (5, 7, 1)


def test_a_changed_image_makes_a_new_cache(folder):
    cache(folder)
    changed = 255 - pixels(folder)[1]
    Image.fromarray(changed).save(folder / "b.png")
    os.utime(folder / "b.png", ns=(1, 1))
    np.testing.assert_array_equal(cache(folder)[1], changed)


@pytest.mark.parametrize("suffix", ["uint8", "json"])
@pytest.mark.parametrize("kept", [None, 0, 5])
def test_a_damaged_cache_is_made_anew(folder, suffix, kept):
    cache(folder)
    [file] = (folder / "cache").glob(f"*.{suffix}")
    if kept is None:
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:kept])
    assert_holds(cache(folder), pixels(folder))


def test_an_interrupted_write_leaves_nothing(folder):
    (folder / "c.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"c\.png cannot be read as an image"):
        cache(folder)
    assert list((folder / "cache").iterdir()) == []


def test_two_processes_may_write_at_once(folder):
    processes = [multiprocessing.get_context("fork").Process(target=cache, args=(folder,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert_holds(cache(folder), pixels(folder))
    assert len(list((folder / "cache").iterdir())) == 2
