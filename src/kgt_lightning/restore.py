"""Command: restore an image file, or every image in a folder.

python -m kgt_lightning.restore checkpoint=outputs/denoise/<run>/checkpoints/best.ckpt input=photos output=restored
"""

import logging
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from kgt_lightning import __version__
from kgt_lightning.config.command import command
from kgt_lightning.degradations.bayer import BayerMosaic
from kgt_lightning.degradations.degradation import Degradation
from kgt_lightning.images.files import encoded, format_of, read_header, write_whole
from kgt_lightning.images.formats import FORMATS
from kgt_lightning.images.tiling import tile_starts
from kgt_lightning.models import NAMES, choose_model, model_file, model_info
from kgt_lightning.restoring import files
from kgt_lightning.restoring.mixing import Mixing
from kgt_lightning.restoring.noise import limit_of_compression
from kgt_lightning.restoring.picture import aligned
from kgt_lightning.restoring.targets import check_source, is_finished, record, targets
from kgt_lightning.runs.checkpoint import load_checkpoint
from kgt_lightning.system.ending import joined
from kgt_lightning.system.files import digest, remove_leftovers, sha256, user_path
from kgt_lightning.system.hardware import is_out_of_memory, pick_device
from kgt_lightning.training.module import RestorationModule

SECTIONS = ("degradation", "model", "module")
JPEG = {suffix for suffix, form in FORMATS.items() if form.name == "JPEG"}

log = logging.getLogger(__name__)


@command("restore", sections=SECTIONS, names=["task"])
def main(config: DictConfig) -> None:
    mixing = Mixing(strength=config.strength, texture=config.texture)
    tile_starts(1, config.tile, config.overlap)
    sources = [user_path(each) for each in ([config.input] if isinstance(config.input, str) else config.input)]
    for source in sources:
        check_source(source)
    # Of the package's own models one for gray, one for colour images; of checkpoints the same for both.
    names = {channels: choose_checkpoint(config, channels=channels) for channels in (1, 3)}
    load = cache(partial(load_restorer, config))
    develops = False
    if names[1] == names[3]:  # what is wrong with it is no fault of an image
        develops = isinstance(load(names[3])[0].degradation, BayerMosaic)
    pairs: dict[Path, Path] = {}
    for source in sources:
        here = targets(source, str(config.output), suffix=config.suffix, raw=develops)
        if twice := set(here.values()).intersection(pairs.values()):
            raise ValueError(
                f"input: several files would be written as {min(twice)}: restore them to different folders"
            )
        pairs |= here
    settings = {key: value for key, value in config.items() if key not in ("input", "output", "overwrite", "device")}
    how = digest([__version__, str(settings), *map(weights_digest, names.values())])
    finished = {path for path, target in pairs.items() if is_finished(path, target, how=how)}
    for path, target in pairs.items():
        if target.exists() and path not in finished and not config.overwrite:
            raise ValueError(f"{target} is already there: choose another output, or set overwrite=true")
    if finished:
        log.info("%d of %d images are finished already", len(finished), len(pairs))
    left = {path: target for path, target in pairs.items() if path not in finished}
    for path, target in left.items():
        check_format(path, target, scale=lambda channels: load(names[channels])[0].network.scale)
    warn_of_compression([path for path in left if path.suffix.lower() in JPEG], lambda: load(names[3])[0].degradation)
    for folder in {target.parent for target in left.values()}:
        remove_leftovers(folder)
    failed = []
    for number, (path, target) in enumerate(left.items(), 1):
        started = time.perf_counter()
        try:
            module, tile, overlap = load(names[read_header(path).channels])
            with tile_bar(f"{number}/{len(left)} {path.name}") as progress:
                raster, found = files.read_and_restore(
                    module, path, tile=tile, overlap=overlap, mixing=mixing, progress=progress
                )
            content = encoded(target, raster)
            record(path, target, content, how=how)
            write_whole(target, content)
        except (ValueError, OSError, MemoryError, RuntimeError) as error:  # the other images are worth going on for
            if isinstance(error, MemoryError | RuntimeError) and not is_out_of_memory(error):
                raise
            said = joined(error)
            problem = said if str(path) in said or str(target) in said else f"{path}: {said}"
            if not isinstance(error, ValueError | OSError):
                problem = f"{path} needs more memory to be restored than there is: try tile={max(tile // 2, 32)}"
            failed.append(problem)
            log.error("%d/%d %s", number, len(left), problem)
        else:
            told = f"{found}, " if found else ""
            log.info("%d/%d %s (%s%.1f s)", number, len(left), target, told, time.perf_counter() - started)
    if failed:
        raise ValueError(f"{len(failed)} of {len(left)} images could not be restored, the first: {failed[0]}")


def check_format(path: Path, target: Path, *, scale: Callable[[int], int]) -> None:
    """See to it, before anything is restored, that the format of the target can hold what the path holds.

    Raises:
        ValueError: if it cannot, with a suffix that can.

    """
    try:
        header = read_header(path)
    except (ValueError, OSError):
        return  # it is named when it is its turn
    times = scale(header.channels)
    refusal = format_of(target).refusal(
        height=header.height * times, width=header.width * times, bits=header.bits, alpha=header.alpha
    )
    if refusal is not None:
        raise ValueError(f"{path} cannot be written as {target.name}: {refusal}, such as suffix=.png or suffix=.tif")


@contextmanager
def tile_bar(what: str) -> Iterator[files.Progress]:
    """A bar over the tiles of an image with the time that is left, where there is a screen; it is gone afterwards."""
    console = Console(file=sys.stderr)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what)
        yield lambda number, total: bar.update(task, completed=number, total=total)


def warn_of_compression(compressed: Sequence[Path], degradation: Callable[[], Degradation]) -> None:
    """Say what a model leaves in JPEG files, where there are some."""
    if compressed and (limit := limit_of_compression(degradation())):
        log.warning(
            "%d of the images are JPEG files, such as %s: %s (task=camera)", len(compressed), compressed[0], limit
        )


def weights_digest(name: str) -> str:
    """SHA-256 of the weights that the name means."""
    file = model_file(name) if name in NAMES else user_path(name)
    return sha256(file)


def choose_checkpoint(config: DictConfig, *, channels: int) -> str:
    """The checkpoint that was named, or else the model that the package brings for the task and so many channels.

    Raises:
        ValueError: if neither is given, or both, or the package brings no such model.

    """
    checkpoint, task = config.checkpoint, config.task.name
    if checkpoint is not None and task is not None:
        raise ValueError(f"checkpoint={checkpoint} knows its task: leave task={task} out")
    if checkpoint is not None:
        return str(checkpoint)
    models = [model_info(name) for name in NAMES]
    if task is None:
        ours = ", ".join(dict.fromkeys(model.task for model in models))
        raise ValueError(f"checkpoint is not given: add checkpoint=<file>, or task=<one of {ours}> for a model of ours")
    return choose_model(models, task=task, scale=config.degradation.get("scale"), channels=channels).name


def load_restorer(config: DictConfig, name: str) -> tuple[RestorationModule, int, int]:
    """Module of a checkpoint, changed as configured and on its device; tile and overlap for it."""
    checkpoint = load_checkpoint(name, trust=config.trust)
    if config.checkpoint is None:
        log.info("restoring with the model %s that the package brings", name)
    checkpoint.change({"module": {"self_ensemble": config.self_ensemble}})
    checkpoint.change({section: config[section] for section in SECTIONS})
    module = checkpoint.module().to(pick_device(config.device))
    multiple = math.lcm(module.network.backbone.multiple, module.grid)
    tile, overlap = aligned(config.tile, config.overlap, multiple=multiple)
    if (tile, overlap) != (config.tile, config.overlap):
        log.info("tile=%d and overlap=%d: whole windows of this model", tile, overlap)
    return module, tile, overlap


if __name__ == "__main__":
    main()
