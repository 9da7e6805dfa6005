"""The command writes its files and nothing else, and answers mistakes in one line."""

import csv
import subprocess
import sys

import pytest

from kgt_lightning.report import __main__ as command


@pytest.fixture
def run(run_command):
    """Runs the command: exit code, standard output and error."""
    return lambda *arguments: run_command(command.main, *map(str, arguments))


def test_it_writes_page_csv_and_markdown_and_says_where(two, run):
    before = {file: file.read_bytes() for file in two.rglob("*") if file.is_file()}
    code, output, errors = run(two)
    assert (code, output.strip(), errors) == (0, str(two / "report" / "index.html"), "")
    assert sorted(file.name for file in (two / "report").iterdir()) == ["index.html", "runs.csv", "runs.md"]
    assert all(file.read_bytes() == content for file, content in before.items())
    assert run(two)[0] == 0, "its own files are replaced"


def test_a_title_and_another_folder_are_taken(two, run, tmp_path):
    assert run(two, "--output", tmp_path / "a" / "b", "--title", "Why k")[0] == 0
    assert "<title>Why k</title>" in (tmp_path / "a" / "b" / "index.html").read_text()
    assert not (two / "report").exists()


@pytest.mark.slow
def test_curves_are_written_when_they_are_asked_for(sweep, run):
    assert run(sweep, "--curves")[0] == 0
    with (sweep / "report" / "curves.csv").open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["folder"] == "k64"]
    assert [row["step"] for row in rows if row["val/psnr"]] == ["10", "20", "30", "40"]
    assert run(sweep)[0] == 0
    assert not (sweep / "report" / "curves.csv").exists(), "a later report replaces the earlier one"


def test_each_protocol_has_its_own_csv_and_old_ones_go(two, write_run, run):
    folder = write_run(two / "grl", gains={"Set12 sigma=25": [12.0]}, protocol="grl: all channels", steps=0)
    assert run(two)[0] == 0
    protocols = []
    for name in ("runs.csv", "runs_2.csv"):
        with (two / "report" / name).open(newline="") as stream:
            protocols.append({row["protocol"][:4] for row in csv.DictReader(stream)})
    assert protocols == [{"swin"}, {"grl:"}]
    (folder / "results.json").unlink()
    (folder / "run.json").unlink()
    assert run(two)[0] == 0
    assert not (two / "report" / "runs_2.csv").exists()


@pytest.mark.parametrize("name", ["index.html", "runs.csv", "runs.md"])
def test_files_of_others_are_not_written_over(two, run, name):
    (two / "report").mkdir()
    (two / "report" / name).write_text("mine")
    code, _, errors = run(two)
    assert code == 2
    assert errors == f"error: {two / 'report' / name} is not of an earlier report: name another folder with --output\n"
    assert [file.read_text() for file in (two / "report").iterdir()] == ["mine"]


def test_damaged_runs_are_named_and_the_others_reported(two, run):
    (two / "a" / "run.json").write_text("{")
    code, _, errors = run(two)
    assert code == 0
    assert errors.startswith("left out: a: run.json is damaged: ")


def test_mistakes_end_in_one_line(two, run, tmp_path):
    (tmp_path / "empty").mkdir()
    for arguments, message in (
        ((tmp_path / "empty",), "holds no run: no run.json or results.json lies in it, at any depth"),
        ((tmp_path / "nowhere",), "nowhere is not a folder"),
        ((), "required: folder"),
        ((two, "--compare", "a"), "expected 2 arguments"),
        ((two, "--colour"), "unrecognized arguments: --colour"),
        ((two, "--compare", "a", "no"), "name two runs of one table"),
    ):
        code, output, errors = run(*arguments)
        assert (code, output) == (2, "")
        assert errors.startswith("error: ") and errors.count("\n") == 1 and message in errors


def test_a_folder_of_damaged_runs_alone_is_an_error(tmp_path, run):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "run.json").write_text("{")
    code, _, errors = run(tmp_path)
    assert code == 2
    assert errors.splitlines()[-1] == f"error: {tmp_path} holds no run that can be read: the 1 found are damaged"


def test_a_real_run_is_reported(trained, tmp_path):
    """As a process of its own, of a folder that training wrote."""
    arguments = [
        sys.executable,
        "-m",
        "kgt_lightning.report",
        str(trained.parents[1]),
        "--output",
        str(tmp_path / "out"),
    ]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    page = (tmp_path / "out" / "index.html").read_text()
    assert "CBSD68 sigma=25" in page and "Learning curves of all runs" in page and "data:image/png" in page
