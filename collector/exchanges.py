"""All exchanges of a process: each runs for as long as it is wanted."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import MappingProxyType

import aiohttp
from msgspec.structs import replace

from adapters.backfill import Resume
from collector.exchange import Exchange, ExchangeState, route_to
from collector.plan import ExchangePlan
from collector.sink import Sink

_NOTHING: Mapping[str, Resume] = MappingProxyType({})
Part = tuple[str, int]
"""An exchange, and which part of it."""


class Exchanges:
    """Those of this process, each for as long as it is wanted. `make` makes one, which runs in `tasks`."""

    def __init__(self, make: Callable[[ExchangePlan], Exchange], tasks: asyncio.TaskGroup) -> None:
        self.ended: list[ExchangeState] = []
        self._make = make
        self._tasks = tasks
        self._running: dict[Part, tuple[Exchange, asyncio.Task[None]]] = {}

    def __iter__(self) -> Iterator[Exchange]:
        return (exchange for exchange, _ in self._running.values())

    def change(self, plans: Iterable[ExchangePlan]) -> None:
        """These are wanted from now on, and no others."""
        wanted = {(each.name, each.part): each for each in plans}
        for part in self._running.keys() - wanted.keys():
            exchange, task = self._running.pop(part)
            exchange.leave()
            task.cancel()
            task.add_done_callback(partial(self._has_ended, exchange))
        for part, assigned in wanted.items():
            if part in self._running:
                self._running[part][0].change(assigned)
            else:
                exchange = self._make(assigned)
                self._running[part] = exchange, self._tasks.create_task(exchange.run())

    def _has_ended(self, exchange: Exchange, _: asyncio.Task[None]) -> None:
        self.ended.append(replace(exchange.state(), connections_wanted=0))

    def cancel(self) -> None:
        for _, task in self._running.values():
            task.cancel()


@asynccontextmanager
async def running(
    plans: tuple[ExchangePlan, ...],
    sink: Sink,
    simulator: str | None,
    resume: Mapping[str, Resume] = _NOTHING,
    record_to: Path | None = None,
) -> AsyncIterator[Exchanges]:
    """Run these exchanges for as long as the context is open. `resume`: where an earlier process ended, by exchange."""
    connector = aiohttp.TCPConnector(limit_per_host=8)
    async with aiohttp.ClientSession(connector=connector, headers={"User-Agent": "market-data-collector"}) as session:
        route, left = route_to(simulator), dict(resume)

        def make(assigned: ExchangePlan) -> Exchange:
            return Exchange(assigned, sink, session, route, left.get(assigned.name), record_to)

        async with asyncio.TaskGroup() as tasks:
            exchanges = Exchanges(make, tasks)
            exchanges.change(plans)
            left.clear()  # who joins later was not there before
            try:
                yield exchanges
            finally:
                exchanges.cancel()
