"""kgt serve as a process: how it starts and ends, what it leaves, and what memory a picture takes in it."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from websockets.sync.client import connect

from kgt_lightning import serve
from kgt_lightning.system.files import alone_in
from kgt_lightning.system.hardware import proc_field

MEGAPIXELS = float(os.environ.get("SERVE_MEGAPIXELS", "0.1"))
"""Of the picture whose memory is measured: make serve-memory takes 20."""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., tuple[subprocess.Popen, str]]]:
    """Starts kgt serve; the process, whose temporary files are in ``tmp``, and its address."""
    started = []
    (tmp_path / "tmp").mkdir()

    def start_one(*arguments: str):
        command = [sys.executable, "-m", "kgt_lightning", "serve", "port=0", "device=cpu", *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        process = subprocess.Popen(command, cwd=tmp_path, env={**os.environ, "TMPDIR": str(tmp_path / "tmp")}, **pipes)
        started.append(process)
        line = process.stdout.readline()
        assert "http://" in line, process.communicate()
        return process, re.search(r"http://\S+", line).group()

    yield start_one
    for process in started:
        process.kill()
        process.communicate()


def left(tmp_path: Path) -> set[str]:
    return {folder.name for folder in (tmp_path / "tmp").glob("kgt-serve-*")}


@pytest.mark.slow
def test_ctrl_c_ends_it_in_a_line_and_nothing_is_left(start, tmp_path):
    for name in ("killed", "alive", "strange"):
        (tmp_path / "tmp" / f"kgt-serve-{name}").mkdir()
    (tmp_path / "tmp" / "kgt-serve-killed" / serve.LOCK).touch()
    (tmp_path / "tmp" / "kgt-serve-killed" / "photo.jpg").touch()
    with alone_in(tmp_path / "tmp" / "kgt-serve-alive", lock=serve.LOCK):
        process, address = start()
        others = {"kgt-serve-alive", "kgt-serve-strange"}
        assert others < left(tmp_path) and "kgt-serve-killed" not in left(tmp_path)
    assert "Restore photographs" in httpx.get(address).text
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert (output, errors) == ("", "\nended: pictures that were not downloaded are forgotten\n")
    assert left(tmp_path) == others


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_from_upload_to_download(start, tmp_path, trained, monkeypatch):
    """At its peak, of a process that is then killed; its folder is gone when the next one starts."""
    height, width = (round((MEGAPIXELS * 1e6 * ratio) ** 0.5) for ratio in (2 / 3, 3 / 2))
    waves = 127 + 60 * np.sin(np.arange(width) / 40) + 60 * np.cos(np.arange(height) / 50)[:, None]
    Image.fromarray(waves.astype(np.uint8)).convert("RGB").save(tmp_path / "photo.jpg")
    process, address = start(*([f"checkpoint={trained}"] if MEGAPIXELS < 1 else []))

    def peak(step: str) -> int:
        megabytes = int(proc_field(Path(f"/proc/{process.pid}/status"), "VmHWM")) // 1024
        print(f"{step}: {megabytes} MB at its peak")  # noqa: T201  # pytest -s shows it
        return megabytes

    peak("started")
    photo, http = "/pictures/1", httpx.Client(headers={"origin": address}, timeout=None)
    with connect(address.replace("http", "ws") + "/session", origin=address) as events, http as page:
        hello = json.loads(events.recv())
        page.base_url = f"{address}/{hello['key']}"
        content = (tmp_path / "photo.jpg").read_bytes()
        assert page.put("/pictures", params={"name": "photo.jpg"}, content=content).status_code == 201
        peak("taken in")
        params = {"model": hello["models"][0], "name": "photo.jpg"}
        assert page.post(f"{photo}/restore", params=params).status_code == 202
        while (event := json.loads(events.recv()))["event"] != "finished":
            assert event["event"] != "failed", event
            if event.get("done", 1) % 50 == 0:
                peak(f"{event['done']} of {event['parts']}, {event['left_seconds']} s left")
        peak("restored")
        place = {"top": 0, "left": 0, "height": min(height, 1024), "width": min(width, 1024)}
        with ThreadPoolExecutor(50) as clients:
            layers = list(clients.map(lambda _: page.get(f"{photo}/layer/texture", params=place), range(50)))
        assert {answer.status_code for answer in layers} == {200}
        peak("shown to 50 at once")
        said = HTTPConnection(*address.removeprefix("http://").split(":"))
        said.putrequest("PUT", f"/{hello['key']}/pictures?name=a.jpg")
        said.putheader("Origin", address)
        said.putheader("Content-Length", str(10**9))
        said.endheaders()
        assert said.getresponse().status == 413
        peak("offered 1 GB")
        assert page.put(f"{photo}/clean", params=params, content=content).status_code == 201
        assert page.get(f"{photo}/scores", params={"texture": 50}).json()["restored"]
        peak("compared")
        kept = page.get(f"{photo}/download", params={"strength": 80, "texture": 50})
        (tmp_path / "kept.jpg").write_bytes(kept.content)
        assert Image.open(tmp_path / "kept.jpg").size == (width, height)
    assert peak("downloaded") < 2000
    process.kill()
    process.wait()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (killed,) = left(tmp_path)
    with serve.folder_of_its_own() as own:
        assert left(tmp_path) == {own.name} != {killed}


def test_a_port_in_use_is_named(run_command, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, errors = run_command(serve.main, f"port={port}")
    assert code == 2
    assert f"port={port} cannot be used" in errors and "or 0 for one that is free" in errors
    assert list(tmp_path.iterdir()) == [], "no folder was made"


def test_help_names_the_limits(run_command):
    code, output, _ = run_command(serve.main, "--help")
    assert code == 0
    assert "limits.megapixels" in output and "8765" in output
