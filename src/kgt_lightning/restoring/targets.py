"""Which file is written where, and which are finished already."""

import hashlib
import os
from pathlib import Path

from kgt_lightning.images.formats import EXTRAS, FORMATS, RAW, list_images
from kgt_lightning.system.files import append_json_line, read_json_lines, sha256, user_path

RECORD = ".restored.jsonl"
"""In each folder of results: what was restored from which bytes, and how."""
_LONGEST = 255


def targets(source: Path, output: str, *, suffix: str | None = None, raw: bool = False) -> dict[Path, Path]:
    """Where each image at the source is to be written.

    Args:
        source: a file, or a folder of them.
        output: a folder, for files of the same names; or a pattern such as "restored/{folder}/{name}-clean{suffix}".
        suffix: of all results, such as ".png"; None keeps each file's own, and makes .tif of raw files.
        raw: whether raw files in a folder are meant too.

    Raises:
        ValueError: if there is no image, one that cannot be written under its suffix, a name that
            is too long, or two images of one name, or a file would replace its source.

    """
    check_source(source)
    if suffix is not None and suffix.lower() not in FORMATS:
        raise ValueError(f"suffix={suffix} must be one of {', '.join(FORMATS)}")
    pattern, folder = "{" in output, user_path(output)
    if not pattern:
        _refuse_long_names(f"output={output}", folder)
    if not pattern and folder.exists() and not folder.is_dir():
        raise ValueError(f"output={output} is a file: name a folder")
    if source.is_file():
        found, base = [source], source.parent
    else:
        # What an earlier run restored to a folder inside the source is no source.
        inside, itself = folder.resolve(), folder.resolve() == source.resolve()
        found = list_images(source, suffixes={*FORMATS, *EXTRAS, *(RAW if raw else ())})
        found, base = [path for path in found if itself or inside not in path.resolve().parents], source
        if not found:
            raise ValueError(f"input={source} holds no image outside output={output}")
    pairs = {path: _target(path, base, output, suffix=suffix) for path in found}
    written: dict[Path, Path] = {}
    for path, target in pairs.items():
        if target.resolve() == path.resolve():
            raise ValueError(f"output={output} is the folder of the input: the restored {path.name} would replace it")
        if target.suffix.lower() not in FORMATS:
            known = ", ".join(FORMATS)
            raise ValueError(
                f"input={path} cannot be written as {target.suffix or 'that'}: add suffix=<one of {known}>"
            )
        _refuse_long_names(str(target), target)
        if target in written:
            raise ValueError(f"{path} and {written[target]} would both be written to {target}: use {{name}}{{suffix}}")
        written[target] = path
    return pairs


def check_source(source: Path) -> None:
    """See to it that there is a file or folder.

    Raises:
        ValueError: if there is none.

    """
    _refuse_long_names(f"input={source}", source)
    if not source.exists():
        raise ValueError(f"input={source} does not exist: name an image file, or a folder of them")


def _refuse_long_names(given: str, path: Path) -> None:
    if any(len(os.fsencode(part)) > _LONGEST for part in path.parts):
        raise ValueError(f"{given}: names of more than {_LONGEST} bytes are not possible: choose a shorter one")


def _target(path: Path, base: Path, output: str, *, suffix: str | None) -> Path:
    below, ending = path.relative_to(base), suffix or (".tif" if path.suffix.lower() in RAW else path.suffix)
    if "{" not in output:
        return user_path(output) / below.with_suffix(ending)
    try:
        named = output.format(name=path.stem, suffix=ending, folder=below.parent.as_posix())
    except (KeyError, IndexError, ValueError, AttributeError):
        raise ValueError(f"output={output} is no pattern: it may hold {{folder}}, {{name}} and {{suffix}}") from None
    target = user_path(named)
    return target if target.suffix.lower() in FORMATS else target.with_name(target.name + ending)


def is_finished(path: Path, target: Path, *, how: str) -> bool:
    """Whether the target holds, to the byte, what was restored from these bytes of the path in the same way."""
    lines = read_json_lines(target.parent / RECORD)
    entries = [entry for entry in lines if entry.get("file") == target.name and entry.get("how") == how]
    if not entries or not target.is_file():
        return False
    both = sha256(path), sha256(target)
    return any((entry.get("source"), entry.get("result")) == both for entry in entries)


def record(path: Path, target: Path, content: bytes, *, how: str) -> None:
    """Note what is about to be written: a kill before it is written leaves a note of no file, which means nothing."""
    result = hashlib.sha256(content).hexdigest()
    entry = {"file": target.name, "how": how, "source": sha256(path), "result": result}
    append_json_line(target.parent / RECORD, entry)
