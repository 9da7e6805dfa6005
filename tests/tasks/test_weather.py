import json
import pickle

import numpy as np
import pytest
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate

from kgt_lightning.data.datasets import TestSet
from kgt_lightning.images.files import Picture, write_image
from kgt_lightning.tasks.weather import clean_name, resize_to_16
from kgt_lightning.train import train


def picture(height=9, width=12, *, seed=0):
    values = np.random.default_rng(seed).integers(0, 256, (3, height, width))
    return torch.from_numpy(values).float() / 255


def write(folder, *names, size=(9, 12)):
    """Images of which each has the number of its position as seed."""
    for i, name in enumerate(names):
        write_image(folder / name, Picture(pixels=picture(*size, seed=i)))


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture
def make_data(composed, tmp_path):
    def make(*arguments):
        where = (f"data_root={tmp_path}", f"data.cache_dir={tmp_path / 'cache'}", "data.train=[set]", "data.test=[set]")
        return instantiate(composed("train", "task=weather", *where, *arguments).data)

    return make


@pytest.fixture
def pairs(make_data, tmp_path):
    """Names of the pairs of the set, each with the seeds of its degraded and clean image."""
    seeds = {picture(seed=i).numpy().tobytes(): i for i in range(12)}

    def read(*, training=False):
        found = make_data().images_in(tmp_path / "set", training=training)
        assert found.name == "set"
        both = {each.name: (each.degraded, each.clean) for each in found.entries}
        return {name: tuple(seeds[one.read().numpy().tobytes()] for one in pair) for name, pair in both.items()}

    return read


def test_each_kind_is_a_setting_and_is_the_same_at_every_call(make_data, photo):
    degradation = make_data().degradation
    settings = degradation.test_settings()
    assert list(settings) == ["rain", "snow", "drops"]
    clean = photo[0, :, :64, :80]
    seen = []
    for kind, degrade in settings.items():
        first = degrade(clean, "set/a.png")
        assert torch.equal(first, pickle.loads(pickle.dumps(degrade))(clean, "set/a.png"))
        assert not torch.equal(first, degrade(clean, "set/b.png")), kind
        seen.append(first)
    assert not torch.equal(seen[0], seen[1])


def test_a_training_sample_is_one_of_the_kinds(make_data, photo):
    degradation = make_data("degradation.kinds=[snow,rain]").degradation
    clean = photo[0, :, :40, :40]
    assert torch.equal(degradation(clean, rng(3)), degradation(clean, rng(3)))
    drawn = set()
    for seed in range(12):
        # What follows the draw of the kind is that kind's alone.
        degraded, generator = degradation(clean, rng(seed)), rng(seed)
        drawn.add(kind := ["snow", "rain"][generator.integers(2)])
        assert torch.equal(degraded, getattr(degradation, kind)(clean, generator))
    assert drawn == {"snow", "rain"}


def test_fine_weather(make_data, photo):
    degradation = make_data("degradation.strength=0").degradation
    assert all(torch.equal(degradation(photo[0], rng(seed)), photo[0]) for seed in range(6))


@pytest.mark.parametrize("kind", ["rain", "snow", "drops"])
def test_the_weather_of_a_patch_is_that_of_a_whole_image(make_data, photo, kind):
    """Or the model would be trained on something else than it is tested on."""
    degrade = getattr(make_data().degradation, kind)
    clean = photo[0]
    whole = np.mean([(degrade(clean, rng(i)) - clean).square().mean() for i in range(12)])
    corners = [(y, x) for y in range(0, 236, 59) for x in range(0, 387, 64)]
    parts = [clean[:, y : y + 64, x : x + 64].contiguous() for y, x in corners]
    patch = np.mean(
        [(degrade(part, rng(9 * i + j)) - part).square().mean() for i, part in enumerate(parts) for j in range(6)]
    )
    assert patch == pytest.approx(whole, rel=0.35)


def test_a_kind_that_is_named_twice(make_data):
    with pytest.raises(InstantiationException, match=r"degradation\.kinds=\[.*\] must name each kind once"):
        make_data("degradation.kinds=[rain,rain]")


def test_outdoor_rain_has_several_degraded_images_of_a_clean_one(pairs, tmp_path):
    write(
        tmp_path / "set",
        "in/im_1_s80_a04.png",
        "in/im_1_s95_a06.png",
        "in/im_2_s80_a05.png",
        "gt/im_1.png",
        "gt/im_2.png",
    )
    assert pairs() == {"im_1_s80_a04": (0, 3), "im_1_s95_a06": (1, 3), "im_2_s80_a05": (2, 4)}


def test_snow100k_has_the_same_names(pairs, tmp_path):
    write(tmp_path / "set", "synthetic/a.jpg.png", "gt/a.jpg.png", "mask/a.jpg.png")
    assert pairs() == {"a.jpg": (0, 1)}


def test_raindrop_has_parts_and_names_of_its_own(pairs, tmp_path):
    names = [f"{part}/{side}.png" for part in ("train", "test_a", "test_b") for side in ("data/0_rain", "gt/0_clean")]
    write(tmp_path / "set", *names)
    assert pairs(training=True) == {"0_rain": (0, 1)}
    assert pairs() == {"0_rain": (2, 3)}


@pytest.mark.parametrize("form", ["input/{}.png", "/input/{}.png", "./input/{}.png", "set/input/{}.png"])
def test_lists_choose_and_order(pairs, tmp_path, form):
    names = ("b_rain", "im_2_s80_a04", "a")
    write(tmp_path / "set", *(f"{side}/{name}.png" for side in ("input", "gt") for name in names))
    lines = [form.format(name) for name in ("im_2_s80_a04", "b_rain", "b_rain")]
    (tmp_path / "set" / "allweather.txt").write_text("\n".join([*lines, ""]))
    assert list(pairs().items()) == [("im_2_s80_a04", (1, 4)), ("b_rain", (0, 3))]


def test_a_list_that_names_what_is_not_there(make_data, tmp_path):
    write(tmp_path / "set", "input/a.png", "gt/a.png")
    (tmp_path / "set" / "test1.txt").write_text("input/b.png\n")
    with pytest.raises(ValueError, match=r"test1\.txt names input/b\.png, which is not in .*set: it holds set/input/a"):
        _ = make_data().test_sets
    (tmp_path / "set" / "test1.txt").write_text("\n")
    with pytest.raises(ValueError, match=r"test1\.txt names no image"):
        _ = make_data().test_sets
    (tmp_path / "set" / "raindroptesta.txt").write_text("\n")
    with pytest.raises(ValueError, match=r"holds test1\.txt and raindroptesta\.txt: keep one"):
        _ = make_data().test_sets


def test_clean_images_alone_name_what_is_expected(make_data, tmp_path):
    write(tmp_path / "set", "gt/a.png")
    with pytest.raises(ValueError, match="holds gt, but no in or input or synthetic or data beside it"):
        _ = make_data().test_sets


def test_a_partner_of_the_same_name_goes_first():
    there = {"im_1_s80_a04", "0_rain"}
    assert [clean_name(name, there=there) for name in sorted(there)] == sorted(there)
    assert clean_name("a/0_rain", there=set()) == "a/0_clean"
    assert clean_name("a/im_1_s95_a06", there=there) == "a/im_1"


def test_given_pairs_are_resized_for_tests_and_plain_folders_are_not(make_data, tmp_path):
    write(tmp_path / "set", "input/a.png", "gt/a.png", size=(33, 40))
    [(name, images)] = make_data().test_sets.items()
    assert name == TestSet("set", "given")
    assert images[0].clean.shape == images[0].degraded.shape == (3, 48, 48)
    [images] = make_data("data.resize_test=false").test_sets.values()
    assert torch.equal(images[0].clean, picture(33, 40, seed=1))
    write(tmp_path / "plain", "a.png", size=(33, 40))
    sets = make_data("data.test=[plain]").test_sets
    assert [str(name) for name in sets] == ["plain rain", "plain snow", "plain drops"]
    assert {images[0].clean.shape for images in sets.values()} == {(3, 33, 40)}


def test_resizing_is_that_of_transweather(reference, read_reference):
    cases = json.loads((reference / "weather" / "weather_resize.json").read_text())
    assert len(cases) == 10
    for case in cases:
        resized = resize_to_16(torch.zeros(1, *case["input_hw"]))
        assert list(resized.shape[1:]) == case["output_hw"]
        if "input" in case:
            resized = resize_to_16(read_reference(case["input"])[0])
            torch.testing.assert_close(resized, read_reference(case["output"])[0], rtol=0, atol=1.01 / 255)


def test_an_image_of_a_fitting_size_stays_as_it_is():
    image = picture(32, 48)
    assert torch.equal(resize_to_16(image), image)


@pytest.mark.parametrize("channels", [3, 1])
def test_training_ends_with_scores_of_every_kind(tiny, tmp_path, channels):
    train(tiny(tmp_path, "task=weather", "data.test=[CBSD68]", f"data.channels={channels}"))
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["task"] == "weather"
    assert list(results["means"]) == ["CBSD68 rain", "CBSD68 snow", "CBSD68 drops"]
    assert {len(results["images"])} == {9}
    columns = {"psnr", "ssim"} | ({"psnr_y", "ssim_y"} if channels == 3 else set())
    assert all(columns <= set(means) for means in results["means"].values())


def test_training_on_pairs(tiny, tmp_path):
    names = [f"im_{i}" for i in range(3)]
    write(tmp_path / "pairs" / "train", *(f"in/{name}_s80_a04.png" for name in names), size=(40, 50))
    write(tmp_path / "pairs" / "train", *(f"gt/{name}.png" for name in names), size=(40, 50))
    write(tmp_path / "pairs" / "test", "in/im_9_s80_a04.png", "gt/im_9.png", size=(40, 50))
    where = (f"data_root={tmp_path}", f"data.cache_dir={tmp_path / 'cache'}")
    train(tiny(tmp_path / "run", "task=weather", "data.train=[pairs]", "data.test=[pairs]", *where))
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert list(results["means"]) == ["pairs given"]
    assert "given pairs resized to multiples of 16" in results["protocol"]
