import json
import re
import subprocess
import sys
from contextlib import suppress
from functools import reduce
from operator import getitem
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from omegaconf import OmegaConf

from kgt_lightning import train
from kgt_lightning.config.schema import check_types
from kgt_lightning.runs.curves import read_metrics
from kgt_lightning.runs.loggers import JSONLinesLogger, finishing, id_in, readable_name

WANDB = Path(__file__).parents[2] / "experiments" / "wandb"


def logger(folder, csv=False):
    return JSONLinesLogger(folder=str(folder), csv=csv)


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_lines_are_appended_also_by_a_later_logger(tmp_path):
    logger(tmp_path).log_metrics({"train/loss": 0.5, "train/lr": 0.1, "epoch": 0}, step=0)
    logger(tmp_path).log_metrics({"train/loss": 0.25, "val/psnr": 30.0, "train/new": 7}, step=1)
    assert lines(tmp_path) == [
        {"step": 1, "train/loss": 0.5, "train/lr": 0.1},
        {"step": 2, "train/loss": 0.25, "val/psnr": 30.0, "train/new": 7},
    ]


def test_numbers_of_other_libraries_are_numbers(tmp_path):
    logger(tmp_path).log_metrics({"a/tensor": torch.tensor(0.5), "a/numpy": np.float32(0.25)}, step=0)
    assert lines(tmp_path) == [{"step": 1, "a/tensor": 0.5, "a/numpy": 0.25}]


def test_the_epoch_alone_is_no_line(tmp_path):
    logger(tmp_path).log_metrics({"epoch": 0}, step=0)
    assert not (tmp_path / "metrics.jsonl").exists()


def test_lines_beyond_a_step_are_cut_and_half_a_line_too(tmp_path):
    for step in range(5):
        logger(tmp_path).log_metrics({"train/loss": step / 2, "val/psnr": 30.0 + step}, step=step)
    before = (tmp_path / "metrics.jsonl").read_bytes()
    with (tmp_path / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 6, "train/lo')
    logger(tmp_path).cut(step=5)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before
    logger(tmp_path).cut(step=2)
    logger(tmp_path).log_metrics({"train/loss": 7.0}, step=2)
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3]
    assert len(list(tmp_path.iterdir())) == 1


def test_a_run_of_before_goes_on_in_lines(tmp_path):
    (tmp_path / "train.csv").write_text("step,loss\n1,0.5\n2,0.25\n3,0.125\n")
    (tmp_path / "val.csv").write_text("step,psnr\n2,30.0\n")
    logger(tmp_path).cut(step=2)
    logger(tmp_path).log_metrics({"train/loss": 7.0}, step=2)
    assert read_metrics(tmp_path) == {"train/loss": {1: 0.5, 2: 0.25, 3: 7.0}, "val/psnr": {2: 30.0}}
    logger(tmp_path).cut(step=0)
    assert read_metrics(tmp_path) == {}, "a run that begins anew has nothing of the one before"


@pytest.mark.parametrize("fails", [False, True])
def test_csv_files_are_written_when_they_are_asked_for(tmp_path, fails):
    for name, csv in (("with", True), ("without", False)):
        with suppress(ZeroDivisionError), finishing([logger(tmp_path / name, csv=csv)]):
            logger(tmp_path / name).log_metrics({"train/loss": 0.5, "test/A_psnr": 30.0}, step=0)
            _ = 1 / (not fails)
    assert sorted(file.name for file in (tmp_path / "with").glob("*.csv")) == ["test.csv", "train.csv"]
    assert (tmp_path / "with" / "test.csv").read_text() == "step,A_psnr\n1,30.0\n"
    assert not list((tmp_path / "without").glob("*.csv"))


@pytest.mark.parametrize(("choice", "csv"), [("jsonl", False), ("csv", True), ("tensorboard", False), ("wandb", False)])
def test_every_choice_of_loggers_writes_the_log(composed, choice, csv):
    log = composed("train", f"logger={choice}", "run=test", "run_dir=mine").logger.jsonl
    assert log == {"_target_": "kgt_lightning.runs.loggers.JSONLinesLogger", "folder": "mine", "csv": csv}


@pytest.mark.parametrize(
    ("folder", "overrides", "name"),
    [
        ("outputs/sr/mine", ["run=mine", "model.k=64"], "mine"),
        ("outputs/sweeps/s/k=64,seed=1", ["model.k=64", "seed=1", "trainer.max_steps=9"], "k=64,seed=1"),
        (
            "outputs/sr/2026-01-02_03-04-05",
            ["logger=wandb", "data_root=/sets", "~callbacks.ema"],
            "2026-01-02_03-04-05",
        ),
        ("outputs/sr/2026-01-02_03-04-05", ["task=sr", "model.k=64", "+seed=1", "logger=wandb"], "sr k=64 seed=1"),
    ],
)
def test_the_name_of_a_run_says_what_was_set(folder, overrides, name):
    assert readable_name(folder, overrides) == name


def test_the_sweep_of_weights_and_biases_calls_commands_that_compose(composed):
    """As its agent does: a value for every parameter, put in the place of the last macro of the command."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

    sweep = yaml.safe_load((WANDB / "sweep.yaml").read_text())
    values = {
        name: {"value": value}
        for name, each in sweep["parameters"].items()
        for value in [each["values"][-1] if "values" in each else each["max"]]
    }
    filled = {"${env}": ["/usr/bin/env"], "${interpreter}": ["python"], "${program}": [sweep["program"]]}
    filled["${args_no_hyphens}"] = create_sweep_command_args({"args": values})["args_no_hyphens"]
    line = [word for each in sweep["command"] for word in filled.get(each, [each])]
    assert line[:4] == ["/usr/bin/env", "python", "-m", "kgt_lightning.train"]
    config = composed("train", *line[4:], "run_dir=run", "run=test")
    check_types(config)
    for name, each in values.items():
        assert OmegaConf.select(config, name) == each["value"]
    assert "wandb" in config.logger


def records(run, kind):
    """Records of a kind in a run at Weights & Biases that was kept offline."""
    command = [Path(sys.executable).with_name("wandb"), "leet", "inspect", "--json", run]
    lines = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
    return [line[kind] for line in map(json.loads, lines) if kind in line]


@pytest.fixture
def no_account(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.slow
def test_wandb_without_an_account_keeps_one_whole_run_for_each_job(run_command, tiny_arguments, tmp_path, no_account):
    arguments = ("logger=wandb", "logger.wandb.group=study", "callbacks=key_graphs", "trainer.max_steps=1")
    arguments += ("trainer=ddp", "trainer.devices=2")  # a job of two processes is one run too
    code, _, errors = run_command(train.main, "-m", *tiny_arguments, *arguments, "model.k=4,8", "hydra.sweep.dir=jobs")
    assert code == 0, errors
    for k, folder in zip((4, 8), sorted(path.parent for path in tmp_path.glob("jobs/*/wandb")), strict=True):
        [run] = (folder / "wandb").glob("offline-run-*")
        [begun] = records(run, "run")
        assert (begun["run_group"], begun["job_type"], begun["display_name"]) == ("study", "train", folder.name)
        assert begun["tags"] == ["denoise", "kgt_nano"]
        settings = next(each["update"] for each in records(run, "config") if "model" in each["update"])
        assert settings["model"]["k"] == k
        assert settings["module"]["backbone"]["k"] == k, "the configuration is resolved"
        logged = [each["item"] for each in records(run, "history")]
        names = {name for item in logged for name in item}
        assert names >= {"train/loss", "train/lr", "train/gradient_norm", "val/psnr"}
        assert names >= {"train/samples_per_second", "train/peak_memory_mb"}
        assert names >= {"test/CBSD68_sigma=25_psnr", "test/CBSD68_sigma=25_ssim"}
        assert sum("train/loss" in item for item in logged) == 1
        [panels] = [item for item in logged if "panels.filenames" in item]
        assert [*map(Path.is_file, [run / "files" / file for file in panels["panels.filenames"]])] == [True]
        assert panels["panels.captions"][0].endswith(": degraded | restored | clean | 10 x |restored - clean|")
        assert {"key_graphs/neighbours.filenames", "key_graphs/statistics.filenames"} <= names
        [step] = {item["trainer/global_step"] for item in logged if item.keys() & {"panels.count", "val/psnr"}}
        assert step == 0, "pictures stand beside the scores of their validation"
        [table] = (run / "files" / "media" / "table").rglob("*.json")
        assert json.loads(table.read_text())["columns"][:3] == ["test_set", "image", "psnr"]
        assert [each["exit_code"] for each in records(run, "exit")] == [0]


def view(*arguments):
    """Runs the command that saves a view: exit code, standard output and error."""
    command = [sys.executable, WANDB / "workspace.py", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return ended.returncode, ended.stdout, ended.stderr


NAMING = ("xAxis", "yAxis", "metrics", "metricRegex", "mediaKeys", "accessor", "targetKey", "columnOrder", "val")
"""Keys in the definition of a view that hold names; ``val`` that of the table which a query picks."""


def named(node, key=None):
    """Every name of something logged or set in the definition of a view."""
    if isinstance(node, dict):
        for name, each in node.items():
            yield from named(each, name)
    elif isinstance(node, list):
        for each in node:
            yield from named(each, key)
    elif key in NAMING:
        yield node


@pytest.mark.slow
def test_the_view_shows_nothing_that_runs_do_not_log(tiny, tmp_path, no_account):
    code, _, errors = view("--offline", tmp_path / "view.json")
    assert code == 0, errors
    definition = json.loads((tmp_path / "view.json").read_text())
    sections = definition["spec"]["section"]["panelBankConfig"]["sections"]
    assert [each["name"] for each in sections][:5] == ["Quality", "Training", "Cost", "Pictures", "Key-Graphs"]
    [runs] = definition["spec"]["section"]["runSets"]
    assert [each["name"] for each in runs["grouping"]] == ["group", "displayName"]

    arguments = ("trainer.max_steps=1", "model.attention=gather", "logger=wandb", "callbacks=key_graphs")
    train.train(tiny(tmp_path / "run", *arguments))
    [run] = (tmp_path / "run" / "wandb").glob("offline-run-*")
    logged = {name.removesuffix("._type") for each in records(run, "history") for name in each["item"]}
    config = {key: value for each in records(run, "config") for key, value in each["update"].items()}
    names = set(named(definition))
    assert {"val/psnr", "train/loss", "panels", "key_graphs/statistics", "test/images"} < names
    assert {"test/.*_psnr", "summary:train/peak_memory_mb", "config:model.value.train_k"} < names
    for name in names - {"run:displayName", "run:tags"}:
        section, _, rest = name.rpartition(":")
        if section == "config":
            first, value, *keys = rest.split(".")
            assert value == "value"
            assert reduce(getitem, keys, config[first]) in (8, None, "gather"), name
        else:
            assert any(re.fullmatch(rest, each) for each in logged), f"{name} is not among {sorted(logged)}"


@pytest.mark.parametrize(
    ("arguments", "reason"), [(["--projct=a"], "unrecognized arguments: --projct=a"), ([], "no account at Weights")]
)
def test_a_view_that_cannot_be_saved_is_refused_in_one_line(no_account, arguments, reason):
    code, out, errors = view(*arguments)
    assert (code, out) == (2, "")
    assert errors.startswith(f"error: {reason}")
    assert errors.count("\n") == 1


def test_the_definition_of_a_view_replaces_no_file(tmp_path):
    (tmp_path / "view.json").write_text("mine")
    code, _, errors = view("--offline", tmp_path / "view.json")
    assert (code, errors) == (2, f"error: {tmp_path}/view.json exists: name another file, or remove it\n")
    assert (tmp_path / "view.json").read_text() == "mine"


@pytest.mark.slow
def test_a_run_that_goes_on_stays_one_run_at_wandb(run_command, tiny_arguments, tmp_path, no_account):
    for arguments in (["trainer.max_steps=1"], ["trainer.max_steps=2", "resume=true"]):
        assert run_command(train.main, *tiny_arguments, "logger=wandb", "run=mine", *arguments)[0] == 0
    runs = list((tmp_path / "outputs" / "denoise" / "mine" / "wandb").glob("offline-run-*"))
    assert len(runs) == 2
    assert len({id_in(run.name) for run in runs}) == 1


@pytest.mark.parametrize("kind", ["run", "offline-run"])
def test_the_id_is_read_also_where_two_starts_fell_into_one_second(kind):
    assert {id_in(f"{kind}-20260102_030405-abcd1234{ending}") for ending in ("", "-1", "-2")} == {"abcd1234"}
