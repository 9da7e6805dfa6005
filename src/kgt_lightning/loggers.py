"""Loggers that Lightning has no ready form of."""

import csv
import os
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only


class AppendingCSV(Logger):
    """One file for each kind of metric, ``train.csv`` and ``val.csv``, that only grows, also after a resume.

    Lightning's own CSVLogger deletes the file of the run that is resumed. Metrics are named kind/name; every row has
    the step. A name that appears later gets a new file beside the first (``train_2.csv``): nothing is rewritten.
    """

    def __init__(self, *, folder: str) -> None:
        super().__init__()
        self.folder = Path(folder)

    @property
    def name(self) -> str:
        """Kind of this logger."""
        return "csv"

    @property
    def version(self) -> None:
        """None: the folder says which run it is."""

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: the configuration stands in .hydra/ beside the files and in every checkpoint."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append one row for each kind."""
        kinds: dict[str, dict[str, float]] = {}
        for key, value in metrics.items():
            kind, _, name = key.rpartition("/")
            if kind:  # Lightning adds the epoch, which means nothing here
                kinds.setdefault(kind.replace("/", "_"), {})[name] = value
        for kind, values in kinds.items():
            self._append(kind, {"step": step, **values})

    def _append(self, kind: str, row: dict[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        number = 1
        while True:
            file = self.folder / (f"{kind}.csv" if number == 1 else f"{kind}_{number}.csv")
            columns = self._columns(file)
            if columns is None or set(columns) >= set(row):
                break
            number += 1
        with file.open("a", newline="") as stream:
            writer = csv.DictWriter(stream, columns or list(row), restval="")
            if columns is None:
                writer.writeheader()
            writer.writerow(row)

    @staticmethod
    def _columns(file: Path) -> list[str] | None:
        """Header of the file, None if it has none yet."""
        if not file.exists() or not file.stat().st_size:
            return None
        with file.open(newline="") as stream:
            return next(csv.reader(stream))


def weights_and_biases(*, project: str, name: str, group: str | None, tags: list[str], folder: str) -> WandbLogger:
    """Logger to Weights & Biases: online with an account, offline without one, to be sent later by ``wandb sync``."""
    import wandb

    offline = "WANDB_MODE" not in os.environ and not wandb.api.api_key
    if offline:
        rank_zero_info("wandb: no account on this machine, the run is kept offline in %s/wandb", folder)
    Path(folder).mkdir(parents=True, exist_ok=True)
    return WandbLogger(project=project, name=name, group=group, tags=tags, save_dir=folder, offline=offline)
