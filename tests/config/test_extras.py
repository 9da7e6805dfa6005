"""Without the extras training and restoring work, and whatever needs one says which."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from kgt_lightning import analyze, bench, train
from kgt_lightning.config.extras import missing, require
from kgt_lightning.report.__main__ import main as report

ROOT = Path(__file__).parents[2]
OPTIONAL = ("jinja2", "matplotlib", "optuna", "submitit", "tensorboard")


@pytest.fixture
def without(monkeypatch):
    def remove(package):
        monkeypatch.setitem(sys.modules, package, None)

    return remove


def test_what_is_missing_is_named_with_its_extra(without):
    assert missing("this", "report", "matplotlib") is None
    without("matplotlib")
    assert (
        missing("this", "report", "json", "matplotlib") == "this needs matplotlib: pip install 'kgt-lightning[report]'"
    )
    with pytest.raises(ValueError, match=r"kgt-lightning\[report\]"):
        require("this", "report", "matplotlib")


def test_every_extra_that_is_named_exists():
    """With the packages that are looked for."""
    project = (ROOT / "pyproject.toml").read_text()
    sources = "\n".join(file.read_text() for file in (ROOT / "src").rglob("*.py"))
    asked = re.findall(r'(?:require|missing)\("([^"]+)", "([\w-]+)", ([^)]+)\)', sources)
    assert len(asked) >= 6
    for _, extra, packages in asked:
        line = re.search(rf"^{extra} = \[(.*)\]", project, re.MULTILINE)
        assert line, extra
        for package in re.findall(r'"(\w+)"', packages):
            assert f'"{package}>=' in line.group(1)


@pytest.mark.parametrize(
    ("main", "package", "arguments", "what"),
    [
        (report, "matplotlib", ["{tmp}"], "kgt report needs matplotlib"),
        (report, "jinja2", ["{tmp}"], "kgt report needs jinja2"),
        (analyze.main, "matplotlib", ["checkpoint=x", "input=y"], "kgt analyze needs matplotlib"),
        (bench.main, "matplotlib", [], "kgt bench needs matplotlib"),
        (train.main, "matplotlib", ["callbacks=key_graphs"], "callbacks=key_graphs needs matplotlib"),
        (train.main, "tensorboard", ["logger=tensorboard"], "logger=tensorboard needs tensorboard"),
    ],
)
def test_what_needs_an_extra_says_so(run_command, tiny_arguments, without, tmp_path, main, package, arguments, what):
    without(package)
    given = [*tiny_arguments, *arguments] if main is train.main else [each.format(tmp=tmp_path) for each in arguments]
    code, _, errors = run_command(main, *given)
    assert code == 2
    assert f"error: {what}: pip install 'kgt-lightning[" in errors.strip().splitlines()[-1]


def test_training_needs_no_extra(tiny, without, tmp_path, caplog):
    caplog.set_level("INFO")
    for package in OPTIONAL:
        without(package)
    assert train.train(tiny(tmp_path)) > 0
    assert (tmp_path / "results.json").exists()
    assert not (tmp_path / "curves.png").exists()
    assert "curves.png needs matplotlib: pip install 'kgt-lightning[report]'" in caplog.text


@pytest.mark.slow
def test_no_command_imports_an_extra():
    code = f"""
import sys
# Without matplotlib, which torchmetrics takes for there because it is installed.
for package in {set(OPTIONAL) - {"matplotlib"}}:
    sys.modules[package] = None
from kgt_lightning import __main__, analyze, bench, describe, evaluate, restore, train
from kgt_lightning.data import __main__
from kgt_lightning.report import __main__
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_operations_need_torch_alone():
    """They are a library of their own for people who bring their own training."""
    code = """
import sys
import torch
before = set(sys.modules)
import kgt_lightning.ops
print(*sorted({name.partition(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)))
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["kgt_lightning"]
