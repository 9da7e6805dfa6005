"""Jobs in processes of their own: composed already, and ended together with the process that started them."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf


def write_job(config: DictConfig, *, command: str, folder: Path, hydra: Mapping[str, Any]) -> list[str]:
    """Arguments with which a command runs as configured.

    They name a file that holds the composed configuration, not the command line: that may be a sweep's, name files that
    were changed meanwhile, or draw something anew.

    Args:
        config: of the job, without the section hydra; it is not resolved.
        command: ``train`` or another one.
        folder: where the file is written to.
        hydra: settings for Hydra, such as the folder of the run.

    """
    plain = OmegaConf.to_container(config, resolve=False)
    assert isinstance(plain, dict)
    folder.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(OmegaConf.create({**plain, "hydra": dict(hydra)}), folder / f"{command}.yaml")
    # The name of the file tells the command, to the process itself and to those that it starts.
    return ["--config-path", str(folder.absolute()), "--config-name", command]


def start_job(arguments: Sequence[str], *, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Process that runs a command; it ends when this one does, in whatever way.

    Args:
        arguments: from :func:`write_job`.
        environment: variables to set besides those of this process.

    """
    # The job waits for the end of its standard input, which comes when this process ends.
    return subprocess.Popen(
        [sys.executable, "-m", "kgt_lightning.sweeps.job", *arguments],
        stdin=subprocess.PIPE,
        env={**os.environ, **environment},
    )
