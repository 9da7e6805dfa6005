"""What open pages hold: their pictures, in memory."""

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kgt_lightning.page.photo import Photo, TooMuch

Event = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much pages may ask for; ``conf/serve.yaml`` says what each means."""

    megabytes: float
    megapixels: float
    pictures: int
    pages: int
    held_megabytes: float
    minutes: float


@dataclass(kw_only=True, eq=False)
class Session:
    """One open page."""

    key: str
    """Not to be guessed: who knows it is the page."""
    loop: asyncio.AbstractEventLoop
    events: asyncio.Queue[Event] = field(default_factory=asyncio.Queue)
    """For the page, in their order."""
    photos: dict[int, Photo] = field(default_factory=dict)
    coming: int = 0
    """Pictures that are being read."""
    numbers: int = 0
    """Pictures there ever were."""
    used: float = field(default_factory=time.monotonic)
    closed: bool = False

    def tell(self, event: Event) -> None:
        """Send an event to the page, from any thread."""
        if not self.closed and not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.events.put_nowait, event)

    def photo(self, number: int) -> Photo:
        """The picture of a number.

        Raises:
            LookupError: if the page has none.

        """
        if number not in self.photos:
            raise LookupError(f"this page has no picture {number}")
        return self.photos[number]


class Sessions:
    """All open pages."""

    def __init__(self, *, limits: Limits, on_close: Callable[[Session], None]) -> None:
        self.limits = limits
        self._on_close = on_close
        self._open: dict[str, Session] = {}

    def __len__(self) -> int:
        return len(self._open)

    def open(self) -> Session:
        """A new page.

        Raises:
            TooMuch: if as many are open as are allowed.

        """
        if len(self) >= self.limits.pages:
            raise TooMuch(f"{len(self)} pages are open, which is the limit: close one, then reload this one")
        key = secrets.token_urlsafe(24)
        session = Session(key=key, loop=asyncio.get_running_loop())
        self._open[key] = session
        return session

    def get(self, key: str) -> Session:
        """The open page of a key.

        Raises:
            LookupError: if there is none.

        """
        if key not in self._open:
            raise LookupError("this page is not open any more: reload it")
        session = self._open[key]
        session.used = time.monotonic()
        return session

    def close(self, session: Session) -> None:
        """Forget the page and its pictures."""
        session.closed = True
        self._open.pop(session.key, None)
        self._on_close(session)
        session.photos.clear()

    def close_all(self) -> None:
        """Forget every page."""
        for session in list(self._open.values()):
            self.close(session)

    def is_idle(self, session: Session) -> bool:
        """Whether nobody used the page for as long as is allowed."""
        return time.monotonic() - session.used > self.limits.minutes * 60

    def make_room(self, session: Session, megabytes: float) -> None:
        """See to it that a page may hold one more picture that takes so much.

        Raises:
            TooMuch: if it may not.

        """
        if len(session.photos) + session.coming >= self.limits.pictures:
            raise TooMuch(f"this page holds {self.limits.pictures} pictures, which is the limit: remove one")
        self.check_held(megabytes)

    def check_held(self, megabytes: float) -> None:
        """See to it that pictures of all pages may take so much more.

        Raises:
            TooMuch: if they may not.

        """
        held = sum(photo.held for each in list(self._open.values()) for photo in list(each.photos.values())) / 1e6
        if held + megabytes > self.limits.held_megabytes:
            raise TooMuch(
                f"pictures take {held:.0f} MB already, {megabytes:.0f} more are over the limit of"
                f" {self.limits.held_megabytes:g}: remove some, or start kgt serve with more limits.held_megabytes"
            )
