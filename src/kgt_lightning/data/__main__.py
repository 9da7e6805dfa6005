"""Command: image sets: list them, check one for damage, find test images in training sets, fetch photographs and noise.

python -m kgt_lightning.data list | check <name or folder> | leak <train> <test> | fetch-debian | fetch-noise
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from kgt_lightning.data.catalogue import DataSet, find, members, read_catalogue
from kgt_lightning.system.ending import Parser, mistakes_in_one_line
from kgt_lightning.system.files import user_path
from kgt_lightning.system.tables import Table

Catalogue = Mapping[str, DataSet]


def main() -> None:
    """Run the command; exit code 1 says that something was found, 2 that it was asked wrongly."""
    with mistakes_in_one_line():
        arguments = parser().parse_args()
        catalogue = read_catalogue(*(user_path(file) for file in arguments.catalogue))
        root = user_path(arguments.root) if arguments.root else None
        if root and not root.is_dir():
            raise ValueError(f"{root} is no folder: name the one that holds the sets with --root=<folder> or KGT_DATA")
        code = arguments.run(arguments, catalogue, root)
    sys.exit(code)


def parser() -> argparse.ArgumentParser:
    main_parser = Parser(prog="kgt data", description="Which image sets are there, whole, and apart.")
    common = Parser(add_help=False)
    common.add_argument("--root", default=os.environ.get("KGT_DATA"), help="folder of the sets (default: KGT_DATA)")
    common.add_argument("--catalogue", action="append", default=[], help="YAML file with further sets")
    commands = main_parser.add_subparsers(required=True, parser_class=Parser)
    listing = commands.add_parser("list", parents=[common], help="the known sets, and what of them is there")
    listing.add_argument("--json", action="store_true", help="all fields, for programs")
    listing.set_defaults(run=_list)
    checking = commands.add_parser("check", parents=[common], help="decode every file of a set; name what is wrong")
    checking.add_argument("name", help="of the set, as in the list, or a folder of your own")
    checking.set_defaults(run=_check)
    fetching = commands.add_parser(
        "fetch-debian", parents=[common], help="46 photographs that Debian packages as wallpapers, under free licences"
    )
    fetching.set_defaults(run=_fetch_debian)
    noise = commands.add_parser(
        "fetch-noise", parents=[common], help="noise of 374 cameras, from Debian's package darktable (GPL)"
    )
    noise.set_defaults(run=_fetch_noise)
    leaking = commands.add_parser("leak", parents=[common], help="name the test images that occur in training sets")
    leaking.add_argument("train", help="folders below the root, or paths; several with commas")
    leaking.add_argument("test", help="the same")
    leaking.set_defaults(run=_leak)
    return main_parser


def _list(arguments: argparse.Namespace, catalogue: Catalogue, root: Path | None) -> int:
    found = {name: _found(data_set, root) for name, data_set in catalogue.items()}
    if arguments.json:
        print(json.dumps([{**asdict(catalogue[name]), "found": number} for name, number in found.items()], indent=2))
        return 0
    rows = []
    for name, known in catalogue.items():
        size = ("x".join(map(str, known.size)) if known.size else "various") + " gray" * (known.channels == 1)
        uses = [", ".join(known.tasks), ", ".join(known.use)]
        rows.append([name, f"{found[name]} / {known.images}", *uses, size, known.licence])
    title = f"Image sets below {root or 'no root: give --root=<folder> or KGT_DATA'}"
    Table(title=title, columns=["name", "found", "tasks", "use", "size", "licence"], rows=rows).show()
    return 0


def _found(data_set: DataSet, root: Path | None) -> int:
    try:
        return len(members(data_set, root / data_set.name).entries) if root else 0
    except ValueError:
        return 0


def _check(arguments: argparse.Namespace, catalogue: Catalogue, root: Path | None) -> int:
    import torch  # the list does without

    from kgt_lightning.data.audit.check import check

    own = user_path(arguments.name)
    data_set = None if arguments.name not in catalogue and own.is_dir() else find(arguments.name, catalogue)
    if data_set is None:
        folder = own
    elif root is None:
        raise ValueError("the folder of the sets is not known: give --root=<folder> or set KGT_DATA")
    elif not (folder := root / data_set.name).is_dir():
        raise ValueError(f"{root} lacks {data_set.name}: {data_set}")
    torch.set_num_threads(1)  # several threads read files already, and what each computes is small
    number, faults = check(data_set, folder)
    for fault in faults:
        print(f"{fault.kind:10} {fault.name}: {fault.what}")
    expected = f" of {data_set.images}" if data_set else ""
    print(f"{arguments.name}: {number}{expected} images, {len(faults) or 'nothing'} wrong")
    return int(bool(faults))


def _fetch_debian(arguments: argparse.Namespace, catalogue: Catalogue, root: Path | None) -> int:
    root = _needed(root)
    from kgt_lightning.data.debian import FOLDERS, fetch_debian, listed_photos

    photos = listed_photos()
    written = fetch_debian(root, photos=photos)
    print(
        f"{written} of {len(photos)} photographs written below {root}: {', '.join(FOLDERS.values())}; see LICENCES.csv"
    )
    return 0


def _fetch_noise(arguments: argparse.Namespace, catalogue: Catalogue, root: Path | None) -> int:
    root = _needed(root)
    from kgt_lightning.data.debian import fetch_noise

    print(fetch_noise(root))
    return 0


def _needed(root: Path | None) -> Path:
    if root is None:
        raise ValueError("where to put what is fetched is not known: give --root=<folder> or set KGT_DATA")
    return root


def _leak(arguments: argparse.Namespace, catalogue: Catalogue, root: Path | None) -> int:
    import torch

    from kgt_lightning.data.audit.leak import leaks

    torch.set_num_threads(1)
    train, test = (_images(names, catalogue, root) for names in (arguments.train, arguments.test))
    if shared := sorted({file.resolve() for file in train} & {file.resolve() for file in test}):
        raise ValueError(f"{shared[0]} is given for training and for testing: name different sets")
    found = leaks(train, test)
    for leak in found:
        names = (file.relative_to(root) if root and file.is_relative_to(root) else file for file in leak[3:])
        print(f"{leak.kind:5} {leak.distance:.3f}", *names, *["(mirrored)"] * leak.mirrored)
    number = len({leak.test for leak in found}) or "none"
    print(f"{number} of {len(test)} test images of {arguments.test} in the {len(train)} images of {arguments.train}")
    return int(bool(found))


def _images(names: str, catalogue: Catalogue, root: Path | None) -> list[Path]:
    """Images of the sets, of pairs the clean ones."""
    files: list[Path] = []
    for name in names.split(","):
        folder = root / name if root and (root / name).is_dir() else user_path(name)
        if not folder.is_dir():
            about = f": {catalogue[name]}" if name in catalogue else ""
            raise ValueError(f"{name} is no folder below {root or 'KGT_DATA, which is not set'}{about}")
        found = members(catalogue.get(name), folder)
        files += (found.clean or found.entries).values()
    return files


if __name__ == "__main__":
    main()
