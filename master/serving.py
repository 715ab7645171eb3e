"""What is made of what is stored, beside keeping it: the market, prices, streams and the HTTP API.

All of it hears what is durable, in order, as an audience of ingest; what was before is asked of the reader.
"""

import asyncio
from time import monotonic, time_ns

from aiohttp import web

from master.history.reader import Reader
from master.ingest import Ingest
from master.journal import Journal
from master.keys import KeyRing
from master.live.candles import Candles
from master.live.market import WINDOW_SECONDS, Market
from master.live.pulse import Pulse
from master.pricing.prices import Prices
from master.recall import Recall
from master.relay import Relay
from master.settings import MasterSettings, is_loopback
from master.streams.fanout import Fanout
from master.streams.resume import ReaderPast
from master.streams.sessions import Streams
from master.web import dashboard
from master.web.api import application
from master.web.http import Gate
from master.web.metrics import Usage, Vitals
from master.web.rooms import Rooms


class Serving:
    """Every room that serves, from the start of a master to its end."""

    def __init__(self, settings: MasterSettings, ring: KeyRing, ingest: Ingest, journal: Journal, position: int) -> None:
        """`position`: that behind which the first event of this life will be."""
        self._settings = settings
        self._ring = ring
        self._ingest = ingest
        self._journal = journal
        self._position = position
        self._reader = Reader(settings.server.data)
        self._market = Market(WINDOW_SECONDS if settings.prices.reads_windows else 0)
        self._pulse = Pulse(ingest.exchanges, self._market)
        self._prices = Prices(self._market, settings.prices)
        self._candles = Candles(time_ns() // 1000)
        self._fanout = Fanout(self._candles, position)
        self._streams = Streams(self._fanout, ReaderPast(self._reader, settings.server.data))
        self._recall = Recall(self._reader, position, self._market, self._candles, self._fanout)
        self._relay = Relay([self._recall.hear, self._market.take, self._candles.take, self._fanout.hear])
        ingest.audience += [self._pulse.hear, self._relay.hear]
        ingest.consumers = self._streams.serve

    def application(self) -> web.Application:
        """The HTTP API, and the page."""
        server, usage = self._settings.server, Usage()
        needs_key = not is_loopback(server.host) if server.http.auth is None else server.http.auth
        gate = Gate(server.http, self._ring, usage, needs_key=needs_key)
        vitals = Vitals(self._ingest, self._journal, usage, self._fanout)
        rooms = Rooms(vitals, self._market, self._prices, self._reader, self._pulse, usage)
        return application(rooms, gate, dashboard.routes())

    async def run(self) -> None:
        """Until cancelled."""
        self._reader.start()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._relay.run())
            tasks.create_task(self._pulse.run())
            tasks.create_task(self._record_prices())
            tasks.create_task(self._recall_all())

    async def say_farewell(self) -> None:
        """After the last event is durable: tell consumers where to go on."""
        self._relay.finish()
        await self._streams.close()

    async def close(self) -> None:
        await self._reader.close()

    async def _record_prices(self) -> None:
        """Keep the prices of all feeds, at even times."""
        every = self._settings.prices.record_seconds
        due = monotonic()
        while True:
            due = max(due + every, monotonic())
            await asyncio.sleep(due - monotonic())
            if self._ingest.trouble is None:
                self._ingest.record([*self._prices.events(time_ns() // 1000)])

    async def _recall_all(self) -> None:
        """What was before this start."""
        await self._recall.views()
        self._relay.audience.remove(self._recall.hear)
        await self._recall.trades()
