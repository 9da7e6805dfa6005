"""What holds whatever a command is given: an exit code that says how it ended, one line of error, nothing lost."""

import io
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

EXIT_CODES = (0, 2, 130)
SECONDS = 30
"""Of the processor, for one command."""
MEMORY = 3 << 30
"""Bytes that one command may take beyond what the process has already."""


class Outcome(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The line that says what is wrong; empty where nothing is."""
        return next((line for line in self.err.splitlines() if line.startswith("error: ")), "")


def run(
    main: Callable[[], object],
    *arguments: str,
    folder: Path,
    named: Sequence[str] = (),
    may_change: Sequence[str] = (),
    seconds: float = SECONDS,
    memory: int = MEMORY,
) -> Outcome:
    """How a command ends that is called in the folder with these arguments, after all invariants are asserted.

    Args:
        main: of the command, such as kgt_lightning.restore.main.
        arguments: as on the command line.
        folder: to be called in; what lies there before must lie there after, to the byte.
        named: texts of which an error must name one: keys or files.
        may_change: names below the folder, of files that the command keeps by itself, such as logs and caches.
        seconds: of the processor.
        memory: bytes beyond what the process has already.

    """
    before = contents(folder, may_change)
    outcome = _called(main, arguments, folder=folder, limits=bounded(seconds, memory))
    told = f"{list(arguments)}: {outcome.code}\n{outcome.err[-2000:]}"
    assert outcome.code in EXIT_CODES, f"exit code of {told}"
    assert "Traceback" not in outcome.err + outcome.out, f"traceback of {told}"
    if outcome.code == 2:
        errors = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1 and len(errors[0]) > len("error: "), f"not one line of error from {told}"
        assert not named or any(name in errors[0] for name in named), f"none of {list(named)} is named by {told}"
    after = contents(folder, may_change)
    lost = [name for name, content in before.items() if after.get(name) != content]
    assert not lost, f"{lost[:3]} changed by {told}"
    return outcome


def contents(folder: Path, left_out: Sequence[str] = ()) -> dict[str, bytes]:
    """All files below a folder by their names, but for those below the names that are left out."""
    files = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    kept = {name: path for name, path in files.items() if not any(name.is_relative_to(each) for each in left_out)}
    return {name.as_posix(): path.read_bytes() for name, path in kept.items()}


def _called(
    main: Callable[[], object], arguments: Sequence[str], *, folder: Path, limits: AbstractContextManager[None]
) -> Outcome:
    out, err = io.StringIO(), io.StringIO()
    argv, here = sys.argv, Path.cwd()
    sys.argv = ["command", *arguments]
    os.chdir(folder)
    try:
        with redirect_stdout(out), redirect_stderr(err), limits:
            main()
        code: object = 0
    except SystemExit as end:
        code = 0 if end.code is None else end.code
    finally:
        os.chdir(here)
        sys.argv = argv
    return Outcome(code if isinstance(code, int) else 1, out.getvalue(), err.getvalue())


@contextmanager
def bounded(seconds: float, memory: int) -> Iterator[None]:
    """A time in which the processor may take so many seconds, and the process so much more memory.

    Raises:
        AssertionError: when the time is over; memory that is refused is a MemoryError, or PyTorch's RuntimeError.

    """

    def stop(*_: object) -> None:
        raise AssertionError(f"it took more than {seconds:g} seconds of the processor")

    limits = resource.getrlimit(resource.RLIMIT_AS)
    earlier = signal.signal(signal.SIGPROF, stop)
    # What is mapped already, in pages.
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + memory, limits[1]))
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, earlier)
        resource.setrlimit(resource.RLIMIT_AS, limits)
