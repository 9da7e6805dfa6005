"""Motion deblurring: synthetic camera shake, and the layouts in which its benchmarks are published."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from PIL import Image

from kgt_lightning.degradations.camera_shake import CameraShake
from kgt_lightning.images.color import to_linear, to_uint8
from kgt_lightning.metrics.psnr_ssim import psnr
from kgt_lightning.train import train

SHARP, BLURRED = 200, 100


def shake(**changes):
    settings = {
        "shake": 8,
        "test_shake": 8,
        "tremor": 3.0,
        "pull": 6.0,
        "jerks": 1.5,
        "noise": 0.0,
        "linear_light": True,
    }
    return CameraShake(**(settings | changes))


def rng(seed=0):
    return np.random.default_rng(seed)


def write(root, *files):
    """Images of 8 x 8 pixels, all of one value that tells sharp from blurred by the name of a folder."""
    for file in files:
        path = Path(root, file)
        path.parent.mkdir(parents=True, exist_ok=True)
        value = SHARP if {"sharp", "target", "target_crops", "GT", "gt"} & set(path.parts) else BLURRED
        Image.new("RGB", (8, 8), (value, value, value)).save(path)


@pytest.fixture
def make_data(composed, tmp_path):
    def make(*arguments):
        where = (f"data_root={tmp_path}", f"data.cache_dir={tmp_path / 'cache'}")
        return instantiate(composed("train", "task=deblur", *where, *arguments).data)

    return make


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("linear_light", [True, False])
def test_blurred_images_are_as_a_camera_would_write_them(photo, channels, linear_light):
    clean = photo[0, :channels, :90, :70]
    degraded = shake(linear_light=linear_light, noise=2.0)(clean, rng())
    assert degraded.shape == clean.shape
    assert degraded.dtype == torch.float32
    assert torch.equal(to_uint8(degraded) / 255, degraded)
    assert 15 < psnr(degraded[None], clean[None]).item() < 45


def test_blur_is_that_of_its_generator(photo):
    clean = photo[0, :, :64, :64]
    assert torch.equal(shake(noise=1.0)(clean, rng()), shake(noise=1.0)(clean, rng()))
    assert not torch.equal(shake()(clean, rng()), shake()(clean, rng(1)))


def test_a_path_of_length_zero_changes_nothing(photo):
    for linear_light in (True, False):
        assert torch.equal(shake(shake=0, linear_light=linear_light)(photo[0], rng()), photo[0])


@pytest.mark.parametrize("value", [0, 3, 128, 255])
def test_a_constant_image_stays(value):
    clean = torch.full((3, 20, 30), value / 255)
    assert torch.equal(shake()(clean, rng()), clean)


def test_light_is_kept_and_is_not_that_of_srgb_values(photo):
    clean = photo[0]
    mean = to_linear(clean).mean()
    assert to_linear(shake()(clean, rng())).mean().item() == pytest.approx(mean.item(), rel=2e-3)
    point = torch.zeros(1, 31, 31)
    point[0, 15, 15] = 1
    in_light, of_values = (shake(linear_light=each)(point, rng()).sum() for each in (True, False))
    assert in_light > 1.5 * of_values


def test_noise_has_the_level():
    clean = torch.full((3, 100, 100), 0.5)
    assert (shake(shake=0, noise=4.0)(clean, rng()) - clean).std().item() * 255 == pytest.approx(4, rel=0.05)


def test_longer_shake_blurs_more(photo):
    clean = photo[:, :, :128, :128]
    lengths = (2, 4, 8, 16)
    means = [
        np.mean([psnr(shake(shake=each)(clean[0], rng(i))[None], clean).item() for i in range(8)]) for each in lengths
    ]
    assert means == sorted(means, reverse=True)
    assert means[0] > means[-1] + 5


def test_lengths_are_drawn_from_the_range():
    point = torch.zeros(1, 41, 41)
    point[0, 20, 20] = 1
    straight = {"tremor": 0.0, "pull": 0.0, "jerks": 0.0, "linear_light": False}
    ranged = shake(shake={"low": 4, "high": 16}, **straight)
    places = torch.arange(41) - 20

    def extent(seed):
        # of an even line of length L the variance is L^2/12, to which rendering adds up to 1/2
        share = ranged(point, rng(seed))[0]
        return (12 * (share * (places**2 + places[:, None] ** 2)).sum() / share.sum()).sqrt().item()

    extents = [extent(seed) for seed in range(60)]
    assert 3.5 < min(extents) < 6
    assert 14 < max(extents) < 17
    assert np.mean(extents) == pytest.approx(10, abs=1.5)


@pytest.mark.parametrize(("lengths", "context"), [(0, 0), (8, 4), ({"low": 4, "high": 12}, 6), (7.5, 4)])
def test_a_patch_sees_all_that_it_depends_on(photo, lengths, context):
    degradation = shake(shake=lengths)
    assert degradation.context == context
    clean = photo[0, :, 50:114, 60:124]
    changed = clean.clone()
    changed[:, 32, 32] = 1 - changed[:, 32, 32].round()
    for seed in range(10):
        difference = degradation(clean, rng(seed)) - degradation(changed, rng(seed))
        # One level is what a sum, taken in another order, may round to.
        rows, columns = (difference.abs() > 1.5 / 255).any(0).nonzero().unbind(1)
        assert len(rows)
        assert max((rows - 32).abs().max(), (columns - 32).abs().max()) <= context


def test_test_images_are_always_the_same(photo):
    degradation = shake(test_shake=[4, 8.5], noise=1.0)
    settings = degradation.test_settings()
    assert list(settings) == ["shake=4", "shake=8.5"]
    degrade = settings["shake=4"]
    first = degrade(photo[0], "set/a.png")
    assert torch.equal(first, pickle.loads(pickle.dumps(degrade))(photo[0], "set/a.png"))
    assert not torch.equal(first, degrade(photo[0], "set/b.png"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shake": -1}, r"degradation\.shake=-1 must be pixels in 0\.\.256"),
        ({"shake": {"low": 5}}, r"degradation\.shake={'low': 5} must be a range"),
        ({"shake": {"low": 5, "high": 4}}, r"must be a range"),
        ({"shake": float("nan")}, r"degradation\.shake=nan"),
        ({"test_shake": []}, r"degradation\.test_shake=\[\] must be"),
        ({"test_shake": [4, -1]}, r"degradation\.test_shake="),
    ],
)
def test_values_that_make_no_sense_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        shake(**changes)


LAYOUTS = {
    "packaged": ["input/a.png", "target/a.png", "input/b.png", "target/b.png"],
    "divided": [
        "train/input/x.png",
        "train/target/x.png",
        *(f"test/{h}/{i}.png" for h in ("input", "target") for i in "ab"),
    ],
    "crops": [f"test/{half}_crops/{i}.png" for half in ("input", "target") for i in "ab"],
    "GoPro": [f"{part}/blur/{i}.png" for part in ("train/s0", "test/s1", "test/s2") for i in ("000001",)]
    + [f"{part}/sharp/000001.png" for part in ("train/s0", "test/s1", "test/s2")],
    "HIDE": [
        "train/x.png",
        "test/test-close-ups/a.png",
        "test/test-long-shot/b.png",
        "GT/a.png",
        "GT/b.png",
        "GT/x.png",
    ],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_sets_are_read_as_they_are_published(make_data, tmp_path, layout):
    write(tmp_path / "set", *LAYOUTS[layout])
    [(name, images)] = make_data("data.test=[set]").test_sets.items()
    assert str(name) == "set given"
    assert len(images) == 2
    for sample in images:
        assert sample.degraded.unique().item() == pytest.approx(BLURRED / 255)
        assert sample.clean.unique().item() == pytest.approx(SHARP / 255)


@pytest.mark.parametrize("layout", ["divided", "GoPro", "HIDE"])
def test_a_part_can_be_named_and_keeps_the_name_of_its_set(make_data, tmp_path, layout):
    write(tmp_path / "set", *LAYOUTS[layout])
    assert [str(each) for each in make_data("data.test=[set/test]").test_sets] == ["set given"]


def test_training_takes_the_part_to_train_on(make_data, tmp_path):
    write(
        tmp_path / "GoPro",
        *(f"{p}/s/{half}/{p}{i}.png" for p in ("train", "test") for half in ("blur", "sharp") for i in (1, 2)),
    )
    data = make_data("data.test=[GoPro]", "data.patch=4")
    names = [each.name for part in data.train_and_validation for each in part]
    assert sorted(names) == ["s/train1", "s/train2"]
    assert [each.name for each in data.test_sets[next(iter(data.test_sets))].entries] == ["s/test1", "s/test2"]


def test_the_gamma_of_gopro_is_a_choice(make_data, tmp_path):
    write(tmp_path / "set", "s/blur/1.png", "s/blur_gamma/1.png", "s/sharp/1.png")
    for chosen in ("blur", "blur_gamma"):
        [images] = make_data("data.test=[set]", f"data.gopro_blur={chosen}").test_sets.values()
        assert images.entries[0].listed == f"set/s/{chosen}/1.png"


def test_lists_of_realblur(make_data, tmp_path):
    write(tmp_path / "RealBlur", *(f"J/scene{i}/{half}/{half}_1.png" for i in (1, 2, 3) for half in ("gt", "blur")))
    for part, scenes in (("train", (1, 2)), ("test", (3,))):
        lines = [f"J/scene{i}/gt/gt_1.png J/scene{i}/blur/blur_1.png 0.9\n" for i in scenes]
        (tmp_path / "RealBlur" / f"RealBlur_J_{part}_list.txt").write_text("".join(lines))
    for given in ("RealBlur", "RealBlur/RealBlur_J_test_list.txt"):
        data = make_data("data.train=[RealBlur]", f"data.test=[{given}]")
        [(name, images)] = data.test_sets.items()
        assert str(name) == "RealBlur_J given"
        assert [each.name for each in images.entries] == ["J/scene3/blur/blur_1"]
        assert images[0].degraded.unique().item() == pytest.approx(BLURRED / 255)
        assert images[0].clean.unique().item() == pytest.approx(SHARP / 255)
        assert sum(len(part) for part in data.train_and_validation) == 2
    (tmp_path / "RealBlur" / "RealBlur_R_test_list.txt").write_text("")
    with pytest.raises(ValueError, match=r"data\.test=\[RealBlur/RealBlur_J_test_list\.txt\]"):
        assert make_data("data.test=[RealBlur]").test_sets


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["train/s/blur/1.png", "train/s/sharp/1.png"], "has a folder train and none called test"),
        (["test/s/blur/1.png"], "holds blur, but no sharp beside it"),
        (["test/s/blur/1.png", "test/s/sharp/2.png"], "1 without a clean image in"),
        (["test/close/a.png", "GT/b.png"], "close/a without a clean image in GT"),
        (["input/1.png"], "holds input, but no target beside it"),
    ],
)
def test_what_is_missing_is_named(make_data, tmp_path, files, message):
    write(tmp_path / "set", *files)
    with pytest.raises(ValueError, match=message):
        assert make_data("data.test=[set]").test_sets


def test_sharp_images_are_blurred(make_data, photo_root):
    data = make_data(f"data_root={photo_root}", "data.test=[CBSD68]", "degradation.test_shake=[4,8]")
    assert [str(each) for each in data.test_sets] == ["CBSD68 shake=4", "CBSD68 shake=8"]
    for images in data.test_sets.values():
        assert not torch.equal(images[0].degraded, images[0].clean)


def test_training_on_shaken_images(tiny, tmp_path):
    result = train(tiny(tmp_path / "run", "task=deblur", "data.train=[BSD400]", "data.test=[CBSD68]"))
    assert result is None or np.isfinite(result)
    header = (tmp_path / "run" / "results.csv").read_text().splitlines()[0]
    assert {"psnr", "ssim", "ssim_3d"} <= set(header.split(","))


def test_training_on_pairs(tiny, tmp_path):
    write(
        tmp_path / "GoPro",
        *(f"{p}/s/{half}/{i}.png" for p in ("train", "test") for half in ("blur", "sharp") for i in (1, 2)),
    )
    small = "module.scoring.metrics=[psnr]"  # SSIM needs larger images
    train(tiny(tmp_path / "run", "task=deblur", f"data_root={tmp_path}", "data.test=[GoPro]", small))
    assert "GoPro" in (tmp_path / "run" / "results.csv").read_text()
