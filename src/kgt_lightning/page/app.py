"""What the page asks for, and the answers."""

import asyncio
import contextlib
import functools
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket, WebSocketDisconnect

from kgt_lightning.images.raster import Raster, colours
from kgt_lightning.page.engine import Engine
from kgt_lightning.page.guard import Guard
from kgt_lightning.page.photo import Photo, TooMuch, check_size, plain_name, read_photo, suffixes
from kgt_lightning.page.requests import answered, mixing, point, receive, whole
from kgt_lightning.page.session import Limits, Session, Sessions
from kgt_lightning.page.views import cost, download, layer, neighbours, scores
from kgt_lightning.page.worker import Job, Worker

STATIC = Path(__file__).parent / "static"


class Page:
    """The page and what it asks for.

    Args:
        models: their names, the first is chosen at first, and what makes the engine of each when it is needed.
        limits: of what pages may ask for.
        folder: for files while they are read; nothing else is ever written.

    """

    def __init__(self, *, models: Mapping[str, Callable[[], Engine]], limits: Limits, folder: Path) -> None:
        self.limits = limits
        self._folder = folder
        self.worker = Worker()
        self.sessions = Sessions(limits=limits, on_close=self.worker.cancel)
        self._engines = {name: functools.cache(make) for name, make in models.items()}
        # Large arrays are made by one request at a time: what memory is needed does not grow with the requests.
        self._large = asyncio.Lock()

    def app(self, *, port: int) -> Guard:
        """The ASGI application for this port of 127.0.0.1."""
        photo = "/{key}/pictures/{number:int}"
        routes = [
            Route("/", lambda _: FileResponse(STATIC / "index.html")),
            Mount("/static", StaticFiles(directory=STATIC)),
            WebSocketRoute("/session", self.session),
            Route("/{key}/models/{name:path}", answered(self.model)),
            Route("/{key}/pictures", answered(self.add), methods=["PUT"]),
            Route(photo, answered(self.remove), methods=["DELETE"]),
            Route(f"{photo}/clean", answered(self.add_clean), methods=["PUT"]),
            Route(f"{photo}/restore", answered(self.restore), methods=["POST"]),
            Route(f"{photo}/restore", answered(self.cancel), methods=["DELETE"]),
            Route(f"{photo}/layer/{{name}}", answered(self.layer)),
            Route(f"{photo}/neighbours", answered(self.neighbours)),
            Route(f"{photo}/cost", answered(self.cost)),
            Route(f"{photo}/scores", answered(self.scores)),
            Route(f"{photo}/download", answered(self.download)),
        ]
        return Guard(Starlette(routes=routes, lifespan=self._lifespan), port=port)

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        yield
        self.sessions.close_all()
        await run_in_threadpool(self.worker.end)

    async def session(self, socket: WebSocket) -> None:
        """A page as long as it is open; what happens to its pictures is told here."""
        await socket.accept()
        try:
            session = self.sessions.open()
        except TooMuch as error:
            await socket.send_json({"event": "refused", "reason": str(error)})
            await socket.close(1013)
            return
        try:
            limits = {name: getattr(self.limits, name) for name in ("megabytes", "megapixels", "pictures")}
            facts = {"key": session.key, "models": [*self._engines], "limits": limits, "suffixes": suffixes()}
            await socket.send_json({"event": "hello", **facts})
            teller = asyncio.create_task(self._tell(socket, session))
            try:
                # The page says nothing here; this waits until it is closed.
                await socket.receive_text()
            except (WebSocketDisconnect, KeyError):
                pass
            finally:
                teller.cancel()
                with contextlib.suppress(asyncio.CancelledError, WebSocketDisconnect, RuntimeError):
                    await teller
        finally:
            # Not awaited: where the server ends, what waits is cancelled.
            self.sessions.close(session)

    async def _tell(self, socket: WebSocket, session: Session) -> None:
        while True:
            with contextlib.suppress(asyncio.TimeoutError):
                await socket.send_json(await asyncio.wait_for(session.events.get(), timeout=10))
            if self.sessions.is_idle(session):
                await socket.send_json({"event": "refused", "reason": "nobody used this page for long: reload it"})
                await socket.close(1000)
                return

    def _photo(self, request: Request) -> tuple[Session, Photo]:
        session = self.sessions.get(request.path_params["key"])
        return session, session.photo(request.path_params["number"])

    async def _engine(self, name: str) -> Engine:
        if name not in self._engines:
            raise LookupError(f"there is no model {name[:80]}: choose one of {', '.join(self._engines)}")
        async with self._large:
            return await run_in_threadpool(self._engines[name])

    async def model(self, request: Request) -> Response:
        """What the page has to know about a model."""
        self.sessions.get(request.path_params["key"])
        return JSONResponse((await self._engine(request.path_params["name"])).describe())

    async def add(self, request: Request) -> Response:
        """Take a picture in."""
        session = self.sessions.get(request.path_params["key"])
        self.sessions.make_room(session, 0)
        session.coming += 1
        try:
            name, raster = await self._taken(request)
        finally:
            session.coming -= 1
        self.sessions.make_room(session, raster.array.nbytes / 1e6)
        session.numbers += 1
        number = session.numbers
        photo = Photo(number=number, name=name, raster=raster)
        session.photos[number] = photo
        return JSONResponse(photo.describe(), status_code=201)

    async def add_clean(self, request: Request) -> Response:
        """Take the clean picture in that a restored one is compared with."""
        _, photo = self._photo(request)
        name, raster = await self._taken(request)
        clean = colours(raster)
        scale = photo.result.engine.scale if photo.result else 1
        size = tuple(side * scale for side in photo.pixels.shape[:2])
        if clean.shape[:2] != size:
            raise ValueError(
                f"{name} has {clean.shape[1]} x {clean.shape[0]} pixels, the restored picture {size[1]} x {size[0]}:"
                " a clean picture is as large"
            )
        self.sessions.check_held(clean.nbytes / 1e6)
        photo.clean = clean
        return JSONResponse({"number": photo.number}, status_code=201)

    async def _taken(self, request: Request) -> tuple[str, Raster]:
        """Name and content of the picture that is sent; its file is gone as soon as it is read."""
        name = plain_name(request.query_params.get("name", ""))
        file = self._folder / f"{secrets.token_hex(8)}{Path(name).suffix}"
        megapixels = self.limits.megapixels
        try:
            await receive(request, file, megabytes=self.limits.megabytes)
            async with self._large:
                return name, await run_in_threadpool(read_photo, file, name=name, megapixels=megapixels)
        finally:
            file.unlink(missing_ok=True)

    async def remove(self, request: Request) -> Response:
        """Forget a picture."""
        session, photo = self._photo(request)
        self.worker.cancel(session, photo)
        del session.photos[photo.number]
        return Response(status_code=204)

    async def restore(self, request: Request) -> Response:
        """Put a picture into the queue."""
        session, photo = self._photo(request)
        engine = await self._engine(request.query_params.get("model", ""))
        k = engine.checked_k(whole(request, "k"))
        height, width, channels = engine.result_shape(photo.pixels)
        check_size(height, width, megapixels=self.limits.megapixels)
        channels += engine.opacity_shape(photo.opacity)[2]
        self.sessions.check_held(height * width * channels * 2 / 1e6)
        self.worker.put(Job(session=session, photo=photo, engine=engine, k=k))
        return Response(status_code=202)

    async def cancel(self, request: Request) -> Response:
        """Stop with a picture."""
        self.worker.cancel(*self._photo(request))
        return Response(status_code=202)

    async def layer(self, request: Request) -> Response:
        """A part of a picture as PNG."""
        _, photo = self._photo(request)
        place = [whole(request, side) or 0 for side in ("top", "left", "height", "width")]
        name = request.path_params["name"]
        async with self._large if name == "texture" else contextlib.nullcontext():
            png = await run_in_threadpool(layer, photo, name, *place)
        return Response(png, media_type="image/png")

    async def neighbours(self, request: Request) -> Response:
        """The node at a point of a picture and its neighbours, for every stage."""
        _, photo = self._photo(request)
        engine = await self._engine(request.query_params.get("model", ""))
        k = engine.checked_k(whole(request, "k"))
        return JSONResponse(await run_in_threadpool(neighbours, photo, engine, *point(request, photo), k))

    async def cost(self, request: Request) -> Response:
        """What another k costs near a point."""
        _, photo = self._photo(request)
        engine = await self._engine(request.query_params.get("model", ""))
        k = engine.checked_k(whole(request, "k"))
        return JSONResponse(await run_in_threadpool(cost, photo, engine, *point(request, photo), k))

    async def scores(self, request: Request) -> Response:
        """How close to the clean picture the restored one is."""
        _, photo = self._photo(request)
        async with self._large:
            return JSONResponse(await run_in_threadpool(scores, photo, mixing(request)))

    async def download(self, request: Request) -> Response:
        """The restored picture as a file, with what the dropped file says beside its pixels."""
        _, photo = self._photo(request)
        async with self._large:
            name, content = await run_in_threadpool(download, photo, mixing(request))
        headers = {"content-disposition": f"attachment; filename*=utf-8''{quote(name)}"}
        return Response(content, headers=headers, media_type="application/octet-stream")
