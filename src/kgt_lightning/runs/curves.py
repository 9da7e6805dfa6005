"""The learning curves of a run: read from its files, and as a picture."""

import csv
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path


def draw_curves(folder: Path) -> Path | None:
    """``curves.png`` in the folder of a run, from its ``train.csv`` and ``val.csv``; None if there is nothing to draw.

    Of a step that a resumed run did again the later value is drawn.
    """
    # Only runs that end need matplotlib, and it is slow to import.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    losses, psnrs = read_curve(folder, "train", "loss"), read_curve(folder, "val", "psnr")
    if not losses or not psnrs:
        return None
    figure = Figure(figsize=(8, 3), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    left.plot(losses.keys(), losses.values(), linewidth=0.6, color="tab:gray")
    left.plot(losses.keys(), smooth(list(losses.values())), color="tab:blue")
    left.set(title="training loss", xlabel="step", yscale="log")
    right.plot(psnrs.keys(), psnrs.values(), marker="o", color="tab:orange")
    right.set(title=f"validation PSNR, last {list(psnrs.values())[-1]:.2f} dB", xlabel="step")
    right.grid(alpha=0.3)
    file = folder / "curves.png"
    figure.savefig(file, dpi=100)
    return file


def read_curve(folder: Path, kind: str, name: str) -> dict[int, float]:
    """Values by step of a column of ``<kind>.csv`` and of the files that follow it, ``<kind>_2.csv`` and so on.

    Of a repeated step the later value counts. A row that a killed process left unfinished is passed over.
    """
    values: dict[int, float] = {}
    number, file = 1, folder / f"{kind}.csv"
    while file.exists():
        with file.open(newline="", encoding="utf-8", errors="replace") as stream:
            for row in csv.DictReader(stream):
                if None in row or None in row.values() or not row.get(name):
                    continue
                try:
                    values[int(row["step"])] = float(row[name])
                except (KeyError, ValueError):
                    continue
        number += 1
        file = folder / f"{kind}_{number}.csv"
    return dict(sorted(values.items()))


def smooth(values: Sequence[float], share: float = 0.05) -> list[float]:
    """Mean of each value and those before it, over this share of all."""
    reach = max(1, round(len(values) * share))
    sums = list(accumulate(values, initial=0.0))
    return [(sums[i] - sums[max(0, i - reach)]) / min(i, reach) for i in range(1, len(sums))]
