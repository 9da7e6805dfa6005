"""Which classes a checkpoint may name: ours, and those of packages that the user trusts."""

import inspect
import sys
from collections.abc import Sequence
from importlib import import_module

PACKAGE = "kgt_lightning"


def check_trust(trust: Sequence[str]) -> None:
    """Raise a ValueError for what is no package of somebody's own."""
    for package in trust:
        # Among the classes of the standard library are some that start programs.
        if not str(package).isidentifier() or package in sys.stdlib_module_names:
            raise ValueError(f"trust={list(trust)}: {package} must be the name of a package with classes of your own")


def check_target(target: str, *, where: str, trust: Sequence[str]) -> None:
    """Import what a checkpoint names, if it lies in this package or in one that is trusted.

    Args:
        target: dotted name.
        where: the file, for the error.
        trust: names of packages, checked by :func:`check_trust`.

    Raises:
        ValueError: if it lies elsewhere, or is no class that one of these packages defines.

    """
    module_name, _, name = target.rpartition(".")
    packages = (PACKAGE, *trust)
    try:
        found = getattr(import_module(module_name), name) if _lies_in(module_name, packages) else None
    except (ImportError, AttributeError):
        found = None
    if inspect.isclass(found) and _lies_in(found.__module__, packages):
        return
    package = target.partition(".")[0]
    if package in trust:
        raise ValueError(f"{where} names {target}, which is no class that {package} defines: it is not loaded")
    hint = ""
    if package.isidentifier() and package != PACKAGE and package not in sys.stdlib_module_names:
        hint = f"; add trust=[{package}] if you trust the code in {package}"
    raise ValueError(f"{where} names {target}, which is no class of {PACKAGE}: it is not loaded{hint}")


def _lies_in(module_name: str, packages: Sequence[str]) -> bool:
    return module_name.partition(".")[0] in packages
