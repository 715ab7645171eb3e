"""A pool and what it is told, and a master that says what a test tells it to."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from collector.master_pool import MasterPool
from collector.spool import Spool
from master import auth
from master.protocol import (
    MAX_BATCH,
    Accepted,
    Batch,
    Challenge,
    Control,
    Hello,
    Login,
    Welcome,
    decode_control,
    encode_control,
    unpack,
)
from tests.collector.making import trade
from tests.master.running import KEY

SYMBOLS = ("BTC/USD", "ETH/USD", "SOL/USD", "XRP/USD", "ADA/USD", "DOT/USD", "LTC/USD")


@asynccontextmanager
async def pool(url: str, *, key: str = KEY, connections: int = 3, spool: Spool | None = None) -> AsyncIterator[MasterPool]:
    one = MasterPool(url, key, "host-0", connections, spool=spool)
    sending = asyncio.create_task(one.run())
    try:
        yield one
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        await one.close()


class Source:
    """Trades with rising ids over several markets."""

    def __init__(self, to: MasterPool) -> None:
        self.put = to.outbox.open("kraken", lambda _: None)
        self.told = 0

    def tell(self, count: int) -> None:
        for _ in range(count):
            self.told += 1
            self.put(trade(self.told, SYMBOLS[self.told % len(SYMBOLS)]))


def acked(one: MasterPool) -> int:
    return one.outbox.acked_events.total()


class Script:
    """A master that says what a test tells it to, on real sockets. It knows the key."""

    def __init__(self) -> None:
        self.sockets: list[ServerConnection] = []
        self.batches: list[list[Batch]] = []
        self.hellos: list[Hello] = []

    async def serve(self, socket: ServerConnection) -> None:
        opening = auth.decode_opening(str(await socket.recv()))
        await self.say(socket, Challenge("sn"))
        login = decode_control(await socket.recv())
        assert login == Login(auth.proof(KEY, "client", opening, "sn"))
        await self.say(socket, Accepted(auth.proof(KEY, "server", opening, "sn")))
        hello = decode_control(await socket.recv())
        assert isinstance(hello, Hello)
        self.hellos.append(hello)
        mine: list[Batch] = []
        self.sockets.append(socket)
        self.batches.append(mine)
        await self.say(socket, Welcome(dict.fromkeys(hello.streams, 0)))
        try:
            async for frame in socket:
                assert isinstance(frame, bytes)
                mine.append(unpack(frame))
        except ConnectionClosed:
            pass

    async def say(self, socket: ServerConnection, message: Control) -> None:
        await socket.send(encode_control(message))

    def seqs(self, connection: int, stream: bytes) -> list[int]:
        return [batch.seq for batch in self.batches[connection] if batch.stream == stream]


@asynccontextmanager
async def listening(handler: Callable[[ServerConnection], Awaitable[None]]) -> AsyncIterator[str]:
    server: Server
    async with serve(handler, "127.0.0.1", 0, compression=None, max_size=MAX_BATCH, close_timeout=0.1) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
