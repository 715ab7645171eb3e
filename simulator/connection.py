"""One client's WebSocket, seen from the exchange: framing, a bounded send queue, orderly and abrupt ends.

Frames of a server are not masked, so the bytes of a frame are the same for every subscriber: they are made once and
written to each transport. The transport's own buffer is the send queue; a client that lets it grow past its bound is cut
off, as real venues do.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING

from simulator.limits import RollingWindow

if TYPE_CHECKING:
    from simulator.feeds import Feed

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
CLOSE_GRACE = 2.0  # seconds a client has to answer a close frame


def frame(payload: str | bytes, opcode: int | None = None) -> bytes:
    """A whole, final, unmasked WebSocket frame (RFC 6455, 5.2): text for str, binary for bytes, or as `opcode` says."""
    data = payload.encode() if isinstance(payload, str) else payload
    first = 0x80 | (opcode or (TEXT if isinstance(payload, str) else BINARY))
    size = len(data)
    if size < 126:
        return bytes((first, size)) + data
    if size < 65536:
        return bytes((first, 126)) + size.to_bytes(2, "big") + data
    return bytes((first, 127)) + size.to_bytes(8, "big") + data


class Connection:
    """A WebSocket of a client.

    number: which connection of its venue this is. limit: bytes of its send queue. messages, operations: the windows that
    count what the client sends.
    feeds: its live subscriptions. names: all it asked for and was granted, also what stays silent.
    envelope: how payloads are wrapped for it (see Feed.wrap); one per connection where a venue numbers its frames.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        number: int,
        limit: int,
        messages: RollingWindow,
        operations: RollingWindow,
        now: float,
    ) -> None:
        self.transport = transport
        self.number = number
        self.limit = limit
        self.messages = messages
        self.operations = operations
        self.envelope: Hashable = None
        self.path = ""  # where it connected, where a venue has several endpoints
        self.unit = 1000  # microseconds in one unit of the times it is shown, where a venue lets it choose
        self.feeds: dict[Hashable, Feed] = {}
        self.names: dict[str, None] = {}
        self.opened = self.heard = self.spoke = self.beat = self.used = now
        self.pinged = 0.0  # since when a ping is not answered
        self.awaited: object = None  # what the answer to a ping in JSON must repeat
        self.warned = False  # told that its session ends
        self.paused = False  # told that a maintenance has begun, where it outlives one
        self.overflowed = False
        self.frames = self.frames_seen = 0
        self.closing = False
        self._timer: asyncio.TimerHandle | None = None
        self._delay = 0.0  # seconds added to each frame (fault `slow`)
        self._muted = 0.0  # until when nothing is sent (fault `stall`)
        self._late: deque[tuple[float, bytes]] = deque()
        self._late_bytes = 0

    def send(self, payload: str | bytes) -> None:
        """Send one message now: text for str, binary for bytes."""
        self.write(frame(payload))

    def write(self, data: bytes) -> None:
        """Send a frame that is already made; a queue past its bound ends the connection abruptly."""
        if self.closing or self.transport.is_closing():  # uvloop raises where a client is already gone
            return
        if self._delay or self._muted:
            self._disturbed(data)
            return
        self.transport.write(data)
        self.frames += 1
        if self.transport.get_write_buffer_size() > self.limit:
            self._overflow()

    def ping(self, payload: bytes, now: float) -> None:
        """Send a WebSocket ping and remember since when an answer is due."""
        self.pinged = self.pinged or now
        self.write(frame(payload, PING))

    def slow(self, seconds: float) -> None:
        """Deliver every later frame `seconds` late."""
        self._delay = seconds

    def stall(self, seconds: float) -> None:
        """Keep the socket open and send nothing for `seconds`; what falls into that time is lost."""
        self._muted = asyncio.get_running_loop().time() + seconds

    def close(self, code: int, reason: str = "") -> None:
        """Close with a code: a close frame, then the end when the client answers it or the grace is over."""
        if self.closing or self.transport.is_closing():
            return
        self._muted = 0.0
        self.flush()
        self.transport.write(frame(code.to_bytes(2, "big") + reason.encode(), CLOSE))
        self.closing = True
        self._arm(CLOSE_GRACE, self.transport.abort)

    def abort(self) -> None:
        """End without a close frame: the client sees 1006."""
        self.closing = True
        self.transport.abort()

    def ended(self) -> None:
        """The transport is gone: drop what was waiting."""
        self.closing = True
        self._late.clear()
        if self._timer:
            self._timer.cancel()

    def flush(self) -> None:
        """Write the delayed frames that are due; all of them when the delay is over."""
        now = asyncio.get_running_loop().time()
        while self._late and not self.transport.is_closing() and (self._late[0][0] <= now or not self._delay):
            data = self._late.popleft()[1]
            self._late_bytes -= len(data)
            self.transport.write(data)
            self.frames += 1
        if self._late and not self.closing:
            self._arm(self._late[0][0] - now, self.flush)

    def _disturbed(self, data: bytes) -> None:
        """The way of a frame under `slow` or `stall`."""
        now = asyncio.get_running_loop().time()
        if self._muted > now:
            return
        self._muted = 0.0
        if not self._delay:
            self.flush()
            self.write(data)
            return
        self._late.append((now + self._delay, data))
        self._late_bytes += len(data)
        if self._late_bytes > self.limit:
            self._overflow()
        elif len(self._late) == 1:
            self._arm(self._delay, self.flush)

    def _arm(self, seconds: float, action: Callable[[], object]) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(max(seconds, 0.0), action)

    def _overflow(self) -> None:
        self.overflowed = True
        self.abort()
