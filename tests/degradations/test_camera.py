"""Noise of real cameras: what is measured of it is what the profile says, after demosaicking as before."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from kgt_lightning import evaluate
from kgt_lightning.degradations.bayer import malvar
from kgt_lightning.degradations.noise_profiles import GREEN_BAND, read_cameras
from kgt_lightning.images.color import to_linear, to_srgb, to_uint8
from kgt_lightning.metrics.psnr_ssim import psnr
from kgt_lightning.runs.checkpoint import load_checkpoint
from kgt_lightning.runs.weights import weights_content
from kgt_lightning.train import train

PROFILES = str(Path(__file__).parents[1] / "data" / "noiseprofiles.json")
NEUTRAL = {"red": {"low": 1, "high": 1}, "blue": {"low": 1, "high": 1}, "saturation": {"low": 0, "high": 0}}


@pytest.fixture
def camera(composed):
    """Makes the degradation of the task with changes; every patch is taken, none is made smaller or a JPEG file."""

    def make(**changes):
        own = {"root": None, "profiles": [PROFILES], "jpeg": 0, "smaller": 0, "untouched": 0} | changes
        return instantiate({**composed("train", "task=camera").degradation, **own})

    return make


def rng(seed=0):
    return np.random.default_rng(seed)


def haar_band(colours):
    """Variance of each colour in the finest diagonal band, as darktable measures noise."""
    first, second = colours[..., ::2, ::2], colours[..., ::2, 1::2]
    third, fourth = colours[..., 1::2, ::2], colours[..., 1::2, 1::2]
    return ((first - second - third + fourth) / 4).var((-1, -2))


def test_what_demosaicking_leaves_of_white_noise_is_what_the_table_is_divided_by():
    noise = torch.randn(1, 1024, 1024, generator=torch.Generator().manual_seed(0))
    assert haar_band(malvar(noise))[1].item() == pytest.approx(GREEN_BAND, rel=0.02)


def test_noise_that_is_measured_as_darktable_does_is_that_of_the_table(camera):
    degradation = camera(iso={"low": 6400, "high": 6400}, **NEUTRAL)
    light = 0.3
    clean = to_srgb(torch.full((3, 600, 600), light))
    noisy = degradation(clean, rng())
    # one of the makers' models: a is 1e-8 times the ISO times 1 to 1.875
    tables = [8e-6 * (8 + each) * (light + 1e-3 * 64) for each in range(8)]
    found = haar_band(to_linear(noisy))[1].item()
    assert min(abs(found / each - 1) for each in tables) < 0.05


def test_the_signal_stays_and_shadows_have_less_noise_in_light(camera):
    degradation = camera(iso={"low": 6400, "high": 6400})
    bright, dark = (
        to_linear(degradation(to_srgb(torch.full((3, 300, 300), light)), rng())) - light for light in (0.5, 0.05)
    )
    assert bright.mean().abs() < 2e-3
    assert bright.std() > 1.5 * dark.std()


def test_noise_is_correlated_as_demosaicking_leaves_it(camera):
    clean = torch.full((3, 200, 200), 0.5)
    noise = camera(**NEUTRAL)(clean, rng(3)) - clean
    red = noise[0] - noise[0].mean()
    assert (red[:, 1:] * red[:, :-1]).mean() > 0.2 * red.square().mean()


def test_more_sensitivity_is_more_noise_and_the_pictures_are_8_bit(camera, photo):
    degradation = camera(test_iso=[100, 800, 6400])
    settings = degradation.test_settings()
    assert list(settings) == ["iso=100", "iso=800", "iso=6400"]
    noisy = [degrade(photo[0], "set/a.png") for degrade in settings.values()]
    values = [psnr(each[None], photo).item() for each in noisy]
    assert values == sorted(values, reverse=True)
    assert values[0] > values[-1] + 6
    assert all(torch.equal(to_uint8(each) / 255, each) for each in noisy)


def test_test_images_are_always_the_same_and_differ_by_name(camera, photo):
    degrade = camera(jpeg=0.5).test_settings()["iso=3200"]
    first = degrade(photo[0], "set/a.png")
    assert torch.equal(first, pickle.loads(pickle.dumps(degrade))(photo[0], "set/a.png"))
    assert not torch.equal(first, degrade(photo[0], "set/b.png"))


def test_a_smaller_picture_has_less_noise_and_finer(camera):
    clean = torch.full((3, 200, 200), 0.5)
    whole, half = (
        camera(test_size=size, **NEUTRAL).test_settings()[f"iso=3200{name}"](clean, "a")[1]
        for size, name in ((1, ""), (0.5, " size=0.5"))
    )
    assert half.std() < 0.7 * whole.std()

    def correlation(noise):
        noise = noise - noise.mean()
        return (noise[:, 1:] * noise[:, :-1]).mean() / noise.square().mean()

    assert correlation(half) < correlation(whole) - 0.05


def test_what_is_made_smaller_is_not_blurred(camera, photo):
    degrade = camera(
        iso={"low": 100, "high": 100}, smaller=1, artifacts={"low": 0, "high": 0}, saturation=NEUTRAL["saturation"]
    )
    assert psnr(degrade(photo[0], rng())[None], photo).item() > 40


@pytest.mark.parametrize("size", [1, 0.4, 0.7])
@pytest.mark.parametrize("jpeg", [0, 1])
def test_a_patch_has_the_pixels_of_the_whole(camera, photo, jpeg, size):
    """Its context holds all that it depends on: a change beyond it changes nothing."""
    degradation = camera(jpeg=jpeg, smaller=1, size={"low": size, "high": size})
    context = degradation.context
    around = photo[0, :, 50 : 114 + 2 * context, 60 : 124 + 2 * context]
    changed = around.clone()
    changed[:, :, 0], changed[:, 0] = 1 - around[:, :, 0], 1 - around[:, 0]
    inside = (..., slice(context, -context), slice(context, -context))
    for seed in range(4):
        first, second = degradation(around, rng(seed)), degradation(changed, rng(seed))
        assert torch.equal(first[inside], second[inside])
        assert not torch.equal(first, second)


def test_some_patches_are_left_clean(camera, photo):
    degradation = camera(untouched=0.5)
    clean = photo[0, :, :40, :40]
    left = sum(torch.equal(degradation(clean, rng(seed)), clean) for seed in range(60))
    assert 18 <= left <= 42


def test_errors_of_demosaicking_are_left_in_part(camera, photo):
    values = [
        psnr(camera(test_iso=[100], test_artifacts=part).test_settings()["iso=100"](photo[0], "a")[None], photo).item()
        for part in (0, 0.5, 1)
    ]
    assert values == sorted(values, reverse=True)


def test_cameras_for_tests_are_others(camera):
    train_on, test_on = read_cameras([Path(PROFILES)])
    names = [each.name for each in train_on + test_on]
    assert len(set(names)) == len(names)
    assert test_on
    shared = {each for kept in test_on for each in kept.profiles} & {each for own in train_on for each in own.profiles}
    assert not shared
    assert train_on[0].nearest(3200).iso == 6400
    degradation = camera(iso={"low": 500, "high": 1000})
    assert {profile.iso for each in degradation.to_train for profile in each.profiles} == {800}


def test_damaged_and_skipped_measurements_are_left_out(tmp_path):
    table = json.loads(Path(PROFILES).read_text())
    first = table["noiseprofiles"][0]["models"][0]
    first["profiles"][0]["a"][1] = 0.0
    first["profiles"][1]["skip"] = True
    (tmp_path / "own.json").write_text(json.dumps(table))
    found = {each.name: each for part in read_cameras([tmp_path / "own.json"]) for each in part}
    assert len(found["Maker 0 Model 0"].profiles) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"degradation\.profiles: none of .*own\.json is there: kgt data fetch-noise --root="),
        ("{}", r"own\.json is not in the format of darktable's noiseprofiles\.json: KeyError"),
        ('{"noiseprofiles": []}', r"own\.json holds 0 cameras: too few"),
    ],
)
def test_a_missing_or_foreign_file_is_named(camera, tmp_path, content, message):
    file = tmp_path / "own.json"
    if content is not None:
        file.write_text(content)
    degradation = camera(root=str(tmp_path), profiles=["own.json"])
    with pytest.raises(ValueError, match=message):
        degradation.test_settings()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"iso": {"low": 100}}, r"degradation\.iso={'low': 100} must be a range"),
        ({"red": {"low": 0.5, "high": 2}}, r"degradation\.red=.* within 1\.\.10"),
        ({"quality": {"low": 90, "high": 80}}, r"degradation\.quality="),
    ],
)
def test_values_that_make_no_sense_are_named(camera, changes, message):
    with pytest.raises(Exception, match=message):
        camera(**changes)


def test_an_iso_at_which_nothing_was_measured_is_named(camera):
    with pytest.raises(ValueError, match=r"degradation\.iso=.*no camera was measured there"):
        camera(iso={"low": 2, "high": 3})(torch.zeros(3, 40, 40), rng())


def test_a_training_runs_and_its_weights_are_tested_elsewhere(tiny, tmp_path, photo_root, run_command):
    folder = tmp_path / "run"
    assert train(tiny(folder, "task=camera", f"degradation.profiles=[{PROFILES}]")) > 10
    settings = ["CBSD68 iso=3200", "CBSD68 iso=100", "CBSD68 iso=6400"]
    assert list(json.loads((folder / "results.json").read_text())["means"]) == settings

    checkpoint = load_checkpoint(folder / "checkpoints" / "best.ckpt")
    config = OmegaConf.to_container(checkpoint.config)
    (tmp_path / "camera.safetensors").write_bytes(weights_content(state=checkpoint.state, config=config, step=4))
    assert str(photo_root).encode() not in (tmp_path / "camera.safetensors").read_bytes()
    root = tmp_path / "sets"
    shutil.copytree(photo_root, root)
    shutil.copytree(Path(PROFILES).parent, root / "darktable", ignore=shutil.ignore_patterns("reference"))
    arguments = (f"checkpoint={tmp_path / 'camera.safetensors'}", f"data_root={root}", "data.test=[CBSD68]")
    found = "degradation.profiles=[darktable/noiseprofiles.json]"
    code, _, errors = run_command(evaluate.main, *arguments, found)
    assert code == 0, errors
