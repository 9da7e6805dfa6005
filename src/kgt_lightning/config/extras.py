"""Packages that only some commands need: which extra of ``pip install`` brings them."""

from importlib.util import find_spec


def missing(what: str, extra: str, *packages: str) -> str | None:
    """Why something cannot be had, and what to install; None if all of its packages are there."""
    absent = [package for package in packages if find_spec(package) is None]
    return f"{what} needs {' and '.join(absent)}: pip install 'kgt-lightning[{extra}]'" if absent else None


def require(what: str, extra: str, *packages: str) -> None:
    """See to it that the packages of an extra are there.

    Raises:
        ValueError: if one is not, with the command that installs it.

    """
    if reason := missing(what, extra, *packages):
        raise ValueError(reason)
