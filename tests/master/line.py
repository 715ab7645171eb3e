"""A way to a master that can be cut at any moment."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Line:
    """A way to the master that can be cut."""

    def __init__(self) -> None:
        self.port = 0
        self.cuts = 0
        self._writers: set[asyncio.StreamWriter] = set()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, far_writer}
        self._writers |= ends
        await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
        self._writers -= ends

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(4096):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    @property
    def is_used(self) -> bool:
        return bool(self._writers)

    def cut(self) -> None:
        self.cuts += bool(self._writers)
        for each in self._writers:
            each.transport.abort()


@asynccontextmanager
async def line() -> AsyncIterator[tuple[Line, str]]:
    made = Line()
    async with await asyncio.start_server(made.carry, "127.0.0.1", 0) as server:
        yield made, f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        made.cut()
