"""Out of Debian's packages: photographs under free licences, checked and made smaller; the measured noise of cameras.

Most photographs are JPEG files; averaged over squares of 2 to 4 pixels they are clean enough to train on.
"""

import io
import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image

from kgt_lightning.system.files import remove_leftovers, sha256, write_atomic
from kgt_lightning.system.tables import write_csv

LIST = Path(__file__).with_name("debian_photos.json")
FOLDERS = {"train": "debian_photos", "val": "debian_photos_val"}
"""Folder below the root for each part."""


@dataclass(frozen=True, kw_only=True)
class PackagedFile:
    """One file inside a package."""

    package: str
    version: str
    path: str
    """Inside the package."""
    licence: str
    sha256: str
    """Of the packaged file."""

    def read(self, unpacked: Path) -> bytes:
        """Content of the file below the folder of the unpacked package.

        Raises:
            ValueError: if the file is missing or another one than was listed.

        """
        what = f"{self.package} {self.version}"
        file = unpacked / self.path
        if not file.is_file():
            raise ValueError(f"{what} lacks {self.path}: it is another package of this name")
        if (found := sha256(file)) != self.sha256:
            raise ValueError(f"{what} holds another {self.path} than was listed: its SHA-256 is {found}")
        return file.read_bytes()


NOISE = PackagedFile(
    package="darktable",
    version="4.2.1-4",
    path="usr/share/darktable/noiseprofiles.json",
    licence="GPL-3.0-or-later",
    sha256="f4d40cb334bf850dcf45e5e9e574df774e83445e1138db70961d78e4d46b814f",
)
"""Noise of 374 cameras, measured by darktable's users."""


@dataclass(frozen=True, kw_only=True)
class DebianPhoto(PackagedFile):
    """One photograph inside a package."""

    split: str
    """``train`` or ``val``."""
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
        """The clean photograph from the content of the packaged file."""
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
            remove_leftovers(root / name)
            write_csv(root / name / "LICENCES.csv", rows)
    return len(missing)


def file_of(photo: DebianPhoto, root: Path) -> Path:
    """Where the photograph is written."""
    return root / FOLDERS[photo.split] / f"{photo.name}.png"


def fetch_noise(root: Path, *, unpack: Callable[[str, str, Path], None] | None = None) -> Path:
    """File of the noise that darktable's users measured, below the root; one that is there is left alone.

    Its licence is that of darktable, GPL 3 or later.

    Args:
        root: folder of the image sets.
        unpack: as in :func:`fetch_debian`.

    Raises:
        ValueError: if the package cannot be had, or its file is another one.

    """
    file = root / "darktable" / Path(NOISE.path).name
    if file.exists():
        return file
    with tempfile.TemporaryDirectory() as folder:
        (unpack or unpack_with_apt)(NOISE.package, NOISE.version, Path(folder))
        content = NOISE.read(Path(folder))
    file.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(file.parent)
    write_atomic(file, content)
    return file


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
    file = file_of(photo, root)
    file.parent.mkdir(parents=True, exist_ok=True)
    png = io.BytesIO()
    photo.made_from(photo.read(unpacked)).save(png, format="PNG", compress_level=6)
    write_atomic(file, png.getvalue())
