"""Demo mode: no master. On a terminal a live table, into a pipe one JSON event a line."""

import asyncio
import os
import select
import sys
from threading import Event as Flag
from time import monotonic

import msgspec
from msgspec.structs import replace
from rich.console import Console
from rich.live import Live

from adapters.events import Event
from collector.embed import Queue
from collector.exchanges import running
from collector.metrics import exchanges_of
from collector.plan import ExchangePlan, plan
from collector.settings import Settings
from collector.table import Rates, render
from collector.worker import WorkerState, counts

REDRAW_EVERY = 0.5
LOOK_EVERY = 0.2

_encoder = msgspec.json.Encoder()


async def show(settings: Settings, simulator: str | None, stop: asyncio.Event) -> None:
    """Until `stop`, or until nobody reads any more."""
    (only,) = plan(settings.model_copy(update={"workers": 1}), 1, "demo")
    showing = asyncio.create_task((_table if sys.stdout.isatty() else _lines)(only.exchanges, simulator))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([showing, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if showing.done():
        showing.result()
    showing.cancel()
    await asyncio.gather(showing, return_exceptions=True)


async def _lines(plans: tuple[ExchangePlan, ...], simulator: str | None) -> None:
    queue, ending = Queue(), Flag()
    async with running(plans, queue, simulator):
        try:
            while True:
                # A slow reader blocks the writing thread, never the exchanges: the queue conflates meanwhile.
                await asyncio.to_thread(_write, _encoder.encode_lines(await queue.take()), ending)
        except BrokenPipeError:  # as in `| head`: whoever reads has seen enough
            pass
        finally:
            ending.set()


def _write(lines: bytes, ending: Flag) -> None:
    """Raises BrokenPipeError. A reader that takes nothing does not keep the program from its end."""
    output = sys.stdout.fileno()
    while lines:
        if select.select([], [output], [], LOOK_EVERY)[1]:
            lines = lines[os.write(output, lines[: select.PIPE_BUF]) :]
        elif ending.is_set():
            return


class _Nowhere(Queue):
    """A Sink of which only the numbers matter. `lags`: as those of an Outbox."""

    def __init__(self) -> None:
        super().__init__()
        self.lags: dict[str, float] = {}

    async def empty(self) -> None:
        while True:
            for event in await self.take():
                self._follow(event)

    def _follow(self, event: Event) -> None:
        if event.timestamp is not None:
            self.lags[event.exchange] = (event.received - event.timestamp) / 1000


async def _table(plans: tuple[ExchangePlan, ...], simulator: str | None) -> None:
    queue, rates = _Nowhere(), Rates()
    async with running(plans, queue, simulator) as exchanges:
        emptying = asyncio.create_task(queue.empty())
        try:
            with Live(console=Console(), auto_refresh=False, screen=False) as live:
                while True:
                    states = [replace(each.state(), lag_ms=queue.lags.get(each.name)) for each in exchanges]
                    state = WorkerState("demo", os.getpid(), states)
                    table = render(exchanges_of([state], counts(state)), {}, rates, monotonic(), "demo: nothing is stored")
                    live.update(table, refresh=True)
                    await asyncio.sleep(REDRAW_EVERY)
        finally:
            emptying.cancel()
