"""What the page asks for, and the answers."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket, WebSocketDisconnect

from kgt_lightning.page.engine import Engine
from kgt_lightning.page.guard import Guard
from kgt_lightning.page.photo import Photo, TooMuch, check_size, plain_name, read_pixels
from kgt_lightning.page.session import Limits, Session, Sessions
from kgt_lightning.page.views import cost, download, layer, neighbours, scores
from kgt_lightning.page.worker import Job, Worker
from kgt_lightning.restoring.mixing import Mixing

STATIC = Path(__file__).parent / "static"

Answer = Callable[[Request], Awaitable[Response]]


class Page:
    """The page and what it asks for.

    Args:
        models: their names, the first is chosen at first, and what makes the engine of each when it is needed.
        limits: of what pages may ask for.

    """

    def __init__(self, *, models: Mapping[str, Callable[[], Engine]], limits: Limits) -> None:
        self.limits = limits
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
            await socket.send_json({"event": "hello", "key": session.key, "models": [*self._engines], "limits": limits})
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
        name = plain_name(request.query_params.get("name", ""))
        self.sessions.make_room(session, 0)
        session.coming += 1
        try:
            session.numbers += 1
            number = session.numbers
            file = session.folder / f"{number}{Path(name).suffix}"
            await self._receive(request, file)
            async with self._large:
                pixels, profile = await run_in_threadpool(
                    read_pixels, file, name=name, megapixels=self.limits.megapixels
                )
        finally:
            session.coming -= 1
        self.sessions.make_room(session, pixels.nbytes / 1e6)
        photo = Photo(number=number, name=name, file=file, pixels=pixels, profile=profile)
        session.photos[number] = photo
        return JSONResponse(photo.describe(), status_code=201)

    async def add_clean(self, request: Request) -> Response:
        """Take the clean picture in that a restored one is compared with."""
        session, photo = self._photo(request)
        name = plain_name(request.query_params.get("name", ""))
        file = session.folder / f"{photo.number}-clean{Path(name).suffix}"
        try:
            await self._receive(request, file)
            async with self._large:
                clean, _ = await run_in_threadpool(read_pixels, file, name=name, megapixels=self.limits.megapixels)
        finally:
            file.unlink(missing_ok=True)
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

    async def _receive(self, request: Request, file: Path) -> None:
        """Write what is sent into a file.

        Raises:
            TooMuch: if it is more than a file may have, before it is read where its length is said.

        """
        most = self.limits.megabytes * 1e6
        said = request.headers.get("content-length", "0")
        count = int(said) if said.isdecimal() else 0
        try:
            with file.open("wb") as opened:
                if count <= most:
                    count = 0
                    async for part in request.stream():
                        count += len(part)
                        if count > most:
                            break
                        opened.write(part)
            if count > most:
                raise TooMuch(
                    f"the file has {count / 1e6:.0f} MB or more, at most {self.limits.megabytes:g} are taken:"
                    " start kgt serve with a larger limits.megabytes"
                )
        except BaseException:
            file.unlink(missing_ok=True)
            raise

    async def remove(self, request: Request) -> Response:
        """Forget a picture."""
        session, photo = self._photo(request)
        self.worker.cancel(session, photo)
        del session.photos[photo.number]
        photo.file.unlink(missing_ok=True)
        return Response(status_code=204)

    async def restore(self, request: Request) -> Response:
        """Put a picture into the queue."""
        session, photo = self._photo(request)
        engine = await self._engine(request.query_params.get("model", ""))
        k = engine.checked_k(whole(request, "k"))
        height, width, channels = photo.pixels.shape
        check_size(height * engine.scale, width * engine.scale, megapixels=self.limits.megapixels)
        self.sessions.check_held(height * width * engine.scale**2 * channels * 2 / 1e6)
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
        png = await run_in_threadpool(layer, photo, request.path_params["name"], *place)
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
            file = await run_in_threadpool(download, photo, mixing(request))
        name = f"{Path(photo.name).stem}-restored{file.suffix}"
        return FileResponse(file, filename=name, content_disposition_type="attachment")


def answered(answer: Answer) -> Answer:
    """The same with errors as JSON: 404 for what is not there, 413 for too much, 400 for what cannot be."""

    async def answer_or_say_why(request: Request) -> Response:
        try:
            return await answer(request)
        except LookupError as error:
            status, reason = 404, error.args[0]
        except TooMuch as error:
            status, reason = 413, str(error)
        except ValueError as error:
            status, reason = 400, str(error)
        except ClientDisconnect:
            status, reason = 400, "the connection ended before the file did"
        return JSONResponse({"error": reason}, status_code=status)

    return answer_or_say_why


def whole(request: Request, key: str) -> int | None:
    """Whole number that the address holds; None if it holds none of this name.

    Raises:
        ValueError: if it is none.

    """
    text = request.query_params.get(key)
    if text is None or (text.isascii() and text.isdecimal() and len(text) < 8):
        return None if text is None else int(text)
    raise ValueError(f"{key}={text[:20]} must be a whole number from 0 on")


def point(request: Request, photo: Photo) -> tuple[int, int]:
    """Column and row of the pixel that the address names, within the picture."""
    height, width = photo.pixels.shape[:2]
    return min(whole(request, "x") or 0, width - 1), min(whole(request, "y") or 0, height - 1)


def mixing(request: Request) -> Mixing:
    """Strength and texture that the address names, in percent.

    Raises:
        ValueError: if one does not lie in 0..100.

    """
    percent = {"strength": whole(request, "strength"), "texture": whole(request, "texture")}
    return Mixing(**{name: value / 100 for name, value in percent.items() if value is not None})
