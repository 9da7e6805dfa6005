import numpy as np
import pytest
import torch

from kgt_lightning.photographs import PixelCache, bundled_set, folder_set
from kgt_lightning.samples import Patches, StepSampler, WholeImages
from kgt_lightning.tasks.denoise import DenoiseData, GaussianNoise

NOISELESS = GaussianNoise(sigma=0, test_sigma=None)


@pytest.fixture
def patches(photo_root, tmp_path):
    photographs = folder_set(photo_root / "BSD400", channels=3).photographs
    cache = PixelCache(photographs, channels=3, folder=tmp_path)

    def make(patch=16, seed=0, degradation=NOISELESS):
        return Patches(cache=cache, degradation=degradation, patch=patch, seed=seed)

    return make


@pytest.fixture
def data(photo_root, tmp_path):
    def make(**changes):
        settings = {
            "root": str(photo_root),
            "train": ["BSD400"],
            "test": None,
            "usual_test": {3: ["CBSD68"], 1: ["Set12", "BSD68"]},
            "channels": 3,
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


def test_a_sample_is_the_same_whenever_asked_for(patches):
    noisy = GaussianNoise(sigma=25, test_sigma=None)
    first, again = patches(degradation=noisy), patches(degradation=noisy)
    again[3]
    for ours, theirs in zip(first[7], again[7], strict=True):
        assert torch.equal(ours, theirs)
    assert not torch.equal(first[7][1], first[8][1])
    assert not torch.equal(first[7][1], patches(seed=1, degradation=noisy)[7][1])


def test_patches_are_parts_of_photographs_in_all_eight_positions(patches, photo_root):
    photographs = [each.read().numpy() for each in folder_set(photo_root / "BSD400", channels=3).photographs]
    known = {}
    for image in photographs:
        for top in range(image.shape[1] - 7):
            for left in range(image.shape[2] - 7):
                crop = image[:, top : top + 8, left : left + 8]
                for turn in range(8):
                    flipped = crop[:, :: 1 - 2 * (turn & 1), :: 1 - (turn & 2)]
                    laid = flipped.swapaxes(1, 2) if turn & 4 else flipped
                    known[np.rint(laid * 255).astype(np.uint8).tobytes()] = turn
    turns = set()
    for sample in range(64):
        _, clean = patches(patch=8)[sample]
        turns.add(known[np.rint(clean.numpy() * 255).astype(np.uint8).tobytes()])
    assert turns == set(range(8))


def test_photographs_smaller_than_the_patch_are_mirrored(patches):
    degraded, clean = patches(patch=150)[0]
    assert degraded.shape == clean.shape == (3, 150, 150)
    assert len(clean.flatten(1).unique(dim=1).T) > 500


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_the_processes_share_each_step(processes):
    samplers = [
        StepSampler(batch_size=2, first=3, total=5, rank=rank, processes=processes) for rank in range(processes)
    ]
    for step, batches in enumerate(zip(*samplers, strict=True), 3):
        numbers = sorted(number for batch in batches for number in batch)
        start = step * 2 * processes
        assert numbers == list(range(start, start + 2 * processes))
    assert [len(list(sampler)) for sampler in samplers] == [2] * processes


def test_whole_images_are_degraded_the_same_way_at_every_call():
    photographs = bundled_set("bundled", ["chelsea"], channels=1).photographs
    degrade = GaussianNoise(sigma=25, test_sigma=None).test_settings()["sigma=25"]
    images = WholeImages(photographs=photographs, degrade=degrade, scale=1)
    sample = images[0]
    assert sample.clean.shape == (1, 300, 451)
    assert sample.name == "chelsea"
    assert torch.equal(sample.degraded, images[0].degraded)
    part = WholeImages(photographs=photographs, degrade=degrade, scale=1, largest=100)[0]
    assert torch.equal(part.clean, sample.clean[:, 100:200, 175:275])


def test_validation_and_training_share_no_photograph(data):
    for wanted, expected in ((1, 1), (8, 1)):
        train, held_out = data(validation_images=wanted).train_and_validation
        assert (len(train), len(held_out)) == (10 - expected, expected)
        assert not {each.fingerprint for each in train} & {each.fingerprint for each in held_out}


def test_test_sets_are_named_by_folder_and_setting(data):
    assert list(data(sigma=[15, 50]).test_sets) == ["CBSD68 sigma=15", "CBSD68 sigma=50"]
    assert list(data(channels=1).test_sets) == ["Set12 sigma=25", "BSD68 sigma=25"]
    assert len(data().test_sets["CBSD68 sigma=25"]) == 3
    assert data(channels=1, test=["CBSD68"]).test_sets["CBSD68 sigma=25"][0].clean.shape[0] == 1


def test_without_a_root_the_bundled_photographs_are_used(data):
    bundled = data(root=None)
    train, held_out = bundled.train_and_validation
    assert (len(train), len(held_out)) == (8, 1)
    assert list(bundled.test_sets) == ["bundled sigma=25"]


def test_a_relative_root_and_an_absolute_set_are_found(data, photo_root, monkeypatch):
    monkeypatch.chdir(photo_root.parent)
    assert len(data(root=photo_root.name).test_sets["CBSD68 sigma=25"]) == 3
    assert list(data(test=[str(photo_root / "Set12")]).test_sets) == ["Set12 sigma=25"]


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
        sets["CBSD68 sigma=25"][0]
