"""``metrics.jsonl``, the log of a run: read back, as CSV, and drawn."""

import csv
import re
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from kgt_lightning.system.files import read_json_lines, write_figure
from kgt_lightning.system.tables import write_csv

LOG = "metrics.jsonl"
"""One object a line, such as ``{"step": 10, "train/loss": 0.1, "train/lr": 0.0005}``; the step counts steps done."""


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Lines of the log of a run as they were written; what a kill left half written is passed over.

    Of a run that was logged before there was ``metrics.jsonl``, the rows of its ``train.csv``, ``val.csv`` and so on.
    """
    file = folder / LOG
    if not file.exists():
        return list(_read_csv(folder))
    return [line for line in read_json_lines(file) if isinstance(line.get("step"), int)]


def read_metrics(folder: Path) -> dict[str, dict[int, float]]:
    """Values by step of every metric of a run; of a repeated step the later one counts."""
    metrics: dict[str, dict[int, float]] = {}
    # Sorting keeps the order of lines of the same step.
    for line in sorted(read_log(folder), key=lambda line: line["step"]):
        for name, value in line.items():
            if name != "step" and isinstance(value, int | float):
                metrics.setdefault(name, {})[line["step"]] = float(value)
    return metrics


def read_curve(folder: Path, name: str) -> dict[int, float]:
    """Values by step of one metric of a run, such as ``val/psnr``; empty if it was not logged."""
    return read_metrics(folder).get(name, {})


def write_csv_files(folder: Path) -> None:
    """Write the log as ``train.csv``, ``val.csv`` and ``test.csv``, a column for each metric of the kind."""
    kinds: dict[str, dict[int, dict[str, Any]]] = {}
    for name, values in read_metrics(folder).items():
        kind, _, column = name.rpartition("/")
        rows = kinds.setdefault(kind.replace("/", "_"), {})
        for step, value in values.items():
            rows.setdefault(step, {"step": step})[column] = value
    for kind, rows in kinds.items():
        write_csv(folder / f"{kind}.csv", (rows[step] for step in sorted(rows)))


def draw_curves(folder: Path) -> Path | None:
    """``curves.png`` in the folder of a run, from its log; None if there is nothing to draw."""
    # Only runs that end need matplotlib, and it is slow to import.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    metrics = read_metrics(folder)
    score = next((name for name in metrics if name.startswith("val/")), "")
    losses, scores = metrics.get("train/loss"), metrics.get(score)
    if not losses or not scores:
        return None
    figure = Figure(figsize=(8, 3), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    left.plot(losses.keys(), losses.values(), linewidth=0.6, color="tab:gray")
    left.plot(losses.keys(), smooth(list(losses.values())), color="tab:blue")
    left.set(title="training loss", xlabel="step", yscale="log" if min(losses.values()) > 0 else "linear")
    right.plot(scores.keys(), scores.values(), marker="o", color="tab:orange")
    right.set(title=f"{score}, last {list(scores.values())[-1]:.4g}", xlabel="step")
    right.ticklabel_format(axis="y", useOffset=False)
    right.grid(alpha=0.3)
    file = folder / "curves.png"
    write_figure(file, figure, dpi=100)
    return file


def smooth(values: Sequence[float], share: float = 0.05) -> list[float]:
    """Mean of each value and those before it, over this share of all."""
    reach = max(1, round(len(values) * share))
    sums = list(accumulate(values, initial=0.0))
    return [(sums[i] - sums[max(0, i - reach)]) / min(i, reach) for i in range(1, len(sums))]


def _read_csv(folder: Path) -> Iterator[dict[str, Any]]:
    """Rows of ``<kind>.csv`` and, where a metric came later, ``<kind>_2.csv`` and so on."""
    for file in sorted(folder.glob("*.csv"), key=lambda file: (len(file.stem), file.stem)):
        kind = re.sub(r"_\d+$", "", file.stem)
        with file.open(newline="", encoding="utf-8", errors="replace") as stream:
            reader = csv.DictReader(stream)
            for row in reader if (reader.fieldnames or [""])[0] == "step" else ():
                if None in row or None in row.values():  # too long or too short
                    continue
                try:
                    values = {f"{kind}/{name}": float(value) for name, value in row.items() if value and name != "step"}
                    yield {"step": int(row["step"]), **values}
                except ValueError:
                    continue
