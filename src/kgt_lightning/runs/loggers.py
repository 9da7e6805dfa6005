"""Loggers that Lightning has no ready form of."""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

from kgt_lightning.config.arguments import as_given
from kgt_lightning.config.extras import require
from kgt_lightning.config.keys import NOT_NAMING, lies_in
from kgt_lightning.runs.curves import LOG, read_log, write_csv_files
from kgt_lightning.system.files import append_json_line, write_atomic


class JSONLinesLogger(Logger):
    """Appends what is logged to ``metrics.jsonl``, one line for each step and call; see :mod:`.curves`.

    Lightning's own CSVLogger deletes the file of a run that is resumed, and has no place for a metric that comes later.

    Args:
        folder: of the run.
        csv: whether ``train.csv``, ``val.csv`` and ``test.csv`` are written from it when the run ends.

    """

    def __init__(self, *, folder: str, csv: bool) -> None:
        super().__init__()
        self.folder = Path(folder)
        self.csv = csv

    @property
    def name(self) -> str:
        """Kind of this logger."""
        return "jsonl"

    @property
    def version(self) -> None:
        """None: the folder says which run it is."""

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: the configuration stands in .hydra/ beside the file and in every checkpoint."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append one line."""
        # Lightning adds the epoch, which means nothing here.
        values = {name: value for name, value in metrics.items() if "/" in name}
        if not values or step is None:
            return
        # Lightning counts from zero; here the step is the number of steps done, as in the names of panels.
        append_json_line(self.folder / LOG, {"step": int(step) + 1, **values})

    @rank_zero_only
    def cut(self, *, step: int) -> None:
        """Drop the lines of later steps, and what a kill or a full disk left half written."""
        lines = read_log(self.folder)
        if lines or (self.folder / LOG).exists():
            kept = [json.dumps(line) + "\n" for line in lines if line["step"] <= step]
            write_atomic(self.folder / LOG, "".join(kept))


def cut_logs(loggers: Sequence[Logger], *, step: int) -> None:
    """Drop from the files of the loggers what lies beyond this step, from which the run goes on."""
    for logger in loggers:
        if isinstance(logger, JSONLinesLogger):
            logger.cut(step=step)


def id_in(folder: str) -> str:
    """Id of a run in the name of its folder: offline-run-<time>-<id>, and -1 for a second start in one second."""
    return folder.removeprefix("offline-").split("-")[2]


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
    overrides = as_given(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []
    return WandbLogger(
        project=project,
        name=name or readable_name(folder, overrides),
        id=id_in(before[-1].name) if before else None,
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
    said = [(key, value) for key, _, value in pairs if value and not lies_in(key, NOT_NAMING)]
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
    """After the block the CSV files that were asked for are written, and runs at Weights & Biases have ended.

    The next job of a multirun would go on writing to these.
    """
    failed = True
    try:
        yield
        failed = False
    finally:
        for logger in loggers:
            if isinstance(logger, JSONLinesLogger) and logger.csv:
                rank_zero_only(write_csv_files)(logger.folder)
        if any(isinstance(logger, WandbLogger) for logger in loggers):
            import wandb

            wandb.finish(exit_code=int(failed))
