"""How every command starts: Hydra composes the configuration, and what a user did wrong is said in one line."""

import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

_PACKAGED = Path(__file__).parent / "conf"
CONF_DIR = _PACKAGED if _PACKAGED.is_dir() else Path(__file__).parents[2] / "conf"
"""The configuration: inside an installed package, or beside src/ in a checkout."""


def run_name(resume: bool, folder: str) -> str:
    """Name of the run below the folder: that of the newest with a checkpoint to resume, or the present time."""
    checkpoints = list(Path(folder).glob("*/checkpoints/last.ckpt")) if resume else []
    if checkpoints:
        return max(checkpoints, key=lambda file: file.stat().st_mtime).parents[1].name
    return datetime.now().strftime("%Y-%m-%d_%H-%M-%S")


# The cache keeps the answer the same for the whole process.
OmegaConf.register_new_resolver("run_name", run_name, use_cache=True, replace=True)


def command(
    config_name: str, *, sections: Sequence[str] = ()
) -> Callable[[Callable[[DictConfig], Any]], Callable[[], Any]]:
    """Make main(config) a command that composes ``conf/<config_name>.yaml`` with key=value arguments.

    A ValueError, a missing file, and what Hydra finds wrong with the arguments end in one line and exit code 2; the
    traceback comes with HYDRA_FULL_ERROR=1.

    Args:
        config_name: the file.
        sections: parts of a checkpoint's configuration that arguments such as model.k=64 may change; the file leaves
            them empty, so that main has to check the keys.

    """

    def decorate(main: Callable[[DictConfig], Any]) -> Callable[[], Any]:
        started = hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name=config_name)(main)

        def run() -> Any:
            # Lightning's own use of torch, nothing that a user could change.
            warnings.filterwarnings("ignore", message=".*LeafSpec.*")
            logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_no_advertisement)
            sys.argv[1:] = [_added(argument, sections) for argument in sys.argv[1:]]
            if os.environ.get("HYDRA_FULL_ERROR") == "1":
                return started()
            # Makes Hydra raise what it would otherwise print over several lines.
            os.environ["HYDRA_FULL_ERROR"] = "1"
            try:
                return started()
            except (HydraException, OmegaConfBaseException, ValueError, OSError) as error:
                print(f"error: {one_line(error)}", file=sys.stderr)  # noqa: T201
                sys.exit(2)
            finally:
                del os.environ["HYDRA_FULL_ERROR"]

        return run

    return decorate


def _no_advertisement(record: logging.LogRecord) -> bool:
    return "Tip:" not in record.getMessage()


def _added(argument: str, sections: Sequence[str]) -> str:
    """The argument in Hydra's form for a new key, if it lies in one of the sections."""
    return f"+{argument}" if argument.split("=")[0].split(".")[0] in sections and "." in argument else argument


def one_line(error: BaseException) -> str:
    """The message, that of the cause where Hydra only wraps it, on one line."""
    if isinstance(error, HydraException) and isinstance(error.__cause__, ValueError | OSError):
        error = error.__cause__
    return "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
