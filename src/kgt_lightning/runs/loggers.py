"""Loggers that Lightning has no ready form of."""

import csv
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

from kgt_lightning.config.extras import require


class AppendingCSV(Logger):
    """One file for each kind of metric, ``train.csv`` and ``val.csv``, that grows on after a resume.

    Lightning's own CSVLogger deletes the file of the run that is resumed. Metrics are named kind/name; every row has
    the step, and steps rise: a run that goes on from an earlier step drops the rows that it will write again. A name
    that appears later gets a new file beside the first (``train_2.csv``).
    """

    def __init__(self, *, folder: str) -> None:
        super().__init__()
        self.folder = Path(folder)
        self._checked: set[Path] = set()

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
            # Lightning counts from zero; here the step is the number of steps done, as in the names of panels.
            self._append(kind, {"step": None if step is None else int(step) + 1, **values})

    @rank_zero_only
    def cut(self, *, step: int) -> None:
        """Drop the rows of later steps, and a last line that a kill or a full disk left half written."""
        for file in self.folder.glob("*.csv"):
            columns = self._columns(file)
            if columns and columns[0] == "step":
                _keep_rows(file, before=step + 1)

    def _append(self, kind: str, row: dict[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        number = 1
        while True:
            file = self.folder / (f"{kind}.csv" if number == 1 else f"{kind}_{number}.csv")
            if file not in self._checked:
                # Half a line may stand in it, or the test of a run that had ended and now goes on.
                _keep_rows(file, before=row["step"])
                self._checked.add(file)
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


def _keep_rows(file: Path, *, before: int | None) -> None:
    """Leave the header and the whole rows, of steps before this one."""
    lines = file.read_bytes().splitlines(keepends=True) if file.exists() else []
    kept = [line for line in lines if line.endswith(b"\n")]
    if before is not None:
        kept = [line for i, line in enumerate(kept) if i == 0 or int(line.partition(b",")[0] or 0) < before]
    if kept != lines:
        aside = file.with_name(file.name + ".part")
        aside.write_bytes(b"".join(kept))
        os.replace(aside, file)


def cut_logs(loggers: Sequence[Logger], *, step: int) -> None:
    """Drop from the files of the loggers what lies beyond this step, from which the run goes on."""
    for logger in loggers:
        if isinstance(logger, AppendingCSV):
            logger.cut(step=step)


def weights_and_biases(
    *, project: str, name: str | None, group: str | None, job_type: str, tags: Sequence[str | None], folder: str
) -> WandbLogger:
    """Logger to Weights & Biases: online with an account, offline without one, to be sent later by ``wandb sync``.

    Args:
        project: at Weights & Biases.
        name: of the run; None takes what was set on the command line, see :func:`readable_name`.
        group: of runs, such as a sweep.
        job_type: of the run inside the group.
        tags: to find it by; None is left out.
        folder: of the run; where it goes on, so does the run at Weights & Biases.

    """
    import wandb

    mode = os.environ.get("WANDB_MODE")
    # Lightning's offline logger sets the mode "dryrun", which the next job of a multirun then finds.
    offline = mode in ("offline", "dryrun") or (mode is None and not wandb.login(prompt=False, verify=False))
    if offline and mode is None:
        rank_zero_info("wandb: no account on this machine, the run is kept offline in %s/wandb", folder)
    Path(folder).mkdir(parents=True, exist_ok=True)
    # What Lightning's own argument sets in the environment, wandb no longer reads after the login.
    given: dict[str, Any] = {"mode": "offline"} if offline else {}
    before = sorted(Path(folder, "wandb").glob("*run-*-*"), key=lambda run: run.stat().st_mtime)
    overrides = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    return WandbLogger(
        project=project,
        name=name or readable_name(folder, overrides),
        id=before[-1].name.rpartition("-")[2] if before else None,
        group=group,
        job_type=job_type,
        tags=[tag for tag in tags if tag],
        save_dir=folder,
        offline=offline,
        **given,
    )


def tensorboard(*, save_dir: str, name: str, version: str) -> TensorBoardLogger:
    """Lightning's logger to TensorBoard."""
    require("logger=tensorboard", "tensorboard", "tensorboard")
    return TensorBoardLogger(save_dir, name=name, version=version)


NOT_NAMING = ("run", "resume", "sweep", "retry", "data_root", "logger", "callbacks", "hydra", "experiment")
"""Arguments, or their sections, that say nothing about what a run is to find out."""


def readable_name(folder: str, overrides: Sequence[str]) -> str:
    """Name of a run: that of its folder, but ``sr k=64 seed=1`` for task=sr model.k=64 seed=1 in one named by the time.

    Args:
        folder: of the run.
        overrides: arguments it was started with.

    """
    name = Path(folder).name
    if not re.match(r"\d{4}-\d\d-\d\d_", name):
        return name
    pairs = [each.lstrip("+~").partition("=") for each in overrides]
    said = [(key, value) for key, _, value in pairs if re.split("[./]", key)[0] not in NOT_NAMING]
    return " ".join(value if key == "task" else f"{key.rpartition('.')[2]}={value}" for key, value in said) or name


def log_results(
    loggers: Sequence[Logger], *, means: Mapping[str, Mapping[str, float]], rows: Sequence[Mapping[str, Any]], step: int
) -> None:
    """Give the means over each test set to all loggers, and a table of the images to those that have tables.

    Args:
        loggers: of the run.
        means: scores by test set.
        rows: scores of every image, with the same columns.
        step: that was reached.

    """
    # All at once: one row in a file.
    values = {
        f"test/{test_set.replace(' ', '_')}_{name}": value
        for test_set, mean in means.items()
        for name, value in mean.items()
        if name != "images"
    }
    for logger in loggers:
        logger.log_metrics(values, step=step)
        if isinstance(logger, WandbLogger):
            columns = list(rows[0])
            logger.log_table("test/images", columns, [[row[name] for name in columns] for row in rows], step=step)


@contextmanager
def finishing(loggers: Sequence[Logger]) -> Iterator[None]:
    """Runs at Weights & Biases ended with the block: the next job of a multirun would go on writing to them."""
    failed = True
    try:
        yield
        failed = False
    finally:
        if any(isinstance(logger, WandbLogger) for logger in loggers):
            import wandb

            wandb.finish(exit_code=int(failed))
