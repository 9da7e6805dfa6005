"""What a sweep knows of its jobs from the records in their folders, however they are ordered and named."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from kgt_lightning.runs.record import FAILED, FINISHED, OUT_OF_MEMORY, PRUNED, config_key, read_record


@dataclass(frozen=True, kw_only=True)
class Job:
    """One point of a sweep."""

    name: str
    folder: Path
    config: DictConfig
    """Composed, its folder filled in."""
    hydra: DictConfig
    """Section hydra of the same."""
    overrides: list[str]


def find_folders(configs: Sequence[DictConfig], *, folder: Path, swept: Sequence[Sequence[str]]) -> list[Job]:
    """Jobs with the folders that hold their records, or else with new ones named after what was swept."""
    records = {each.parent: read_record(each.parent) for each in sorted(folder.glob("*/run.json"))}
    taken = set(records)
    jobs: list[Job] = []
    for config, chosen in zip((each.copy() for each in configs), swept, strict=True):
        OmegaConf.set_struct(config, False)
        hydra = config.pop("hydra")
        overrides = list(hydra.overrides.task)
        key = config_key(config)
        # Jobs of the same key differ in what does not shape the result, such as the number of devices.
        same = [where for where, record in records.items() if record and record["key"] == key and where in taken]
        same.sort(key=lambda where: (records[where] or {})["overrides"] != overrides)
        name = job_name(chosen)
        place = same[0] if same else folder / name
        if same:
            taken.remove(place)
            records.pop(place)
        else:
            number = 2
            while place in taken or place in [job.folder for job in jobs]:
                place, number = folder / f"{name}-{number}", number + 1
        config.run_dir, config.run, config.sweep = str(place.absolute()), place.name, folder.name
        jobs.append(Job(name=place.name, folder=place, config=config, hydra=hydra, overrides=overrides))
    return jobs


def job_name(swept: Sequence[str]) -> str:
    """Short name of a folder: ``k=64,seed=1`` for model.k=64 seed=1."""
    keys = [each.lstrip("+~").partition("=")[0] for each in swept]
    leaves = [key.rpartition(".")[2] for key in keys]
    parts = [
        f"{leaf if leaves.count(leaf) == 1 else key}={_short(each.partition('=')[2])}"
        for each, key, leaf in zip(swept, keys, leaves, strict=True)
    ]
    return re.sub(r"[^\w.,=+-]+", "_", re.sub(r"[][{}'\" ]", "", ",".join(parts)))[:100].strip(".") or "job"


def _short(value: str) -> str:
    """A fraction with four digits; what is searched has all that a float has."""
    return f"{float(value):.4g}" if re.fullmatch(r"-?\d+\.\d{5,}|-?\d\.\d{4,}e-?\d+", value) else value


def is_finished(record: dict[str, Any] | None, retry: bool) -> bool:
    """Whether nothing is to be done for a job with this record."""
    if record is None:
        return False
    return record["status"] in (FINISHED, PRUNED) or (record["status"] in (FAILED, OUT_OF_MEMORY) and not retry)


def should_run(config: DictConfig, folder: Path) -> bool:
    """Whether a job is to be run; its configuration is then set to resume what there is.

    For launchers that know nothing of records and start every job: they number the folders.

    Raises:
        ValueError: if the job failed before and is not to be tried again, or the folder is that of another job.

    """
    record = read_record(folder)
    if record is None:
        return True
    if record["key"] != config_key(config):
        raise ValueError(f"{folder} holds another job ({' '.join(record['overrides'])}): name another sweep")
    if record["status"] in (FINISHED, PRUNED):
        return False
    if is_finished(record, config.retry):
        raise ValueError(f"{record['status']} before: {record['error']}; retry=true tries again")
    config.resume = True
    return True


def read_score(folder: Path) -> float | None:
    """First score of the first test set in results.json, None if the run was not tested because it was pruned."""
    if not (folder / "results.json").exists():
        return None
    means = json.loads((folder / "results.json").read_text())["means"]
    return float(next(iter(next(iter(means.values())).values())))
