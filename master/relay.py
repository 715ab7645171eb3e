"""Durable events on their way to those who serve them: in order, and a part at a time.

A commit of the journal may bring thousands of events at once, and what is made of each takes microseconds: told in one go they
would keep everybody else waiting, the acknowledgement of their own sender first of all.
"""

import asyncio
from collections import deque
from collections.abc import Sequence

from adapters.events import Event
from master.ingest import Audience

PART = 32
"""Events that are told at least in one turn of the loop: a third of a millisecond."""
SHARE = 8
"""Of what waits one part in so many is told at least in one turn, so that no more ever waits than eight turns bring."""


class Relay:
    """One audience of ingest in the place of many. `audience` hear the same, one after the other, each event once."""

    def __init__(self, audience: list[Audience]) -> None:
        self.audience = audience
        self.waiting = 0
        """Events that are durable and not yet told."""
        self._batches: deque[tuple[Sequence[Event], int]] = deque()
        self._has_batches = asyncio.Event()

    def hear(self, events: Sequence[Event], position: int) -> None:
        """Durable events, the first at this position (ingest.Audience)."""
        self._batches.append((events, position))
        self.waiting += len(events)
        self._has_batches.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._has_batches.wait()
            self._tell(max(PART, self.waiting // SHARE))
            await asyncio.sleep(0)

    def finish(self) -> None:
        """Tell all that is left, at once."""
        self._tell(self.waiting)

    def _tell(self, most: int) -> None:
        while most > 0 and self._batches:
            events, position = self._batches.popleft()
            if len(events) > most:
                self._batches.appendleft((events[most:], position + most))
                events = events[:most]
            most -= len(events)
            self.waiting -= len(events)
            for hear in self.audience:
                hear(events, position)
        if not self._batches:
            self._has_batches.clear()
