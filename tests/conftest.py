"""Images and reference data that several tests use, nothing is downloaded; Triton without a GPU."""

import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from PIL import Image
from torch import Tensor

# Without a GPU Triton's kernels run under its interpreter, which must be on when triton and the kernels are imported.
# It does not stay on, so that tests which do not ask for it see an ordinary machine without a GPU. This comes before
# the imports below, of which some import triton.
if find_spec("triton") is not None and not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
    from kgt_lightning.ops.attention import (
        triton_bias,  # noqa: F401
        triton_union,  # noqa: F401
    )
    from kgt_lightning.ops.key_graph import triton_graph  # noqa: F401

    del os.environ["TRITON_INTERPRET"]

from kgt_lightning.config.command import CONF_DIR
from kgt_lightning.system.files import alone_in
from kgt_lightning.train import train

# Several test processes share the cores; what is computed here is too small for threads.
torch.set_num_threads(1)

REFERENCE = Path(__file__).parent / "data" / "reference"


@pytest.fixture(scope="session")
def reference() -> Path:
    """Folder of golden vectors; its README names the public implementations that computed them."""
    return REFERENCE


@pytest.fixture(scope="session")
def read_reference() -> Callable[[str], Tensor]:
    """Reads a reference PNG or NPY file, such as "inputs/color_a.png", as [1, C, H, W]; PNG is scaled to [0, 1]."""

    def read(name: str) -> Tensor:
        array = np.load(REFERENCE / name) if name.endswith(".npy") else np.asarray(Image.open(REFERENCE / name)) / 255
        image = torch.from_numpy(np.atleast_3d(array).astype(np.float32))
        return image.permute(2, 0, 1)[None].contiguous()

    return read


@pytest.fixture(scope="session")
def photo() -> Tensor:
    """A image, [1, 3, 300, 451] in [0, 1]."""
    return torch.from_numpy(skimage.data.chelsea()).permute(2, 0, 1)[None].float() / 255


@pytest.fixture(scope="session")
def samples() -> Callable[..., Tensor]:
    """Makes random planes [channels, 9, 14] in [0, 1] of exactly so many bits."""

    def make(channels: int, *, bits: int = 8) -> Tensor:
        generator = torch.Generator().manual_seed(channels + bits)
        return torch.randint(0, 2**bits, (channels, 9, 14), generator=generator).float() / (2**bits - 1)

    return make


@pytest.fixture
def composed() -> Callable[..., DictConfig]:
    """Composes conf/<name>.yaml with arguments, as a command does."""

    def compose_as_command(name: str, *arguments: str) -> DictConfig:
        with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
            return compose(name, [*arguments])

    return compose_as_command


@pytest.fixture(scope="session")
def photo_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with small image sets: BSD400 to train on, CBSD68, Set12 and BSD68 to test on."""
    root = tmp_path_factory.mktemp("sets")
    sources = {"BSD400": (skimage.data.astronaut(), 10), "CBSD68": (skimage.data.coffee(), 3)}
    sources |= {name: (skimage.data.camera(), 2) for name in ("Set12", "BSD68")}
    for name, (pixels, number) in sources.items():
        (root / name).mkdir()
        for i in range(number):
            # All different, and some odd.
            Image.fromarray(pixels[40 * i :][: 40 + i, 30 * i :][:, :48]).save(root / name / f"{i}.png")
    return root


TINY = (
    "model.width=8",
    "model.window=4",
    "model.k=8",
    "model.layout.depths=[1,1]",
    "model.layout.heads=2",
    "data.patch=16",
    "data.batch_size=2",
    "data.validation_size=32",
    "trainer.max_steps=4",
    "trainer.accelerator=cpu",
    "trainer.log_every_n_steps=1",
    "+trainer.enable_progress_bar=false",
    "~callbacks.progress",
)


@pytest.fixture(scope="session")
def tiny_arguments(photo_root: Path) -> list[str]:
    """Arguments that make a training take a second."""
    return [*TINY, f"data_root={photo_root}", f"data.cache_dir={photo_root}/cache"]


@pytest.fixture(scope="session")
def tiny(tiny_arguments: list[str]) -> Callable[..., DictConfig]:
    """Composes a training of a second, its run in the given folder, with further arguments."""

    def compose_tiny(folder: Path, *arguments: str) -> DictConfig:
        with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
            return compose("train", [*tiny_arguments, f"run_dir={folder}", "run=test", *arguments])

    return compose_tiny


@pytest.fixture(scope="session")
def trained(tiny: Callable[..., DictConfig], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoint of a colour model that was trained for four steps."""
    folder = tmp_path_factory.mktemp("trained")
    train(tiny(folder))
    return folder / "checkpoints" / "best.ckpt"


@pytest.fixture
def evaluated(trained: Path, tmp_path: Path) -> Path:
    """Folder of an evaluation of the trained model, as ``kgt publish`` reads it."""
    folder = tmp_path / "evaluated"
    folder.mkdir()
    mean = {"psnr": 21.0, "degraded_psnr": 20.5, "images": 3}
    clean = {"psnr": 45.0, "degraded_psnr": float("inf"), "images": 3}
    means = {"CBSD68 sigma=25": mean, "CBSD68 sigma=0": clean}
    content = {"checkpoint": str(trained), "protocol": "as papers do", "means": means}
    (folder / "results.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def in_use() -> Callable[..., AbstractContextManager[None]]:
    """Another process works in a folder, until it is killed at the end of the block."""

    @contextmanager
    def work(folder: Path, **lock: str) -> Iterator[None]:
        there = multiprocessing.get_context("fork").Event()

        def hold() -> None:
            with alone_in(folder, **lock):
                there.set()
                time.sleep(300)

        process = multiprocessing.get_context("fork").Process(target=hold)
        process.start()
        assert there.wait(60)
        yield
        process.kill()
        process.join()

    return work


@pytest.fixture
def process_environment(request: pytest.FixtureRequest) -> dict[str, str]:
    """Variables for processes of a test: one thread each, and the callbacks that its file defines can be named."""
    paths = [str(request.path.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}


@pytest.fixture
def train_process(
    process_environment: dict[str, str], tmp_path: Path
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a training with arguments in a process of its own, in an empty folder, to its end."""

    def run(*arguments: str, starter: Sequence[str] = ("-m",), **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *starter, "kgt_lightning.train", *arguments],
            cwd=tmp_path,
            env={**process_environment, **variables},
            capture_output=True,
            text=True,
            timeout=280,
        )

    return run


@pytest.fixture
def run_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs the main of a command with arguments in an empty folder: exit code, standard output and error."""

    monkeypatch.chdir(tmp_path)
    for name in ("HYDRA_FULL_ERROR", "KGT_DATA"):
        monkeypatch.delenv(name, raising=False)

    def run(main: Callable[[], object], *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["command", *arguments])
        capfd.readouterr()
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        return code, *capfd.readouterr()

    return run
