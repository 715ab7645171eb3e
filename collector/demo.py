"""Demo mode: no master. On a terminal a live table, into a pipe one JSON event a line."""

import asyncio
import os
import sys
from time import monotonic

import msgspec
from rich.console import Console
from rich.live import Live

from collector.embed import Queue
from collector.metrics import exchanges_of
from collector.plan import ExchangePlan, plan
from collector.settings import Settings
from collector.table import Rates, render
from collector.worker import WorkerState, counts, running

REDRAW_EVERY = 0.5

_encoder = msgspec.json.Encoder()


async def show(settings: Settings, simulator: str | None, stop: asyncio.Event) -> None:
    """Until `stop`, or until nobody reads any more."""
    (only,) = plan(settings.model_copy(update={"workers": 1}), 1, "demo")
    showing = asyncio.create_task((_table if sys.stdout.isatty() else _lines)(only.exchanges, simulator))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([showing, stopping], return_when=asyncio.FIRST_COMPLETED)
    for task in (showing, stopping):
        task.cancel()
    await asyncio.gather(showing, stopping, return_exceptions=not showing.done())


async def _lines(plans: tuple[ExchangePlan, ...], simulator: str | None) -> None:
    queue = Queue()
    async with running(plans, queue, simulator):
        while True:
            # A slow reader blocks the writing thread, never the exchanges: the queue conflates meanwhile.
            await asyncio.to_thread(_write, _encoder.encode_lines(await queue.take()))


def _write(lines: bytes) -> None:
    while lines:
        lines = lines[os.write(sys.stdout.fileno(), lines) :]


class _Nowhere(Queue):
    """A Sink of which only the numbers matter."""

    async def empty(self) -> None:
        while True:
            await self.take()


async def _table(plans: tuple[ExchangePlan, ...], simulator: str | None) -> None:
    queue, rates = _Nowhere(), Rates()
    async with running(plans, queue, simulator) as exchanges:
        emptying = asyncio.create_task(queue.empty())
        try:
            with Live(console=Console(), auto_refresh=False, screen=False) as live:
                while True:
                    state = WorkerState("demo", os.getpid(), [each.state() for each in exchanges])
                    table = render(exchanges_of([state], counts(state)), None, rates, monotonic(), "demo: nothing is stored")
                    live.update(table, refresh=True)
                    await asyncio.sleep(REDRAW_EVERY)
        finally:
            emptying.cancel()
