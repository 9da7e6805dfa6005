"""run.json: what a run was asked for, where it ran, and how it ended."""

import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf

import kgt_lightning
from kgt_lightning.config.errors import one_line
from kgt_lightning.runs.cost import count_flops
from kgt_lightning.system.files import LAST, write_atomic
from kgt_lightning.system.hardware import commit, hardware, is_out_of_memory, process_peak_mb

NOT_SHAPING = (
    "run",
    "run_dir",
    "sweep",
    "resume",
    "retry",
    "logger",
    "callbacks.last",
    "callbacks.panels",
    "callbacks.key_graphs",
    "callbacks.gradient_norm",
    "callbacks.progress",
    "callbacks.pruning",
    "callbacks.speed",
    "data.cache_dir",
    "data.workers",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.strategy",
    "trainer.plugins",
    "trainer.enable_progress_bar",
    "trainer.log_every_n_steps",
)
"""Parts of the configuration that do not shape the result: runs that differ in nothing else have the same key.

What lies at a path is no such part, but the path is: other images may come to lie in a folder, and the checkpoint
that ``weights`` names may be gone when the run that began with it is resumed.
"""

FINISHED, PRUNED, FAILED, OUT_OF_MEMORY = "finished", "pruned", "failed", "out of memory"
RUNNING, INTERRUPTED = "running", "interrupted"


def is_shaping(key: str) -> bool:
    """Whether an argument of this dotted key may shape the result by itself; of a recipe the sweep is named already."""
    return not any(key == each or key.startswith(f"{each}.") for each in (*NOT_SHAPING, "experiment", "data_root"))


def config_key(config: DictConfig) -> str:
    """Hash of what shapes the result of a run."""
    shaping = config.copy()
    # Folders of the run are named after it.
    shaping.run_dir = shaping.run = ""
    resolved: Any = OmegaConf.to_container(shaping, resolve=True, throw_on_missing=True)
    for name in NOT_SHAPING:
        *parents, last = name.split(".")
        section = resolved
        for parent in parents:
            section = section.get(parent) or {}
        section.pop(last, None)
    return hashlib.sha256(json.dumps(resolved, sort_keys=True).encode()).hexdigest()[:16]


def read_record(folder: Path) -> dict[str, Any] | None:
    """run.json of a run, None if there is none.

    Raises:
        ValueError: if the file is damaged.

    """
    file = folder / "run.json"
    if not file.exists():
        return None
    try:
        record = json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file} is damaged ({error}): remove it, the run is then taken as new") from error
    return record


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Write run.json."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "run.json", json.dumps(record, indent=2) + "\n")


def how_it_ended(error: BaseException) -> tuple[str, str]:
    """Status and one line for a run that was left with this error."""
    if is_out_of_memory(error):
        return OUT_OF_MEMORY, one_line(error)
    if isinstance(error, Exception):
        return FAILED, one_line(error) or type(error).__name__
    return INTERRUPTED, "stopped from outside before its end"


class RunRecord:
    """run.json of one run; only the first of its processes writes."""

    def __init__(self, config: DictConfig, folder: Path, *, overrides: list[str]) -> None:
        self.config = config
        self.folder = folder
        self.overrides = overrides
        self.content: dict[str, Any] = {}
        self.pruned: str | None = None
        """Why its search ended the run before its end, if it did."""
        self._since = time.monotonic()

    @rank_zero_only
    def start(self, *, device: torch.device, devices: int) -> None:
        """Write it for a run that begins, or goes on."""
        before = self._seconds_before()
        flops, module = count_flops(self.config, height=256, width=256)
        self.content = self._asked_for(RUNNING) | {
            "seconds": before,
            "hardware": hardware(device, devices=devices),
            "parameters": sum(p.numel() for p in module.parameters()),
            "flops": flops,
        }
        write_record(self.folder, self.content)

    @rank_zero_only
    def end(self, status: str, error: str | None) -> None:
        """Write how it ended."""
        if not self.content:
            # It failed before its start; what is refused leaves the record of another run as it is.
            there = read_record(self.folder)
            if there and not (self.config.resume and there["key"] == config_key(self.config)):
                return
            self.content = self._asked_for(status)
        self.content |= {
            "status": status,
            "error": error,
            "seconds": round((self.content.get("seconds") or 0) + time.monotonic() - self._since, 1),
            "peak_memory_mb": round(process_peak_mb()),
        }
        write_record(self.folder, self.content)

    def end_with(self, error: BaseException) -> None:
        """Write that it failed; another process than the first leaves its reason beside run.json."""
        status, reason = how_it_ended(error)
        rank: int = rank_zero_only.rank  # type: ignore[attr-defined]
        if rank == 0:
            self.end(status, reason)
        elif self.folder.is_dir():
            write_atomic(self.folder / f"rank{rank}.json", json.dumps([status, reason]) + "\n")

    def _asked_for(self, status: str) -> dict[str, Any]:
        """The whole record, empty where that is known later."""
        return {
            "task": self.config.task,
            "status": status,
            "error": None,
            "overrides": self.overrides,
            "config": OmegaConf.to_container(self.config, resolve=True),
            "key": config_key(self.config),
            "started": datetime.now().astimezone().isoformat(timespec="seconds"),
            "seconds": None,
            "hardware": None,
            "commit": commit(),
            "version": kgt_lightning.__version__,
            "parameters": None,
            "flops": None,
            "peak_memory_mb": None,
        }

    def _seconds_before(self) -> float:
        """What earlier starts took for the steps that are kept."""
        there = read_record(self.folder) if self.config.resume else None
        if not there:
            return 0.0
        seconds = there["seconds"] or 0.0
        last = self.folder / "checkpoints" / LAST
        if there["peak_memory_mb"] is None and last.exists():
            # It was killed, and could not write its end: what came after the last checkpoint is done again.
            seconds += max(last.stat().st_mtime - datetime.fromisoformat(there["started"]).timestamp(), 0.0)
        return seconds


def read_failures(folder: Path) -> dict[int, tuple[str, str]]:
    """Status and one line of each other process of the run that failed, by its rank."""
    failures = {}
    for file in folder.glob("rank*.json"):
        status, error = json.loads(file.read_text())
        failures[int(file.stem.removeprefix("rank"))] = (status, error)
    return failures


def remove_failures(folder: Path) -> None:
    """Remove what processes of an earlier start left."""
    for file in folder.glob("rank*.json"):
        file.unlink()


@contextmanager
def recording(config: DictConfig, folder: Path, *, overrides: list[str]) -> Iterator[RunRecord]:
    """Record of the run in the block, which calls its ``start``; how it ends is written in any case."""
    record = RunRecord(config, folder, overrides=overrides)
    try:
        yield record
    except BaseException as error:
        record.end_with(error)
        raise
    record.end(FINISHED if record.pruned is None else PRUNED, record.pruned)
