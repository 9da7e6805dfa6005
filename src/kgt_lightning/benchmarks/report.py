"""What was measured: as a table on the screen, as CSV and JSON, and as a plot."""

import json
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from kgt_lightning.system.tables import Table, write_csv

Row = dict[str, Any]

_CURVES = {
    # x, one line for each, one column of panels for each, and the panels: what and its unit
    "attention": (
        "k",
        "impl",
        "num_nodes",
        {"forward_ms": "forward, ms", "forward_backward_ms": "forward + backward, ms", "forward_mb": "forward, MB"},
    ),
    "graph": ("k", None, "num_nodes", {"product_ms": "product alone, ms", "graph_ms": "Key-Graph, ms"}),
    "model": ("pixels", "attention", None, {"ms": "one image, ms", "us_per_pixel": "µs per pixel", "peak_mb": "MB"}),
    "data": ("workers", None, None, {"patches_per_s": "patches per second"}),
}


def show(rows: Sequence[Row], *, title: str) -> None:
    """Print the rows; columns that are the same everywhere go into the title."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    same = {name: rows[0].get(name) for name in columns if len({str(row.get(name)) for row in rows}) == 1}
    constant = ", ".join(f"{name}={value}" for name, value in same.items() if len(rows) > 1)
    varying = [name for name in columns if len(rows) == 1 or name not in same]
    Table(
        title=f"{title}: {constant}" if constant else title,
        columns=[name.replace("_", " ") for name in varying],
        rows=[[_cell(row.get(name)) for name in varying] for row in rows],
    ).show()


def write(rows: Sequence[Row], folder: Path, *, what: str, facts: Row) -> None:
    """Write <what>.csv, <what>.json (the machine and the settings too) and <what>.png into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(folder / f"{what}.csv", ({name: _rounded(value) for name, value in row.items()} for row in rows))
    (folder / f"{what}.json").write_text(json.dumps({**facts, "rows": list(rows)}, indent=2) + "\n")
    draw(rows, folder / f"{what}.png", what=what)


def draw(rows: Sequence[Row], file: Path, *, what: str) -> None:
    """One panel for each quantity and group of rows, all on logarithmic axes."""
    # Slow to import, and only needed at the end.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    x, line_by, column_by, quantities = _CURVES[what]
    rows = [{"pixels": row["height"] * row["width"], **row} if what == "model" else row for row in rows]
    quantities = {name: unit for name, unit in quantities.items() if any(row.get(name) for row in rows)}
    columns = _values(rows, column_by)
    figure = Figure(figsize=(3.2 * len(columns) + 1, 2.6 * len(quantities)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(quantities), len(columns), sharex="col", sharey="row", squeeze=False)
    for (i, (quantity, unit)), (j, column) in product(enumerate(quantities.items()), enumerate(columns)):
        panel = panels[i][j]
        for line in _values(rows, line_by):
            own = [row for row in rows if _is(row, column_by, column) and _is(row, line_by, line) and row.get(quantity)]
            own.sort(key=lambda row: row[x])
            style = "--" if line == "dense" else "-"
            panel.plot([row[x] for row in own], [row[quantity] for row in own], style, marker="o", ms=3, label=line)
        panel.set_xscale("symlog" if what == "data" else "log", base=2)
        panel.set_yscale("log")
        panel.grid(alpha=0.3)
        if j == 0:
            panel.set_ylabel(unit)
        if i == 0 and column is not None:
            panel.set_title(f"{column_by} = {column}".replace("_", " "))
        if i == len(quantities) - 1:
            panel.set_xlabel(x)
    if line_by:
        panels[0][0].legend(fontsize="small")
    figure.savefig(file, dpi=110)


def _values(rows: Sequence[Row], name: str | None) -> list[Any]:
    return [None] if name is None else list(dict.fromkeys(row[name] for row in rows))


def _is(row: Row, name: str | None, value: Any) -> bool:
    return name is None or row[name] == value


def _rounded(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return "-" if value is None else str(value)
