"""Commands that are killed: each file under its name is whole or absent, and the same command ends as if never killed.

A command runs in a copy of the test's process. It dies when it is about to open a file for writing or to give one its
name, at a chosen one of all these moments, or in the midst of a write that takes a file beyond a size. How a training
goes on after any of its steps is tested in training/test_checkpointing.py, how a sweep does after its jobs were killed
in sweeps/.
"""

import hashlib
import json
import multiprocessing
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kgt_lightning import evaluate, export, publish, restore, train
from kgt_lightning.data import debian
from kgt_lightning.data.__main__ import main as data
from kgt_lightning.report.__main__ import main as report
from kgt_lightning.runs.checkpoint import load_checkpoint
from kgt_lightning.system.files import NEXT, checksum_error

pytestmark = pytest.mark.slow

FORK = multiprocessing.get_context("fork")
SEED = random.SystemRandom().randrange(10**6)
GROWING = (".jsonl", ".log")
"""Endings of files to which lines are added: half a line is left out by their readers."""
MINUTE = re.compile(rb"\d{4}-\d{2}-\d{2} \d{2}:\d{2}")
MAINS = {
    "restore": restore.main,
    "evaluate": evaluate.main,
    "report": report,
    "export": export.main,
    "publish": publish.main,
    "fetch-debian": data,
    "train": train.main,
    "sweep": train.main,
}
MOMENTS = {
    "restore": 3,
    "evaluate": 2,
    "report": 2,
    "export": 2,
    "publish": 1,
    "fetch-debian": 1,
    "train": 1,
    "sweep": 0,
}
"""How many of a command's moments are tried, besides a random one and one in the midst of a write."""


def once(measure: Callable) -> Callable:
    """Gives what the first call gave, whatever it is asked."""
    given: list = []

    def measured(*arguments: object, **options: object) -> object:
        if not given:
            given.append(measure(*arguments, **options))
        return given[0]

    return measured


APT = """#!/bin/sh
name=${2%%=*}
head -c 900 "$PACKAGES/$name" > "$name.deb"
sleep 0.05
cp "$PACKAGES/$name" "$name.deb"
"""
UNPACK = """#!/bin/sh
file=${2##*/}
cp "$2" "$3/${file%.deb}.jpg"
"""


@pytest.fixture
def packages(tmp_path, monkeypatch) -> None:
    """apt-get and dpkg-deb that fetch slowly what lies here: packages of one photograph each."""
    folder, downloads = tmp_path / "packages", tmp_path / "downloads"
    folder.mkdir()
    downloads.mkdir()
    for name, script in {"apt-get": APT, "dpkg-deb": UNPACK}.items():
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    photos = []
    pixels = np.random.default_rng(0).integers(0, 256, (3, 90, 90, 3), np.uint8)
    for package, each in zip(["sea", "hill", "wood"], pixels, strict=True):
        # Small as a package, and larger as what is made of it, so that the size of a file stops none but that.
        Image.fromarray(each).save(folder / package, format="JPEG", quality=1)
        found = {"path": f"{package}.jpg", "sha256": hashlib.sha256((folder / package).read_bytes()).hexdigest()}
        listed = {"package": package, "version": "1-2", "licence": "CC0-1.0", "split": "train", "downscale": 2}
        photos.append(debian.DebianPhoto(**found, **listed, clean_size=(45, 45)))
    monkeypatch.setattr(debian, "listed_photos", lambda: photos)
    monkeypatch.setattr(debian, "FOLDERS", {"train": "out"})
    monkeypatch.setattr(tempfile, "tempdir", str(downloads))
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PACKAGES", str(folder))


@pytest.fixture
def arguments(name, trained, evaluated, packages, tiny_arguments, photo_root, tmp_path, monkeypatch) -> list[str]:
    """Of the command, so that it writes to the folder out."""
    for variable in ("HYDRA_FULL_ERROR", "KGT_DATA"):
        monkeypatch.delenv(variable, raising=False)
    photos = tmp_path / "photos"
    photos.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (20, 24, 3), np.uint8)
    for number, photo in enumerate(["a.png", "b.jpg", "c.tif"]):
        Image.fromarray(pixels[number:]).save(photos / photo)
    if name == "export":
        # The program is computed once: that takes seconds, and writes nothing.
        content = export.as_program(load_checkpoint(trained), "best")
        monkeypatch.setitem(export.FORMATS, "torch", (".pt2", lambda *_: content))
    if name == "publish":
        # So are its measures, of which one is a time.
        for measure in ("measure_seams", "measure_harm", "answer", "seconds_per_megapixel"):
            monkeypatch.setattr(publish, measure, once(getattr(publish, measure)))
        publish.publish(trained.parents[1], "denoise", [evaluated], root=photo_root, folder=tmp_path / "measured")
    short = [*tiny_arguments, "trainer.max_steps=2"]
    return {
        "restore": [f"checkpoint={trained}", f"input={photos}", "output=out", "device=cpu"],
        "evaluate": [
            *(f"checkpoint={trained}", f"data_root={photo_root}", "data.test=[CBSD68]", "save_images=true"),
            *("trainer.accelerator=cpu", "hydra.run.dir=out"),
        ],
        "report": [str(trained.parents[1]), "--output", "out", "--curves"],
        "export": [f"checkpoint={trained}", "format=torch", "output=out/model.pt2"],
        "publish": [
            *(str(trained.parents[1]), "denoise", str(evaluated), "--root", str(photo_root), "--output", "out"),
        ],
        "fetch-debian": ["fetch-debian", "--root", "."],
        "train": [*short, "hydra.run.dir=out", "resume=true"],
        "sweep": ["-m", *short, "seed=1,2", "hydra/launcher=basic", "hydra.sweep.dir=out"],
    }[name]


def start(name: str, arguments: Sequence[str], folder: Path, *, moment: int = 0, size: int = 0) -> tuple[int, int]:
    """Exit code of the command in the folder, and how many moments it had; one kills it, or the size of a file does."""
    moments = FORK.Value("i", 0)

    def count(event: str, given: tuple) -> None:
        writes = event == "os.rename" or (event == "open" and _writes(*given[1:3]))
        if writes and isinstance(given[0], (str, Path)) and str(folder) in os.path.abspath(given[0]):
            moments.value += 1
            if moments.value == moment:
                os.kill(os.getpid(), signal.SIGKILL)

    def work() -> None:
        os.chdir(folder)
        # After a fork PyTorch makes its threads anew at the next call, and fails where two threads call at once.
        torch.set_num_threads(torch.get_num_threads())
        output = os.open(os.devnull if size else f"{name}.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(output, stream)
        sys.stdout, sys.stderr = open(1, "w"), open(2, "w")  # noqa: SIM115  # the process ends with them
        if size:
            # The system kills who writes beyond it, after what fits; Python alone ignores that.
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        sys.argv = ["command", *arguments]
        sys.addaudithook(count)
        MAINS[name]()

    process = FORK.Process(target=work)
    process.start()
    process.join(120)
    assert process.exitcode is not None, "it does not end"
    return process.exitcode, moments.value


def _writes(mode: str | None, flags: int) -> bool:
    return bool(set(mode) & set("wax+")) if mode else bool(flags & (os.O_WRONLY | os.O_RDWR))


def files(folder: Path) -> dict[str, Path]:
    """Final files below a folder by their names."""
    found = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    return {
        name.as_posix(): path
        for name, path in found.items()
        if not any(part.startswith(".") for part in name.parts)
        and path.suffix not in (*GROWING, ".part")
        and path.name != NEXT
    }


def assert_whole(folder: Path, expected: dict[str, bytes]) -> None:
    for name, path in files(folder).items():
        assert name in expected, f"{name} is written by no whole run"
        if path.suffix == ".ckpt":  # it tells the folder
            assert checksum_error(path) is None, name
        elif path.name == "run.json":  # it tells the time
            json.loads(path.read_text())
        elif name.endswith("multirun.yaml"):
            pass
        elif name.endswith("index.html"):  # it tells the minute
            assert MINUTE.sub(b"", path.read_bytes()) == MINUTE.sub(b"", expected[name]), name
        else:
            assert path.read_bytes() == expected[name], f"{name} is not what a whole run writes"


@pytest.mark.parametrize("name", MAINS)
def test_a_command_that_is_killed_leaves_whole_files_and_goes_on(name, arguments, tmp_path):
    out = tmp_path / "out"
    code, moments = start(name, arguments, tmp_path)
    assert code == 0, (tmp_path / f"{name}.txt").read_text()[-2000:]
    expected = {file: path.read_bytes() for file, path in files(out).items()}
    assert expected and moments > 1
    chosen = [round(1 + (moments - 1) * share) for share in np.linspace(0, 1, MOMENTS[name] + 2)[1:-1]]
    chosen.append(random.Random(SEED).randint(1, moments))
    largest = max(map(len, expected.values()))
    print(f"seed {SEED}: {name} dies at {chosen} of {moments}, and at {largest * 2 // 3} bytes")  # noqa: T201
    for death in [*({"moment": each} for each in chosen), {"size": largest * 2 // 3}]:
        shutil.rmtree(out)
        code, _ = start(name, arguments, tmp_path, **death)
        assert code == -(signal.SIGXFSZ if "size" in death else signal.SIGKILL), death
        assert_whole(out, expected)
        code, _ = start(name, arguments, tmp_path)
        assert code == 0, (tmp_path / f"{name}.txt").read_text()[-2000:]
        assert files(out).keys() == expected.keys()
        assert_whole(out, expected)
        assert not list(out.rglob(".*.part"))
