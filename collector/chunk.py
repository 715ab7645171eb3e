"""One chunk: the pairs of one connection, and for a while two connections, when one takes over from the other.

Before a venue ends a session, a second instance of the chunk runs beside the first. A trade goes out if the other has not told
it; books and tickers come from the one in charge. The charge passes when the successor is settled.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from time import monotonic

from adapters.events import Event, Status, Trade
from collector.feed import Feed
from collector.sink import Put
from master.log import logger

log = logger("chunk")

LEAD = 60.0
"""Seconds before a session's end at which its successor begins (a tenth of a shorter session)."""
SETTLE_WITHIN = 30.0
LOOK_EVERY = 0.5
LINGER = 5.0
"""Seconds for which the memory of a connection that was relieved still sorts out trades that come to its successor late."""


class Chunk:
    """Keeps one connection in charge, and replaces it before its venue ends it. `make` gives a new feed of this chunk."""

    def __init__(self, make: Callable[[], Feed], put: Put, status: Callable[[Status], None]) -> None:
        self._make = make
        self._put = put
        self._status = status
        self._tasks: dict[Feed, asyncio.Task[None]] = {}
        self.feed = make()
        self._relieved: Counter[str] = Counter()

    async def run(self) -> None:
        """Until cancelled. Raises what ended a feed, which only a fault of the program does."""
        try:
            self._begin(self.feed)
            while True:
                await self._until_end_is_near()
                await self._hand_over()
        finally:
            for feed in list(self._tasks):
                await self._end(feed)

    @property
    def totals(self) -> Counter[str]:
        """Of the connection in charge and all that were before it."""
        return self._relieved + self.feed.adapter.totals()

    def _begin(self, feed: Feed) -> None:
        self._tasks[feed] = asyncio.create_task(feed.run())

    async def _end(self, feed: Feed) -> None:
        task = self._tasks.pop(feed)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def _until_end_is_near(self) -> None:
        adapter = self.feed.adapter
        lead = min(LEAD, (adapter.venue.lifetime or LEAD) / 10)
        while monotonic() < adapter.ends_at - lead:
            await asyncio.wait([self._tasks[self.feed]], timeout=LOOK_EVERY)
            if self._tasks[self.feed].done():
                self._tasks[self.feed].result()

    async def _hand_over(self) -> None:
        """Let a successor take over."""
        old, new = self.feed, self._make()
        old.put, new.put = self._beside(new, everything=True), self._beside(old, everything=False)
        new.status = _nobody
        self._begin(new)
        deadline = monotonic() + SETTLE_WITHIN
        while not new.adapter.is_settled and old.is_open and monotonic() < deadline:
            await asyncio.sleep(LOOK_EVERY / 5)
        self.feed = new
        old.put, new.put = self._beside(new, everything=False), self._beside(old, everything=True)
        old.status, new.status = _nobody, self._status
        new.do(new.adapter.republish())
        await self._end(old)
        self._relieved += old.adapter.totals()
        asyncio.get_running_loop().call_later(LINGER, self._forget, new)
        settled = new.adapter.is_settled
        log.info("connection replaced before its end", exchange=new.adapter.venue.name, settled=settled)

    def _beside(self, other: Feed, *, everything: bool) -> Put:
        """The way out beside another connection: trades that it has not told, and all the rest for the one in charge."""
        put, has_told = self._put, other.adapter.has_told

        def sort_out(event: Event) -> None:
            if isinstance(event, Trade):
                if not has_told(event):
                    put(event)
            elif everything:
                put(event)

        return sort_out

    def _forget(self, feed: Feed) -> None:
        if feed is self.feed and len(self._tasks) == 1:
            feed.put = self._put


def _nobody(_: Status) -> None:
    """The state of a connection that is not in charge is no news."""
