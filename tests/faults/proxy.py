"""A network between two programs, as bad as it is told to be: between collector and master, in tests and in the soak."""

import asyncio
import socket
import struct
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import Protocol

from tests.ports import kept_port

PIECE = 64 << 10
_AT_ONCE = struct.pack("ii", 1, 0)
"""SO_LINGER with no time to linger: the end is a reset."""


class CutError(Exception):
    """The fault ends this connection here."""


class Fault(Protocol):
    """What a network does to the bytes of one piece on their way; it may raise CutError."""

    async def carry(self, data: bytes, out: StreamWriter) -> None: ...


async def _write(out: StreamWriter, data: bytes) -> None:
    out.write(data)
    await out.drain()


class Passing:
    """No fault."""

    async def carry(self, data: bytes, out: StreamWriter) -> None:
        await _write(out, data)


class Cutting:
    """Lets `after` bytes pass, of all connections together, then ends each that says more: in the middle of a frame."""

    def __init__(self, after: int) -> None:
        self._left = after

    async def carry(self, data: bytes, out: StreamWriter) -> None:
        passing, self._left = data[: self._left], max(0, self._left - len(data))
        await _write(out, passing)
        if len(passing) < len(data):
            raise CutError


class Swallowing:
    """A black hole: connections are accepted, bytes are taken, and nothing ever arrives."""

    async def carry(self, data: bytes, out: StreamWriter) -> None:
        pass


class Throttling:
    """So many bytes a second, each way of each connection."""

    def __init__(self, rate: int) -> None:
        self._rate = rate

    async def carry(self, data: bytes, out: StreamWriter) -> None:
        size = max(1, self._rate // 20)
        for start in range(0, len(data), size):
            await _write(out, data[start : start + size])
            await asyncio.sleep(1 / 20)


class Delaying:
    """Each piece arrives so many seconds late."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    async def carry(self, data: bytes, out: StreamWriter) -> None:
        await asyncio.sleep(self._seconds)
        await _write(out, data)


class Slicing:
    """One byte at a time, each in a packet of its own, for the first `count` bytes of each piece."""

    def __init__(self, count: int = 500) -> None:
        self._count = count

    async def carry(self, data: bytes, out: StreamWriter) -> None:
        for each in data[: self._count]:
            await _write(out, bytes((each,)))
            await asyncio.sleep(0)
        await _write(out, data[self._count :])


class Corrupting:
    """One bit of a piece flips, with this probability. `struck`: how many did."""

    def __init__(self, random: Random, probability: float) -> None:
        self.struck = 0
        self._random = random
        self._probability = probability

    async def carry(self, data: bytes, out: StreamWriter) -> None:
        if self._random.random() < self._probability:
            self.struck += 1
            where = self._random.randrange(len(data))
            data = data[:where] + bytes((data[where] ^ 1 << self._random.randrange(8),)) + data[where + 1 :]
        await _write(out, data)


PASSING = Passing()


class Proxy:
    """Carries connections of its port to another; `up` is what happens on the way there, `down` on the way back."""

    def __init__(self, port: int, to: int) -> None:
        self.port = port
        self.to = to
        self.up: Fault = PASSING
        self.down: Fault = PASSING
        self.accepted = 0
        self._open: list[tuple[StreamWriter, StreamWriter]] = []
        self._server: asyncio.Server | None = None
        self._beginning = asyncio.Lock()

    @property
    def address(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        return len(self._open)

    async def listen(self) -> None:
        """Accept connections; again on the same port after `refuse`, whoever else asks for it too."""
        async with self._beginning:
            if self._server is None:
                self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, limit=PIECE)

    def refuse(self) -> None:
        """Refuse new connections; those that are open go on."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def reset(self, number: int | None = None) -> None:
        """End one connection, or all, with a reset on both sides: what was under way is lost."""
        chosen = self._open if number is None else self._open[number % len(self._open) :][:1] if self._open else []
        for writer in [writer for ends in chosen for writer in ends]:
            _reset(writer)

    async def heal(self) -> None:
        """No fault any more. What a black hole has taken bytes of could never be whole again, and ends."""
        if Swallowing in (type(self.up), type(self.down)):
            self.reset()
        self.up = self.down = PASSING
        await self.listen()

    async def _accept(self, reader: StreamReader, writer: StreamWriter) -> None:
        self.accepted += 1
        try:
            onward, back = await asyncio.open_connection("127.0.0.1", self.to, limit=PIECE)
        except OSError:
            _reset(writer)
            return
        if self._server is None:  # it was on its way when we began to refuse
            _reset(writer)
            _reset(back)
            return
        ends = (writer, back)
        self._open.append(ends)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._copy(reader, back, "up"))
                tasks.create_task(self._copy(onward, writer, "down"))
        except* (OSError, CutError):
            pass
        finally:
            self._open.remove(ends)
            for each in ends:
                each.transport.abort()

    async def _copy(self, reader: StreamReader, writer: StreamWriter, way: str) -> None:
        while data := await reader.read(PIECE):
            await getattr(self, way).carry(data, writer)
        writer.write_eof()


def _reset(writer: StreamWriter) -> None:
    with suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
    writer.transport.abort()


@asynccontextmanager
async def proxy(to: int) -> AsyncIterator[Proxy]:
    """A proxy to this port."""
    with kept_port() as port:
        made = Proxy(port, to)
        await made.listen()
        try:
            yield made
        finally:
            made.refuse()
            made.reset()
