import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kgt_lightning.data.image_sets import folder_set
from kgt_lightning.data.pairs import named_pairs, pairs_in, part_in

NAMES = [("input", "target"), ("blur", "sharp"), ("data", "target")]


def write(root, *files, channels=3):
    """Images whose pixels are all 10 times their position among the files."""
    for value, file in enumerate(files):
        path = Path(root, file)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 6, channels), 10 * value, np.uint8).squeeze()).save(path)


def pairs(folder, **arguments):
    settings = {"names": NAMES, "channels": 3, "degraded_channels": 3, "repeat_gray": False}
    return pairs_in(folder, **(settings | arguments))


def values(found):
    """Degraded and clean value of each pair."""
    assert all(each.degraded is not None for each in found.entries)
    return {
        each.name: tuple(round(source.read().unique().item() * 255) for source in (each.degraded, each.clean))
        for each in found.entries
    }


def test_two_subfolders_are_a_set(tmp_path):
    write(tmp_path / "GoPro", "input/1.png", "input/2.png", "target/1.png", "target/2.png", "list.png")
    found = pairs(tmp_path / "GoPro")
    assert found.name == "GoPro"
    assert values(found) == {"1": (0, 20), "2": (10, 30)}
    assert [each.listed for each in found.entries] == ["GoPro/input/1.png", "GoPro/input/2.png"]


def test_every_sequence_has_its_two_subfolders(tmp_path):
    write(tmp_path / "GoPro", "b/sharp/1.png", "b/blur/1.png", "b/other/1.png", "a/blur/1.png", "a/sharp/1.png")
    found = pairs(tmp_path / "GoPro")
    assert values(found) == {"a/1": (30, 40), "b/1": (10, 0)}
    assert list(values(found)) == ["a/1", "b/1"]
    assert [each.listed for each in found.entries] == ["GoPro/a/blur/1.png", "GoPro/b/blur/1.png"]


def test_names_of_partners_may_differ(tmp_path):
    write(tmp_path, "data/0_rain.png", "target/0_clean.png")
    found = pairs(tmp_path, partner=lambda name: name.replace("rain", "clean"))
    assert values(found) == {"0_rain": (0, 10)}


def test_channels_are_those_asked_for(tmp_path):
    write(tmp_path, "input/1.png", "target/1.png")
    [found] = pairs(tmp_path, channels=3, degraded_channels=1).entries
    assert (found.degraded.shape()[0], found.clean.shape()[0]) == (1, 3)


def test_a_folder_without_the_names_has_no_pairs(tmp_path):
    write(tmp_path, "1.png", "below/2.png", ".hidden/input/3.png")
    assert pairs(tmp_path) is None


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["seq/blur/1.png"], r"seq holds blur, but no sharp beside it"),
        (["target/1.png"], r"holds target, but no input or data beside it"),
        (["input/1.png", "target/1.png", "blur/1.png", "sharp/1.png"], r"input/target and blur/sharp: keep one"),
        (["seq/input/1.png", "seq/input/2.png", "seq/target/1.png"], r"set/seq/input: 2 without a clean image in"),
        (["input/1.png", "target/1.png", "target/2.png"], r"set/target: 2 without a degraded image"),
    ],
)
def test_what_is_missing_is_named(tmp_path, files, message):
    write(tmp_path / "set", *files)
    with pytest.raises(ValueError, match=message):
        pairs(tmp_path / "set")


def test_parts_to_train_and_to_test_on(tmp_path):
    assert part_in(tmp_path, training=True) == tmp_path
    (tmp_path / "train").mkdir()
    assert part_in(tmp_path, training=True) == tmp_path / "train"
    with pytest.raises(ValueError, match="has a folder train and none called test"):
        part_in(tmp_path, training=False)
    (tmp_path / "test").mkdir()
    assert part_in(tmp_path, training=False) == tmp_path / "test"


def two_folders(tmp_path, degraded, clean):
    write(tmp_path / "degraded", *degraded)
    write(tmp_path / "clean", *clean)
    return [folder_set(tmp_path / name, channels=3) for name in ("degraded", "clean")]


@pytest.mark.parametrize(
    ("names", "degraded", "partners"),
    [
        ("%", ["0.png", "1.jpg"], ["0", "1"]),
        ("%x2", ["0x2.png", "1x2.png"], ["0", "1"]),
        ("%_*", ["0_a.png", "0_b.png", "0_1.png", "1_a.png"], ["0", "0", "0", "1"]),
        ("rain-%*", ["rain-0.png", "rain-0.5.png", "rain-1b.png"], ["0", "0", "1"]),
    ],
)
def test_names_follow_a_pattern(tmp_path, names, degraded, partners):
    found = named_pairs(*two_folders(tmp_path, degraded, ["0.png", "1.png"]), names=names)
    assert {each.name: each.clean.path.stem for each in found.entries} == {
        name.rpartition(".")[0]: partner for name, partner in zip(degraded, partners, strict=True)
    }


@pytest.mark.parametrize(
    ("degraded", "clean", "meant"),
    [
        (["1x2.png", "2x2.png"], ["1.png", "2.png"], "%x2"),
        (["0_a.png", "0_b.png", "1_c.png"], ["0.png", "1.png"], "%_*"),
        (["x-0.png", "x-1.png"], ["0.png", "1.png"], "x-%"),
    ],
)
def test_a_pattern_that_may_be_meant_is_proposed(tmp_path, degraded, clean, meant):
    sets = two_folders(tmp_path, degraded, clean)
    with pytest.raises(ValueError, match=rf"without a clean image.*Then add data\.pair_names={re.escape(meant)}$"):
        named_pairs(*sets, names="%")
    assert len(named_pairs(*sets, names=meant).entries) == len(degraded)


def test_a_pattern_names_the_clean_image_once(tmp_path):
    with pytest.raises(ValueError, match=r"data\.pair_names=x2 must have one %"):
        named_pairs(*two_folders(tmp_path, ["0.png"], ["0.png"]), names="x2")
