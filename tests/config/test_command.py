import os
import time
import warnings
from contextlib import nullcontext

import pytest

from kgt_lightning import describe, restore, train
from kgt_lightning.config import command as entry
from kgt_lightning.config.command import CONF_DIR, leave_out_needless_warnings, run_name


def test_the_configuration_is_found():
    assert (CONF_DIR / "train.yaml").is_file()


def test_resume_takes_the_newest_run_that_has_a_checkpoint(tmp_path):
    for age, name in enumerate(("b", "a", "c")):
        (tmp_path / name / "checkpoints").mkdir(parents=True)
        file = tmp_path / name / "checkpoints" / "last.ckpt"
        file.touch()
        os.utime(file, (1000 - age, 1000 - age))
    (tmp_path / "d").mkdir()
    assert run_name(True, str(tmp_path)) == "b"


def test_a_new_run_is_named_after_the_time(tmp_path):
    year = time.strftime("%Y-")
    assert run_name(False, str(tmp_path)).startswith(year)
    assert run_name(True, str(tmp_path)).startswith(year), "nothing is there to resume"


def test_under_torchrun_a_run_needs_a_name(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    with pytest.raises(ValueError, match="add run=<name>"):
        run_name(False, "nowhere")


def test_a_command_succeeds_and_prints(run_command, tmp_path):
    code, output, errors = run_command(describe.main, "size=[64,64]")
    assert code == 0, errors
    assert output.splitlines()[-1].startswith("{")
    assert list(tmp_path.iterdir()) == [], "nothing is left where the command was called"


def test_what_is_set_for_hydra_is_taken_back(run_command):
    code, _, errors = run_command(describe.main, "size=[0,3]")
    assert code == 2
    assert "Traceback" not in errors
    assert "HYDRA_FULL_ERROR" not in os.environ


def test_an_error_of_our_own_keeps_its_traceback(run_command, monkeypatch):
    monkeypatch.setattr(describe, "describe", lambda config: {}["facts"])
    with pytest.raises(KeyError, match="facts"):
        run_command(describe.main)


@pytest.mark.parametrize(
    ("error", "asked", "told"), [(KeyError, False, 1), (ValueError, False, 0), (ValueError, True, 1)]
)
def test_a_traceback_stands_in_the_log_of_the_run_too(
    run_command, tiny_arguments, tmp_path, monkeypatch, error, asked, told
):
    def fail(*_):
        raise error("facts")

    monkeypatch.setattr(train, "last_checkpoint", fail)
    monkeypatch.setattr(entry, "FULL_ERROR", asked)
    if asked:
        monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(error, match="facts") if told else nullcontext():
        assert run_command(train.main, *tiny_arguments, "run=mine")[0] == 2
    log = (tmp_path / "outputs" / "denoise" / "mine" / "train.log").read_text()
    assert log.count("Traceback (most recent call last)") == told


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_is_that_of_kgt(run_command, option):
    code, output, _ = run_command(restore.main, option)
    assert code == 0
    assert output.startswith("kgt restore: restore an image file")


def test_hydras_own_help_stays(run_command):
    code, output, _ = run_command(restore.main, "--hydra-help")
    assert code == 0
    assert "--multirun" in output


def test_the_whole_configuration_is_shown_resolved(run_command):
    code, output, errors = run_command(train.main, "task=sr", "--cfg", "job", "--resolve")
    assert code == 0, errors
    assert "    colours:\n    - 'y'\n" in output


def test_what_is_no_concern_of_a_run_is_left_out():
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        leave_out_needless_warnings()
        warnings.warn("`isinstance(treespec, LeafSpec)` is deprecated", stacklevel=1)
        warnings.warn("the loss is not finite", stacklevel=1)
    assert [str(warning.message) for warning in said] == ["the loss is not finite"]
