"""A task that the package does not know: one Python file and one YAML file outside it, and every command takes it."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch

from kgt_lightning import evaluate, restore, train
from kgt_lightning.images.files import Picture, read_image, write_image
from kgt_lightning.runs.checkpoint import read_checkpoint

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_task"
TASK = ("hydra.searchpath=[file://conf]", "task=dehaze")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Copy of the example with sets of small images, whose Python file can be imported."""
    shutil.copytree(EXAMPLE, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", "outputs"))
    for name, number in (("photos", 3), ("valley", 2)):
        for i in range(number):
            pixels = torch.from_numpy(np.random.default_rng(i).integers(0, 256, (3, 40, 48))).float() / 255
            write_image(tmp_path / "sets" / name / f"{i}.png", Picture(pixels=pixels))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    yield tmp_path
    sys.modules.pop("dehaze", None)


@pytest.fixture
def run(folder, run_command, tiny_arguments):
    """Runs a command beside the example; a training is a tiny one."""

    def run_beside(command, *arguments):
        given = [*tiny_arguments, "data_root=sets", "data.cache_dir=cache", *arguments]
        return run_command(command.main, *(given if command is train else arguments))

    return run_beside


def means(folder):
    [file] = folder.rglob("results.json")
    return json.loads(file.read_text())["means"]


@pytest.mark.slow
def test_training_ends_with_scores_and_is_resumed(run, folder):
    code, _, errors = run(train, *TASK, "run=mine", "trainer.max_steps=2")
    assert code == 0, errors
    found = means(folder / "outputs" / "dehaze" / "mine")
    assert list(found) == ["valley beta=0.5", "valley beta=1", "valley beta=2"]
    assert all(mean["images"] == 2 for mean in found.values())

    code, _, errors = run(train, *TASK, "run=mine", "resume=true", "trainer.max_steps=4")

    assert code == 0, errors
    assert read_checkpoint(folder / "outputs" / "dehaze" / "mine" / "checkpoints" / "last.ckpt").step == 4
    assert "going on from step 2" in (folder / "outputs" / "dehaze" / "mine" / "train.log").read_text()


@pytest.mark.slow
def test_a_checkpoint_is_tested_and_restores_where_its_package_is_trusted(run, folder):
    assert run(train, *TASK, "run=mine", "trainer.max_steps=1")[0] == 0
    checkpoint = "checkpoint=outputs/dehaze/mine/checkpoints/best.ckpt"
    for command, arguments in ((evaluate, ()), (restore, ("input=sets/valley", "output=restored"))):
        code, _, errors = run(command, checkpoint, *arguments)
        assert code == 2
        assert "names dehaze.Haze, which is no class of kgt_lightning: it is not loaded; add trust=[dehaze]" in errors

    arguments = ("trust=[dehaze]", "task=dehaze", "data_root=sets", "degradation.test_beta=3", "hydra.run.dir=tested")
    code, _, errors = run(evaluate, checkpoint, *arguments)
    assert code == 0, errors
    assert list(means(folder / "tested")) == ["valley beta=3"]

    code, _, errors = run(restore, checkpoint, "trust=[dehaze]", "input=sets/valley", "output=restored")
    assert code == 0, errors
    assert read_image(folder / "restored" / "1.png").pixels.shape == (3, 40, 48)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("degradation.bta=3",), "degradation.bta is no setting: did you mean degradation.beta"),
        (("degradation.beta=thick",), "degradation.beta=thick must be a number"),
        (("degradation.beta=-1",), "degradation.beta=-1 must be an extinction of 0 or more"),
        (("degradation.airlight.high=2",), r"degradation.airlight=.* must be a range"),
        (("task=dehase",), "task=dehase does not exist: choose one of camera, deblur, dehaze, demosaic"),
        (("task=denoise", "degradation._target_=dehaze.Haze"), "degradation.sigma is no setting of Haze: it has beta"),
        (("task=denoise", "degradation={_target_:dehaze.depth}"), "degradation.sigma is no setting of depth"),
    ],
)
def test_mistakes_are_named_in_one_line(run, arguments, message):
    code, _, errors = run(train, *TASK, *arguments)
    assert code == 2
    assert re.search(f"^error: {message}", errors, re.MULTILINE)


def test_its_degradation_in_a_task_that_is_there_already(run, folder):
    section = "_target_: dehaze.Haze\nbeta: 1\ntest_beta: null\nairlight: {low: 0.8, high: 0.9}\n"
    (folder / "conf" / "degradation").mkdir()
    (folder / "conf" / "degradation" / "haze.yaml").write_text(section)

    code, _, errors = run(
        train, TASK[0], "task=denoise", "degradation=haze", "data.train=[photos]", "data.test=[valley]"
    )

    assert code == 0, errors
    assert list(means(folder / "outputs")) == ["valley beta=1"]


@pytest.mark.slow
def test_sweep(folder, tiny_arguments):
    arguments = (*tiny_arguments, "data_root=sets", "trainer.max_steps=2", "sweep=beta", "degradation.beta=0.5,2")
    command = [sys.executable, "-m", "kgt_lightning.train", "-m", *TASK, *arguments]

    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=280)

    assert done.returncode == 0, done.stderr
    for beta in ("0.5", "2"):
        found = means(folder / "outputs" / "sweeps" / "beta" / f"beta={beta}")
        assert list(found) == [f"valley beta={beta}"]


def test_the_commands_of_its_page_compose(folder, composed, monkeypatch):
    monkeypatch.chdir(folder)
    lines = re.findall(r"^python -m kgt_lightning\.(\w+) (.*)$", (EXAMPLE / "README.md").read_text(), re.MULTILINE)
    assert {name for name, _ in lines} == {"train", "evaluate", "restore"}
    for name, line in lines:
        given = [each.partition(",")[0] if "[" not in each else each for each in shlex.split(line) if each != "-m"]
        if name != "train":  # changes to what the checkpoint holds
            given = [f"+{each}" if each.startswith("degradation.") else each for each in given]
        config = composed(name, *given)
        assert name != "train" or config.degradation["_target_"] == "dehaze.Haze"


@pytest.mark.slow
def test_its_sets_are_those_that_its_task_names(folder):
    shutil.rmtree(folder / "sets")
    subprocess.run([sys.executable, "make_sets.py"], cwd=folder, check=True, timeout=120)
    assert len(list((folder / "sets" / "photos").iterdir())) == 9
    assert [read_image(file).pixels.shape for file in (folder / "sets" / "valley").iterdir()] == [(3, 128, 128)] * 2


class TestHaze:
    @pytest.fixture
    def haze(self, folder):
        module = import_module("dehaze")

        def make(beta=1.0, low=0.8, high=0.9):
            return module.Haze(beta=beta, test_beta=None, airlight={"low": low, "high": high})

        return make

    def test_it_follows_the_law(self, haze, photo):
        """Of two images in the same haze, the difference is that of the clean ones, times the transmission."""
        clean = photo[0, :, :64, :80]
        hazy, of_black = (haze(1.0)(each, np.random.default_rng(0)) for each in (clean, torch.zeros_like(clean)))
        transmission = ((hazy - of_black) / clean.clamp_min(0.05))[clean.expand_as(hazy) > 0.5]
        assert np.exp(-1) - 0.02 <= transmission.min() <= transmission.max() <= 1.02
        assert torch.equal(to_8_bit(hazy), hazy)

    def test_none_leaves_the_image_and_much_leaves_the_airlight(self, haze, photo):
        assert torch.equal(haze(0)(photo[0], np.random.default_rng(0)), photo[0])
        gray = haze(1e6, low=0.8, high=0.8)(photo[0], np.random.default_rng(0))
        assert gray.median().item() == pytest.approx(204 / 255)

    def test_all_chance_is_from_the_generator_or_the_name(self, haze, photo):
        hazy = [haze()(photo[0], np.random.default_rng(seed)) for seed in (0, 0, 1)]
        assert torch.equal(hazy[0], hazy[1])
        assert not torch.equal(hazy[0], hazy[2])
        [degrade] = haze().test_settings().values()
        assert torch.equal(degrade(photo[0], "a"), degrade(photo[0], "a"))
        assert not torch.equal(degrade(photo[0], "a"), degrade(photo[0], "b"))


def to_8_bit(image):
    return (image * 255).round() / 255
