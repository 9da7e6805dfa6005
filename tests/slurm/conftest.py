"""Starts SLURM once for the tests that need it, which ordinary runs of the tests leave out."""

import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from one_node import MISSING, one_node, until


def pytest_collection_modifyitems(config, items):
    asked = "slurm" in config.getoption("markexpr")
    reasons = [
        (not asked, "make test-slurm runs it"),
        (bool(MISSING), f"there is no {', '.join(MISSING)}: install slurm-wlm and munge"),
        (os.geteuid() != 0, "starting SLURM needs root"),
    ]
    for item in items:
        if item.path.parent == Path(__file__).parent:
            for true, reason in reasons:
                if true:
                    item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    with one_node(tmp_path_factory.mktemp("slurm")) as started:
        yield started


@pytest.fixture
def sweep(cluster, tiny_arguments, tmp_path):
    """Starts a sweep of processes of two each with the configuration that is shipped; ends it with the test."""
    with ExitStack() as stack:

        def start(*arguments):
            command = [sys.executable, "-m", "kgt_lightning.train", "-m", "hydra/launcher=slurm", "sweep=test"]
            resources = ["mem_gb=1", "cpus_per_task=1", "timeout_min=20", "poll_seconds=1"]
            number = len(list(tmp_path.glob("sweep-*.log")))
            log = tmp_path / f"sweep-{number}.log"
            with log.open("wb") as stream:
                process = subprocess.Popen(
                    [*command, *tiny_arguments, *(f"hydra.launcher.{each}" for each in resources), *arguments],
                    cwd=tmp_path,
                    env=cluster.environment,
                    stdout=stream,
                    stderr=stream,
                )

            def end():
                if process.poll() is None:
                    process.send_signal(signal.SIGKILL)
                    process.wait()
                cluster("scancel", "--user=root")
                until(lambda: not cluster.queue(), seconds=60, what=cluster.queue)

            stack.callback(end)
            process.log = log
            return process

        yield start
