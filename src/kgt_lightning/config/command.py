"""How every command starts: Hydra composes the configuration, and what a user did wrong is said in one line."""

import inspect
import logging
import operator
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf

from kgt_lightning.config.arguments import as_given, readable
from kgt_lightning.config.comments import CONF_DIR as CONF_DIR
from kgt_lightning.config.errors import check_choices, is_user_error, one_line, wrong_argument
from kgt_lightning.config.help import command_help, summary
from kgt_lightning.config.schema import check_types
from kgt_lightning.system.ending import ended_by_interrupt, exit_with
from kgt_lightning.system.files import LAST, PREVIOUS
from kgt_lightning.system.memory import keep_freed_memory

log = logging.getLogger(__name__)

FULL_ERROR = os.environ.get("HYDRA_FULL_ERROR") == "1"
"""Whether the user asks for tracebacks; read before Hydra is made to leave all errors to this file."""

_NEEDLESS_WARNINGS = (
    "`isinstance\\(treespec, LeafSpec\\)`",  # Lightning's own use of torch
    "You're resuming from a checkpoint that ended before",  # the data goes on at the step that was reached
    "Checkpoint directory .* exists and is not empty",  # as it is after every resume
    "You're using the WeightAveraging callback with a model that overrides",  # a model that is shared is refused
    "It is recommended to use `self.log\\('(step|val/.*)', .*sync_dist=True",  # all processes know the same value
    "The '.*_dataloader' does not have many workers",  # crops from a memory map are cheap
)
"""Beginnings of warnings about nothing that a user could or should change."""


def run_name(resume: bool, folder: str) -> str:
    """Name of the run below the folder: that of the newest with a checkpoint to resume, or the present time.

    Raises:
        ValueError: under torchrun, whose processes would each name it by their own clock.

    """
    names = (LAST, PREVIOUS) if resume else ()
    checkpoints = [file for name in names for file in Path(folder).glob(f"*/checkpoints/{name}")]
    if checkpoints:
        return max(checkpoints, key=lambda file: file.stat().st_mtime).parents[1].name
    if "TORCHELASTIC_RUN_ID" in os.environ:
        raise ValueError("under torchrun the run needs a name that all processes know: add run=<name>")
    return sweep_name(None)


def sweep_name(name: str | None) -> str:
    """The name, or the present time."""
    return datetime.now().strftime("%Y-%m-%d_%H-%M-%S") if name is None else folder_name("sweep", name)


def folder_name(key: str, name: str | None) -> str:
    """The name of a folder below outputs/.

    Raises:
        ValueError: if it would lead elsewhere.

    """
    path = Path(str(name))
    if name in (None, "") or path.is_absolute() or {".", ".."} & {str(path), *path.parts}:
        raise ValueError(
            f"{key}={name} is no name of a folder below outputs: give one such as {key}=first; another place is named"
            f" with hydra.{key}.dir=<folder>"
        )
    return str(name)


def chosen(group: str) -> str | None:
    """Name of the file that was chosen from a group of conf/, None if it is not known."""
    return HydraConfig.get().runtime.choices.get(group) if HydraConfig.initialized() else None


def if_gray(channels: int, gray: Sequence[str], colour: Sequence[str]) -> ListConfig:
    """One of both, as a list that also Hydra's --resolve takes."""
    return ListConfig(list(gray if channels == 1 else colour))


def gpus(accelerator: str, devices: int | str) -> int | str:
    """Number of GPUs to ask a cluster for."""
    return 0 if accelerator == "cpu" else devices


OmegaConf.register_new_resolver("gpus", gpus, replace=True)
OmegaConf.register_new_resolver("chosen", chosen, replace=True)
# The cache keeps the answer the same for the whole process.
OmegaConf.register_new_resolver("run_name", run_name, use_cache=True, replace=True)
OmegaConf.register_new_resolver("folder_name", folder_name, replace=True)
OmegaConf.register_new_resolver("sweep_name", sweep_name, use_cache=True, replace=True)
# Some sizes follow from others, and YAML has no arithmetic.
OmegaConf.register_new_resolver("times", operator.mul, replace=True)
OmegaConf.register_new_resolver("if_gray", if_gray, replace=True)


def command(
    config_name: str, *, sections: Sequence[str] = (), names: Sequence[str] = (), reads: Sequence[str] | None = None
) -> Callable[[Callable[[DictConfig], Any]], Callable[[], Any]]:
    """Make main(config) a command that composes ``conf/<config_name>.yaml`` with key=value arguments.

    What a user did wrong, be it found by Hydra, by Lightning or as a ValueError, ends in one line and exit code 2; with
    HYDRA_FULL_ERROR=1 the traceback comes too, also into the log of the run. Of a multirun all jobs are run, also after
    one that failed.

    Args:
        config_name: the file.
        sections: parts of a checkpoint's configuration that arguments such as model.k=64 may change; the file leaves
            them empty, so that main has to check the keys. model=denoise says the same as checkpoint=denoise.
        names: groups of conf/ that this command does not compose: task=sr is the value of ``task.name`` in its file.
        reads: sections that it makes objects of, see :func:`.schema.check_types`; None for all that there are.

    """

    def decorate(main: Callable[[DictConfig], Any]) -> Callable[[], Any]:
        def job(config: DictConfig) -> Any:
            # Processes that the job starts are to behave like this one.
            with _full_error("1" if FULL_ERROR else None):
                try:
                    given = as_given(HydraConfig.get().overrides.task)
                    check_types(config, command=config_name, reads=reads, given=given)
                    return main(config)
                except Exception as error:
                    if FULL_ERROR or not is_user_error(error):
                        _log_traceback(error)
                        raise
                    if HydraConfig.get().mode is RunMode.MULTIRUN:
                        log.error(one_line(error))
                        raise ValueError(one_line(error)) from error
                    # SystemExit passes through Hydra, which would print the arguments before the error.
                    print(file=sys.stderr)  # noqa: T201  # ends the line of a progress bar
                    exit_with(one_line(error))

        started = hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name=config_name)(job)

        def run() -> Any:
            if {"-h", "--help"} & set(sys.argv[1:]):
                about = summary(Path(inspect.getfile(main)))
                print(command_help(config_name, sys.argv[1:], about=about))  # noqa: T201
                return None
            keep_freed_memory()
            leave_out_needless_warnings()
            try:
                typed = readable(sys.argv[1:], command=config_name)
            except ValueError as error:
                exit_with(one_line(error))
            arguments = sys.argv[1:] = [_rewritten(argument, sections, names) for argument in typed]
            if FULL_ERROR:
                return started()
            # Hydra raises what it would otherwise print over several lines.
            with _full_error("1"), ended_by_interrupt():
                as_typed = dict(zip(arguments, typed, strict=True))
                try:
                    check_choices(as_typed, conf=CONF_DIR)
                    return started()
                except Exception as error:
                    if not is_user_error(error):
                        raise
                    exit_with(wrong_argument(error, conf=CONF_DIR, config_name=config_name, arguments=as_typed))

        return run

    return decorate


@contextmanager
def _full_error(value: str | None) -> Iterator[None]:
    """HYDRA_FULL_ERROR set to a value, or unset, for a time."""
    before = os.environ.pop("HYDRA_FULL_ERROR", None)
    if value is not None:
        os.environ["HYDRA_FULL_ERROR"] = value
    try:
        yield
    finally:
        os.environ.pop("HYDRA_FULL_ERROR", None)
        if before is not None:
            os.environ["HYDRA_FULL_ERROR"] = before


def _log_traceback(error: Exception) -> None:
    """Write the traceback to the log of the run; on the screen it comes at the end of the process."""
    traceback = (type(error), error, error.__traceback__)
    record = log.makeRecord(log.name, logging.ERROR, __file__, 0, one_line(error), (), traceback)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(record)


def leave_out_needless_warnings() -> None:
    """Of what Lightning and its libraries say, leave out what is no concern of a run; a second call changes nothing."""
    for message in _NEEDLESS_WARNINGS:
        warnings.filterwarnings("ignore", message=f".*{message}")
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_no_advertisement)


def _no_advertisement(record: logging.LogRecord) -> bool:
    return "Tip:" not in record.getMessage()


def _rewritten(argument: str, sections: Sequence[str], names: Sequence[str]) -> str:
    """The argument as Hydra needs it: as a new key if it lies in one of the sections, as a value if it is a name."""
    key, equals, value = argument.partition("=")
    if key == "model" and key in sections:
        return f"checkpoint={value}"
    if key in names:
        return f"{key}.name{equals}{value}"
    return f"+{argument}" if key.partition(".")[0] in sections and "." in key else argument
