"""A network between two programs that a test can cut: what is under way is lost, or arrives in part."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class Line:
    """Carries connections to a port. `cut` ends one of them as a network does: without a word, in the middle of a message."""

    def __init__(self, to: int) -> None:
        self.cuts = 0
        self._to = to
        self._open: list[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def cut(self, number: int) -> None:
        if self._open:
            self.cuts += 1
            for writer in self._open.pop(number % len(self._open)):
                writer.transport.abort()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            onward, back = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            writer.transport.abort()
            return
        ends = (writer, back)
        self._open.append(ends)
        await asyncio.gather(self._copy(reader, back), self._copy(onward, writer))
        with suppress(ValueError):
            self._open.remove(ends)

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(700):  # small pieces, so that a cut goes through messages
                writer.write(data)
                await writer.drain()
        with suppress(OSError, RuntimeError):
            writer.close()


@asynccontextmanager
async def line(to: int) -> AsyncIterator[tuple[Line, str]]:
    """A line to this port, and the address at its other end."""
    made = Line(to)
    server = await asyncio.start_server(made.carry, "127.0.0.1", 0)
    try:
        yield made, f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        while made._open:
            made.cut(0)
        await server.wait_closed()
