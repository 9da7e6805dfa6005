"""Pages whose model is tiny and was not trained, and a server of one for a browser."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from starlette.testclient import TestClient
from torch import Tensor

from kgt_lightning.images.files import Picture, write_image
from kgt_lightning.page.app import Page
from kgt_lightning.page.engine import Engine
from kgt_lightning.page.session import Limits
from kgt_lightning.serve import address as url
from kgt_lightning.serve import bound, server_of
from kgt_lightning.training.module import RestorationModule

LIMITS = Limits(megabytes=4, megapixels=25, pictures=3, pages=4, held_megabytes=800, minutes=10)
ADDRESS = "http://127.0.0.1:8765"
SOCKET = "ws://127.0.0.1:8765/session"


class Visitor:
    """A page as its browser sees it: what it asks for, and what it is told."""

    def __init__(self, client: TestClient, told, hello: dict) -> None:
        self.client, self.told, self.hello = client, told, hello

    def ask(self, method: str, path: str, **options):
        return self.client.request(method, f"/{self.hello['key']}/{path}", **options)

    def add(self, file: Path, name: str | None = None) -> dict:
        answer = self.ask("PUT", "pictures", params={"name": name or file.name}, content=file.read_bytes())
        assert answer.status_code == 201, answer.text
        return answer.json()

    def hear(self, *events: str) -> list[dict]:
        """Everything up to one of these events."""
        heard = [self.told.receive_json()]
        while heard[-1]["event"] not in events:
            heard.append(self.told.receive_json())
        return heard


@pytest.fixture(scope="session")
def module(tiny: Callable, tmp_path_factory: pytest.TempPathFactory) -> RestorationModule:
    config = tiny(tmp_path_factory.mktemp("page")).module
    config.update({"loss": None, "optim": None})
    torch.manual_seed(0)
    module = instantiate(config).eval()
    # Untrained, it would give back what it is given.
    for weights in module.network.head.parameters():
        torch.nn.init.normal_(weights, std=0.05)
    return module


@pytest.fixture
def make_page(module: RestorationModule, tmp_path: Path) -> Callable[..., Page]:
    tiny = module
    folder = tmp_path / "served"
    folder.mkdir()

    def make(*, module: RestorationModule = tiny, **limits: float) -> Page:
        return Page(
            models={"tiny": lambda: Engine(name="tiny", module=module, tile=64, overlap=16)},
            limits=replace(LIMITS, **limits),
            folder=folder,
        )

    return make


@pytest.fixture
def client(make_page: Callable[..., Page]) -> Iterator[TestClient]:
    with TestClient(make_page().app(port=8765), base_url=ADDRESS, headers={"origin": ADDRESS}) as client:
        yield client


@pytest.fixture
def visit() -> Callable:
    @contextmanager
    def visit_page(client: TestClient) -> Iterator[Visitor]:
        with client.websocket_connect(SOCKET) as told:
            yield Visitor(client, told, told.receive_json())

    return visit_page


@pytest.fixture
def visitor(client: TestClient, visit: Callable) -> Iterator[Visitor]:
    with visit(client) as visitor:
        yield visitor


@pytest.fixture
def photo_file(photo: Tensor, tmp_path: Path) -> Path:
    """A photograph of 150 x 100 pixels."""
    write_image(tmp_path / "cat.png", Picture(pixels=photo[0, :, 100:200, 100:250]))
    return tmp_path / "cat.png"


@pytest.fixture
def address(make_page: Callable[..., Page]) -> Iterator[str]:
    """Of a page that a browser can open."""
    with bound(0) as listening:
        server = server_of(make_page(megabytes=40), listening)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield url(listening)
        server.should_exit = True
        thread.join()
