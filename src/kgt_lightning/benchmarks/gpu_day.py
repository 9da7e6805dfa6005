"""Command: everything that wants to be measured on a GPU that is here for the first time, in under ten minutes.

python -m kgt_lightning.benchmarks.gpu_day folder [small]

Parts come in the order of what they are worth, each in a process of its own. One that has ended well is not run again,
so that a call that was stopped goes on; the page README.md in the folder is written after each. ``small`` runs tiny
sizes under Triton's interpreter, to see that the parts work.
"""

import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import skimage.data
import torch
from PIL import Image

from kgt_lightning.system.files import write_atomic
from kgt_lightning.system.tables import Table

SECONDS = {"tests": 150, "tune": 100, "attention": 120, "model": 80, "nano": 50, "small": 90}
"""After which a part is ended, by name, in their order: ten minutes in all."""

TINY = (
    "model.width=8",
    "model.window=4",
    "model.k=8",
    "model.layout.depths=[1]",
    "model.layout.heads=2",
    "model.attention=triton",
    "data.patch=16",
    "data.batch_size=1",
    "data.validation_size=16",
    "trainer.max_steps=2",
    "trainer.log_every_n_steps=1",
    "trainer.accelerator=cpu",
    "~callbacks.progress",
)


def parts(folder: Path, *, small: bool) -> dict[str, list[str]]:
    """Arguments of Python for each part."""
    bench = ["-m", "kgt_lightning.bench", f"device={'cpu' if small else 'cuda'}"]
    train = [
        "-m",
        "kgt_lightning.train",
        "task=denoise",
        "run=gpu",
        "resume=true",
        f"data_root={folder / 'photographs'}",
    ]
    train += ["data.train=[train]", "data.test=[test]"]
    tests = ["-m", "pytest", "-q", "-m", "gpu", "tests/ops"]
    sizes = ["attention.num_nodes=[256,1024,4096]", "attention.k=[64,128,256,512]", "seconds=0.1"]
    attention = [*sizes, "attention.impl=[triton,mask]", "attention.windows=16", "dtype=float16"]
    model = ["model=kgt_small", "whole_model.scale=1", "whole_model.sizes=[[256,256]]", "seconds=1"]
    steps = ["trainer.max_steps=100", "trainer.accelerator=gpu", "trainer.precision=bf16-mixed"]
    nano, larger = ["model=kgt_nano", *steps], ["model=kgt_small", *steps]
    if small:
        tests = ["-m", "pytest", "-q", "tests/ops/key_graph/test_triton_unions.py", "-k", "N64"]
        attention = ["attention.num_nodes=[16]", "attention.k=[4]", "attention.impl=[triton]", "attention.windows=1"]
        attention += ["attention.heads=1", "attention.width=16", "seconds=0.01"]
        model = [*TINY[:6], "whole_model.scale=1", "whole_model.sizes=[[16,16]]", "seconds=0.01"]
        nano = larger = ["model=kgt_nano", *TINY]
    return {
        "tests": tests,
        "tune": ["-m", "kgt_lightning.benchmarks.tune", *(["small"] if small else [])],
        "attention": [*bench, "what=attention", *attention, f"run_dir={folder / 'attention'}"],
        "model": [*bench, "what=model", *model, f"run_dir={folder / 'model'}"],
        "nano": [*train, *nano, f"run_dir={folder / 'nano'}"],
        "small": [*train, *larger, f"run_dir={folder / 'small'}"],
    }


def write_photographs(folder: Path) -> None:
    """Parts of a photograph to train on, and a small one for the test that ends a training."""
    pixels = skimage.data.astronaut()
    for name, number, side in (("train", 8, 256), ("test", 1, 32)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(number):
            Image.fromarray(pixels[32 * i :][:side, 16 * i :][:, :side]).save(folder / name / f"{i}.png")


def run_part(arguments: list[str], *, seconds: float, log: Path, environment: Mapping[str, str]) -> dict[str, object]:
    """Run Python with the arguments, what it says into the log; its exit status, 124 if it took too long, and time."""
    start = time.monotonic()
    with log.open("w") as file:
        try:
            command = [sys.executable, *arguments]
            done = subprocess.run(
                command, stdout=file, stderr=subprocess.STDOUT, timeout=seconds, env=environment, check=False
            )
            status = done.returncode
        except subprocess.TimeoutExpired:
            status = 124
    return {
        "command": " ".join(["python", *arguments]),
        "status": status,
        "seconds": round(time.monotonic() - start, 1),
    }


def page(folder: Path, results: Mapping[str, Mapping[str, object]], *, machine: str) -> str:
    """Markdown: what ran, how it ended, the last lines of what failed, and the tables that were measured."""
    rows = [
        [name, str(found["status"]), str(found["seconds"]), f"`{found['command']}`"] for name, found in results.items()
    ]
    lines = [f"# {machine}", "", Table(columns=["part", "exit status", "seconds", "command"], rows=rows).markdown()]
    for name, found in results.items():
        tables = sorted((folder / name).glob("*.csv"))
        if found["status"]:
            said = (folder / f"{name}.log").read_text(errors="replace").splitlines()[-20:]
            lines += [f"## {name} failed", "", "```", *said, "```", ""]
        for file in tables:
            header, *cells = csv.reader(file.read_text().splitlines())
            lines += [f"## {name}: {file.stem}", "", Table(columns=header, rows=cells).markdown(), ""]
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Exit status: 1 if a part failed, 2 if there is no GPU and small was not asked for."""
    small = "small" in arguments
    folder = Path(next(argument for argument in arguments if argument != "small")).absolute()
    if not small and not torch.cuda.is_available():
        print("error: there is no CUDA device: try the parts in small with make gpu SMALL=1", file=sys.stderr)
        return 2
    write_photographs(folder / "photographs")
    environment = {**os.environ, **({"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"} if small else {})}
    machine = "Triton's interpreter, small sizes" if small else torch.cuda.get_device_name()
    results = {}
    for name, command in parts(folder, small=small).items():
        state = folder / f"{name}.part.json"
        if not state.exists() or json.loads(state.read_text())["status"]:
            limit = SECONDS[name] * (10 if small else 1)
            found = run_part(command, seconds=limit, log=folder / f"{name}.log", environment=environment)
            write_atomic(state, json.dumps(found))
        results[name] = json.loads(state.read_text())
        print(f"{name}: exit status {results[name]['status']} after {results[name]['seconds']} s", flush=True)
        write_atomic(folder / "README.md", page(folder, results, machine=machine))
    print(f"the page is {folder / 'README.md'}")
    return int(any(found["status"] for found in results.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
