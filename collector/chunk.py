"""One chunk: the pairs of one connection, on as many lines as are wanted, each of which is replaced before its venue ends it.

Before a venue ends a session, a successor runs beside the line until it is settled. That is the same as `redundancy`, for a
while: `lines` sorts out what they say.
"""

import asyncio
from collections.abc import Callable
from time import monotonic, time_ns

from adapters.events import Status
from collector.feed import Feed
from collector.lines import Lines
from collector.sink import Put
from master.log import logger

log = logger("chunk")

LEAD = 60.0
"""Seconds before a session's end at which its successor begins (a tenth of a shorter session)."""
SETTLE_WITHIN = 30.0
LOOK_EVERY = 0.5
APART = 5.0
"""Seconds between the beginnings of two lines, so that their venue does not end them together."""


class Chunk:
    """Keeps `redundancy` lines. `make` gives a new feed of this chunk, which puts its events and states where it is told."""

    def __init__(self, make: Callable[[], Feed], put: Put, status: Callable[[Status], None], redundancy: int = 1) -> None:
        self._make = make
        self._redundancy = redundancy
        self._tasks: dict[Feed, asyncio.Task[None]] = {}
        self.lines = Lines(put, status)

    async def run(self) -> None:
        """Until cancelled. Raises what ended a feed, which only a fault of the program does."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for number in range(self._redundancy):
                    tasks.create_task(self._keep(number * APART))
                tasks.create_task(self._look())
        finally:
            for feed in list(self._tasks):
                await self._end(feed)

    def _begin(self) -> Feed:
        feed = self._make()
        self.lines.join(feed)
        self._tasks[feed] = asyncio.create_task(feed.run())
        return feed

    async def _end(self, feed: Feed) -> None:
        task = self._tasks.pop(feed)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def _keep(self, after: float) -> None:
        """One line, and its successors."""
        await asyncio.sleep(after)
        feed = self._begin()
        while True:
            await self._until_end_is_near(feed)
            feed = await self._replace(feed)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            self.lines.look()

    async def _until_end_is_near(self, feed: Feed) -> None:
        lead = min(LEAD, (feed.adapter.venue.lifetime or LEAD) / 10)
        while monotonic() < feed.adapter.ends_at - lead:
            await asyncio.wait([self._tasks[feed]], timeout=LOOK_EVERY)
            if self._tasks[feed].done():
                self._tasks[feed].result()

    async def _replace(self, old: Feed) -> Feed:
        """Let a successor take over."""
        new = self._begin()
        deadline = monotonic() + SETTLE_WITHIN
        settled_at: int | None = None  # what the old one was sent before, it has delivered when it is heard after
        while (settled_at is None or old.adapter.live.received < settled_at) and old.is_open and monotonic() < deadline:
            await asyncio.sleep(LOOK_EVERY / 5)
            if settled_at is None and new.adapter.is_settled:
                settled_at = time_ns() // 1000
        self.lines.leave(old)
        await self._end(old)
        log.info("connection replaced before its end", exchange=new.adapter.venue.name, settled=settled_at is not None)
        return new
