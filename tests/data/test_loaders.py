import pytest

from kgt_lightning.data.restoration import TestSet
from kgt_lightning.tasks.denoise import DenoiseData


@pytest.fixture
def data(photo_root, tmp_path):
    def make(**changes):
        settings = {
            "root": str(photo_root),
            "train": ["BSD400"],
            "degraded": None,
            "clean": None,
            "test": None,
            "usual_test": {3: ["CBSD68"], 1: ["Set12", "BSD68"]},
            "channels": 3,
            "repeat_gray": False,
            "protocol": "swinir",
            "modulo": {"swinir": 1, "grl": 8},
            "patch": 16,
            "batch_size": 2,
            "workers": 0,
            "seed": 0,
            "validation_images": 8,
            "validation_size": 32,
            "cache_dir": str(tmp_path),
            "sigma": 25,
            "test_sigma": None,
        }
        return DenoiseData(**{**settings, **changes})

    return make


def names(data):
    return [str(each) for each in data.test_sets]


def test_validation_and_training_share_no_photograph(data):
    for wanted, expected in ((1, 1), (8, 1)):
        train, held_out = data(validation_images=wanted).train_and_validation
        assert (len(train), len(held_out)) == (10 - expected, expected)
        assert not {each.clean.fingerprint for each in train} & {each.clean.fingerprint for each in held_out}


def test_test_sets_are_named_by_folder_and_setting(data):
    assert names(data(sigma=[15, 50])) == ["CBSD68 sigma=15", "CBSD68 sigma=50"]
    assert names(data(channels=1)) == ["Set12 sigma=25", "BSD68 sigma=25"]
    assert len(data().test_sets[TestSet("CBSD68", "sigma=25")]) == 3
    assert data(channels=1, test=["CBSD68"]).test_sets[TestSet("CBSD68", "sigma=25")][0].clean.shape[0] == 1


def test_without_a_root_the_bundled_photographs_are_used(data):
    bundled = data(root=None)
    train, held_out = bundled.train_and_validation
    assert (len(train), len(held_out)) == (8, 1)
    assert names(bundled) == ["bundled sigma=25"]


def test_a_relative_root_and_an_absolute_set_are_found(data, photo_root, monkeypatch):
    monkeypatch.chdir(photo_root.parent)
    assert len(data(root=photo_root.name).test_sets[TestSet("CBSD68", "sigma=25")]) == 3
    assert names(data(test=[str(photo_root / "Set12")])) == ["Set12 sigma=25"]


def test_an_empty_folder_is_named(data, tmp_path):
    (tmp_path / "BSD400").mkdir()
    with pytest.raises(ValueError, match="BSD400 holds no image"):
        data(root=str(tmp_path)).find_photographs()


def test_one_photograph_is_not_enough(data, photo_root, tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "a.png").write_bytes((photo_root / "BSD400" / "0.png").read_bytes())
    with pytest.raises(ValueError, match=r"data.train=\['one'\] .* two are the least"):
        data(root=str(tmp_path), train=["one"]).find_photographs()


def test_a_file_that_cannot_be_read_is_named(data, photo_root, tmp_path):
    (tmp_path / "CBSD68").mkdir()
    (tmp_path / "CBSD68" / "broken.png").write_bytes(b"nothing")
    sets = data(root=str(tmp_path)).test_sets
    with pytest.raises(ValueError, match=r"broken\.png cannot be read as an image"):
        sets[TestSet("CBSD68", "sigma=25")][0]
