"""The page: what its template is given, and the template filled in."""

import base64
import io
import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from statistics import fmean
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image, UnidentifiedImageError

from kgt_lightning import __version__
from kgt_lightning.report.comparison import Comparison, finite, natural, shared, short, text
from kgt_lightning.report.plots import against_cost, against_k, image_differences, learning_curves
from kgt_lightning.report.runs import LeftOut, Run
from kgt_lightning.report.tables import COSTS, Column, columns

TEMPLATE = Path(__file__).parent / "template"
CLOSE = 0.05
"""Decibels that may be given up for a cheaper run to be named."""
FEWEST, CHANCE = 6, 0.05
"""Images below which no paired test says anything, and the probability from which a difference is called chance."""
ROWS = 5
"""Largest gains and losses in the tables of images."""
PANEL_COLUMNS = "Degraded | restored | clean"
"""Of the pictures of an evaluation; those of a training have the error beside them."""
PANELS, WIDTH = 3, 1080
"""Pictures on the page, and pixels across to which they are made smaller."""


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
    pairs = [comparison.pair(compare) for comparison in comparisons]
    if compare and not any(pairs):
        known = ", ".join(run.path for comparison in comparisons for run in comparison.runs if run.images)
        raise ValueError(
            f"--compare {' '.join(compare)}: name two runs of one table that have scores of images: {known}"
        )
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
        sections=[_section(each, pair or each.pair(())) for each, pair in zip(comparisons, pairs, strict=True)],
        left_out=left_out,
        made=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        version=__version__,
        style=(TEMPLATE / "style.css").read_text(encoding="utf-8"),
        script=(TEMPLATE / "page.js").read_text(encoding="utf-8"),
    )


def heading(comparison: Comparison) -> str:
    """A comparison in a few words: its task and what varies."""
    varying = [short(key, comparison.settings) for key in comparison.settings]
    listed = ", ".join(varying[:3]) + (f" and {len(varying) - 3} more" if len(varying) > 3 else "")
    return f"{comparison.task}: {listed}" if listed else comparison.task


def _section(comparison: Comparison, pair: tuple[int, int] | None) -> dict[str, Any]:
    """All that the page says about one comparison, by the names in the template."""
    own, best = columns(comparison), comparison.best
    groups = [column.group for column in own]
    costs = ((test_set, against_cost(comparison, test_set)) for test_set in comparison.test_sets)
    return {
        "comparison": comparison,
        "title": heading(comparison),
        "facts": _facts(comparison),
        "tiles": [] if best is None else _tiles(comparison, best),
        "columns": own,
        "groups": [(group, groups.count(group)) for group in dict.fromkeys(groups)],
        "inputs": _inputs(comparison, own),
        "notes": comparison.odd(),
        "over_k": against_k(comparison),
        "over_cost": [(test_set, plot) for test_set, plot in costs if plot],
        "curves": learning_curves(comparison),
        "pair": pair and [comparison.names[index] for index in pair],
        "images": _images(comparison, *pair) if pair else [],
        "panels": [] if best is None else _panels(comparison.runs[best]),
        "panel_columns": PANEL_COLUMNS + " | error" * (best is not None and bool(_steps(comparison.runs[best]))),
        "shared": [(key, text(value)) for key, value in shared(comparison.runs).items()],
    }


def _facts(comparison: Comparison) -> list[tuple[str, str]]:
    """Name and value of what all runs, or each of them, were made with."""
    runs = comparison.runs
    settings = [
        (key.removesuffix("._target_"), _listed(text(x) for x, run in zip(values, runs, strict=True) if run.config))
        for key, values in comparison.settings.items()
    ]
    days = sorted(run.started[:10] for run in runs if run.started)
    several = len({run.hardware for run in runs if run.hardware}) > 1
    facts = [
        *settings,
        ("protocol", comparison.protocol),
        ("hardware", _listed(run.hardware for run in runs) + several * ": times on different hardware do not compare"),
        ("commit", _listed(run.commit for run in runs)),
        ("version", _listed(run.version for run in runs if run.version != __version__)),
        ("started", " to ".join(dict.fromkeys([*days[:1], *days[-1:]]))),
    ]
    return [(name, value) for name, value in facts if value]


def _tiles(comparison: Comparison, best: int) -> list[tuple[str, str, str]]:
    """Figures of the summary: what each is, its value, and a note."""
    test_set = next(each for each in comparison.test_sets if comparison.counts(comparison.runs[best], each))
    name = comparison.metrics[test_set][0]
    metric, scored = comparison.metric(name), comparison.scored(test_set, name)
    unit = f" {metric.unit}" if metric.unit else ""
    value, ranking = scored[best], comparison.ranking(test_set, name)
    tiles = [("best", f"{metric.show(value)}{unit}", f"{comparison.names[best]}, {test_set}")]
    degraded = comparison.runs[best].means[test_set].get(f"degraded_{name}")
    if degraded is not None:
        gain = f"{metric.sign * (value - degraded):+.{metric.digits}f}{unit}"
        label = "above its input" if metric.sign > 0 else "below its input"
        tiles.append((label, gain, f"from {metric.show(degraded)}"))
    if len(ranking) > 1:
        span = f"{metric.show(abs(value - scored[ranking[-1]]))}{unit}"
        tiles.append(("best to last", span, f"last: {comparison.names[ranking[-1]]}"))
    close = [index for index in ranking if metric.unit == "dB" and value - scored[index] <= CLOSE]
    return tiles + _cheaper(comparison, close)


def _cheaper(comparison: Comparison, close: Sequence[int]) -> list[tuple[str, str, str]]:
    """The cheapest of the runs that restore nearly as well as the best, the first, if it saves at least a tenth."""
    for title, cost, show in (COSTS["seconds"], COSTS["flops"]):
        spent = {index: x for index in close if (x := finite(cost(comparison.runs[index]))) is not None}
        if spent and close[0] in spent:
            index = min(spent, key=lambda index: spent[index])
            if spent[index] <= 0.9 * spent[close[0]]:
                note = f"{comparison.names[index]}: {show(spent[index])}, within {CLOSE} dB of the best"
                return [("nearly as good at", f"{spent[index] / spent[close[0]]:.0%} of the {title}", note)]
    return []


def _inputs(comparison: Comparison, own: Sequence[Column]) -> list[str]:
    """Scores of the degraded images where all runs agree on them, one for each column."""
    cells = []
    for column in own:
        name = f"degraded_{column.key.removeprefix(f'{column.group} ')}"
        values = [run.means[column.group][name] for run in comparison.runs if name in run.means.get(column.group, {})]
        shown = {column.show(value) for value in values}
        cells.append(shown.pop() if len(shown) == 1 else "")
    return cells if any(cells) else []


def _images(comparison: Comparison, first: int, second: int) -> list[dict[str, Any]]:
    """For each test set what changed from image to image between two runs."""
    before, after = comparison.names[first], comparison.names[second]
    found = []
    for test_set, names in comparison.metrics.items():
        metric = comparison.metric(names[0])
        own = comparison.differences(first, second, test_set=test_set, metric=names[0])
        if own:
            gains = [difference.gain for difference in own]
            better = f"{after} restores {sum(gain > 0 for gain in gains)} of {len(own)} images better"
            mean = f"{fmean(gains):+.{metric.digits}f}{' ' + metric.unit if metric.unit else ''}"
            found.append(
                {
                    "test_set": test_set,
                    "metric": metric,
                    "plot": image_differences(own, first=before, second=after, test_set=test_set, metric=metric),
                    "summary": f"{better}, {mean} on average: {by_chance(gains)}",
                    "gains": [difference for difference in own[:ROWS] if difference.gain > 0],
                    "losses": [difference for difference in own[::-1][:ROWS] if difference.gain < 0],
                }
            )
    return found


def by_chance(gains: Sequence[float]) -> str:
    """Whether the differences of images could be chance, by Wilcoxon's signed-rank test of pairs, in a sentence."""
    if not any(gains):
        return "there is no difference."
    if len(gains) < FEWEST:
        return f"with fewer than {FEWEST} images that can be chance."
    from scipy.stats import wilcoxon  # slow to import, and needed where two runs are compared

    p = float(wilcoxon(gains).pvalue)
    said = "hardly chance" if p < CHANCE else "that can be chance"
    return f"{said} over these images (Wilcoxon signed-rank test, p = {p:.2g}). Other seeds may differ by more."


def _panels(run: Run) -> list[dict[str, str]]:
    """Some panels degraded | restored | clean of the last validation, or of the evaluation, small enough for a page."""
    newest = max(_steps(run), key=lambda step: int(step.name.partition("_")[2]), default=run.folder / "panels")
    files = sorted(newest.rglob("*.png"))[:PANELS]
    return [{"name": file.relative_to(newest).with_suffix("").as_posix(), **_data_url(file)} for file in files]


def _steps(run: Run) -> list[Path]:
    """Folders of the pictures of each validation."""
    return [step for step in (run.folder / "panels").glob("step_*") if re.fullmatch(r"step_\d+", step.name)]


def _data_url(file: Path) -> dict[str, str]:
    """The picture as a data URL, or why it cannot be shown."""
    stream = io.BytesIO()
    try:
        with Image.open(file) as picture:
            shown = picture.convert("RGB")
        shown.thumbnail((WIDTH, shown.height), Image.Resampling.LANCZOS)
        shown.save(stream, "png", optimize=True)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        return {"url": "", "problem": f"cannot be read: {' '.join(str(error).split())}"}
    return {"url": f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}", "problem": ""}


def _listed(values: Iterable[Any]) -> str:
    """Different values in one line, sorted, missing ones left out."""
    return ", ".join(sorted({str(value) for value in values if value}, key=natural))
