"""What a request holds: numbers, a point, amounts, a file; and errors as answers."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from kgt_lightning.page.photo import Photo, TooMuch
from kgt_lightning.restoring.mixing import Mixing

Answer = Callable[[Request], Awaitable[Response]]


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


async def receive(request: Request, file: Path, *, megabytes: float) -> None:
    """Write what is sent into a file; half of it stays there after an error.

    Raises:
        TooMuch: if it is more than a file may have, before it is read where its length is said.

    """
    said = request.headers.get("content-length", "0")
    count = int(said) if said.isdecimal() else 0
    with file.open("wb") as opened:
        if count <= megabytes * 1e6:
            count = 0
            async for part in request.stream():
                count += len(part)
                if count > megabytes * 1e6:
                    break
                opened.write(part)
    if count > megabytes * 1e6:
        raise TooMuch(
            f"the file has {count / 1e6:.0f} MB or more, at most {megabytes:g} are taken:"
            " start kgt serve with a larger limits.megabytes"
        )
