"""A task that the package does not know: one Python file and one YAML file, and every command takes it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import kgt_lightning
from kgt_lightning.config.command import CONF_DIR
from kgt_lightning.images.files import read_image

PYTHON_FILE = '''
"""Brightening of images that were taken with too little light."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from kgt_lightning.data.datamodule import RestorationData
from kgt_lightning.model import ResidualHead
from kgt_lightning.training.module import RestorationModule


@dataclass(frozen=True, kw_only=True)
class Underexposure:
    """degraded = exposure * clean."""

    exposure: float
    scale: ClassVar[int] = 1
    context: ClassVar[int] = 0

    def __call__(self, clean, rng):
        """Darker image."""
        return clean * self.exposure

    def test_settings(self):
        """The one setting."""
        return {f"exposure={self.exposure:g}": partial(darker, exposure=self.exposure)}


def darker(clean, name, *, exposure):
    """Darker image."""
    return clean * exposure


@dataclass(kw_only=True, eq=False)
class BrightenData(RestorationData):
    """Pairs of a dark and a clean image."""

    exposure: float

    def make_degradation(self):
        """Too little light."""
        return Underexposure(exposure=self.exposure)


class BrightenModule(RestorationModule):
    """KGT with a residual head."""

    def make_head(self, backbone, scale):
        """Restored = degraded + conv(features)."""
        return ResidualHead(width=backbone.width, stride=backbone.stride, channels=backbone.channels)
'''

YAML_FILE = """
# @package _global_
defaults:
  - _shared
  - _self_

task: brighten

module:
  _target_: kgt_lightning.tasks.brighten.BrightenModule

data:
  _target_: kgt_lightning.tasks.brighten.BrightenData
  train: [BSD400]
  test: null
  default_test:
    3: [CBSD68]
    1: [Set12]
  exposure: 0.25
"""


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    """Runs a command of a copy of the package that has the two files more."""
    folder = tmp_path_factory.mktemp("copy")
    package = folder / "src" / "kgt_lightning"
    shutil.copytree(Path(kgt_lightning.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__", "conf"))
    shutil.copytree(CONF_DIR, folder / "conf")
    (package / "tasks" / "brighten.py").write_text(PYTHON_FILE)
    (folder / "conf" / "task" / "brighten.yaml").write_text(YAML_FILE)

    def run(command, *arguments):
        environment = {**os.environ, "PYTHONPATH": str(folder / "src"), "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            [sys.executable, "-m", f"kgt_lightning.{command}", *arguments],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=250,
        )

    return folder, run


@pytest.mark.slow
def test_two_files_are_a_task(commands, tiny_arguments, photo_root):
    folder, run = commands
    arguments = ("task=brighten", *tiny_arguments, "trainer.max_steps=20", "optim.lr=0.01", "run=first")
    done = run("train", *arguments)
    assert done.returncode == 0, done.stderr
    run_folder = folder / "outputs" / "brighten" / "first"
    found = json.loads((run_folder / "results.json").read_text())
    [(name, mean)] = found["means"].items()
    assert name == "CBSD68 exposure=0.25"
    assert mean["psnr"] > mean["degraded_psnr"] + 1

    checkpoint = f"checkpoint={run_folder}/checkpoints/best.ckpt"
    done = run("evaluate", checkpoint, "task=brighten", f"data_root={photo_root}", "data.exposure=0.5")
    assert done.returncode == 0, done.stderr
    assert "CBSD68 exposure=0.5" in done.stdout

    done = run("restore", checkpoint, f"input={photo_root}/CBSD68", "output=restored")
    assert done.returncode == 0, done.stderr
    restored = read_image(folder / "restored" / "1.png").pixels
    assert restored.shape == read_image(photo_root / "CBSD68" / "1.png").pixels.shape

    done = run("train", "task=brighten", *tiny_arguments, "data.exposure=dark")
    assert done.returncode == 2
    assert "error: data.exposure=dark must be a number" in done.stderr
