"""Photographs that Debian packages as wallpapers, under free licences: fetched, checked, made smaller.

Most are JPEG files; averaged over squares of 2 to 4 pixels they are clean enough to train on.
"""

import hashlib
import io
import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image

from kgt_lightning.system.files import write_atomic
from kgt_lightning.system.tables import write_csv

LIST = Path(__file__).with_name("debian_photos.json")
FOLDERS = {"train": "debian_photos", "val": "debian_photos_val"}
"""Folder below the root for each part."""


@dataclass(frozen=True, kw_only=True)
class DebianPhoto:
    """One photograph inside a package."""

    split: str
    """``train`` or ``val``."""
    package: str
    version: str
    path: str
    """Inside the package."""
    licence: str
    sha256: str
    """Of the packaged file."""
    downscale: int
    """Pixels that are averaged, down and across."""
    clean_size: tuple[int, int]
    """Width and height of what comes out."""

    @property
    def name(self) -> str:
        """Of the PNG file: some packages name a wallpaper by its folder and call the file after its size."""
        file = PurePosixPath(self.path)
        return (file.parent.parent.parent if file.parent.name == "images" else file).stem

    def made_from(self, content: bytes) -> Image.Image:
        """The clean photograph from the content of the packaged file.

        Raises:
            ValueError: if the content is another one than was listed.

        """
        if (found := hashlib.sha256(content).hexdigest()) != self.sha256:
            raise ValueError(
                f"{self.package} {self.version} holds another {self.path} than was listed: its SHA-256 is {found}"
            )
        width, height = (side * self.downscale for side in self.clean_size)
        whole = Image.open(io.BytesIO(content)).convert("RGB")
        return whole.crop((0, 0, width, height)).reduce(self.downscale)


def listed_photos() -> list[DebianPhoto]:
    """All photographs of the list."""
    return [
        DebianPhoto(**{**each, "clean_size": tuple(each["clean_size"])})
        for each in json.loads(LIST.read_text(encoding="utf-8"))
    ]


def fetch_debian(
    root: Path, *, photos: Sequence[DebianPhoto], unpack: Callable[[str, str, Path], None] | None = None
) -> int:
    """Number of photographs that were written below the root; those already there are left alone.

    Beside them ``LICENCES.csv`` says where each comes from.

    Args:
        root: folder of the image sets.
        photos: to fetch.
        unpack: puts the content of a package of this name and version into a folder; None asks apt for it.

    Raises:
        ValueError: if a package cannot be had, or a file is another one than was listed.

    """
    unpack = unpack or unpack_with_apt
    missing = [each for each in photos if not file_of(each, root).exists()]
    for package, version in dict.fromkeys((each.package, each.version) for each in missing):
        with tempfile.TemporaryDirectory() as folder:
            unpack(package, version, Path(folder))
            for photo in missing:
                if photo.package == package:
                    _write(photo, Path(folder), root)
    for split, name in FOLDERS.items():
        columns = ("name", "package", "version", "path", "licence")
        rows = [{column: getattr(photo, column) for column in columns} for photo in photos if photo.split == split]
        if rows:
            write_csv(root / name / "LICENCES.csv", rows)
    return len(missing)


def file_of(photo: DebianPhoto, root: Path) -> Path:
    """Where the photograph is written."""
    return root / FOLDERS[photo.split] / f"{photo.name}.png"


def unpack_with_apt(package: str, version: str, folder: Path) -> None:
    """Download a package with apt-get and unpack it into the folder; nothing is installed.

    Raises:
        ValueError: if there is no apt-get, or it has no such package.

    """
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise ValueError(
                f"there is no {tool}: run this on Debian, or in a container of it, and copy the folders it makes"
            )
    with tempfile.TemporaryDirectory() as download:
        _run(["apt-get", "download", f"{package}={version}"], download, f"{package}={version}")
        file = next(Path(download).glob("*.deb"))
        _run(["dpkg-deb", "--extract", str(file), str(folder)], download, f"{package}={version}")


def _run(line: list[str], folder: str, what: str) -> None:
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        said = " ".join(done.stderr.split())
        raise ValueError(f"{what} cannot be had ({said}): Debian 12 has it; apt-get update tells apt so")


def _write(photo: DebianPhoto, unpacked: Path, root: Path) -> None:
    packaged = unpacked / photo.path
    if not packaged.is_file():
        raise ValueError(f"{photo.package} {photo.version} lacks {photo.path}: it is another package of this name")
    file = file_of(photo, root)
    file.parent.mkdir(parents=True, exist_ok=True)
    png = io.BytesIO()
    photo.made_from(packaged.read_bytes()).save(png, format="PNG", compress_level=6)
    write_atomic(file, png.getvalue())
