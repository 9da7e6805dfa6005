"""A command in a process of its own: composed already, and ended together with the process that started it."""

import faulthandler
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from kgt_lightning.config.arguments import as_given
from kgt_lightning.system.files import write_atomic


def write_job(
    config: DictConfig, *, command: str, run_dir: Path, hydra: DictConfig, output_subdir: str | None, folder: Path
) -> list[str]:
    """Arguments with which a command runs as configured.

    They name a file that holds the composed configuration, not the command line: that may be a sweep's, name files that
    were changed meanwhile, or draw something anew.

    Args:
        config: of the job, without the section hydra; it is not resolved.
        command: ``train`` or another one.
        run_dir: folder of the run.
        hydra: section that was composed with it.
        output_subdir: where Hydra is to keep the configuration of this start, if it is.
        folder: where the file is written to.

    """
    settings = {
        "run": {"dir": str(run_dir)},
        "output_subdir": output_subdir,
        "job": {"name": command, "env_set": hydra.job.env_set},
        "overrides": {"task": as_given(hydra.overrides.task)},
        # Which files the configuration was composed of can no longer be seen in it.
        "runtime": {"choices": OmegaConf.to_container(hydra.runtime.choices)},
        "job_logging": OmegaConf.to_container(hydra.job_logging, resolve=False),
        "verbose": hydra.verbose,
    }
    folder.mkdir(parents=True, exist_ok=True)
    plain: Any = OmegaConf.to_container(config, resolve=False)
    write_atomic(folder / f"{command}.yaml", OmegaConf.to_yaml(OmegaConf.create({**plain, "hydra": settings})))
    # The name of the file tells the command, to the process itself and to those that it starts.
    return ["--config-path", str(folder.absolute()), "--config-name", command]


def start_process(arguments: Sequence[str], *, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Process that runs a command with arguments of :func:`write_job`; it ends when this one does, in whatever way."""
    # The job waits for the end of its standard input, which comes when this process ends.
    return subprocess.Popen(
        [sys.executable, "-m", "kgt_lightning.sweeps.process", *arguments],
        stdin=subprocess.PIPE,
        env={**os.environ, **environment},
    )


def run_command(arguments: Sequence[str], *, rank: int) -> None:
    """Run a command in this process; of several of a run only the first writes to the screen and to its log."""
    command = arguments[-1]
    others = ["hydra.output_subdir=null", f"hydra.job.name=rank{rank}", "hydra.job_logging.root.handlers=[file]"]
    sys.argv = [command, *arguments, *(others if rank else [])]
    import_module(f"kgt_lightning.{command}").main()


def main() -> None:
    """Run the command that the configuration is named after, as :func:`start_process` or torchrun asks for it."""
    # A process that compiled code ends says where, on the screen or in the log of its rank.
    faulthandler.enable()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Imports take seconds, in which the parent may end.
    run_command(sys.argv[1:], rank=int(os.environ.get("RANK", 0)))


def _end_with_parent() -> None:
    while os.read(0, 1024):
        pass
    # At once: another thread may wait for a process that is gone.
    os._exit(1)


if __name__ == "__main__":
    main()
