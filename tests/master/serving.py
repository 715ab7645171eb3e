"""The HTTP API on a port, over real rooms; what reads the lake is whatever a test puts in its place."""

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer
from msgspec import Struct

from master.history.questions import Found, Question
from master.ingest import Ingest
from master.journal import Journal, recover
from master.keys import KeyRing, file_in
from master.live.market import Market
from master.live.pulse import Pulse
from master.pricing.feeds import PriceSettings
from master.pricing.prices import Prices
from master.protocol import Receiver
from master.settings import Http
from master.web.api import application
from master.web.http import Gate
from master.web.metrics import Usage, Vitals
from master.web.rooms import Answering, Rooms
from tests.master.running import KEY, door


class Echo:
    """A reader that answers every question with no rows, and remembers what it was asked."""

    def __init__(self, body: bytes = b'{"rows":[],"cursor":null}', cursor: str | None = None) -> None:
        self.is_up = True
        self.questions: list[Question] = []
        self.found = Found(body, 0, cursor)

    async def ask(self, question: Question) -> Found:
        self.questions.append(question)
        return self.found


class House(Struct):
    """The rooms of a master that nobody sends anything."""

    data: Path
    ingest: Ingest
    rooms: Rooms

    def gate(self, *, needs_key: bool = False, clock: Callable[[], float] = monotonic, **settings: Any) -> Gate:
        ring = KeyRing(file_in(self.data), KEY)
        return Gate(Http(**{"rate": None} | settings), ring, self.rooms.usage, needs_key=needs_key, clock=clock)


def house(data: Path, reader: Answering | None = None, prices: dict[str, Any] | None = None) -> House:
    data.mkdir(exist_ok=True)
    ingest = Ingest(door(data), Receiver(), data / "dead")
    journal = Journal(data, recover(data), ingest.committed, lambda _: None, roll_bytes=1 << 20, roll_seconds=60)
    journal.close()
    usage, market = Usage(), Market()
    feeds = Prices(market, PriceSettings.model_validate(prices or {}))
    pulse = Pulse(ingest.exchanges, market)
    return House(data, ingest, Rooms(Vitals(ingest, journal, usage), market, feeds, reader or Echo(), pulse, usage))


@asynccontextmanager
async def serving(
    of: House, gate: Gate | None = None, page: Iterable[web.RouteDef] = ()
) -> AsyncIterator[aiohttp.ClientSession]:
    """A client of the API, which listens on a port of its own."""
    server = TestServer(application(of.rooms, gate or of.gate(), page))
    await server.start_server()
    try:
        async with aiohttp.ClientSession(server.make_url("/")) as session:
            yield session
    finally:
        await server.close()


async def problem(answer: aiohttp.ClientResponse, status: int) -> dict[str, Any]:
    """The problem that this answer must be."""
    assert (answer.status, answer.content_type) == (status, "application/problem+json"), await answer.text()
    found: dict[str, Any] = await answer.json()
    assert found["status"] == status
    assert found["type"] == "about:blank"
    assert all(isinstance(found[name], str) and found[name] for name in ("title", "detail", "change"))
    return found
