"""Command: a page on this machine that restores photographs dropped into it.

python -m kgt_lightning.serve
"""

import logging
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from kgt_lightning.config.command import command
from kgt_lightning.config.extras import require
from kgt_lightning.images.tiling import tile_starts
from kgt_lightning.models import NAMES, model_info
from kgt_lightning.page.engine import Engine
from kgt_lightning.page.session import Limits
from kgt_lightning.runs.checkpoint import Checkpoint, load_checkpoint
from kgt_lightning.system.ending import ended_by_interrupt
from kgt_lightning.system.files import InUseError, alone_in, run_of
from kgt_lightning.system.hardware import pick_device

if TYPE_CHECKING:
    import uvicorn

    from kgt_lightning.page.app import Page

LOCK = ".serving"
"""In the folder of a process as long as it runs."""
ENDED = "ended: pictures that were not downloaded are forgotten"

log = logging.getLogger(__name__)


def engines(config: DictConfig) -> dict[str, Callable[[], Engine]]:
    """By the names of the models what makes their engines; a checkpoint comes first, and is read at once.

    Raises:
        ValueError: if the checkpoint or the device cannot be used.

    """
    device = pick_device(config.device)

    def make(name: str, checkpoint: Checkpoint | None) -> Engine:
        module = (checkpoint or load_checkpoint(name)).module().to(device)
        return Engine(name=name, module=module, tile=config.tile, overlap=config.overlap)

    found: dict[str, Callable[[], Engine]] = {}
    if config.checkpoint is not None and config.checkpoint not in NAMES:
        path = Path(config.checkpoint)
        name = run_of(path)
        checkpoint = load_checkpoint(path, trust=config.trust)
        found[f"{checkpoint.config.task}: {name}"] = partial(make, name, checkpoint)
    # First those that take photographs as they are.
    infos = sorted(
        map(model_info, NAMES), key=lambda info: (info.degraded_channels != info.channels, info.experimental)
    )
    return found | {info.name: partial(make, info.name, None) for info in infos}


def bound(port: int) -> socket.socket:
    """A socket that listens on the port of 127.0.0.1, or with 0 one that is free.

    Raises:
        ValueError: if another program has the port.

    """
    from kgt_lightning.page.guard import HOST

    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
        listening.listen()  # from here on browsers wait, and no other program gets the port
    except (OSError, OverflowError) as error:
        listening.close()
        raise ValueError(f"port={port} cannot be used ({error}): choose another, or 0 for one that is free") from error
    return listening


def server_of(page: "Page", listening: socket.socket) -> "uvicorn.Server":
    """Server of the page, to be run with the socket that it listens on."""
    import uvicorn

    settings = uvicorn.Config(
        page.app(port=listening.getsockname()[1]),
        log_level="warning",
        limit_concurrency=256,
        timeout_graceful_shutdown=1,
        server_header=False,
    )
    return uvicorn.Server(settings)


def address(listening: socket.socket) -> str:
    """Of the page, for browsers."""
    host, port = listening.getsockname()
    return f"http://{host}:{port}"


@contextmanager
def folder_of_its_own() -> Iterator[Path]:
    """A folder that is gone afterwards; what killed processes have left is removed first."""
    begin = "kgt-serve-"
    for left in Path(tempfile.gettempdir()).glob(f"{begin}*"):
        # Another user may have laid it there.
        with suppress(OSError, InUseError):
            if left.lstat().st_uid == os.getuid() and (left / LOCK).is_file():
                with alone_in(left, lock=LOCK):
                    shutil.rmtree(left)
    made = tempfile.TemporaryDirectory(prefix=begin, ignore_cleanup_errors=True)
    with made as folder, alone_in(Path(folder), lock=LOCK):
        yield Path(folder)


@command("serve")
def main(config: DictConfig) -> None:
    require("kgt serve", "serve", "starlette", "uvicorn", "websockets")
    from kgt_lightning.page.app import Page

    tile_starts(1, config.tile, config.overlap)
    models = engines(config)
    ended = ended_by_interrupt(signal.SIGTERM, signal.SIGHUP, told=ENDED)
    with ended, bound(config.port) as listening, folder_of_its_own() as folder:
        page = Page(models=models, limits=Limits(**config.limits), folder=folder)
        log.info("the page is %s - end it with Ctrl+C", address(listening))
        server_of(page, listening).run(sockets=[listening])


if __name__ == "__main__":
    main()
