"""One name for all commands, which imports only the command asked for."""

import os
import signal
import subprocess
import sys

import pytest

from kgt_lightning import publish
from kgt_lightning.__main__ import COMMANDS, main, module_file
from kgt_lightning.data import __main__ as data
from kgt_lightning.report import __main__ as report

HEAVY = ("torch", "lightning", "hydra", "omegaconf", "numpy", "matplotlib")


@pytest.mark.parametrize(
    ("arguments", "heavy"),
    [
        (["--help"], HEAVY),
        (["restore", "--help"], HEAVY),
        (["train", "task=sr", "-h"], HEAVY),
        (["data", "list"], ("torch", "lightning", "hydra", "matplotlib")),
        (["data", "list", "--root", "."], ("torch", "lightning", "hydra", "matplotlib")),
    ],
)
def test_what_needs_no_pytorch_imports_none(arguments, heavy, tmp_path):
    """So that it answers at once."""
    (tmp_path / "Set5").mkdir()
    (tmp_path / "Set5" / "baby.png").touch()
    code = (
        "import sys; from kgt_lightning.__main__ import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        f"print('imported', sorted(set({heavy}) & set(sys.modules)))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert ended.stdout.splitlines()[-1] == "imported []"


def test_every_command_is_summed_up(run_command):
    code, output, _ = run_command(main)
    assert code == 0
    for name in COMMANDS:
        line = next(line for line in output.splitlines() if line.startswith(f"  {name} "))
        assert len(line.split()) > 4, "says what it does"
        assert module_file(name).is_file()


@pytest.mark.parametrize(
    ("name", "told"), [("trian", "trian is no command: did you mean train?"), ("xyz", "choose one of train, evaluate")]
)
def test_an_unknown_command_is_told(run_command, name, told):
    code, _, errors = run_command(main, name)
    assert code == 2
    assert told in errors
    assert len(errors.splitlines()) == 1


@pytest.mark.slow
def test_a_command_runs_as_under_its_own_name(tmp_path):
    """Also the processes that it starts."""
    ended = subprocess.run(
        [sys.executable, "-m", "kgt_lightning", "restore", "input=missing", "output=out", "checkpoint=x"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert ended.returncode == 2
    assert ended.stderr.strip().endswith("error: input=missing does not exist: name an image file, or a folder of them")


def interrupt(*_, **__):
    signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize(
    ("module", "part", "arguments"),
    [
        (data, "read_catalogue", ["list"]),
        (report, "report", ["."]),
        (publish, "measure", ["--measure"]),
    ],
)
def test_ctrl_c_ends_a_command_in_one_line(run_command, monkeypatch, module, part, arguments):
    monkeypatch.setattr(module, part, interrupt)
    before = signal.getsignal(signal.SIGINT)
    code, _, errors = run_command(module.main, *arguments)
    assert code == 130
    assert errors.strip() == "interrupted: what is finished stays"
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_while_a_command_is_imported(run_command, monkeypatch):
    monkeypatch.setattr("runpy.run_module", interrupt)
    code, _, errors = run_command(main, "restore")
    assert (code, errors.strip()) == (130, "interrupted: what is finished stays")


def test_ctrl_c_while_a_module_is_imported_that_python_starts(process_environment, tmp_path):
    (tmp_path / "torch.py").write_text("import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)\n")
    path = f"{tmp_path}{os.pathsep}{process_environment['PYTHONPATH']}"
    ended = subprocess.run(
        [sys.executable, "-m", "kgt_lightning.train"],
        env={**process_environment, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert (ended.returncode, ended.stderr.strip()) == (130, "interrupted: what is finished stays")
