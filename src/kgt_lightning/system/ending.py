"""How a command ends early: a mistake in one line and exit code 2, Ctrl+C in one line and exit code 130."""

import argparse
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from kgt_lightning.system.files import FULL

_STAYS = "interrupted: what is finished stays"


def exit_with(message: str, *, code: int = 2) -> NoReturn:
    """End the process with this exit code and the message as a line of error."""
    print(f"error: {message}", file=sys.stderr)  # noqa: T201
    sys.exit(code)


def joined(error: BaseException | None) -> str:
    """The message on one line; of a full disk with the way out."""
    if isinstance(error, OSError) and error.errno in FULL:
        return (
            f"{error.filename or Path.cwd()} cannot be written, the disk is full ({error.strerror}): free some space,"
            " or write to another folder with output=<folder>, --output or hydra.run.dir=<folder>"
        )
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"  # without its number
    return "; ".join(line.strip() for line in str(error).splitlines() if line.strip())


class Parser(argparse.ArgumentParser):
    """A parser whose errors are those of the command."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}: see {self.prog} --help")


@contextmanager
def mistakes_in_one_line() -> Iterator[None]:
    """A block whose mistakes of a user, and Ctrl+C, end the process in one line."""
    with ended_by_interrupt():
        try:
            yield
        except (ValueError, OSError) as error:
            exit_with(joined(error))


def end_at_interrupt() -> None:
    """From here on Ctrl+C ends the process in one line with exit code 130, if nothing else listens to it."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _ending(_STAYS))


def _ending(told: str) -> Callable[[int, Any], NoReturn]:
    """Handler of a signal: ends the process in a line."""

    def end(number: int, _: Any) -> NoReturn:
        with suppress(OSError):  # of a terminal that is gone
            print(f"\n{told}", file=sys.stderr)  # noqa: T201
        raise SystemExit(128 + number)

    return end


@contextmanager
def ended_by_interrupt(*others: signal.Signals, told: str = _STAYS) -> Iterator[None]:
    """Ctrl+C ends the block in one line with exit code 130; a training listens by itself, and saves first.

    Args:
        others: signals that end it too, with their exit code, so that what the block has to tidy up is tidied up.
        told: the line.

    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    before = {number: signal.signal(number, _ending(told)) for number in (signal.SIGINT, *others)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
