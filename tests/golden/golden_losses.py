"""Golden losses: twenty seeded training steps of every task on the CPU, and a checksum of the weights after them.

A change that is only to move or rename code leaves them as they are:

    python tests/golden/golden_losses.py          compares with golden_losses.json; exit code 1 where they differ
    python tests/golden/golden_losses.py --write  writes that file anew: only with a change that is meant to change it

On the machine and with the versions that wrote them, losses and weights are equal bit by bit; elsewhere losses agree
within 1e-4 of their value in the first two steps, and within a hundredth after them.
"""

import argparse
import hashlib
import json
import math
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from lightning.pytorch.callbacks import Callback

from kgt_lightning.config.command import CONF_DIR

FILE = Path(__file__).with_suffix(".json")
TASKS = ("camera", "deblur", "demosaic", "denoise", "jpeg", "sr", "weather")
TOLERANCE, DRIFT, CLOSE = 1e-4, 1e-2, 2
"""On another machine, in the first steps and after them, and how many are the first: sums in another order choose
another neighbour where two are equally similar, and from there on two trainings go their own ways."""
STEPS = 20
SMALL = (
    "model.width=16",
    "model.window=8",
    "model.k=16",
    "model.layout.depths=[2,2]",
    "model.layout.heads=2",
    "data.patch=32",
    "data.batch_size=2",
    f"trainer.max_steps={STEPS}",
    "seed=1",
)


OWN = {"camera": [f"degradation.profiles=[{FILE.parents[1] / 'data' / 'noiseprofiles.json'}]"]}
"""Arguments of one task alone."""


class Losses(Callback):
    """Keeps the loss of every step."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.values.append(float(outputs["loss"]))


def run(task: str) -> dict[str, Any]:
    """Losses of the steps and SHA-256 of the weights after them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # sums over several threads may differ in the last bit
    try:
        with tempfile.TemporaryDirectory() as folder, initialize_config_dir(str(CONF_DIR), version_base="1.3"):
            config = compose(
                "train",
                [
                    *(f"task={task}", *SMALL, *OWN.get(task, ())),
                    *("data_root=null", f"run_dir={folder}", f"data.cache_dir={folder}"),
                ],
            )
            lightning.seed_everything(config.seed, workers=True, verbose=False)
            data, module, losses = instantiate(config.data), instantiate(config.module), Losses()
            trainer = lightning.Trainer(
                accelerator="cpu",
                max_steps=STEPS,
                callbacks=[losses],
                gradient_clip_val=config.trainer.gradient_clip_val,
                use_distributed_sampler=False,
                check_val_every_n_epoch=None,
                limit_val_batches=0,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
            )
            trainer.fit(module, data)
    finally:
        torch.set_num_threads(before)
    digest = hashlib.sha256()
    for _, weights in sorted(module.state_dict().items()):
        digest.update(weights.numpy().tobytes())
    return {"losses": losses.values, "weights": digest.hexdigest()}


def machine() -> dict[str, str]:
    """What has to be the same for equal bits."""
    models = [line for line in _lines(Path("/proc/cpuinfo")) if line.startswith("model name")]
    processor = models[0].partition(":")[2].strip() if models else platform.processor()
    return {"processor": processor, "torch": torch.__version__, "numpy": np.__version__}


def difference(found: dict[str, Any], golden: dict[str, Any], *, same_machine: bool) -> str | None:
    """What differs, None if nothing does."""
    for step, (ours, theirs) in enumerate(zip(found["losses"], golden["losses"], strict=True), start=1):
        tolerance = 0 if same_machine else TOLERANCE if step <= CLOSE else DRIFT
        if not math.isclose(ours, theirs, rel_tol=tolerance):
            return f"loss {ours!r} at step {step}, golden {theirs!r}"
    if same_machine and found["weights"] != golden["weights"]:
        return "the losses are equal, the weights after the last step are not"
    return None


def _lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def main() -> None:
    """Compare, or write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write golden_losses.json anew")
    write = parser.parse_args().write
    found = {task: run(task) for task in TASKS}
    if write:
        FILE.write_text(json.dumps({"machine": machine(), "tasks": found}, indent=1) + "\n")
        print(f"{FILE} is written")
        return
    golden = json.loads(FILE.read_text())
    same = golden["machine"] == machine()
    print("same machine and versions: bit by bit" if same else f"another machine: within {TOLERANCE:g}")
    wrong = {task: difference(found[task], golden["tasks"][task], same_machine=same) for task in TASKS}
    for task, text in wrong.items():
        print(f"{task:10s} {text or 'equal'}")
    sys.exit(int(any(wrong.values())))


if __name__ == "__main__":
    main()
