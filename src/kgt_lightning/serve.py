"""Command: a page on this machine that restores photographs dropped into it.

python -m kgt_lightning.serve
"""

import logging
import socket
from collections.abc import Callable
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
from kgt_lightning.system.hardware import pick_device

if TYPE_CHECKING:
    import uvicorn

    from kgt_lightning.page.app import Page

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
        name = path.parents[1].name if path.parent.name == "checkpoints" else path.stem
        checkpoint = load_checkpoint(path, trust=config.trust)
        found[f"{checkpoint.config.task}: {name}"] = partial(make, name, checkpoint)
    # First those that take photographs as they are.
    infos = sorted(
        map(model_info, NAMES), key=lambda info: (info.degraded_channels != info.channels, info.experimental)
    )
    return found | {info.name: partial(make, info.name, None) for info in infos}


def listen(page: "Page", port: int) -> tuple["uvicorn.Server", socket.socket, str]:
    """Server of the page, the socket that it is to be run with, and the address of the page.

    Raises:
        ValueError: if another program has the port.

    """
    import uvicorn

    from kgt_lightning.page.guard import HOST

    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
    except (OSError, OverflowError) as error:
        listening.close()
        raise ValueError(f"port={port} cannot be used ({error}): choose another, or 0 for one that is free") from error
    port = listening.getsockname()[1]
    settings = uvicorn.Config(
        page.app(port=port),
        log_level="warning",
        limit_concurrency=256,
        timeout_graceful_shutdown=1,
        server_header=False,
    )
    return uvicorn.Server(settings), listening, f"http://{HOST}:{port}"


@command("serve")
def main(config: DictConfig) -> None:
    require("kgt serve", "serve", "starlette", "uvicorn", "websockets")
    from kgt_lightning.page.app import Page

    tile_starts(1, config.tile, config.overlap)
    page = Page(models=engines(config), limits=Limits(**config.limits))
    server, listening, address = listen(page, config.port)
    log.info("the page is %s - end it with Ctrl+C", address)
    server.run(sockets=[listening])


if __name__ == "__main__":
    main()
