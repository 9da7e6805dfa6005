import shutil

import numpy as np
import pytest
import torch
from lightning import Trainer
from PIL import Image

from kgt_lightning.data.datamodule import RestorationData
from kgt_lightning.data.datasets import TestSet
from kgt_lightning.data.image_sets import FileSource
from kgt_lightning.degradations.noise import GaussianNoise


@pytest.fixture
def data(photo_root, tmp_path):
    def make(**changes):
        settings = {
            "root": str(photo_root),
            "train": ["BSD400"],
            "degraded": None,
            "clean": None,
            "test": None,
            "default_test": {3: ["CBSD68"], 1: ["Set12", "BSD68"]},
            "channels": 3,
            "repeat_gray": False,
            "protocol": "swinir",
            "modulo": {"swinir": 1, "grl": 8},
            "patch": 16,
            "batch_size": 2,
            "min_detail": 0,
            "flat": 0,
            "workers": 0,
            "seed": 0,
            "validation_images": 8,
            "validation_size": 32,
            "cache_dir": str(tmp_path),
            "test_gray": "gray",
        }
        noise = {"sigma": 25, "test_sigma": None}
        noise |= {key: changes.pop(key) for key in noise.keys() & changes.keys()}
        settings |= changes
        return RestorationData(degradation=GaussianNoise(**noise, protocol=settings["protocol"]), **settings)

    return make


def names(data):
    return [str(each) for each in data.test_sets]


def test_validation_and_training_share_no_image(data):
    for wanted, expected in ((1, 1), (8, 1)):
        train, held_out = data(validation_images=wanted).train_and_validation
        assert (len(train), len(held_out)) == (10 - expected, expected)
        assert not {each.clean.fingerprint for each in train} & {each.clean.fingerprint for each in held_out}


@pytest.mark.parametrize(("size", "said"), [(65536, True), (49, True), (48, False), (32, False)])
def test_images_that_are_validated_whole_are_said_to_be(data, caplog, size, said):
    caplog.set_level("INFO")
    loaded = data(validation_size=size, validation_images=1)
    loaded.trainer = Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    [sample] = loaded.val_dataloader()
    height, width = loaded.train_and_validation[1][0].clean.shape()[1:]
    assert sample.clean.shape[-2:] == (min(height, size), min(width, size))
    expected = f"data.validation_size={size} is more than {height} x {width}, the largest of validation: all are taken"
    assert (expected in caplog.text, height <= width == 48) == (said, True)


def test_training_photographs_can_be_left_out(data):
    used = [each.listed for part in data(exclude=["BSD400/3.png"]).train_and_validation for each in part]
    assert sorted(used) == [f"BSD400/{i}.png" for i in range(10) if i != 3]
    with pytest.raises(
        ValueError, match=r"data\.exclude names BSD400/3, which is not among the 10 training photographs"
    ):
        _ = data(exclude=["BSD400/3"]).train_and_validation


def test_test_sets_are_named_by_folder_and_setting(data):
    assert names(data(sigma=[15, 50])) == ["CBSD68 sigma=15", "CBSD68 sigma=50"]
    assert names(data(channels=1)) == ["Set12 sigma=25", "BSD68 sigma=25"]
    assert len(data().test_sets[TestSet("CBSD68", "sigma=25")]) == 3
    assert data(channels=1, test=["CBSD68"]).test_sets[TestSet("CBSD68", "sigma=25")][0].clean.shape[0] == 1


@pytest.mark.parametrize("named", [{"test": ["nope"]}, {"test": ["CBSD68"]}, {"train": ["mine"]}, {"train": None}])
def test_without_a_root_what_is_named_is_not_replaced(data, named):
    with pytest.raises(ValueError, match=r"data\.(train|test)="):
        data(root=None, **named).scan()


def test_without_a_root_the_bundled_images_are_used(data):
    bundled = data(root=None)
    train, held_out = bundled.train_and_validation
    assert (len(train), len(held_out)) == (8, 1)
    assert names(bundled) == ["bundled sigma=25"]


def test_a_relative_root_and_an_absolute_set_are_found(data, photo_root, monkeypatch):
    monkeypatch.chdir(photo_root.parent)
    assert len(data(root=photo_root.name).test_sets[TestSet("CBSD68", "sigma=25")]) == 3
    assert names(data(test=[str(photo_root / "Set12")])) == ["Set12 sigma=25"]


def test_two_sets_of_one_name_are_not_mixed_up(data, photo_root, tmp_path):
    shutil.copytree(photo_root / "Set12", tmp_path / "other" / "Set12")
    both = data(channels=1, test=["Set12", str(tmp_path / "other" / "Set12")])
    with pytest.raises(ValueError, match=r"data\.test names two sets called Set12"):
        both.scan()


@pytest.mark.parametrize("place", ["HR", "."])
def test_small_versions_are_no_images_of_a_set(data, photo_root, tmp_path, place):
    shutil.copytree(photo_root / "CBSD68", tmp_path / "Urban100" / place)
    shutil.copytree(photo_root / "CBSD68", tmp_path / "Urban100" / "LR_bicubic" / "X2")
    [(test_set, images)] = data(test=[str(tmp_path / "Urban100")]).test_sets.items()
    assert test_set == TestSet("Urban100", "sigma=25")
    assert [each.name for each in images.entries] == ["0", "1", "2"]


def test_an_empty_folder_is_named(data, tmp_path):
    (tmp_path / "BSD400").mkdir()
    with pytest.raises(ValueError, match="BSD400 holds no image"):
        data(root=str(tmp_path)).scan()


def test_one_image_is_not_enough(data, photo_root, tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "a.png").write_bytes((photo_root / "BSD400" / "0.png").read_bytes())
    with pytest.raises(ValueError, match=r"data.train=\['one'\] .* two are the least"):
        data(root=str(tmp_path), train=["one"]).scan()


def test_a_file_that_cannot_be_read_is_named(data, photo_root, tmp_path):
    (tmp_path / "CBSD68").mkdir()
    (tmp_path / "CBSD68" / "broken.png").write_bytes(b"nothing")
    sets = data(root=str(tmp_path)).test_sets
    with pytest.raises(ValueError, match=r"broken\.png cannot be read as an image"):
        sets[TestSet("CBSD68", "sigma=25")][0]


@pytest.fixture
def pairs(tmp_path, photo_root):
    """Folders of ten degraded and clean images of the same names."""
    for kind in ("degraded", "clean"):
        shutil.copytree(photo_root / "BSD400", tmp_path / kind)
    for file in (tmp_path / "degraded").iterdir():
        Image.fromarray(255 - np.asarray(Image.open(file))).save(file)
    return {"degraded": str(tmp_path / "degraded"), "clean": str(tmp_path / "clean")}


def test_own_pairs_are_trained_on_and_those_held_out_are_tested(data, pairs):
    own = data(**pairs)
    train, held_out = own.train_and_validation
    assert (len(train), len(held_out)) == (9, 1)
    assert names(own) == ["degraded given"]
    [images] = own.test_sets.values()
    [sample] = [images[i] for i in range(len(images))]
    torch.testing.assert_close(sample.degraded, 1 - sample.clean)
    assert sample.name == held_out[0].name
    own.trainer = Trainer(logger=False, enable_checkpointing=False, accelerator="cpu", max_steps=4)
    for degraded, clean in own.train_dataloader():
        torch.testing.assert_close(degraded, 1 - clean)


def test_all_own_pairs_are_tested_where_nothing_is_trained(data, pairs):
    assert [len(images) for images in data(**pairs, train=None).test_sets.values()] == [10]


def test_own_pairs_do_not_take_the_place_of_named_test_sets(data, pairs):
    assert names(data(**pairs, test=["Set12"], repeat_gray=True)) == ["Set12 sigma=25"]


def test_images_without_a_partner_are_named(data, pairs, tmp_path):
    (tmp_path / "clean" / "3.png").unlink()
    with pytest.raises(ValueError, match=r"degraded: 3 without a clean image in clean"):
        data(**pairs).scan()
    (tmp_path / "degraded" / "3.png").unlink()
    (tmp_path / "degraded" / "7.png").unlink()
    with pytest.raises(ValueError, match=r"clean: 7 without a degraded image in degraded"):
        data(**pairs).scan()


def test_a_partner_of_another_size_is_named(data, pairs, tmp_path):
    Image.new("RGB", (9, 9)).save(tmp_path / "degraded" / "5.png")
    with pytest.raises(ValueError, match="5: its degraded image has 9 x 9 pixels, 45 x 48 are expected"):
        data(**pairs).scan()


def test_the_header_of_a_test_image_is_read_once_for_all_settings(data, monkeypatch):
    read = []
    shape = FileSource.shape
    monkeypatch.setattr(FileSource, "shape", lambda self: [read.append(self.path.name), shape(self)][1])
    both = data(test=["CBSD68"], test_sigma=[15, 50])
    both.scan()
    assert len(set(both.test_versions.values())) == 1
    assert list(both.test_versions) == list(both.test_sets)
    assert sorted(read) == ["0.png", "1.png", "2.png"]


def test_half_a_pair_of_folders_is_not_enough(data, pairs):
    with pytest.raises(ValueError, match=r"data\.clean is not given: pairs need data\.degraded=<folder>"):
        data(degraded=pairs["degraded"])


def test_own_pairs_are_not_said_to_be_degraded_by_us(data, pairs):
    assert "noise of NumPy's seed 0" in data().test_rules
    assert data(**pairs, train=None).test_rules == "degraded images as given"


@pytest.mark.parametrize("given", [{}, {"train": None}, {"test": ["CBSD68"]}])
def test_a_training_says_that_it_tests_on_what_it_held_out(data, pairs, caplog, given):
    caplog.set_level("INFO")
    data(**pairs, **given).scan()
    assert ("testing on the pairs that are held out" in caplog.text) == (given == {})


def test_a_gray_file_in_a_colour_set_is_named(data, photo_root):
    colour = data(test=["Set12"])
    with pytest.raises(ValueError, match=r"Set12/0\.png is gray in a colour set: convert it to RGB"):
        colour.scan()
    data(test=["Set12"], repeat_gray=True).scan()


def test_the_protocol_decides_how_test_images_are_cropped(data):
    sizes = {protocol: [image.clean.shape for image in _all(data(protocol=protocol))] for protocol in ("swinir", "grl")}
    assert any(side % 8 for shape in sizes["swinir"] for side in shape[1:])
    assert not any(side % 8 for shape in sizes["grl"] for side in shape[1:])
    assert "multiples of 8" in data(protocol="grl").test_rules


def _all(data):
    return [images[i] for images in data.test_sets.values() for i in range(len(images))]
