"""The plots of a comparison: quality against k and against cost, learning curves, differences of images.

Each is an SVG element that takes the colours and the font of the page around it.
"""

import hashlib
import html
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from matplotlib import style
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

from kgt_lightning.report.comparison import CHECKPOINT, Comparison, Difference, finite, front, names, text
from kgt_lightning.report.runs import Metric
from kgt_lightning.report.tables import COSTS
from kgt_lightning.runs.curves import smooth

STYLE = Path(__file__).parent / "template" / "plots.mplstyle"
INK, MUTED, GRID, SURFACE = "#010203", "#040506", "#070809", "#0a0b0c"
_OF_PAGE = {INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--grid)", SURFACE: "var(--surface)"}
GAIN, LOSS = "C0", "C1"
MARKERS = ("o", "s", "D", "^", "v", "P")

AXES = {
    "seconds": ("time, minutes", 60.0),
    "peak_memory_mb": ("peak memory, MB", 1.0),
    "flops": ("GFLOPs of a 256x256 image", 1e9),
    "parameters": ("parameters, million", 1e6),
}
"""Costs that scores are plotted over: the title of the axis, and its unit."""
POINTS = 400
"""Points that a learning curve is drawn with; more cannot be told apart."""
SPAN = 0.25
"""Decibels that an axis of scores spans at least."""
LOSSES, SCORES = 1, 2
"""Where the curves of a run stand behind its name."""
BARS = 150
"""Images that get a bar of their own."""


class Plot(NamedTuple):
    """A picture and what it shows."""

    svg: str
    caption: str


@style.context(STYLE)
def against_k(comparison: Comparison) -> Plot | None:
    """The first score of each test set over k, lines through runs otherwise alike; None if there is no line."""
    lines, scores = _lines_over_k(comparison), {}
    for test_set in comparison.test_sets:
        scored = comparison.scored(test_set, comparison.metrics[test_set][0])
        runs = {i: (k, scored[i], i) for i in scored if (k := comparison.runs[i].k) is not None}
        points = {label: sorted(runs[i] for i in members if i in runs) for label, members in lines.items()}
        if any(len({k for k, *_ in own}) > 1 for own in points.values()):
            scores[test_set] = points
    if not scores:
        return None
    figure, panels = _panels(len(scores), across=min(3, len(scores)), height=3.1)
    for axes, (test_set, points) in zip(panels, scores.items(), strict=True):
        metric = comparison.metric(comparison.metrics[test_set][0])
        for number, (label, own) in enumerate(points.items()):
            marks: dict[str, Any] = {"marker": MARKERS[number % len(MARKERS)], "mec": SURFACE, "ms": 7.5}
            # A line without points takes its colour too, so that every panel gives it the same one.
            [line] = axes.plot([k for k, *_ in own], [y for _, y, _ in own], label=label if own else None, **marks)
            for k, value, index in own:
                [point] = axes.plot(k, value, color=line.get_color(), linestyle="none", **marks)
                _tip(point, f"{comparison.names[index]}: {metric.show(value)}")
        axes.set(title=test_set, xlabel="k, neighbours of a node", ylabel=metric.axis)
        _at_least(axes, metric)
        ks = sorted({run.k for run in comparison.runs if run.k})
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_locator(FixedLocator(ks))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticklabels([f"{k:g}" for k in ks])
    _legend(figure, panels)
    what = "Quality over the number of neighbours k of each node"
    return Plot(_svg(figure, alt=what), f"{what}. A line joins runs that differ in k alone.")


@style.context(STYLE)
def against_cost(comparison: Comparison, test_set: str) -> Plot | None:
    """The first score of a test set over time, memory, FLOPs and parameters, with the Pareto front of each.

    None if fewer than two runs know what they cost, or all cost the same.
    """
    name = comparison.metrics[test_set][0]
    metric, scored = comparison.metric(name), comparison.scored(test_set, name)
    costs = {}
    for key, (_, unit) in AXES.items():
        spent = {index: finite(COSTS[key].of(comparison.runs[index])) for index in scored}
        points = {index: (cost / unit, scored[index]) for index, cost in spent.items() if cost is not None}
        if len({x for x, _ in points.values()}) > 1:
            costs[key] = points
    if not costs:
        return None
    figure, panels = _panels(len(costs), across=2 if len(costs) in (2, 4) else min(3, len(costs)), height=3.2)
    for axes, (key, points) in zip(panels, costs.items(), strict=True):
        _points_and_front(axes, points, comparison.names, metric)
        axes.set(xlabel=AXES[key][0], ylabel=metric.axis)
        _at_least(axes, metric)
    what = f"{metric.title} on {test_set} against cost"
    note = "Filled: nothing else is both cheaper and better (the Pareto front). Numbers are those of the table."
    return Plot(_svg(figure, alt=what), f"{what}. {note}")


@style.context(STYLE)
def learning_curves(comparison: Comparison) -> Plot | None:
    """Training loss and first validated score of all runs over the steps; None if no run logged any."""
    validated = [name for run in comparison.runs for name in run.curves if name.startswith("val/")]
    score = validated[0] if validated else ""
    read = [
        (name, run.curves.get("train/loss", {}), run.curves.get(score, {}))
        for name, run in zip(comparison.names, comparison.runs, strict=True)
    ]
    read = [each for each in read if max(map(len, each[1:])) > 1]  # a curve of one point shows nothing
    if not read:
        return None
    logged = [kind for kind in (LOSSES, SCORES) if any(each[kind] for each in read)]
    figure, panels = _panels(len(logged), across=len(logged), height=3.6 + 0.06 * len(read))
    of = dict(zip(logged, panels, strict=True))
    for name, losses, scores in read:
        smoothed = dict(zip(losses, smooth(list(losses.values())), strict=True))
        for kind, axes in of.items():
            curve = smoothed if kind == LOSSES else scores
            # Counted from the end, so that the last point is always drawn.
            points = list(curve.items())[:: -(-(-len(curve) // POINTS) or 1)]
            alone = "o" if len(points) == 1 else ""
            [line] = axes.plot([x for x, _ in points], [y for _, y in points], marker=alone, ms=5, label=name, lw=1.5)
            if points:
                _tip(line, f"{name}: last {points[0][1]:.4g} at step {points[0][0]}")
    if left := of.get(LOSSES):
        left.set(title="training loss, smoothed")
        if all(loss > 0 for _, losses, _ in read for loss in losses.values()):
            left.set_yscale("log")
            left.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            left.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            left.yaxis.set_minor_locator(NullLocator())
    if right := of.get(SCORES):
        metric = comparison.metric(score.removeprefix("val/"))
        right.set(title=f"validation {metric.axis}")
        _at_least(right, metric)
    for axes in panels:
        axes.set(xlabel="step")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    _legend(figure, panels)
    what = "Learning curves of all runs"
    note = " The loss is the mean of the last twentieth of the steps." if LOSSES in of else ""
    return Plot(_svg(figure, alt=what), f"{what}.{note}")


@style.context(STYLE)
def image_differences(
    differences: Sequence[Difference], *, first: str, second: str, test_set: str, metric: Metric
) -> Plot:
    """How much better the second run restored each image of a test set, from the largest gain to the largest loss."""
    gains = [difference.gain for difference in differences]
    figure, [axes] = _panels(1, across=1, height=3.2)
    if len(gains) <= BARS:
        bars = axes.bar(range(len(gains)), gains, width=0.78, color=[GAIN if gain >= 0 else LOSS for gain in gains])
        for bar, (image, a, b, gain) in zip(bars, differences, strict=True):
            _tip(bar, f"{image}: {metric.show(a)} and {metric.show(b)}, {gain:+.{metric.digits}f}")
    else:
        for sign, colour in ((1, GAIN), (-1, LOSS)):
            heights = [max(sign * gain, 0) * sign for gain in gains]
            axes.fill_between(range(len(gains)), heights, step="mid", color=colour, linewidth=0)
    mean = fmean(gains)
    axes.axhline(0, color=MUTED, linewidth=1)
    axes.axhline(mean, color=INK, linewidth=1.2, linestyle=(0, (4, 3)))
    place: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "ha": "right"}
    axes.annotate(f"mean {mean:+.{metric.digits}f}", (1, mean), (-4, 4), **place)
    axes.grid(axis="x", visible=False)
    axes.set_xticks([])
    axes.set(xlabel=f"{len(gains)} images of {test_set}, by difference", ylabel=f"{metric.axis}, difference")
    axes.margins(x=0.01)
    what = f"Each image of {test_set}: {second} against {first}"
    return Plot(_svg(figure, alt=what), f"{what}. Above zero {second} restores it better.")


def _lines_over_k(comparison: Comparison) -> dict[str, list[int]]:
    """Runs by what they have in common apart from k: the other settings, or the checkpoint that was evaluated."""
    others = {key: values for key, values in comparison.settings.items() if not key.endswith(".k")}
    lines: dict[str, list[int]] = {}
    for index, run in enumerate(comparison.runs):
        tested = not run.config or run.config.get(CHECKPOINT)
        label = text(run.checkpoint or run.path) if tested else "trained with k"
        if run.config and others:
            [label] = names([run], {key: [values[index]] for key, values in others.items()})
        lines.setdefault(label + (" tested with k" if tested else ""), []).append(index)
    return lines


def _points_and_front(
    axes: Axes, points: Mapping[int, tuple[float, float]], names: Sequence[str], metric: Metric
) -> None:
    """Points with their numbers; those of the Pareto front filled and joined."""
    best = front({index: (x, metric.sign * y) for index, (x, y) in points.items()})
    axes.step(*zip(*(points[index] for index in best), strict=True), where="post", color=GAIN, lw=1.4)
    for index, (x, y) in points.items():
        ahead = index in best
        inside, edge, ink = (GAIN, SURFACE, INK) if ahead else (SURFACE, MUTED, MUTED)
        [point] = axes.plot(x, y, "o", ms=8 if ahead else 7, color=inside, mec=edge, mew=1.2)
        _tip(point, f"{index + 1}. {names[index]}: {metric.show(y)} at {x:.3g}")
        weight = "bold" if ahead else "normal"
        axes.annotate(
            str(index + 1), (x, y), (6, -9), textcoords="offset points", fontsize=8, color=ink, fontweight=weight
        )
    xs = [x for x, _ in points.values()]
    if min(xs) > 0 and max(xs) > 8 * min(xs):
        axes.set_xscale("log")
    axes.margins(0.1, 0.12)


def _at_least(axes: Axes, metric: Metric) -> None:
    """Widen the axis of decibels to a span in which noise looks like noise."""
    low, high = axes.get_ylim()
    if metric.unit == "dB" and high - low < SPAN:
        middle = (low + high) / 2
        axes.set_ylim(middle - SPAN / 2, middle + SPAN / 2)


def _panels(number: int, *, across: int, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of panels side by side, rows of a height in inches; the whole is 10 inches wide."""
    rows = -(-number // across)
    figure = Figure(figsize=(10, height * rows), layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08))
    FigureCanvasSVG(figure)
    axes = list(figure.subplots(rows, across, squeeze=False).flatten())
    for spare in axes[number:]:
        spare.remove()
    return figure, axes[:number]


def _legend(figure: Figure, panels: Sequence[Axes]) -> None:
    """One legend below all panels, if there is more than one line to tell apart."""
    pairs = [zip(*axes.get_legend_handles_labels(), strict=True) for axes in panels]
    handles = {label: handle for pair in pairs for handle, label in pair}
    if len(handles) > 1:
        columns = max(1, min(6, len(handles), 130 // (max(map(len, handles)) + 6)))
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=columns)


def _tip(artist: Artist, words: str) -> None:
    """Show words when the pointer rests on the artist."""
    artist.set_gid(f"tip:{words}")


def _svg(figure: Figure, *, alt: str) -> str:
    """The element, without anything that a browser would fetch; its ids appear nowhere else on the page."""
    stream = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(stream, format="svg", transparent=True, metadata=nothing)
    head, _, content = stream.getvalue().partition("<svg")[2].partition(">")
    [view] = re.findall(r'viewBox="[^"]+"', head)
    content = re.sub(r"<metadata>.*?</metadata>", "", content, flags=re.DOTALL)
    content = re.sub(r'<g id="tip:([^"]*)">', r"<g><title>\1</title>", content)
    # Ids that are referred to are made the plot's own, all others left out.
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', content))
    salt = hashlib.sha256((alt + content).encode()).hexdigest()[:8]
    content = re.sub(r' id="([^"]+)"', lambda id: f' id="{salt}-{id[1]}"' if id[1] in used else "", content)
    content = re.sub(r'(url\(#|href="#)', rf"\g<1>{salt}-", content)
    for stand_in, colour in _OF_PAGE.items():
        content = content.replace(stand_in, colour)
    return f'<svg {view} role="img" aria-label="{html.escape(alt)}">{content}'
