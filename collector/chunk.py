"""One chunk: the pairs of one connection, on as many lines as are wanted, each of which is replaced before its venue ends it.

Before a venue ends a session, a successor runs beside the line until it is settled. That is the same as `redundancy`, for a
while, and so is a change of what is collected, where chunks take the place of others: `lines` sorts out what they say.
"""

import asyncio
from collections.abc import Callable, Hashable, Iterable
from time import monotonic, time_ns

from collector import plan
from collector.feed import Feed
from collector.lines import Lines
from master.log import logger

log = logger("chunk")

LEAD = 60.0
"""Seconds before a session's end at which its successor begins (a tenth of a shorter session)."""
SETTLE_WITHIN = 30.0
LOOK_EVERY = 0.5
APART = 5.0
"""Seconds between the beginnings of two lines, so that their venue does not end them together."""


async def handed_over(old: Callable[[], Iterable[Feed]], can_leave: Callable[[], bool], within: float) -> bool:
    """Wait until the old ones can leave, and each was heard after that: what it was sent before, it has delivered then. One
    that is lost is not waited for. Whether they can, `within` seconds."""
    deadline = monotonic() + within
    settled_at: int | None = None
    while monotonic() < deadline:
        if settled_at is None and can_leave():
            settled_at = time_ns() // 1000
        if not any(feed.is_open and (settled_at is None or feed.adapter.live.received < settled_at) for feed in old()):
            break
        await asyncio.sleep(LOOK_EVERY / 5)
    return settled_at is not None


class Chunk:
    """Keeps `redundancy` lines of these pairs. `make` gives a new feed of them, which puts its events and states where it is
    told; `terms`: what it is made with."""

    def __init__(self, pairs: plan.Chunk, terms: Hashable, make: Callable[[], Feed], lines: Lines, redundancy: int = 1) -> None:
        self.pairs = pairs
        self.terms = terms
        self._make = make
        self._redundancy = redundancy
        self._tasks: dict[Feed, asyncio.Task[None]] = {}
        self.lines = lines

    async def run(self) -> None:
        """Until cancelled. Raises what ended a feed, which only a fault of the program does."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for number in range(self._redundancy):
                    tasks.create_task(self._keep(number * APART))
        finally:
            for feed in list(self._tasks):
                await self._end(feed)

    @property
    def feeds(self) -> list[Feed]:
        return list(self._tasks)

    def leave(self) -> None:
        """Its lines have nothing more to say; what follows is `run`'s end."""
        for feed in self._tasks:
            self.lines.leave(feed)

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

    async def _until_end_is_near(self, feed: Feed) -> None:
        lead = min(LEAD, (feed.adapter.venue.lifetime or LEAD) / 10)
        while monotonic() < feed.adapter.ends_at - lead:
            await asyncio.wait([self._tasks[feed]], timeout=LOOK_EVERY)
            if self._tasks[feed].done():
                self._tasks[feed].result()

    async def _replace(self, old: Feed) -> Feed:
        """Let a successor take over."""
        new = self._begin()
        settled = await handed_over(
            lambda: [old], lambda: new.adapter.is_settled and self.lines.can_leave([old]), SETTLE_WITHIN
        )
        self.lines.leave(old)
        await self._end(old)
        log.info("connection replaced before its end", exchange=new.adapter.venue.name, settled=settled)
        return new
