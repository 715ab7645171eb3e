"""What the guarantee costs: without a spool, with one that is synced twice a second, and synced before each batch is sent.

This process is the worker's sending side; the master is another. A trade's latency is the time from its put to its
acknowledgement, which comes after the master's fsync.
"""

import asyncio
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median, quantiles
from time import monotonic, process_time
from zlib import crc32

import uvloop
from msgspec import Struct

from adapters.events import Trade
from collector.master_pool import MasterPool
from collector.outbox import Stream
from collector.spool import Spool
from master.auth import PLACEHOLDER_KEY

GUARANTEES = {"off": None, "fsync every 500 ms": 0.5, "fsync before each batch": 0.0}
RATES = (1_000, 20_000, 100_000)
LANES = 5
SYMBOLS = [f"C{number}/USDT" for number in range(50)]
SECONDS = 3.0
TICK = 0.002
MOST_HELD = 16 << 20
QUOTA = 1 << 30
DRAIN_WITHIN = 60.0


class Cost(Struct):
    """`cpu`: microseconds of a trade; `latency`: by rate, milliseconds at the median and at the 99th percentile."""

    guarantee: str
    cpu: float
    latency: dict[int, tuple[float, float]]


class Meter:
    """The pool with a clock on each event. Events of a lane are acknowledged in the order in which they were put."""

    def __init__(self, pool: MasterPool) -> None:
        self.latencies: list[float] = []
        self._put_at: list[deque[float]] = [deque() for _ in range(LANES)]
        self._lane_of = {symbol: crc32(f"binance|{symbol}".encode()) % LANES for symbol in SYMBOLS}
        self._outbox = pool.outbox
        self._put = pool.outbox.open("binance", lambda _: None)
        self._acked = pool.outbox.acked
        setattr(pool.outbox, "acked", self.acked)  # noqa: B010 (a method that another takes the place of)

    def put(self, number: int) -> None:
        symbol = SYMBOLS[number % len(SYMBOLS)]
        self._put_at[self._lane_of[symbol]].append(monotonic())
        self._put(trade(symbol, number))

    def acked(self, stream: Stream, batches: int) -> None:
        before = self._outbox.acked_events.total()
        self._acked(stream, batches)
        now, put_at = monotonic(), self._put_at[stream.lane]
        for _ in range(self._outbox.acked_events.total() - before):
            self.latencies.append(now - put_at.popleft())


def trade(symbol: str, number: int) -> Trade:
    return Trade("binance", symbol, 1723161255342000, 1723161255342000, str(number), "61837.63", "0.02", "buy")


def costs(url: str, runs: int, events: int) -> Iterator[Cost]:
    """Every guarantee, by turns, so that what else the machine does meets them all alike."""
    cpu: dict[str, list[float]] = {name: [] for name in GUARANTEES}
    for _ in range(runs):
        for name, fsync in GUARANTEES.items():
            cpu[name].append(uvloop.run(saturated(url, fsync, events)))
    for name, fsync in GUARANTEES.items():
        yield Cost(name, median(cpu[name]), {rate: uvloop.run(paced(url, fsync, rate)) for rate in RATES})


@asynccontextmanager
async def sending(url: str, fsync: float | None) -> AsyncIterator[MasterPool]:
    """A pool that is connected."""
    with tempfile.TemporaryDirectory() as folder:
        spool = None if fsync is None else Spool(Path(folder), fsync)
        pool = MasterPool(url, PLACEHOLDER_KEY, "bench-guarantee", LANES, spool=spool, quota=QUOTA)
        running = asyncio.create_task(pool.run())
        try:
            async with asyncio.timeout(DRAIN_WITHIN):
                while pool.live < LANES:
                    await asyncio.sleep(0.005)
            yield pool
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await pool.close()


async def saturated(url: str, fsync: float | None, events: int) -> float:
    """Microseconds of CPU of a trade, from put to acknowledged, as fast as it goes."""
    async with sending(url, fsync) as pool:
        put = pool.outbox.open("binance", lambda _: None)
        began = process_time()
        for number in range(events):
            put(trade(SYMBOLS[number % len(SYMBOLS)], number))
            if number % 1000 == 0:
                await asyncio.sleep(0)
                while pool.outbox.held_bytes > MOST_HELD:
                    await asyncio.sleep(0.001)
        await _drained(pool)
        return (process_time() - began) / events * 1e6


async def paced(url: str, fsync: float | None, rate: int) -> tuple[float, float]:
    """Milliseconds from put to acknowledged at so many trades a second: median, and 99th percentile."""
    async with sending(url, fsync) as pool:
        meter = Meter(pool)
        told, began = 0, monotonic()
        while (elapsed := monotonic() - began) < SECONDS:
            due = int(elapsed * rate)
            for number in range(told, due):
                meter.put(number)
            told = due
            await asyncio.sleep(TICK)
        await _drained(pool)
        percentiles = quantiles(meter.latencies, n=100)
        return percentiles[49] * 1000, percentiles[98] * 1000


async def _drained(pool: MasterPool) -> None:
    if not await pool.outbox.drain(DRAIN_WITHIN):
        raise RuntimeError("the master does not keep up")
