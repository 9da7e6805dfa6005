"""The plots of a comparison: quality against k and against cost, learning curves, differences of images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

from kgt_lightning.report.comparison import Comparison, finite, front
from kgt_lightning.report.drawing import GAIN, GRID, INK, LOSS, MARKERS, MUTED, STYLE, SURFACE, Drawing, colour, dash
from kgt_lightning.report.images import Difference
from kgt_lightning.report.settings import CHECKPOINT, names, text
from kgt_lightning.report.tables import COSTS, metric_title
from kgt_lightning.runs.curves import read_curve, smooth

COST_TITLES = {
    "seconds": "time, minutes",
    "peak_memory_mb": "peak memory, MB",
    "flops": "GFLOPs of a 256x256 image",
    "parameters": "parameters, million",
}
_UNITS = {"seconds": 60.0, "peak_memory_mb": 1.0, "flops": 1e9, "parameters": 1e6}
POINTS = 400
"""Points that a learning curve is drawn with; more cannot be told apart."""
BARS = 150
"""Images that get a bar of their own."""
K = "model.k"


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A picture and what it shows."""

    svg: str
    caption: str


@rc_context(STYLE)
def against_k(comparison: Comparison) -> Plot | None:
    """The first score of each test set over k, lines through runs that are otherwise alike; None if k never varies."""
    if len({run.k for run in comparison.runs if run.ranked and run.k is not None}) < 2:
        return None
    lines = _lines_over_k(comparison)
    drawing = Drawing(panels=len(comparison.test_sets), across=min(3, len(comparison.test_sets)), height=3.1)
    for axes, test_set in zip(drawing.axes, comparison.test_sets, strict=True):
        metric = comparison.metrics[test_set][0]
        for number, (label, members) in enumerate(lines.items()):
            own = [
                (run.k, value, index)
                for index in members
                if comparison.counts(run := comparison.runs[index], test_set)
                and run.k is not None
                and (value := finite(comparison.score(run, test_set, metric))) is not None
            ]
            own.sort()
            xs, ys = [each[0] for each in own], [each[1] for each in own]
            style: dict[str, Any] = {
                "color": colour(number),
                "marker": MARKERS[number % len(MARKERS)],
                "mec": SURFACE,
                "ms": 7.5,
            }
            if own:
                axes.plot(xs, ys, dash(number), label=label, **style)
            for k, value, index in own:
                [point] = axes.plot(k, value, **style)
                drawing.tip(point, f"{comparison.names[index]}: {value:.2f}")
        axes.set_title(test_set)
        axes.set_xlabel("k, neighbours of a node")
        axes.set_ylabel(_axis(metric))
        _doubling(axes, sorted({run.k for run in comparison.runs if run.k}))
    drawing.legend(list(lines))
    what = "Quality over the number of neighbours k of each node"
    return Plot(svg=drawing.svg(alt=what), caption=f"{what}. A line joins runs that differ in k alone.")


@rc_context(STYLE)
def against_cost(comparison: Comparison, test_set: str) -> Plot | None:
    """The first score of a test set over time, memory, FLOPs and parameters, with the Pareto front of each.

    None if fewer than two runs know what they cost, or all cost the same.
    """
    metric = comparison.metrics[test_set][0]
    panels = {}
    for key in COST_TITLES:
        cost = COSTS[key][1]
        points = {
            index: (x / _UNITS[key], y)
            for index, run in enumerate(comparison.runs)
            if comparison.counts(run, test_set)
            and (x := finite(cost(run))) is not None
            and (y := finite(comparison.score(run, test_set, metric))) is not None
        }
        if len({x for x, _ in points.values()}) > 1:
            panels[key] = points
    if not panels:
        return None
    drawing = Drawing(panels=len(panels), across=2 if len(panels) in (2, 4) else min(3, len(panels)), height=3.2)
    for axes, (key, points) in zip(drawing.axes, panels.items(), strict=True):
        _front(drawing, axes, points, comparison.names)
        axes.set(xlabel=COST_TITLES[key], ylabel=_axis(metric))
    what = f"{metric_title(metric)} on {test_set} against cost"
    note = "Filled: nothing else is both cheaper and better (the Pareto front). Numbers are those of the table."
    return Plot(svg=drawing.svg(alt=what), caption=f"{what}. {note}")


@rc_context(STYLE)
def learning_curves(comparison: Comparison) -> Plot | None:
    """Training loss and validation PSNR of all runs over the steps; None if no run logged any."""
    read = {
        index: (read_curve(run.folder, "train/loss"), read_curve(run.folder, "val/psnr"))
        for index, run in enumerate(comparison.runs)
    }
    read = {index: curves for index, curves in read.items() if any(curves)}
    if not read:
        return None
    drawing = Drawing(panels=2, across=2, height=3.6 + 0.06 * len(read))
    left, right = drawing.axes
    for number, (index, (losses, psnrs)) in enumerate(read.items()):
        name = comparison.names[index]
        for axes, steps, values in (
            (left, list(losses), smooth(list(losses.values()))),
            (right, list(psnrs), list(psnrs.values())),
        ):
            every = -(-len(steps) // POINTS) or 1
            # Counted from the end, so that the last point is always drawn.
            [line] = axes.plot(
                steps[::-1][::every], values[::-1][::every], dash(number), color=colour(number), label=name, lw=1.5
            )
            if values:
                drawing.tip(line, f"{name}: last {values[-1]:.4g} at step {steps[-1]}")
    left.set(title="training loss, smoothed", xlabel="step", yscale="log")
    left.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    left.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    left.yaxis.set_minor_locator(NullLocator())
    right.set(title="validation PSNR, dB", xlabel="step")
    for axes in drawing.axes:
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    drawing.legend(list(comparison.names))
    what = "Learning curves of all runs"
    return Plot(svg=drawing.svg(alt=what), caption=f"{what}. The loss is the mean of the last twentieth of the steps.")


@rc_context(STYLE)
def image_differences(
    differences: Sequence[Difference], *, first: str, second: str, test_set: str, metric: str
) -> Plot:
    """How much better the second run restored each image of a test set, from the largest gain to the largest loss."""
    gains = [each.gain for each in differences]
    drawing = Drawing(panels=1, across=1, height=3.2)
    [axes] = drawing.axes
    colours = [GAIN if gain >= 0 else LOSS for gain in gains]
    if len(gains) <= BARS:
        for bar, each, paint in zip(axes.bar(range(len(gains)), gains, width=0.78), differences, colours, strict=True):
            bar.set(color=paint)
            drawing.tip(bar, f"{each.image}: {each.first:.2f} and {each.second:.2f}, {each.gain:+.2f}")
    else:
        for sign, paint in ((1, GAIN), (-1, LOSS)):
            heights = [max(sign * gain, 0) * sign for gain in gains]
            axes.fill_between(range(len(gains)), heights, step="mid", color=paint, linewidth=0)
    mean = fmean(gains)
    axes.axhline(0, color=MUTED, linewidth=1)
    axes.axhline(mean, color=INK, linewidth=1.2, linestyle=(0, (4, 3)))
    axes.annotate(
        f"mean {mean:+.2f}",
        (1, mean),
        (-4, 4),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha="right",
    )
    axes.grid(axis="x", visible=False)
    axes.set_xticks([])
    axes.set(xlabel=f"{len(gains)} images of {test_set}, by difference", ylabel=f"{_axis(metric)}, difference")
    axes.margins(x=0.01)
    what = f"Each image of {test_set}: {second} against {first}"
    return Plot(svg=drawing.svg(alt=what), caption=f"{what}. Above zero {second} restores it better.")


def _lines_over_k(comparison: Comparison) -> dict[str, list[int]]:
    """Runs by what they have in common apart from k: the other settings, or the checkpoint that was evaluated."""
    copies = {key for key in comparison.settings if key.endswith(".k") or key == K}
    lines: dict[str, list[int]] = {}
    for index, run in enumerate(comparison.runs):
        others = {key: values for key, values in comparison.settings.items() if key not in copies}
        tested = not run.config or run.config.get(CHECKPOINT)
        label = text(run.checkpoint or run.path) if tested else "trained with k"
        if run.config and others:
            [label] = names([run], {key: [values[index]] for key, values in others.items()})
        label += " tested with k" if tested else ""
        lines.setdefault(label, []).append(index)
    return lines


def _front(drawing: Drawing, axes: Axes, points: Mapping[int, tuple[float, float]], names: Sequence[str]) -> None:
    """Points with their numbers; those of the Pareto front filled and joined."""
    best = front(points)
    axes.step(
        [points[index][0] for index in best], [points[index][1] for index in best], where="post", color=GAIN, lw=1.4
    )
    for index, (x, y) in points.items():
        ahead = index in best
        [point] = axes.plot(
            x, y, "o", ms=8 if ahead else 7, color=GAIN if ahead else SURFACE, mec=SURFACE if ahead else MUTED, mew=1.2
        )
        drawing.tip(point, f"{index + 1}. {names[index]}: {y:.2f} at {x:.3g}")
        axes.annotate(
            str(index + 1),
            (x, y),
            (6, -9),
            textcoords="offset points",
            fontsize=8,
            color=INK if ahead else MUTED,
            fontweight="bold" if ahead else "normal",
        )
    xs = [x for x, _ in points.values()]
    if min(xs) > 0 and max(xs) > 8 * min(xs):
        axes.set_xscale("log")
    axes.margins(0.1, 0.12)


def _doubling(axes: Axes, ks: Sequence[float]) -> None:
    """A logarithmic axis with a tick at every k."""
    if ks:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_locator(FixedLocator(list(ks)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticklabels([f"{k:g}" for k in ks])
    axes.grid(color=GRID)


def _axis(metric: str) -> str:
    return f"{metric_title(metric)}, dB" if metric.startswith("psnr") else metric_title(metric)
