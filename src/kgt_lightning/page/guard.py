"""Who may talk to the page: browsers of this machine that opened it under its own name, and none else."""

from collections.abc import MutableMapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HOST = "127.0.0.1"
NAMES = (HOST, "localhost")

_SAFE_METHODS = ("GET", "HEAD")


class Guard:
    """Refuses what was not meant for this page, before it is read, and says in every answer what a browser may load.

    A foreign Host is how a site of the internet reaches a server of this machine under its own name (DNS rebinding); a
    foreign Origin is another site that sends requests here. Both get 403, and so does what changes something without
    saying its Origin, as no browser does.

    Args:
        app: that answers.
        port: of the page.

    """

    def __init__(self, app: ASGIApp, *, port: int) -> None:
        self.app = app
        self.hosts = [f"{name}:{port}" for name in NAMES]
        sockets = " ".join(f"ws://{host}" for host in self.hosts)
        self.headers = {
            "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
            f" connect-src 'self' {sockets}; form-action 'none'; frame-ancestors 'none'; base-uri 'none'",
            "cache-control": "no-store",
            "cross-origin-opener-policy": "same-origin",
            "cross-origin-resource-policy": "same-origin",
            "referrer-policy": "no-referrer",
            "x-content-type-options": "nosniff",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self.headers)
            await send(message)

        reason = self._refusal(scope)
        if reason is None:
            await self.app(scope, receive, send_with_headers)
        elif scope["type"] == "websocket":
            # Before it is accepted, this is answered as HTTP 403.
            await send({"type": "websocket.close", "code": 1008, "reason": reason})
        else:
            await JSONResponse({"error": reason}, status_code=403)(scope, receive, send_with_headers)

    def _refusal(self, scope: MutableMapping[str, Any]) -> str | None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or hosts[0] not in self.hosts:
            return f"this page is http://{self.hosts[0]} and has no other name"
        origins = headers.getlist("origin")
        needed = scope["type"] == "websocket" or scope["method"] not in _SAFE_METHODS
        if (needed or origins) and origins != [f"http://{hosts[0]}"]:
            return "requests come from the page itself, not from another one"
        return None
