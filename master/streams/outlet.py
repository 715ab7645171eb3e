"""One consumer's connection: what waits to be written to it, bounded, and what it is sent at the end.

A consumer is written to by a task of its own, so that a slow one delays nobody. Events of streams wait in a queue; when that
is full the connection ends, and the cursor in its last words leads on from what was written. Of a view only the newest state
waits.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Container, Hashable, Iterable, Iterator
from time import monotonic
from typing import NamedTuple

from msgspec import Struct
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from master.streams.consumers import Bye, encode, encode_cursor, pack_events, pack_views
from master.streams.topics import Pattern

MOST_QUEUED = 8 << 20
"""Bytes that may wait for one consumer."""
ROOM = MOST_QUEUED // 4
"""Bytes waiting below which old events are read for it."""
MOST_VIEWS = 50_000
"""States of views that may wait for one consumer: candles, each of which is told, would otherwise pile up."""
FRAME_BYTES = 256 << 10
"""Of one message, before another is begun; a single event may be larger."""
IDLE = 10.0
"""Seconds without a message after which a newer cursor is sent."""
LEAVE_WITHIN = 5.0
TRY_LATER = 1013


class Figures(Struct):
    """What all consumers together were sent, since the start."""

    events: int = 0
    conflated: int = 0
    slow: int = 0
    resumed: int = 0


class Frame(NamedTuple):
    data: bytes
    position: int | None = None
    """Of the cursor in it."""


class Ending(NamedTuple):
    reason: str
    code: int


class Outlet:
    """What is on its way to one consumer."""

    def __init__(self, socket: ServerConnection, figures: Figures, idle: "Callable[[Outlet], None]") -> None:
        """`idle` is told when nothing was written for a while."""
        self.patterns: dict[str, Pattern] = {}
        """What it is subscribed to, by text."""
        self.position: int | None = None
        """It was written all events of its streams up to here; None before it has any."""
        self.conflate_seconds = 0.0
        self.is_over = False
        self.parts: list[bytes] = []
        """Gathered for its next message of streams."""
        self._socket = socket
        self._figures = figures
        self._idle = idle
        self._queue: deque[Frame] = deque()
        self._held: deque[Frame] | None = None
        self._queued_bytes = 0
        self._views: dict[tuple[Hashable, int], bytes] = {}
        self._conflated = 0
        self._views_at = 0.0
        self._ending: Ending | None = None
        self._abort: asyncio.TimerHandle | None = None
        self._wake = asyncio.Event()
        self._has_room = asyncio.Event()

    @property
    def streams(self) -> list[Pattern]:
        return [each for each in self.patterns.values() if not each.channel.is_view]

    @property
    def is_current(self) -> bool:
        """Whether it has streams, and nothing of them is still to be put that is older than what comes."""
        return self._held is None and bool(self.streams)

    # What is to be written.

    def say(self, message: Struct, position: int | None = None) -> None:
        """`position`: where its streams go on, if it says that."""
        self._put(self._queue, Frame(encode(message), position))

    def put(self, frames: Iterable[bytes]) -> None:
        for data in frames:
            self._put(self._queue, Frame(data))

    def put_events(self, parts: list[bytes], events: int, position: int) -> None:
        """Events of streams, all that there were up to this position."""
        self._figures.events += events
        self._put(self._queue if self._held is None else self._held, Frame(pack_events(parts, position), position))

    def put_past(self, parts: list[bytes], position: int) -> None:
        """The same from before what is held back."""
        self._figures.events += len(parts)
        self._put(self._queue, Frame(pack_events(parts, position), position))

    def put_view(self, topic: Hashable, data: bytes, updates: int, start: int = 0) -> None:
        """The newest of so many states of a view; it takes the place of one that still waits. Of candles each `start` has a
        state of its own."""
        if self.is_leaving:
            return
        key = (topic, start)
        replaced = updates - 1 + (key in self._views)
        self._conflated += replaced
        self._figures.conflated += replaced
        self._views[key] = data
        self._wake.set()
        if len(self._views) > MOST_VIEWS:
            self._be_too_slow()

    def drop_views(self, topics: Container[Hashable]) -> None:
        """What waits of these is not written any more."""
        self._views = {key: data for key, data in self._views.items() if key[0] not in topics}

    def hold_back(self) -> None:
        """Events of streams wait until those before them are put."""
        self._held = deque()

    def let_go(self) -> None:
        self._queue += self._held or ()
        self._held = None
        self._wake.set()

    async def room(self) -> bool:
        """Wait until little waits; False where the connection is at its end."""
        while self._queued_bytes > ROOM and not self.is_leaving:
            self._has_room.clear()
            await self._has_room.wait()
        return not self.is_leaving

    def leave(self, reason: str, code: int) -> None:
        """End the connection; what still waits is not written."""
        if self.is_leaving:
            return
        self._ending = Ending(reason, code)
        self._queue.clear()
        self._views.clear()
        self._wake.set()
        self._has_room.set()
        # One that reads nothing does not hear the last words either, and goes on from what it has.
        self._abort = asyncio.get_running_loop().call_later(LEAVE_WITHIN, self._socket.transport.abort)

    @property
    def is_leaving(self) -> bool:
        return self.is_over or self._ending is not None

    def _put(self, queue: deque[Frame], frame: Frame) -> None:
        if self.is_leaving:
            return
        if self._queued_bytes and self._queued_bytes + len(frame.data) > MOST_QUEUED:
            self._be_too_slow()
            return
        queue.append(frame)
        self._queued_bytes += len(frame.data)
        self._wake.set()

    def _be_too_slow(self) -> None:
        self._figures.slow += 1
        self.leave("too slow", TRY_LATER)

    # Writing.

    async def run(self) -> None:
        """Write until the connection ends, or is to."""
        try:
            while self._ending is None:
                if self._queue:
                    await self._write(self._queue.popleft())
                elif self._views and monotonic() >= self._views_at:
                    await self._write_views()
                else:
                    await self._rest()
            cursor = None if self.position is None else encode_cursor(self.position)
            await self._socket.send(encode(Bye(self._ending.reason, cursor)), text=True)
            await self._socket.close(self._ending.code, self._ending.reason)
        except ConnectionClosed:
            pass
        finally:
            self.is_over = True
            self._has_room.set()
            self._socket.transport.abort()  # nothing more is written, whatever the reason; closed already, where all is well
            if self._abort is not None:
                self._abort.cancel()

    async def _write(self, frame: Frame) -> None:
        await self._socket.send(frame.data, text=True)
        self._queued_bytes -= len(frame.data)
        if frame.position is not None:
            self.position = frame.position
        if self._queued_bytes <= ROOM:
            self._has_room.set()

    async def _write_views(self) -> None:
        views, self._views = list(self._views.values()), {}
        conflated, self._conflated = self._conflated, 0
        self._views_at = monotonic() + self.conflate_seconds
        self._figures.events += len(views)
        for parts in framed(views):
            await self._socket.send(pack_views(parts, conflated), text=True)
            conflated = 0

    async def _rest(self) -> None:
        pause = self._views_at - monotonic() if self._views else IDLE
        self._wake.clear()
        try:
            async with asyncio.timeout(pause):
                await self._wake.wait()
        except TimeoutError:
            if not self._views:
                self._idle(self)


def framed(parts: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Cut into messages of a bearable size."""
    frame: list[bytes] = []
    size = 0
    for part in parts:
        if frame and size + len(part) > FRAME_BYTES:
            yield frame
            frame, size = [], 0
        frame.append(part)
        size += len(part)
    if frame:
        yield frame
