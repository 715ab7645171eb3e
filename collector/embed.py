"""Collecting inside another program: events as an async iterator, without a master and without further processes."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from adapters.events import Event, Status
from collector.exchanges import running
from collector.pending import Pending, Pressure
from collector.plan import plan
from collector.settings import Settings, load
from collector.sink import Put, Republish

PRESSURE_FROM = {Pressure.SOME: 20_000, Pressure.FULL: 200_000}
"""Events that wait for the reader from which views are conflated, and from which trades are dropped and told as gaps."""


class Queue:
    """Implements Sink: keeps what the reader has not taken yet, within bounds."""

    def __init__(self) -> None:
        self._pending = Pending()
        self._has_some = asyncio.Event()

    def open(self, exchange: str, republish: Republish) -> Put:
        pending, has_some = self._pending, self._has_some

        def put(event: Event) -> None:
            waiting = len(pending.events)
            if waiting >= PRESSURE_FROM[Pressure.SOME]:
                pending.set_pressure(Pressure.FULL if waiting >= PRESSURE_FROM[Pressure.FULL] else Pressure.SOME)
            pending.put(event, republish)
            has_some.set()

        return put

    def status(self, status: Status) -> None:
        if self._pending.pressure is Pressure.NONE:
            self._pending.events.append(status)
            self._has_some.set()

    async def take(self) -> list[Event]:
        """Everything that came since, at least one event."""
        while not self._pending.events:
            self._has_some.clear()
            await self._has_some.wait()
        events = self._pending.take()
        self._pending.set_pressure(Pressure.NONE)  # the reader is back: what was kept for it follows
        return events

    async def drain(self, within: float) -> bool:
        return not self._pending.events


async def stream(config: Settings | Path | str | dict[str, Any], simulator: str | None = None) -> AsyncGenerator[Event, None]:
    """Every event of the configured exchanges, until the iterator is closed. Raises ConfigError.

    `config` is a file, its content, or settings already loaded; `simulator` the address of one that stands for all venues. A
    reader that is slow gets only the latest views; one that is very slow also a `gap` for every trade it could not be kept.
    """
    settings = config if isinstance(config, Settings) else load(Path(config) if isinstance(config, str) else config)
    queue = Queue()
    (only,) = plan(settings.model_copy(update={"workers": 1}), 1, "embedded")

    async def collect() -> None:
        async with running(only.exchanges, queue, simulator):
            await asyncio.Event().wait()

    collecting = asyncio.create_task(collect())
    try:
        while True:
            taking = asyncio.create_task(queue.take())
            await asyncio.wait([taking, collecting], return_when=asyncio.FIRST_COMPLETED)
            if collecting.done():
                taking.cancel()
                collecting.result()
            for event in taking.result():
                yield event
    finally:
        collecting.cancel()
        await asyncio.gather(collecting, return_exceptions=True)
