"""Fresh command lines with values of wrong types and ranges, run to their end: how many ended in which way.

python tests/fuzz/command_lines.py 200 [seed]

Lines that were accepted are printed, since only a person sees whether one of them made sense.
"""

import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from invariants import run
from PIL import Image
from test_fuzz_arguments import MODEL, SCHEMA, TINY, VALUES, leaves

from kgt_lightning import analyze, bench, describe, evaluate, export, restore, train
from kgt_lightning.config.types import COMMANDS
from kgt_lightning.report import __main__ as report

MAINS = {
    **{"analyze": analyze.main, "bench": bench.main, "describe": describe.main, "evaluate": evaluate.main},
    **{"export": export.main, "report": report.main, "restore": restore.main, "train": train.main},
}
STEP = ("data.patch=16", "data.batch_size=2", "data.validation_size=32", "data.validation_images=1")
STEP = (*TINY[:-1], *STEP, "trainer.max_steps=1", "trainer.accelerator=cpu", "data_root=sets", "data.train=[a]")
MADE = ("checkpoint=m.ckpt",)
GIVEN = {
    "analyze": (*MADE, "input=photo.png"),
    "bench": ("what=attention", "seconds=0", "attention.num_nodes=[64]", "attention.k=[4]", "attention.impl=[gather]"),
    "describe": TINY,
    "evaluate": (*MADE, "data_root=sets", "data.test=[a]"),
    "export": (*MADE, "output=m.pt2", "format=torch"),
    "report": ("runs",),
    "restore": (*MADE, "input=photo.png", "output=restored", "device=cpu"),
    "train": (*STEP, "data.test=[a]", "run=fuzzed"),
}
"""What makes each command work, quickly."""
KEYS = {name: sorted({*map(str, COMMANDS.get(name, ())), *MODEL}) for name in MAINS}
KEYS |= {"train": sorted(leaves(SCHEMA)), "bench": sorted(COMMANDS["bench"])}
OPTIONS = st.sampled_from(["--output", "--title", "--compare", "--curves", "--nope"])


@st.composite
def command_lines(draw: st.DrawFn) -> tuple[str, tuple[str, ...]]:
    name = draw(st.sampled_from(sorted(MAINS)))
    if name == "report":
        return name, tuple(draw(st.lists(st.one_of(VALUES, OPTIONS), min_size=1, max_size=3)))
    keys = draw(st.lists(st.sampled_from(KEYS[name]), min_size=1, max_size=2, unique=True))
    return name, tuple(f"{key.removesuffix('.name')}={draw(VALUES)}" for key in keys)


def apart(call: Callable[[], str]) -> str:
    """What the call says, in a process of its own."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            said = call()
        except BaseException as error:
            said = f"BROKEN {type(error).__name__}: {error}"
        os.write(writer, said.encode(errors="replace")[:8000])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read().decode(errors="replace")
    _, status = os.waitpid(child, 0)
    return said or f"BROKEN: the process ended by itself, {status}"


def outcome(name: str, arguments: tuple[str, ...], folder: Path) -> str:
    given_keys = {each.partition("=")[0] for each in arguments}
    kept = [each for each in GIVEN[name] if each.partition("=")[0] not in given_keys]
    written = ["outputs", "restored", "report", "m.pt2", "runs/report", ".cache"]
    ended = run(MAINS[name], *kept, *arguments, folder=folder, may_change=written)
    return f"{ended.code} {ended.error}"


def prepare(folder: Path) -> str:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 40, 48, 3), np.uint8)
    (folder / "sets" / "a").mkdir(parents=True)
    for number, each in enumerate(pixels):
        Image.fromarray(each).save(folder / "sets" / "a" / f"{number}.png")
    Image.fromarray(pixels[0]).save(folder / "photo.png")
    said = apart(lambda: f"{run(train.main, *STEP, 'data.test=[a]', 'run=first', folder=folder).code}")
    made = folder / "outputs" / "denoise" / "first"
    (folder / "m.ckpt").write_bytes((made / "checkpoints" / "best.ckpt").read_bytes())
    made.rename(folder / "runs")
    return said


def main(number: int, start: int) -> bool:
    counts: Counter[tuple[str, str]] = Counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        assert prepare(folder) == "0"
        for name in MAINS:  # or all would be refused, whatever is given
            said = apart(lambda name=name: outcome(name, (), folder))
            assert said.startswith("0"), f"{name} {list(GIVEN[name])}: {said}"

        @seed(start)
        @settings(
            max_examples=number,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(line=command_lines())
        def each(line: tuple[str, tuple[str, ...]]) -> None:
            name, arguments = line
            before = time.perf_counter()
            said = apart(lambda: outcome(name, arguments, folder))
            end = said.partition(" ")[0]
            counts[name, end] += 1
            if end != "2" or "-v" in sys.argv:
                print(f"{name} {list(arguments)} ({time.perf_counter() - before:.0f} s)\n    {said}", flush=True)

        each()
    for (name, end), found in sorted(counts.items()):
        print(f"{name:10} {end:8} {found}")
    print(f"{sum(counts.values())} command lines from seed {start}")
    return any(end not in ("0", "2") for _, end in counts)


if __name__ == "__main__":
    torch.set_num_threads(1)
    numbers = [int(each) for each in sys.argv[1:] if each.isdigit()]
    sys.exit(main(*numbers, *([200, int(time.time())][len(numbers) :])))
