"""Pass every file of a folder through ``restore`` with a model that changes nothing, and compare what comes back.

python tests/images/through_restore.py <folder>, such as Tests/images of Pillow's source distribution: files that can
be read must come back equal, with alpha, bits per channel and ICC profile; every other must be named once.
"""

import contextlib
import io
import sys
import tempfile
from collections import Counter
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image, ImageOps

from kgt_lightning import restore
from kgt_lightning.config.command import CONF_DIR
from kgt_lightning.images.files import read_raster
from kgt_lightning.runs.weights import weights_content

TINY = ("model.width=8", "model.window=16", "model.k=4", "model.layout.depths=[1]", "model.layout.heads=1")


def write_identity(file: Path) -> None:
    """Weights of a colour model as it begins: its head adds nothing yet."""
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        config = compose("train", ["task=denoise", *TINY])
    config.run = "identity"
    settings = {key: config[key] for key in ("task", "protocol", "model", "degradation", "optim", "module", "data")}
    whole = OmegaConf.create({**settings, "seed": 0, "data_root": None})
    module = instantiate(whole.module)
    file.write_bytes(
        weights_content(state=module.state_dict(), config=OmegaConf.to_container(whole, resolve=True), step=0)
    )


def by_others(file: Path) -> np.ndarray | None:
    """Pixels [H, W, C] as the libraries read them by themselves; None where they leave open what is meant."""
    start = file.read_bytes()[:25]
    if start.startswith((b"II", b"MM")):
        with tifffile.TiffFile(file) as tiff:
            page = tiff.pages.first
            plain = page.photometric in (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.RGB)
            plain = plain and page.planarconfig == tifffile.PLANARCONFIG.CONTIG
            if page.bitspersample not in (16, 32) or not plain or page.tags.valueof(274, default=1) != 1:
                return None
            return np.atleast_3d(page.asarray())
    if start.startswith(b"\x89PNG") and start[24] == 16:
        return np.atleast_3d(imagecodecs.png_decode(file.read_bytes()))
    with Image.open(file) as image:
        if image.mode not in ("L", "LA", "RGB", "RGBA") or "transparency" in image.info:
            return None
        return np.atleast_3d(np.asarray(ImageOps.exif_transpose(image)))


def check(folder: Path) -> Counter[str]:
    """How many files ended in which way; what is wrong is printed."""
    ends: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        write_identity(work / "identity.safetensors")
        files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
        # Under numbers: files of one name and different suffixes would be written to the same place.
        links = {work / f"{number:05}{file.suffix}": file for number, file in enumerate(files)}
        for link, file in links.items():
            link.symlink_to(file.resolve())
        sys.argv = ["restore", f"--output={work}/out", "suffix=.tif", "device=cpu"]
        sys.argv += [f"checkpoint={work}/identity.safetensors", *map(str, links)]
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), contextlib.suppress(SystemExit):
            restore.main()
        lines = said.getvalue().splitlines()
        for link, file in links.items():
            end, about = judged(link, work / "out" / f"{link.stem}.tif", lines)
            ends[end] += 1
            if end.isupper():
                print(f"{end}: {file.relative_to(folder)} {about}")
        if any("Traceback" in line for line in lines):
            ends["TRACEBACK"] += 1
            print(said.getvalue()[-3000:])
    return ends


def judged(link: Path, restored: Path, lines: list[str]) -> tuple[str, str]:
    """How the file ended, in capitals if wrongly, and what is known about it."""
    told = [line for line in lines if str(link) in line and "only the first is read" not in line]
    errors = [line for line in told if not line.startswith("error:")]  # which repeats the first
    if not restored.is_file():
        return ("refused", "") if len(errors) == 1 else ("NOT NAMED ONCE", str(told))
    try:
        before = read_raster(link)
    except ValueError as error:
        return "RESTORED WHAT CANNOT BE READ", str(error)
    after = tifffile.imread(restored)
    after = after[..., None] if after.ndim == 2 else after
    if before.array.dtype != after.dtype or not np.array_equal(before.array, after):
        return "CHANGED", f"{before.array.dtype} {before.array.shape}, {after.dtype} {after.shape}"
    if before.profile != read_raster(restored).profile:
        return "PROFILE LOST", ""
    others = by_others(link)
    if others is None:
        return "equal", ""
    if others.shape != after.shape or not np.array_equal(others, after):
        return "READ OTHERWISE BY OTHERS", f"{others.dtype} {others.shape}, {after.dtype} {after.shape}"
    return "equal, by other libraries too", ""


if __name__ == "__main__":
    torch.set_num_threads(1)
    found = check(Path(sys.argv[1]))
    print(f"{sum(found.values())} files:", ", ".join(f"{number} {end}" for end, number in sorted(found.items())))
    sys.exit(any(end.isupper() for end in found))
