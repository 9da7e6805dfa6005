"""The parts of the first day on a GPU: their commands compose, what ended well is not run again, the page tells all."""

import json
import sys

import pytest
import torch

from kgt_lightning.benchmarks import gpu_day
from kgt_lightning.ops.kernels import triton_tuned


@pytest.mark.parametrize("small", [False, True], ids=["gpu", "small"])
def test_commands_compose(composed, tmp_path, small):
    commands = gpu_day.parts(tmp_path, small=small)
    assert list(commands) == list(gpu_day.SECONDS)
    assert sum(gpu_day.SECONDS.values()) <= 600
    for name in ("attention", "model", "nano", "small"):
        _, module, *arguments = commands[name]
        composed(module.removeprefix("kgt_lightning."), *arguments)


def test_what_ended_well_is_not_run_again(monkeypatch, tmp_path, capsys):
    count = tmp_path / "count"
    well = ["-c", f"open({str(count)!r}, 'a').write('x')"]
    ill = ["-c", "import sys; sys.exit('no such kernel')"]
    monkeypatch.setattr(gpu_day, "parts", lambda *_, **__: {"tests": well, "tune": ill})
    assert gpu_day.main([str(tmp_path), "small"]) == 1
    page = (tmp_path / "README.md").read_text()
    assert "## tune failed" in page and "no such kernel" in page
    monkeypatch.setattr(gpu_day, "parts", lambda *_, **__: {"tests": well, "tune": well})
    assert gpu_day.main([str(tmp_path), "small"]) == 0
    assert count.read_text() == "xx"


def test_a_part_that_takes_too_long_is_ended(tmp_path):
    command = ["-c", "import time; time.sleep(60)"]
    found = gpu_day.run_part(command, seconds=0.2, log=tmp_path / "log", environment={})
    assert found["status"] == 124


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_it_says_how_to_try(tmp_path, capsys):
    assert gpu_day.main([str(tmp_path)]) == 2
    assert "make gpu SMALL=1" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="Triton is for Linux")
def test_small_runs_to_its_end(tmp_path):
    pytest.importorskip("triton")
    assert gpu_day.main([str(tmp_path), "small"]) == 0
    assert "triton" in (tmp_path / "README.md").read_text()


def test_a_tuned_table_is_read(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "A Card")
    triton_tuned._table.cache_clear()
    file = triton_tuned.table_file("A Card")
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps({triton_tuned.entry_name("forward", torch.float16, 32): [4, 3]}))
    assert triton_tuned.tuned("forward", torch.float16, 32, (1, 2)) == (4, 3)
    assert triton_tuned.tuned("forward", torch.float32, 32, (1, 2)) == (1, 2)
    file.write_text("[1]")
    triton_tuned._table.cache_clear()
    with pytest.raises(ValueError, match=r"is no table of tuned kernels .*: delete it, or run make gpu again"):
        triton_tuned.tuned("forward", torch.float16, 32, (1, 2))
    triton_tuned._table.cache_clear()
