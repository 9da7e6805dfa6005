"""Tables: printed, as CSV, and as Markdown."""

import csv
import io
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable

from kgt_lightning.system.files import write_atomic

_NUMBER = re.compile(r"[-+]?\d[\d.,]*%?( ?[A-Za-z]{1,3})?( [(/].*)?")


@dataclass(frozen=True, kw_only=True)
class Table:
    """Cells of text under the names of their columns; columns of numbers stand to the right."""

    title: str = ""
    columns: Sequence[str]
    rows: Sequence[Sequence[str | None]]
    """An empty one draws a line between its neighbours."""
    note: str = ""

    def show(self) -> None:
        """Print it: as wide as the terminal, in a file or a pipe without a broken line."""
        table = RichTable()
        for column, right in zip(self.columns, self._right(), strict=True):
            table.add_column(column, justify="right" if right else "left", overflow="fold")
        for row in self.rows:
            table.add_row(*row) if row else table.add_section()
        console = Console(width=None if sys.stdout.isatty() else 10_000, markup=False, highlight=False)
        for part in filter(None, (self.title, table, self.note)):
            console.print(part, soft_wrap=part is not table)

    def markdown(self) -> str:
        """Its rows, text shown as it is; ``**`` around a cell makes it bold."""
        rule = ["---:" if right else "---" for right in self._right()]
        lines = [[plain(cell or "") for cell in row] for row in (self.columns, *filter(None, self.rows))]
        return "".join(f"| {' | '.join(line)} |\n" for line in (lines[0], rule, *lines[1:]))

    def _right(self) -> list[bool]:
        """For each column whether it holds numbers and nothing else."""
        cells = list(zip(*filter(None, self.rows), strict=True)) or [()] * len(self.columns)
        texts = [[text for cell in column if (text := (cell or "").strip("*-–"))] for column in cells]  # noqa: RUF001
        return [bool(column) and all(map(_NUMBER.fullmatch, column)) for column in texts]


def csv_text(rows: Iterable[Mapping[str, Any]]) -> str:
    """CSV of all columns that any row has, in the order in which they appear; what is missing or None is empty."""
    rows = list(rows)
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def write_csv(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write such a CSV file, whole or not at all."""
    write_atomic(file, csv_text(rows))


def score_title(name: str) -> str:
    """A score as it is written: psnr_y as PSNR y."""
    metric, _, rest = name.partition("_")
    return " ".join(filter(None, [metric.upper(), rest.replace("_", " ")]))


def plain(cell: str) -> str:
    """Text that Markdown shows as it is."""
    return " ".join(cell.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").split())
