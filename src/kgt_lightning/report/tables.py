"""The main table: its columns, what is marked in them, and the table as CSV and Markdown."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from kgt_lightning.report.comparison import Comparison, finite
from kgt_lightning.report.runs import Run
from kgt_lightning.report.settings import short, text
from kgt_lightning.runs.curves import read_curve

NOTHING = "–"  # noqa: RUF001  # an en dash stands for a value that is not there


@dataclass(frozen=True, kw_only=True)
class Column:
    """One number of every run."""

    key: str
    """Name in the CSV file."""
    title: str
    group: str
    """Test set, empty for what the run cost."""
    values: Sequence[float | None]
    show: Callable[[float], str]
    ranking: Sequence[int]
    """Of scores the runs that count, the best first."""

    def shown(self, index: int) -> str:
        """The value of a run as it is printed."""
        value = self.values[index]
        return NOTHING if value is None else self.show(value)

    def mark(self, index: int) -> str:
        """``best``, ``second`` or nothing; runs that print the same number share the mark."""
        if index not in self.ranking:
            return ""
        places = list(dict.fromkeys(self.shown(each) for each in self.ranking))
        place = places.index(self.shown(index))
        return ("best", "second")[place] if place < min(2, len(places) - 1) else ""


def columns(comparison: Comparison) -> list[Column]:
    """Scores of every test set, then what the runs cost; costs that no run knows are left out."""
    runs = comparison.runs
    scores = [
        Column(
            key=f"{test_set} {metric}",
            title=metric_title(metric),
            group=test_set,
            values=[comparison.score(run, test_set, metric) for run in runs],
            show=_decibels if metric.startswith("psnr") else _share,
            ranking=comparison.ranking(test_set, metric),
        )
        for test_set, metrics in comparison.metrics.items()
        for metric in metrics
    ]
    costs = [
        Column(key=key, title=title, group="", values=[value(run) for run in runs], show=show, ranking=())
        for key, (title, value, show) in COSTS.items()
    ]
    return scores + [each for each in costs if any(value is not None for value in each.values)]


def metric_title(metric: str) -> str:
    """A score as it is written: psnr_y as PSNR y."""
    name, _, rest = metric.partition("_")
    return " ".join(filter(None, [name.upper(), rest.replace("_", " ")]))


def samples_per_second(run: Run) -> float | None:
    """Median over the training."""
    rates = [rate for rate in read_curve(run.folder, "train/samples_per_second").values() if finite(rate)]
    return median(rates) if rates else None


def peak_memory_mb(run: Run) -> float | None:
    """As the run noted it, else the highest value in its training log."""
    logged = read_curve(run.folder, "train/peak_memory_mb") if run.peak_memory_mb is None else {}
    return run.peak_memory_mb if run.peak_memory_mb is not None else max(logged.values(), default=None)


def as_csv(comparison: Comparison) -> str:
    """All numbers in full, one row for each run."""
    own = columns(comparison)
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    settings = [short(key, comparison.settings) for key in comparison.settings]
    facts = ["status", "error", "commit", "hardware", "started", "task", "protocol"]
    writer.writerow(["run", "folder", *settings, *(column.key for column in own), *facts])
    for index, (name, run) in enumerate(zip(comparison.names, comparison.runs, strict=True)):
        values = [text(of_key[index]) if run.config else "" for of_key in comparison.settings.values()]
        numbers = ["" if column.values[index] is None else column.values[index] for column in own]
        ends = [run.status, run.error or "", run.commit or "", run.hardware or "", run.started or ""]
        writer.writerow([name, run.path, *values, *numbers, *ends, comparison.task, comparison.protocol])
    return stream.getvalue()


def as_markdown(comparison: Comparison) -> str:
    """The table as it is shown, the best scores bold."""
    own = columns(comparison)
    header = ["run", *(f"{column.group} {column.title}".strip() for column in own), "status"]
    rows = []
    for index, (name, run) in enumerate(zip(comparison.names, comparison.runs, strict=True)):
        marked = [("**{}**" if column.mark(index) == "best" else "{}").format(column.shown(index)) for column in own]
        rows.append([name, *marked, run.status if run.error is None else f"{run.status}: {run.error}"])
    lines = [header, ["---", *("---:" for _ in own), "---"], *rows]
    table = "\n".join(f"| {' | '.join(_plain(cell) for cell in line)} |" for line in lines)
    return f"## {_plain(comparison.task)}\n\nProtocol: {_plain(comparison.protocol)}\n\n{table}\n"


def amount(value: float) -> str:
    """Three digits and a prefix of 1000: 1.23 k, 4.56 M, 78.9 G."""
    for prefix in ("", " k", " M", " G", " T"):
        if abs(value) < 999.5:
            return f"{three_digits(value)}{prefix}"
        value /= 1000
    return f"{three_digits(value)} P"


def duration(seconds: float) -> str:
    """Seconds up to two minutes, minutes up to two hours, hours."""
    if seconds < 120:
        return f"{three_digits(seconds)} s"
    return f"{three_digits(seconds / 60)} min" if seconds < 7200 else f"{three_digits(seconds / 3600)} h"


def megabytes(value: float) -> str:
    """MB, from 1024 of them GB."""
    return f"{value:.0f} MB" if value < 1024 else f"{three_digits(value / 1024)} GB"


def three_digits(value: float) -> str:
    """At least three digits: 1.20, 12.0, 1200."""
    return f"{value:#.3g}".rstrip(".") if abs(value) < 999.5 else f"{value:.0f}"


def _decibels(value: float) -> str:
    return f"{value:.2f}"


def _share(value: float) -> str:
    return f"{value:.4f}"


COSTS: dict[str, tuple[str, Callable[[Run], float | None], Callable[[float], str]]] = {
    "parameters": ("parameters", lambda run: run.parameters, amount),
    "flops": ("FLOPs", lambda run: run.flops, amount),
    "seconds": ("time", lambda run: run.seconds, duration),
    "samples_per_second": ("samples/s", samples_per_second, three_digits),
    "peak_memory_mb": ("memory", peak_memory_mb, megabytes),
}
"""What a run costs, by column: its title, the value, and how it is printed."""


def _plain(cell: str) -> str:
    """Text that Markdown shows as it is."""
    escaped = cell.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")
    return " ".join(escaped.split())
