"""A run: its folder, and run.json in it, which says what was asked for, where it ran and how it ended."""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf

import kgt_lightning
from kgt_lightning.config.errors import one_line
from kgt_lightning.config.keys import NOT_SHAPING
from kgt_lightning.runs.cost import count_flops
from kgt_lightning.system.files import FULL, LAST, InUseError, alone_in, write_atomic
from kgt_lightning.system.hardware import commit, hardware, is_out_of_memory, process_peak_mb

RUNNING, FINISHED, PRUNED = "running", "finished", "pruned"
INTERRUPTED, FAILED, OUT_OF_MEMORY = "interrupted", "failed", "out of memory"
_SPARE = 2000
"""Bytes that run.json keeps for how the run ends: a full disk may be why."""
STOPPED = "stopped from outside before its end"


def is_finished(state: Mapping[str, Any] | None, *, retry: bool) -> bool:
    """Whether nothing is left to do for the run with this run.json; decided here and nowhere else.

    A run that ended, or that its search stopped, is done for good; one that failed, unless failed ones are tried again.
    One that was interrupted, or was killed and still says that it is running, goes on.
    """
    done = (FINISHED, PRUNED) if retry else (FINISHED, PRUNED, FAILED, OUT_OF_MEMORY)
    return (state or {}).get("status") in done


class Run:
    """One run of a configuration in its folder; only the first of its processes writes run.json."""

    def __init__(self, config: DictConfig, folder: Path, *, overrides: list[str]) -> None:
        self.config = config
        self.folder = folder
        self.overrides = overrides
        """Arguments that the configuration was composed with."""
        self.before = read_state(folder)
        """run.json as earlier starts left it."""
        self.pruned: str | None = None
        """Why its search ended the run before its end, if it did."""
        self._state: dict[str, Any] = {}
        self._since = time.monotonic()

    @property
    def state(self) -> dict[str, Any]:
        """run.json as it is now, empty if there is none."""
        return read_state(self.folder) or {}

    @property
    def another(self) -> str | None:
        """Arguments of another run that the folder holds; None if it holds none, or this one."""
        if self.before is None or self.before["key"] == config_key(self.config):
            return None
        return " ".join(self.before["overrides"])

    def should_run(self) -> bool:
        """Whether a launcher that starts every job, in numbered folders, has to run this one; it then goes on.

        Raises:
            ValueError: if it failed before and is not to be tried again, or the folder is that of another run.

        """
        self.config.resume = True
        if self.before is None:
            return True
        if (given := self.another) is not None:
            raise ValueError(f"{self.folder} holds another job ({given}): name another sweep")
        finished = is_finished(self.before, retry=self.config.retry)
        if finished and not is_finished(self.before, retry=True):
            raise ValueError(f"{self.before['status']} before: {self.before['error']}; retry=true tries again")
        return not finished

    @contextmanager
    def recording(self) -> Iterator[None]:
        """The run is made in the block, which calls ``start``; how it ends is written in any case.

        Raises:
            InUseError: if another process makes a run in the same folder.

        """
        with ExitStack() as stack:
            if _rank() == 0:
                stack.enter_context(alone_in(self.folder))
                remove_failures(self.folder)
            try:
                yield
            except BaseException as error:
                self._end_with(error)
                raise
            self.end(FINISHED if self.pruned is None else PRUNED, self.pruned)

    @rank_zero_only
    def start(self, *, device: torch.device, devices: int) -> None:
        """Write run.json for a run that begins, or goes on."""
        flops, module = count_flops(self.config, height=256, width=256)
        self._state = self._asked_for(RUNNING) | {
            "seconds": self._seconds_before(),
            "hardware": hardware(device, devices=devices),
            "parameters": sum(p.numel() for p in module.parameters()),
            "flops": flops[""],
        }
        write_state(self.folder, self._state)

    @rank_zero_only
    def end(self, status: str, error: str | None) -> None:
        """Write how it ended."""
        if not self._state:
            # It failed before its start; what is refused leaves the state of another run as it is.
            there = read_state(self.folder)
            if there and not (self.config.resume and there["key"] == config_key(self.config)):
                return
            self._state = self._asked_for(status)
        self._state |= {
            "status": status,
            "error": error,
            "seconds": round((self._state.get("seconds") or 0) + time.monotonic() - self._since, 1),
            "peak_memory_mb": round(process_peak_mb()),
        }
        write_state(self.folder, self._state)

    def settle(self, status: str, error: str, *, killed: bool = False) -> None:
        """See to it that run.json tells the end: this one, if the run itself could not write it, or was killed."""
        with suppress(InUseError), alone_in(self.folder):
            after = read_state(self.folder)
            if after is None:
                self.end(status, error)
            elif after["status"] == RUNNING or after == self.before or (killed and after["status"] != FINISHED):
                write_state(self.folder, {**after, "status": status, "error": error})

    def _end_with(self, error: BaseException) -> None:
        """Write that it failed; another process than the first leaves its reason beside run.json."""
        status, reason = how_it_ended(error)
        rank = _rank()
        if rank == 0:
            # When another has failed this one loses its connection; the reason is what that one has left by then.
            self.end(*(read_failure(self.folder) or (status, reason)))
        elif self.folder.is_dir():
            of = f" of {torch.distributed.get_world_size()}" if torch.distributed.is_initialized() else ""
            content = json.dumps([status, f"process {rank}{of}: {reason}"])
            write_atomic(self.folder / f"rank{rank}.json", content + "\n")

    def _asked_for(self, status: str) -> dict[str, Any]:
        """The whole of run.json, empty where that is known later."""
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
        there = read_state(self.folder) if self.config.resume else None
        if not there:
            return 0.0
        seconds = there["seconds"] or 0.0
        last = self.folder / "checkpoints" / LAST
        if there["peak_memory_mb"] is None and last.exists():
            # It was killed, and could not write its end: what came after the last checkpoint is done again.
            seconds += max(last.stat().st_mtime - datetime.fromisoformat(there["started"]).timestamp(), 0.0)
        return seconds


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


def read_state(folder: Path) -> dict[str, Any] | None:
    """run.json of a run, None if there is none.

    Raises:
        ValueError: if the file is damaged.

    """
    file = folder / "run.json"
    if not file.exists():
        return None
    try:
        state = json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file} is damaged ({error}): remove it, the run is then taken as new") from error
    return state


def write_state(folder: Path, state: Mapping[str, Any]) -> None:
    """Write run.json."""
    folder.mkdir(parents=True, exist_ok=True)
    file, content = folder / "run.json", json.dumps(state, indent=2)
    try:
        write_atomic(file, content + " " * _SPARE + "\n")
    except OSError as error:
        there = file.stat().st_size if file.exists() else 0
        if error.errno not in FULL or there < len(content):
            raise
        # Its place on the disk is its own already.
        with file.open("r+") as stream:
            stream.write(content.ljust(there - 1) + "\n")


def read_score(folder: Path) -> float | None:
    """First score of the first test set in results.json, None if the run was not tested."""
    file = folder / "results.json"
    if not file.exists():
        return None
    means = json.loads(file.read_text())["means"]
    return float(next(iter(next(iter(means.values())).values())))


def how_it_ended(error: BaseException) -> tuple[str, str]:
    """Status and one line for a run that was left with this error."""
    if is_out_of_memory(error):
        return OUT_OF_MEMORY, one_line(error)
    if isinstance(error, Exception):
        return FAILED, one_line(error) or type(error).__name__
    return INTERRUPTED, STOPPED


def read_failure(folder: Path) -> tuple[str, str] | None:
    """Status and one line of the first process that failed, other than the one that writes run.json."""
    files = sorted(folder.glob("rank*.json"), key=lambda file: file.stat().st_mtime_ns)
    for file in files:
        status, error = json.loads(file.read_text())
        if status != INTERRUPTED:
            return status, error
    return None


def remove_failures(folder: Path) -> None:
    """Remove what processes of an earlier start left."""
    for file in folder.glob("rank*.json"):
        file.unlink()


def _rank() -> int:
    return rank_zero_only.rank  # type: ignore[attr-defined]
