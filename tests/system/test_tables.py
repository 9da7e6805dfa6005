"""One table for the screen, for a pipe, for Markdown; and rows as CSV."""

import csv

import pytest

from kgt_lightning.system.tables import Table, csv_text, write_csv

ROWS = [["k=8", "31.20", "512 MB", "3 / 5"], [], ["k=16", "-0.05", None, "–"]]  # noqa: RUF001
TABLE = Table(
    title="of [two] runs", columns=["run", "gain", "memory", "found"], rows=ROWS, note="protocol: " + 90 * "x"
)


def test_a_pipe_gets_whole_lines_and_text_as_it_is(capsys):
    Table(columns=["run", "why"], rows=[["a", 300 * "long "]], title="[bold]t", note=400 * "n").show()
    lines = capsys.readouterr().out.splitlines()
    assert (lines[0], lines[-1]) == ("[bold]t", 400 * "n")
    [line] = [line for line in lines if "long" in line]
    assert line.count("long") == 300


def test_a_terminal_folds_what_is_too_long(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "40")
    Table(columns=["run", "why"], rows=[["a", 30 * "long"]]).show()
    assert len(capsys.readouterr().out.splitlines()[-1]) == 40


def test_columns_of_numbers_stand_to_the_right(capsys):
    TABLE.show()
    printed = capsys.readouterr().out
    assert "│ k=8  │ 31.20 │ 512 MB │ 3 / 5 │" in printed
    assert "│ k=16 │ -0.05 │        │     – │" in printed  # noqa: RUF001
    assert "├──────┼───────┼────────┼───────┤" in printed
    assert TABLE.markdown().splitlines()[:3] == [
        "| run | gain | memory | found |",
        "| --- | ---: | ---: | ---: |",
        "| k=8 | 31.20 | 512 MB | 3 / 5 |",
    ]


def test_markdown_breaks_at_nothing():
    text = Table(columns=["why"], rows=[["a|b\nis <wrong> & so on"]]).markdown()
    assert text == "| why |\n| --- |\n| a\\|b is &lt;wrong> &amp; so on |\n"


@pytest.mark.parametrize("value", ["a,b", 'say "x"', "two\nlines", 0.1, 1e-30])
def test_csv_is_read_back(tmp_path, value):
    write_csv(tmp_path / "a.csv", ({name: value, "step": 1} for name in ("first", "second")))
    with (tmp_path / "a.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert rows == [{"first": str(value), "step": "1", "second": ""}, {"first": "", "step": "1", "second": str(value)}]
    assert [file.name for file in tmp_path.iterdir()] == ["a.csv"]


def test_csv_of_nothing_is_empty():
    assert csv_text([]).strip() == ""
