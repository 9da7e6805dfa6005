"""Command: a folder of runs as one page, with its main table as CSV and Markdown.

python -m kgt_lightning.report outputs/denoise
python -m kgt_lightning.report outputs/denoise --compare k=64 k=256 --curves --output talk
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from kgt_lightning.config.extras import require
from kgt_lightning.system.ending import Parser, mistakes_in_one_line
from kgt_lightning.system.files import remove_leftovers, write_atomic
from kgt_lightning.system.tables import csv_text

PAGE = "index.html"
_FILES = re.compile(r'<meta name="kgt_lightning.report" content="([^"]*)">')
_OWN = re.compile(rf"{PAGE}|runs\.md|(runs|curves)(_\d+)?\.csv")


def report(
    folder: Path, *, output: Path, title: str | None, compare_images: Sequence[str], curves: bool = False
) -> Path:
    """Path of the page that was written into the output folder, ``runs.csv`` and ``runs.md`` beside it.

    Runs of another task or protocol get a table of their own, also as CSV: ``runs_2.csv`` and so on. Files of an
    earlier report are replaced.

    Args:
        folder: that holds runs, at any depth.
        output: folder of the report.
        title: of the page; None for the task and what varies.
        compare_images: two runs, by name, folder or number in the table; empty for the first and the best.
        curves: whether all that the runs logged is written as ``curves.csv``.

    Raises:
        ValueError: if there is no run that can be read, or a file that is no report's is in the way.

    """
    require("kgt report", "report", "matplotlib", "jinja2")
    from kgt_lightning.report.comparison import compare
    from kgt_lightning.report.page import heading, make_page
    from kgt_lightning.report.runs import read_runs
    from kgt_lightning.report.tables import as_markdown, csv_rows, curve_rows

    runs, left_out = read_runs(folder)
    for damaged in left_out:
        print(f"left out: {damaged.path}: {damaged.reason}", file=sys.stderr)  # noqa: T201
    if not runs:
        raise ValueError(f"{folder} holds no run that can be read: the {len(left_out)} found are damaged")
    comparisons = compare(runs)
    texts = {"runs.md": "\n".join(map(as_markdown, comparisons))}
    for number, comparison in enumerate(comparisons, start=1):
        ending = ".csv" if number == 1 else f"_{number}.csv"
        texts[f"runs{ending}"] = csv_text(csv_rows(comparison))
        if curves:
            texts[f"curves{ending}"] = csv_text(curve_rows(comparison))
    names = [PAGE, *texts]
    earlier = _earlier(output)
    for name in names:
        if (output / name).exists() and name not in earlier:
            raise ValueError(f"{output / name} is not of an earlier report: name another folder with --output")
    if title is None:
        title = heading(comparisons[0]) if len(comparisons) == 1 else f"Runs of {folder.resolve().name}"
    texts[PAGE] = make_page(comparisons, left_out, title=title, files=" ".join(names), compare=compare_images)

    output.mkdir(parents=True, exist_ok=True)
    remove_leftovers(output)
    for name in earlier - texts.keys():
        (output / name).unlink(missing_ok=True)
    # The page first: by it the next report knows these files as its own, also if this one is killed now.
    for name in names:
        write_atomic(output / name, texts[name])
    return output / PAGE


def _earlier(output: Path) -> set[str]:
    """Names of the files of an earlier report in the folder."""
    page = output / PAGE
    found = _FILES.search(page.read_text(encoding="utf-8", errors="replace")) if page.is_file() else None
    return {name for name in found.group(1).split() if _OWN.fullmatch(name)} if found else set()


def parser() -> argparse.ArgumentParser:
    """Parser of the arguments."""
    arguments = Parser(prog="kgt report", description="A folder of runs as one page.")
    arguments.add_argument("folder", type=Path, help="folder that holds runs, at any depth")
    arguments.add_argument("--output", type=Path, help="folder of the report, by default report/ in the folder of runs")
    arguments.add_argument("--title", help="of the page, by default the task and what varies")
    arguments.add_argument(
        "--compare",
        nargs=2,
        default=(),
        metavar=("FIRST", "SECOND"),
        help="two runs whose images are compared, by name, folder or number in the table; by default first and best",
    )
    arguments.add_argument("--curves", action="store_true", help="write all that the runs logged too, as curves.csv")
    return arguments


def main() -> None:
    """Run the command; a mistake ends in one line and exit code 2."""
    with mistakes_in_one_line():
        given = parser().parse_args()
        output = given.output or given.folder / "report"
        page = report(given.folder, output=output, title=given.title, compare_images=given.compare, curves=given.curves)
    print(page)  # noqa: T201


if __name__ == "__main__":
    main()
