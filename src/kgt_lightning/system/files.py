"""Files that are whole or not there at all."""

import os
import uuid
import zipfile
from pathlib import Path

NEXT, LAST, PREVIOUS = "next.ckpt", "last.ckpt", "previous.ckpt"
"""Names of a run's state while it is written, of the newest one, and of the one before."""


def write_atomic(file: Path, content: str | bytes) -> None:
    """Write a file of which a reader, or a kill, never meets half; an error leaves what was there."""
    part = file.with_name(f".{file.name}.{uuid.uuid4().hex}.part")
    try:
        part.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(part, file)
    finally:
        part.unlink(missing_ok=True)


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
