"""Command: image sets: list them, check one for damage, find test images in training sets, fetch photographs.

python -m kgt_lightning.data list | check <name> | leak <train> <test> | fetch-debian
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

from kgt_lightning.data.catalogue import DataSet, find, members, read_catalogue
from kgt_lightning.system.tables import Table


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        _exit(f"{message}: see kgt data --help")


def main() -> None:
    """Run the command; exit code 1 says that something was found, 2 that it was asked wrongly."""
    arguments = parser().parse_args()
    try:
        catalogue = read_catalogue(*(Path(each).expanduser() for each in arguments.catalogue))
        root = Path(arguments.root).expanduser() if arguments.root else None
        if root and not root.is_dir():
            raise ValueError(f"{root} is no folder: name the one that holds the sets with --root=<folder> or KGT_DATA")
        if arguments.command == "list":
            code = _list(catalogue, root, as_json=arguments.json)
        elif arguments.command == "check":
            code = _check(find(arguments.name, catalogue), root)
        elif arguments.command == "fetch-debian":
            code = _fetch_debian(root)
        else:
            code = _leak(arguments.train, arguments.test, catalogue, root)
    except (ValueError, OSError) as error:
        _exit(" ".join(str(error).split()))
    sys.exit(code)


def parser() -> argparse.ArgumentParser:
    """Parser of the arguments."""
    main_parser = _Parser(prog="kgt data", description="Which image sets are there, whole, and apart.")
    common = _Parser(add_help=False)
    common.add_argument("--root", default=os.environ.get("KGT_DATA"), help="folder of the sets (default: KGT_DATA)")
    common.add_argument("--catalogue", action="append", default=[], help="YAML file with further sets")
    commands = main_parser.add_subparsers(dest="command", required=True, parser_class=_Parser)
    listing = commands.add_parser("list", parents=[common], help="the known sets, and what of them is there")
    listing.add_argument("--json", action="store_true", help="all fields, for programs")
    checking = commands.add_parser("check", parents=[common], help="decode every file of a set; name what is wrong")
    checking.add_argument("name", help="of the set, as in the list")
    commands.add_parser(
        "fetch-debian", parents=[common], help="46 photographs that Debian packages as wallpapers, under free licences"
    )
    leaking = commands.add_parser("leak", parents=[common], help="name the test images that occur in training sets")
    leaking.add_argument("train", help="folders below the root, or paths; several with commas")
    leaking.add_argument("test", help="the same")
    return main_parser


def _list(catalogue: Mapping[str, DataSet], root: Path | None, *, as_json: bool) -> int:
    found = {name: _found(each, root) for name, each in catalogue.items()}
    if as_json:
        _say(json.dumps([{**asdict(each), "found": found[name]} for name, each in catalogue.items()], indent=2))
        return 0
    rows = []
    for name, each in catalogue.items():
        size = "x".join(map(str, each.size)) if each.size else "various"
        colour = "" if each.channels == 3 else " gray"
        there = f"{found[name]} / {each.images}"
        rows.append([name, there, ", ".join(each.tasks), ", ".join(each.use), size + colour, each.licence])
    title = f"Image sets below {root or 'no root: give --root=<folder> or KGT_DATA'}"
    Table(title=title, columns=["name", "found", "tasks", "use", "size", "licence"], rows=rows).show()
    return 0


def _found(data_set: DataSet, root: Path | None) -> int:
    try:
        return len(members(data_set, root / data_set.name).entries) if root else 0
    except ValueError:
        return 0


def _check(data_set: DataSet, root: Path | None) -> int:
    import torch  # the list does without

    from kgt_lightning.data.audit.check import check

    if root is None:
        raise ValueError("the folder of the sets is not known: give --root=<folder> or set KGT_DATA")
    if not (root / data_set.name).is_dir():
        raise ValueError(f"{root} lacks {data_set.name}: {data_set}")
    torch.set_num_threads(1)  # several threads read files already, and what each computes is small
    number, faults = check(data_set, root / data_set.name)
    for fault in faults:
        _say(f"{fault.kind:10} {fault.name}: {fault.what}")
    _say(f"{data_set.name}: {number} of {data_set.images} images, {len(faults) or 'nothing'} wrong")
    return int(bool(faults))


def _fetch_debian(root: Path | None) -> int:
    if root is None:
        raise ValueError("where to put the photographs is not known: give --root=<folder> or set KGT_DATA")
    # Pillow is imported where it is needed: the list of sets is shown at once.
    from kgt_lightning.data.debian import FOLDERS, fetch_debian, listed_photos

    photos = listed_photos()
    written = fetch_debian(root, photos=photos)
    _say(
        f"{written} of {len(photos)} photographs written below {root}: {', '.join(FOLDERS.values())}; see LICENCES.csv"
    )
    return 0


def _leak(train: str, test: str, catalogue: Mapping[str, DataSet], root: Path | None) -> int:
    import torch

    from kgt_lightning.data.audit.leak import leaks

    torch.set_num_threads(1)
    trained, tested = (_images(names, catalogue, root) for names in (train, test))
    if shared := sorted({file.resolve() for file in trained} & {file.resolve() for file in tested}):
        raise ValueError(f"{shared[0]} is given for training and for testing: name different sets")
    found = leaks(trained, tested)
    for each in found:
        names = (file.relative_to(root) if root and file.is_relative_to(root) else file for file in each[3:])
        _say("{:5} {:.3f} {} {}{}".format(*each[:2], *names, " (mirrored)" if each.mirrored else ""))
    number = len({each.test for each in found})
    _say(f"{number or 'none'} of {len(tested)} test images of {test} in the {len(trained)} images of {train}")
    return int(bool(found))


def _images(names: str, catalogue: Mapping[str, DataSet], root: Path | None) -> list[Path]:
    """Images of the sets, of pairs the clean ones."""
    files: list[Path] = []
    for name in names.split(","):
        folder = root / name if root and (root / name).is_dir() else Path(name).expanduser()
        if not folder.is_dir():
            about = f": {catalogue[name]}" if name in catalogue else ""
            raise ValueError(f"{name} is no folder below {root or 'KGT_DATA, which is not set'}{about}")
        found = members(catalogue.get(name), folder)
        files += (found.clean or found.entries).values()
    return files


def _say(line: str) -> None:
    print(line)  # noqa: T201


def _exit(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)  # noqa: T201
    sys.exit(2)


if __name__ == "__main__":
    main()
