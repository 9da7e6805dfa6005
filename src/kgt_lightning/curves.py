"""The learning curves of a run as a picture."""

import csv
from pathlib import Path


def draw_curves(folder: Path) -> Path | None:
    """``curves.png`` in the folder of a run, from its ``train.csv`` and ``val.csv``; None if there is nothing to draw.

    Of a step that a resumed run did again the later value is drawn.
    """
    # Only runs that end need matplotlib, and it is slow to import.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    losses, psnrs = _column(folder / "train.csv", "loss"), _column(folder / "val.csv", "psnr")
    if not losses or not psnrs:
        return None
    figure = Figure(figsize=(8, 3), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    left.plot(losses.keys(), losses.values(), linewidth=0.6, color="tab:gray")
    left.plot(losses.keys(), _smooth(list(losses.values())), color="tab:blue")
    left.set(title="training loss", xlabel="step", yscale="log")
    right.plot(psnrs.keys(), psnrs.values(), marker="o", color="tab:orange")
    right.set(title=f"validation PSNR, last {list(psnrs.values())[-1]:.2f} dB", xlabel="step")
    right.grid(alpha=0.3)
    file = folder / "curves.png"
    figure.savefig(file, dpi=100)
    return file


def _column(file: Path, name: str) -> dict[int, float]:
    """Values of a column by step."""
    if not file.exists():
        return {}
    with file.open(newline="") as stream:
        rows = {int(row["step"]): float(row[name]) for row in csv.DictReader(stream) if row.get(name)}
    return dict(sorted(rows.items()))


def _smooth(values: list[float], share: float = 0.05) -> list[float]:
    """Mean of each value and those before it, over this share of all."""
    reach = max(1, round(len(values) * share))
    return [sum(values[max(0, i + 1 - reach) : i + 1]) / min(i + 1, reach) for i in range(len(values))]
