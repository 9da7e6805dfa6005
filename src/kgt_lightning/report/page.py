"""The page: what its template is given, and the template filled in."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from statistics import fmean
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from kgt_lightning import __version__
from kgt_lightning.report.comparison import Comparison, finite
from kgt_lightning.report.images import Difference, Panel, differences, first_and_best, named, panels
from kgt_lightning.report.plots import Plot, against_cost, against_k, image_differences, learning_curves
from kgt_lightning.report.runs import LeftOut
from kgt_lightning.report.settings import natural, shared, short, text
from kgt_lightning.report.tables import COSTS, NOTHING, Column, columns, metric_title

TEMPLATE = Path(__file__).parent / "template"
CLOSE = 0.05
"""Decibels that may be given up for a cheaper run to be named."""
ROWS = 5
"""Largest gains and losses in the tables of images."""


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One figure of the summary."""

    label: str
    value: str
    note: str


@dataclass(frozen=True, kw_only=True)
class ImagesOfSet:
    """Images of a test set in two runs."""

    test_set: str
    metric: str
    plot: Plot
    summary: str
    gains: Sequence[Difference]
    losses: Sequence[Difference]


@dataclass(frozen=True, kw_only=True)
class Section:
    """All that the page says about one comparison."""

    comparison: Comparison
    title: str
    facts: Sequence[tuple[str, str]]
    tiles: Sequence[Tile]
    columns: Sequence[Column]
    groups: Sequence[tuple[str, int]]
    inputs: Sequence[str]
    notes: Sequence[str]
    over_k: Plot | None
    over_cost: Sequence[tuple[str, Plot]]
    curves: Plot | None
    pair: tuple[str, str]
    images: Sequence[ImagesOfSet]
    panels: Sequence[Panel]
    shared: Sequence[tuple[str, str]]


def make_page(
    comparisons: Sequence[Comparison], left_out: Sequence[LeftOut], *, title: str, files: str, compare: Sequence[str]
) -> str:
    """The page as HTML.

    Args:
        comparisons: what it shows.
        left_out: what it says could not be read.
        title: of the page.
        files: that are written beside it; a later report may replace them.
        compare: names, paths or numbers of two runs whose images are compared; empty for the first and the best.

    Raises:
        ValueError: if the two runs are in no comparison, or have no scores of images.

    """
    pairs = [_pair(comparison, compare) for comparison in comparisons]
    if compare and not any(pairs):
        known = ", ".join(run.path for each in comparisons for run in each.runs if run.images)
        raise ValueError(
            f"--compare {' '.join(compare)}: name two runs of one table that have scores of images: {known}"
        )
    sections = [_section(*each, chosen=bool(compare)) for each in zip(comparisons, pairs, strict=True)]
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(
        title=title,
        files=files,
        sections=sections,
        left_out=left_out,
        made=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        version=__version__,
        nothing=NOTHING,
        style=(TEMPLATE / "style.css").read_text(encoding="utf-8"),
        script=(TEMPLATE / "page.js").read_text(encoding="utf-8"),
    )


def heading(comparison: Comparison) -> str:
    """A comparison in a few words: its task and what varies."""
    varying = [short(key, comparison.settings) for key in comparison.settings]
    listed = ", ".join(varying[:3]) + (f" and {len(varying) - 3} more" if len(varying) > 3 else "")
    return f"{comparison.task}: {listed}" if listed else comparison.task


def _pair(comparison: Comparison, compare: Sequence[str]) -> tuple[int, int] | None:
    if not compare:
        return first_and_best(comparison)
    found = [index for index in named(comparison, compare) if comparison.runs[index].images]
    return (found[0], found[1]) if len(found) == len(compare) == 2 else None


def _section(comparison: Comparison, pair: tuple[int, int] | None, *, chosen: bool) -> Section:
    own = columns(comparison)
    groups = [(group, sum(column.group == group for column in own)) for group in dict.fromkeys(c.group for c in own)]
    best = comparison.best
    if pair is None and chosen:
        pair = first_and_best(comparison)
    costs = [(test_set, against_cost(comparison, test_set)) for test_set in comparison.test_sets]
    return Section(
        comparison=comparison,
        title=heading(comparison),
        facts=_facts(comparison),
        tiles=[] if best is None else _tiles(comparison, best),
        columns=own,
        groups=groups,
        inputs=_inputs(comparison, own),
        notes=comparison.odd(),
        over_k=against_k(comparison),
        over_cost=[(test_set, plot) for test_set, plot in costs if plot is not None],
        curves=learning_curves(comparison),
        pair=("", "") if pair is None else (comparison.names[pair[0]], comparison.names[pair[1]]),
        images=[] if pair is None else _images(comparison, *pair),
        panels=[] if best is None else panels(comparison.runs[best]),
        shared=[(key, text(value)) for key, value in shared(comparison.runs).items()],
    )


def _facts(comparison: Comparison) -> list[tuple[str, str]]:
    """Name and value of what all runs, or each of them, were made with."""
    runs = comparison.runs
    settings = [
        (
            key.removesuffix("._target_"),
            _listed(text(value) for value, run in zip(values, runs, strict=True) if run.config),
        )
        for key, values in comparison.settings.items()
    ]
    days = sorted(run.started[:10] for run in runs if run.started)
    hardware = _listed(run.hardware for run in runs)
    if len({run.hardware for run in runs if run.hardware}) > 1:
        hardware += ": times on different hardware do not compare"
    facts = [
        *settings,
        ("protocol", comparison.protocol),
        ("hardware", hardware),
        ("commit", _listed(run.commit for run in runs)),
        ("version", _listed(run.version for run in runs if run.version != __version__)),
        ("started", " to ".join(dict.fromkeys([days[0], days[-1]])) if days else ""),
    ]
    return [(name, value) for name, value in facts if value]


def _tiles(comparison: Comparison, best: int) -> list[Tile]:
    test_set = next(each for each in comparison.test_sets if comparison.counts(comparison.runs[best], each))
    metric = comparison.metrics[test_set][0]
    run, unit = comparison.runs[best], " dB" if metric.startswith("psnr") else ""
    digits = 2 if unit else 4
    value = comparison.score(run, test_set, metric)
    assert value is not None
    tiles = [Tile(label="best", value=f"{value:.{digits}f}{unit}", note=f"{comparison.names[best]}, {test_set}")]
    degraded = run.means[test_set].get(f"degraded_{metric}")
    if degraded is not None:
        tiles.append(
            Tile(
                label="above its input",
                value=f"{value - degraded:+.{digits}f}{unit}",
                note=f"from {degraded:.{digits}f}",
            )
        )
    ranking = comparison.ranking(test_set, metric)
    if len(ranking) > 1:
        last = comparison.score(comparison.runs[ranking[-1]], test_set, metric)
        assert last is not None
        tiles.append(
            Tile(
                label="best to last",
                value=f"{value - last:.{digits}f}{unit}",
                note=f"last: {comparison.names[ranking[-1]]}",
            )
        )
    return tiles + _cheaper(comparison, ranking, test_set, metric)


def _cheaper(comparison: Comparison, ranking: Sequence[int], test_set: str, metric: str) -> list[Tile]:
    """The cheapest run that restores nearly as well as the best, if it saves at least a tenth."""
    runs = comparison.runs
    best = comparison.score(runs[ranking[0]], test_set, metric) or 0.0
    for key in ("seconds", "flops"):
        title, cost, show = COSTS[key]
        close = {
            index: spent
            for index in ranking
            if metric.startswith("psnr")
            and best - (comparison.score(runs[index], test_set, metric) or 0.0) <= CLOSE
            and (spent := finite(cost(runs[index]))) is not None
        }
        if ranking[0] in close:
            index = min(close, key=lambda each: close[each])
            if close[index] <= 0.9 * close[ranking[0]]:
                share = f"{close[index] / close[ranking[0]]:.0%} of the {title}"
                note = f"{comparison.names[index]}: {show(close[index])}, within {CLOSE} dB of the best"
                return [Tile(label="nearly as good at", value=share, note=note)]
    return []


def _inputs(comparison: Comparison, own: Sequence[Column]) -> list[str]:
    """Scores of the degraded images where all runs agree on them, one for each column."""
    cells = []
    for column in own:
        name = f"degraded_{column.key.removeprefix(f'{column.group} ')}"
        values = [run.means[column.group][name] for run in comparison.runs if name in run.means.get(column.group, {})]
        shown = {column.show(value) for value in values} if column.group else set()
        cells.append(shown.pop() if len(shown) == 1 else "")
    return cells if any(cells) else []


def _images(comparison: Comparison, first: int, second: int) -> list[ImagesOfSet]:
    names = (comparison.names[first], comparison.names[second])
    found = []
    for test_set in comparison.test_sets:
        metric = comparison.metrics[test_set][0]
        own = differences(comparison.runs[first], comparison.runs[second], test_set=test_set, metric=metric)
        if own:
            mean, better = fmean(each.gain for each in own), sum(each.gain > 0 for each in own)
            found.append(
                ImagesOfSet(
                    test_set=test_set,
                    metric=metric_title(metric),
                    plot=image_differences(own, first=names[0], second=names[1], test_set=test_set, metric=metric),
                    summary=f"{names[1]} restores {better} of {len(own)} images better, {mean:+.3f} on average.",
                    gains=[each for each in own[:ROWS] if each.gain > 0],
                    losses=[each for each in own[::-1][:ROWS] if each.gain < 0],
                )
            )
    return found


def _listed(values: Iterable[Any]) -> str:
    """Different values in one line, sorted, missing ones left out."""
    return ", ".join(sorted({str(value) for value in values if value}, key=natural))
