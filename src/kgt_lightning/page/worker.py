"""The queue: pictures are restored one after the other, in a thread of their own."""

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass, field

import numpy as np

from kgt_lightning.page.engine import Engine
from kgt_lightning.page.photo import Photo, Result
from kgt_lightning.page.session import Session
from kgt_lightning.restoring.noise import limit_of_compression
from kgt_lightning.system.hardware import is_out_of_memory

log = logging.getLogger(__name__)


class Cancelled(Exception):  # noqa: N818  # nothing went wrong
    """A picture is not to be restored any further."""


@dataclass(kw_only=True, eq=False)
class Job:
    """One picture to be restored."""

    session: Session
    photo: Photo
    engine: Engine
    k: int | None
    cancelled: threading.Event = field(default_factory=threading.Event)


class Worker:
    """Restores the pictures of all pages in the order in which they came."""

    def __init__(self) -> None:
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._work, name="restoring", daemon=True)
        self._thread.start()

    def put(self, job: Job) -> None:
        """Restore a picture when its turn comes; what is being done to it is cancelled."""
        self.cancel(job.session, job.photo)
        with self._changed:
            self._jobs.append(job)
            self._changed.notify()
            self._tell_places()

    def cancel(self, session: Session, photo: Photo | None = None) -> None:
        """Stop with a picture, or with all of a page; a tile that is being computed is not waited for."""
        with self._changed:
            for job in [job for job in self._jobs if job.session is session and photo in (None, job.photo)]:
                job.cancelled.set()
                if job is not self._jobs[0]:  # the first is at work, and takes itself out
                    self._jobs.remove(job)
                    self._tell(job, "cancelled")
            self._tell_places()

    def end(self) -> None:
        """Stop with everything; wait for the tile that is being computed."""
        with self._changed:
            self._ended = True
            for job in self._jobs:
                job.cancelled.set()
            self._changed.notify()
        self._thread.join(timeout=60)

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._jobs and not self._ended:
                    self._changed.wait()
                if self._ended:
                    return
                job = self._jobs[0]
            try:
                self._restore(job)
            except Cancelled:
                self._tell(job, "cancelled")
            except ValueError as error:
                self._tell(job, "failed", reason=str(error))
            # The page stays usable whatever a model or a picture does.
            except Exception as error:
                reason = f"it could not be restored ({type(error).__name__}): see the log"
                if is_out_of_memory(error):
                    reason = "there is no memory left for it: start kgt serve with a smaller tile"
                log.exception("a picture could not be restored")
                self._tell(job, "failed", reason=reason)
            with self._changed:
                self._jobs.remove(job)
                self._tell_places()

    def _restore(self, job: Job) -> None:
        if job.cancelled.is_set():
            raise Cancelled
        photo, engine = job.photo, job.engine
        pixels = np.zeros(engine.result_shape(photo.pixels), dtype=np.uint16)
        opacity = np.zeros(engine.opacity_shape(photo.opacity), dtype=np.uint16)
        result = Result(engine=engine, k=job.k, pixels=pixels, opacity=opacity)
        self._tell(job, "started", scale=engine.scale, model=engine.name, k=job.k)
        photo.result = result
        started = time.perf_counter()
        layers = [photo.pixels, photo.opacity] if result.opacity.size else [photo.pixels]
        for layer, samples in enumerate(layers):
            for done in engine.tiles(samples, k=job.k):
                if job.cancelled.is_set():
                    raise Cancelled
                seconds = time.perf_counter() - started
                number, parts = layer * done.total + done.number, len(layers) * done.total
                left_seconds = round(seconds / number * (parts - number), 1)
                facts = {"done": number, "parts": parts, "left_seconds": left_seconds}
                if layer == 0:
                    self._tell(job, "tile", **result.put(done.tile[0], top=done.top, left=done.left), **facts)
                    if done.rows is not None:
                        self._tell(job, "rows", **result.put(done.rows[0], top=done.first_row, left=0))
                else:
                    self._tell(job, "opacity", **facts)
                    if done.rows is not None:
                        result.put_opacity(done.rows[0], top=done.first_row)
        result.complete = True
        compressed = photo.raster.quality is not None
        limit = limit_of_compression(engine.module.degradation) if compressed else None
        self._tell(job, "finished", seconds=round(time.perf_counter() - started, 2), limit=limit)

    def _tell(self, job: Job, what: str, **facts: object) -> None:
        job.session.tell({"event": what, "picture": job.photo.number, **facts})

    def _tell_places(self) -> None:
        for place, job in enumerate(self._jobs):
            if place:
                self._tell(job, "waiting", place=place)
