"""Files that are whole or not there at all."""

import errno
import fcntl
import hashlib
import io
import json
import os
import re
import uuid
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PureWindowsPath
from typing import Any

NEXT, LAST, PREVIOUS = "next.ckpt", "last.ckpt", "previous.ckpt"
"""Names of a run's state while it is written, of the newest one, and of the one before."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of a disk, a share of it or a file that takes no more."""

_PART = re.compile(r"\.[0-9a-f]{32}\.part")


def run_of(checkpoint: str | Path) -> str:
    """Name of the run that a checkpoint or exported model is of, by its path: else that of the file."""
    path = PureWindowsPath(checkpoint)  # which takes both kinds of slash for what lies between folders
    if path.parent.name == "checkpoints" and path.parents[1].name:
        return path.parents[1].name
    return path.parent.name if path.name == "model.safetensors" and path.parent.name else path.stem


def user_path(path: str | Path) -> Path:
    """The path, with the home folder in place of a ``~`` at its beginning.

    Raises:
        ValueError: if there is no user of the name behind it.

    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ValueError(
            f"{path} begins with the home folder of no user: write ./{path} for what is called so"
        ) from None


def write_atomic(file: Path, content: str | bytes) -> None:
    """Write a file of which a reader, or a kill, never meets half; an error names it and leaves what was there."""
    part = file.with_name(f".{uuid.uuid4().hex}.part")  # short: the name of the file may be as long as names can be
    try:
        with naming(file), part.open("xb") as stream:
            with suppress(OSError):  # of a file system without locks
                fcntl.flock(stream, fcntl.LOCK_EX)
            stream.write(content.encode() if isinstance(content, str) else content)
            stream.flush()
            os.replace(part, file)
    finally:
        part.unlink(missing_ok=True)


def remove_leftovers(folder: Path, *, below: bool = False) -> None:
    """Remove what a killed :func:`write_atomic` left in the folder, or also below it; nothing of one that is at work.

    Whoever writes such a file holds its lock, but for the moment in which it is new and empty.
    """
    for part in folder.glob(f"{'**/' if below else ''}.*.part"):
        with suppress(OSError):  # it is gone, may not be written, or there are no locks: then whose it is is not known
            if _PART.fullmatch(part.name) and not part.is_symlink() and part.is_file():
                with part.open("r+b") as stream:
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if os.fstat(stream.fileno()).st_size:
                        part.unlink()


def write_figure(file: Path, figure: Any, *, dpi: int) -> None:
    """Write a figure of matplotlib as :func:`write_atomic` does, in the format of the suffix."""
    content = io.BytesIO()
    figure.savefig(content, dpi=dpi, format=file.suffix.removeprefix("."))
    write_atomic(file, content.getvalue())


def append_json_line(file: Path, entry: Mapping[str, Any]) -> None:
    """Add an object as a line of its own, also behind a line that a kill left half written; scalars as numbers."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with naming(file), file.open("a+b") as stream:
        if stream.tell():
            stream.seek(-1, os.SEEK_END)
            whole = stream.read() == b"\n"
        else:
            whole = True
        stream.write(b"" if whole else b"\n")
        stream.write(json.dumps(entry, default=float).encode() + b"\n")


def read_json_lines(file: Path) -> list[dict[str, Any]]:
    """The objects in the lines of a file, none if there is no file; what a kill left half written is passed over."""
    entries = []
    for line in file.read_bytes().splitlines() if file.is_file() else ():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            entries.append(entry)
    return entries


@contextmanager
def naming(file: Path) -> Iterator[None]:
    """Errors of writing in the block name the file: of a write that fails Python knows no name."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(file)) from error


def sha256(file: Path) -> str:
    """SHA-256 of the content of a file, as hexadecimal digits."""
    with file.open("rb") as stream:
        found = hashlib.sha256()
        while block := stream.read(2**20):
            found.update(block)
    return found.hexdigest()


def digest(parts: Sequence[object]) -> str:
    """SHA-256 of settings that a result depends on, as hexadecimal digits."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


class InUseError(ValueError):
    """Another process works in the folder."""


@contextmanager
def alone_in(folder: Path, *, lock: str = ".lock") -> Iterator[None]:
    """No other process is in such a block for the same folder; one that is killed leaves it too, and its leftovers go.

    Args:
        folder: it is made if it is missing. A file system without locks is taken for one that nobody else uses.
        lock: name of the file that is locked; a block inside another one of the same process needs a name of its own.

    Raises:
        InUseError: if another process is.

    """
    folder.mkdir(parents=True, exist_ok=True)
    # Of the process, not of the open file: workers that outlive a killed training do not hold it.
    with (folder / lock).open("a") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise InUseError(
                    f"{folder} is in use by another process: wait for it, or choose another folder, of a training with"
                    " run=<name>, of a sweep with sweep=<name>"
                ) from None
        remove_leftovers(folder, below=True)
        yield


def rename(file: Path, to: Path) -> None:
    """Give a file another name in its folder, for good: also a power cut does not take it back."""
    os.replace(file, to)
    folder = os.open(to.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def checksum_error(path: Path) -> str | None:
    """What is wrong with a checkpoint file; None if its bytes are those that were written."""
    # torch.load itself does not compare the checksums.
    try:
        with zipfile.ZipFile(path) as archive:
            changed = archive.testzip()
    # of a damaged file zipfile raises nearly anything
    except Exception as error:
        return str(error) or type(error).__name__
    return None if changed is None else f"{changed} in it has changed"
