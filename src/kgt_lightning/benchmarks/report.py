"""What was measured: as a table on the screen, as CSV and JSON, and as a plot."""

import json
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

from kgt_lightning.benchmarks.measure import Row
from kgt_lightning.system.files import write_atomic, write_figure
from kgt_lightning.system.tables import Table, write_csv

_CURVES = {
    # x, one line for each, one column of panels for each, and the panels: what and its unit
    "attention": (
        "k",
        "impl",
        "num_nodes",
        {"forward_ms": "forward, ms", "forward_backward_ms": "forward + backward, ms", "forward_mb": "forward, MB"},
    ),
    "graph": ("k", "", "num_nodes", {"product_ms": "product alone, ms", "graph_ms": "Key-Graph, ms"}),
    "model": ("pixels", "model", "", {"ms": "one image, ms", "us_per_pixel": "µs per pixel", "peak_mb": "MB"}),
    "data": ("workers", "", "", {"patches_per_s": "patches per second"}),
}


def show(rows: Sequence[Row], *, title: str) -> None:
    """Print the rows; columns that are the same everywhere go into the title."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    varying = [name for name in columns if len(rows) == 1 or len({str(row.get(name)) for row in rows}) > 1]
    constant = ", ".join(f"{name}={rows[0].get(name)}" for name in columns if name not in varying)
    Table(
        title=f"{title}: {constant}" if constant else title,
        columns=[name.replace("_", " ") for name in varying],
        rows=[[_cell(row.get(name)) for name in varying] for row in rows],
    ).show()


def write(rows: Sequence[Row], folder: Path, *, what: str, facts: Row) -> None:
    """Write <what>.csv, <what>.json (the machine and the settings too) and <what>.png into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(folder / f"{what}.csv", map(rounded, rows))
    write_atomic(folder / f"{what}.json", json.dumps({**facts, "rows": list(rows)}, indent=2) + "\n")
    draw(rows, folder / f"{what}.png", what=what)


def draw(rows: Sequence[Row], file: Path, *, what: str) -> None:
    """One panel for each quantity and group of rows, on logarithmic axes; bars where there is one place alone."""
    # Slow to import, and only needed at the end.
    from matplotlib.figure import Figure

    x, line_by, column_by, quantities = _CURVES[what]
    rows = [{"pixels": row["height"] * row["width"], **row} if what == "model" else row for row in rows]
    quantities = {name: unit for name, unit in quantities.items() if any(row.get(name) for row in rows)}
    # Where nothing is to be told apart, all rows have the value None.
    lines, columns = (list(dict.fromkeys(row.get(name) for row in rows)) for name in (line_by, column_by))
    places = {row[x] for row in rows}
    figure = Figure(figsize=(3.2 * len(columns) + 1, 2.6 * len(quantities)), layout="constrained")
    panels = figure.subplots(len(quantities), len(columns), sharex="col", sharey="row", squeeze=False)
    for (i, quantity), (j, column) in product(enumerate(quantities), enumerate(columns)):
        for line in lines:
            own = [row for row in rows if (row.get(line_by), row.get(column_by)) == (line, column)]
            points = sorted((row[x], row[quantity]) for row in own if row.get(quantity))
            if line == "dense" and what == "attention":  # has no k: one value for all
                points = [(place, median(value for _, value in points)) for place, _ in points]
            style = "--" if line == "dense" else "-"
            if len(places) == 1:  # a line of one point shows nothing
                panels[i, j].bar(str(line), points[0][1] if points else 0)
            else:
                panels[i, j].plot(*zip(*points, strict=True), style, marker="o", ms=3, label=line)
        if len(places) > 1:
            panels[i, j].set_xscale("symlog" if what == "data" else "log", base=2)
            panels[i, j].set_yscale("log")
        panels[i, j].grid(alpha=0.3)
    for panel, unit in zip(panels[:, 0], quantities.values(), strict=True):
        panel.set_ylabel(unit)
        if len(places) > 1:
            panel.set_ylim(*a_decade_at_least(*panel.get_ylim()))
    for top, bottom, column in zip(panels[0], panels[-1], columns, strict=True):
        bottom.set_xlabel(x if len(places) > 1 else f"{line_by}, {x} = {places.copy().pop()}")
        if column is not None:
            top.set_title(f"{column_by} = {column}".replace("_", " "))
    if line_by and len(places) > 1:
        panels[0, 0].legend(fontsize="small")
    write_figure(file, figure, dpi=110)


def a_decade_at_least(low: float, high: float) -> tuple[float, float]:
    """Limits of a logarithmic axis, wide enough that a few percent, which are noise, look like a few percent."""
    missing = max((10 * low / high) ** 0.5, 1.0)
    return low / missing, high * missing


def rounded(row: Row) -> Row:
    """The row, fractions to four digits."""
    return {name: float(f"{value:.4g}") if isinstance(value, float) else value for name, value in row.items()}


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return "-" if value is None else str(value)
