"""A consumer that is spoken by hand, and one that counts what it was told."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from adapters.events import Event
from master.door import Grant
from master.live.candles import Candles
from master.streams.fanout import Fanout
from master.streams.resume import PastError
from master.streams.sessions import Streams
from master.tables import TABLES
from tests.master.running import Address, Collector, stranger
from tests.waiting import PATIENCE


class Consumer:
    """One connection."""

    def __init__(self, session: Collector) -> None:
        self.socket = session.socket
        self.number = 0

    async def say(self, op: str, **fields: Any) -> int:
        """Send a command: its id."""
        self.number += 1
        await self.socket.send(json.dumps({"op": op, "id": self.number, **fields}))
        return self.number

    async def hear(self, op: str) -> dict[str, Any]:
        """The next message, which must be this."""
        async with asyncio.timeout(PATIENCE):
            message: dict[str, Any] = json.loads(await self.socket.recv())
        assert message["op"] == op, message
        return message

    async def subscribe(self, *topics: str, **more: Any) -> dict[str, Any]:
        """Its acknowledgement."""
        number = await self.say("subscribe", topics=topics, **more)
        answer = await self.hear("subscribed")
        assert answer["id"] == number
        return answer

    async def events(self, count: int, op: str = "events") -> list[dict[str, Any]]:
        """So many events, exactly, in the order in which they came; further ones of the same message are one too many."""
        found: list[dict[str, Any]] = []
        while len(found) < count:
            found += (await self.hear(op))["events"]
        assert len(found) == count, found
        return found

    async def refused(self, op: str, **fields: Any) -> dict[str, Any]:
        """What is wrong with this command."""
        number = await self.say(op, **fields)
        answer = await self.hear("error")
        assert answer["id"] == number
        return answer

    async def rest(self) -> list[dict[str, Any]]:
        """Everything until the end."""
        found = []
        async with asyncio.timeout(PATIENCE):
            try:
                while True:
                    found.append(json.loads(await self.socket.recv()))
            except ConnectionClosed:
                return found


@asynccontextmanager
async def consumer(to: Address, role: str = "consumer") -> AsyncIterator[Consumer]:
    async with stranger(to) as one:
        await one.log_in(role=role)
        yield Consumer(one)


class Remembered:
    """A past in memory; it fails as often as it is told to."""

    def __init__(self) -> None:
        self.told: list[tuple[int, Event]] = []
        self.gone = 0
        self.failures = 0
        self.asked = 0
        self.waiting = 0
        self._turns: asyncio.Semaphore | None = None

    def hold(self) -> None:
        """Answers wait for `go_on`, each for one, and for nothing more after `release`."""
        self._turns = asyncio.Semaphore(0)

    def go_on(self) -> None:
        assert self._turns is not None
        self.waiting -= 1
        self._turns.release()

    def release(self) -> None:
        self._turns, turns = None, self._turns
        for _ in range(self.waiting):
            assert turns is not None
            turns.release()

    async def oldest(self) -> int:
        return self.gone

    async def events(
        self, table: str, after: int, until: int, limit: int, exchange: str | None, symbol: str | None
    ) -> list[tuple[int, Event]]:
        self.asked += 1
        if self.failures:
            self.failures -= 1
            raise PastError("busy")
        (kind,) = (each.event for each in TABLES if each.name == table)
        found = [(at, event) for at, event in self.told if after < at <= until and type(event) is kind]
        if self._turns is not None:
            self.waiting += 1
            await self._turns.acquire()
        return [each for each in found if exchange in (None, each[1].exchange) and symbol in (None, each[1].symbol)][:limit]


class Rig:
    """Consumers' sessions without the rest of a master; whoever connects is let in."""

    def __init__(self, url: str, candles: Candles, fanout: Fanout, streams: Streams, past: Remembered) -> None:
        self.url, self.candles, self.fanout, self.streams, self.past = url, candles, fanout, streams, past

    def tell(self, *events: Event) -> None:
        self.past.told += [(self.fanout.position + 1 + n, event) for n, event in enumerate(events)]
        start = self.fanout.position + 1
        for hear in (self.candles.take, self.fanout.hear):
            hear(events, start)

    @asynccontextmanager
    async def consumer(self, **options: Any) -> AsyncIterator[Consumer]:
        async with connect(self.url, compression=None, close_timeout=1.0, proxy=None, **options) as socket:
            yield Consumer(Collector(socket))


@asynccontextmanager
async def rig() -> AsyncIterator[Rig]:
    past = Remembered()
    candles = Candles(0)
    fanout = Fanout(candles)
    streams = Streams(fanout, past)

    async def session(socket: ServerConnection) -> None:
        with suppress(ConnectionClosed):
            await streams.serve(socket, Grant("consumer", "test", "", "challenge"))

    async with serve(session, "127.0.0.1", 0, compression=None, close_timeout=1.0) as server:
        port = server.sockets[0].getsockname()[1]
        yield Rig(f"ws://127.0.0.1:{port}", candles, fanout, streams, past)
        await streams.close()
