"""The main table: its columns, what is marked in them, and the table as CSV and Markdown."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, NamedTuple

from kgt_lightning.report.comparison import Comparison, finite, short, text
from kgt_lightning.report.runs import Run
from kgt_lightning.system.tables import Table, plain

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
        places = list(dict.fromkeys(self.shown(ranked) for ranked in self.ranking))
        place = places.index(self.shown(index))
        return ("best", "second")[place] if place < min(2, len(places) - 1) else ""


def columns(comparison: Comparison) -> list[Column]:
    """Scores of every test set, then what the runs cost; costs that no run knows are left out."""
    runs = comparison.runs
    scores = [
        Column(
            key=f"{test_set} {name}",
            title=comparison.metric(name).title,
            group=test_set,
            values=[run.means.get(test_set, {}).get(name) for run in runs],
            show=comparison.metric(name).show,
            ranking=comparison.ranking(test_set, name),
        )
        for test_set, names in comparison.metrics.items()
        for name in names
    ]
    costs = [
        Column(key=key, title=cost.title, group="", values=list(map(cost.of, runs)), show=cost.show, ranking=())
        for key, cost in COSTS.items()
    ]
    return scores + [column for column in costs if any(value is not None for value in column.values)]


def samples_per_second(run: Run) -> float | None:
    """Median over the training."""
    rates = [rate for rate in run.curves.get("train/samples_per_second", {}).values() if finite(rate)]
    return median(rates) if rates else None


def peak_memory_mb(run: Run) -> float | None:
    """As the run noted it, else the highest value in its log."""
    if run.peak_memory_mb is not None:
        return run.peak_memory_mb
    return max(run.curves.get("train/peak_memory_mb", {}).values(), default=None)


def csv_rows(comparison: Comparison) -> Iterator[dict[str, Any]]:
    """All numbers in full, one row for each run."""
    own = columns(comparison)
    for index, (name, run) in enumerate(zip(comparison.names, comparison.runs, strict=True)):
        settings = {
            short(key, comparison.settings): text(values[index]) if run.config else ""
            for key, values in comparison.settings.items()
        }
        facts = {key: getattr(run, key) for key in ("status", "error", "commit", "hardware", "started")}
        numbers = {column.key: column.values[index] for column in own}
        where = {"task": comparison.task, "protocol": comparison.protocol}
        yield {"run": name, "folder": run.path, **settings, **numbers, **facts, **where}


def curve_rows(comparison: Comparison) -> Iterator[dict[str, Any]]:
    """All that was logged, one row for each run and step."""
    for name, run in zip(comparison.names, comparison.runs, strict=True):
        for step in sorted({step for curve in run.curves.values() for step in curve}):
            logged = {metric: curve[step] for metric, curve in run.curves.items() if step in curve}
            yield {"run": name, "folder": run.path, "step": step, **logged}


def as_markdown(comparison: Comparison) -> str:
    """The table as it is shown, the best scores bold."""
    own = columns(comparison)
    rows = []
    for index, (name, run) in enumerate(zip(comparison.names, comparison.runs, strict=True)):
        marked = [("**{}**" if column.mark(index) == "best" else "{}").format(column.shown(index)) for column in own]
        rows.append([name, *marked, run.status if run.error is None else f"{run.status}: {run.error}"])
    header = ["run", *(f"{column.group} {column.title}".strip() for column in own), "status"]
    table = Table(columns=header, rows=rows).markdown()
    return f"## {plain(comparison.task)}\n\nProtocol: {plain(comparison.protocol)}\n\n{table}"


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
    """Of 1e6 bytes: 988 MB, 1.20 GB."""
    return f"{amount(value * 1e6)}B"


def three_digits(value: float) -> str:
    """At least three digits: 1.20, 12.0, 1200."""
    return f"{value:#.3g}".rstrip(".") if abs(value) < 999.5 else f"{value:.0f}"


class Cost(NamedTuple):
    """What a run costs."""

    title: str
    of: Callable[[Run], float | None]
    show: Callable[[float], str]


COSTS = {
    "parameters": Cost("parameters", lambda run: run.parameters, amount),
    "flops": Cost("FLOPs", lambda run: run.flops, amount),
    "seconds": Cost("time", lambda run: run.seconds, duration),
    "samples_per_second": Cost("samples/s", samples_per_second, three_digits),
    "peak_memory_mb": Cost("memory", peak_memory_mb, megabytes),
}
