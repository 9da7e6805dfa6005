"""Jobs in processes of their own: composed already, and ended together with the process that started them."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf


def start_job(
    config: DictConfig, file: Path, *, hydra: Mapping[str, Any], environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Process that trains as configured; it ends when this one does, in whatever way.

    It is given the composed configuration in a file, not the command line: that may be a sweep's, name files that were
    changed meanwhile, or draw something anew.

    Args:
        config: of the job, without the section hydra; it is not resolved.
        file: where it is written to.
        hydra: settings for Hydra, such as the folder of the run.
        environment: variables to set besides those of this process.

    """
    plain = OmegaConf.to_container(config, resolve=False)
    assert isinstance(plain, dict)
    file.parent.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(OmegaConf.create({**plain, "hydra": dict(hydra)}), file)
    command = [sys.executable, "-m", "kgt_lightning.job", "--config-path", str(file.parent.absolute())]
    # The job waits for the end of its standard input, which comes when this process ends.
    return subprocess.Popen(
        [*command, "--config-name", file.stem], stdin=subprocess.PIPE, env={**os.environ, **environment}
    )
