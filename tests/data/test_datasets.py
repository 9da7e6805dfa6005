import numpy as np
import pytest
import torch

from kgt_lightning.data.datasets import Patches, StepSampler, WholeImages, detail
from kgt_lightning.data.image_sets import bundled_set, folder_set
from kgt_lightning.degradations.noise import GaussianNoise


def noise(sigma):
    return GaussianNoise(sigma=sigma, test_sigma=None, protocol="swinir")


def whole(entries, *, degrade=None, scale=1, modulo=1, grid=1, largest=None):
    return WholeImages(
        entries=entries,
        degrade=degrade,
        scale=scale,
        modulo=modulo,
        grid=grid,
        prepare=torch.nn.Identity(),
        largest=largest,
    )


@pytest.fixture
def patches(photo_root, tmp_path):
    entries = folder_set(photo_root / "BSD400", channels=3).entries

    def make(patch=16, seed=0, sigma=0, min_detail=0, flat=0):
        return Patches(
            entries=entries,
            degradation=noise(sigma),
            channels=3,
            patch=patch,
            grid=1,
            min_detail=min_detail,
            flat=flat,
            seed=seed,
            cache_dir=tmp_path,
        )

    return make


def test_a_sample_is_the_same_whenever_asked_for(patches):
    first, again = patches(sigma=25), patches(sigma=25)
    again[3]
    for ours, theirs in zip(first[7], again[7], strict=True):
        assert torch.equal(ours, theirs)
    assert not torch.equal(first[7][1], first[8][1])
    assert not torch.equal(first[7][1], patches(seed=1, sigma=25)[7][1])


def test_flat_patches_are_drawn_anew(patches):
    every, chosen = patches(), patches(min_detail=4)
    assert detail(np.array([[[0], [8]], [[2], [0]]], dtype=np.uint8)) == (2 + 8) / 2

    def details(which):
        return [detail((255 * which[i][1]).round().byte().permute(1, 2, 0).numpy()) for i in range(60)]

    before, after = details(every), details(chosen)
    assert sum(each < 4 for each in after) < sum(each < 4 for each in before) / 2
    assert sum(a == b for a, b in zip(before, after, strict=True)) >= sum(each >= 4 for each in before)


def test_a_share_of_the_patches_is_even_colours(patches):
    colours = [len(np.unique(patches(flat=0.5)[i][1].flatten(1).numpy(), axis=1).T) for i in range(80)]
    assert 20 <= sum(number <= 2 for number in colours) <= 60
    assert {1, 2} <= set(colours)
    corner = [np.isin(patches(flat=1)[i][1].numpy(), (0, 1)).all() for i in range(80)]
    assert 2 <= sum(corner) <= 40, "saturated colours are among them"


def test_patches_are_parts_of_images_in_all_eight_positions(patches, photo_root):
    entries = [each.clean.read().numpy() for each in folder_set(photo_root / "BSD400", channels=3).entries]
    known = {}
    for image in entries:
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


def test_images_smaller_than_the_patch_are_mirrored(patches, caplog):
    degraded, clean = patches(patch=150)[0]
    assert "10 of 10 images are smaller than data.patch=150: mirrored" in caplog.text
    assert degraded.shape == clean.shape == (3, 150, 150)
    assert len(clean.flatten(1).unique(dim=1).T) > 500


def test_patches_that_would_be_mirrored_copies_are_refused(patches):
    with pytest.raises(ValueError, match=r"data.patch=200 is more than 4 times .* 49 x 48 pixels"):
        patches(patch=200)


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
    entries = bundled_set("bundled", ["chelsea"], channels=1).entries
    degrade = noise(25).test_settings()["sigma=25"]
    images = whole(entries, degrade=degrade)
    sample = images[0]
    assert sample.clean.shape == (1, 300, 451)
    assert sample.name == "chelsea"
    assert torch.equal(sample.degraded, images[0].degraded)
    part = whole(entries, degrade=degrade, largest=100)[0]
    assert torch.equal(part.clean, sample.clean[:, 100:200, 175:275])
