"""What an event costs: CPU of this process, which is the one that is measured; everything else runs in processes of its own.

Each figure is the median of several runs. Absolute times are this machine's; the ratios between rows of one run are not.
"""

import argparse
import asyncio
import gc
import json
import logging
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from random import Random
from statistics import median
from time import process_time
from typing import Any
from unittest.mock import patch

import aiohttp
import msgspec
import orjson
import uvloop
import websockets.asyncio.client
import websockets.asyncio.server
from msgspec import Struct
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import bench_guarantee  # noqa: E402 (the project is run from its folder, not installed)
import bench_recorded  # noqa: E402
import bench_serving  # noqa: E402
from bench_serving import master, running  # noqa: E402

from adapters import registry  # noqa: E402 (the project is run from its folder, not installed)
from adapters.book import BookOptions  # noqa: E402
from adapters.events import Channel  # noqa: E402
from collector.exchange import route_to  # noqa: E402
from collector.feed import Counts, Feed, Surroundings  # noqa: E402
from collector.limits import Breaker, Window  # noqa: E402
from collector.master_pool import MasterPool  # noqa: E402
from collector.rest import RestClient  # noqa: E402
from master.auth import PLACEHOLDER_KEY  # noqa: E402
from master.log import configure  # noqa: E402

RUN_WITHIN = 60.0
SERVING = (50_000, 10_000_000, [*bench_serving.PARTS], 10.0)
"""Events a second, trades of the day in the lake, the parts and the seconds of each; bench_serving.py runs them by itself."""


class Figure(Struct):
    name: str
    value: float
    unit: str
    target: float | None = None
    runs: list[float] = []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one line of JSON instead of the table")
    parser.add_argument("--runs", type=int, default=5, help="runs of each figure (default: %(default)s)")
    parser.add_argument("--events", type=int, default=100_000, help="events of each run (default: %(default)s)")
    options = parser.parse_args()
    configure(level=logging.ERROR)
    figures = list(measure(options.runs, options.events))
    guarantees = list(guarantee(options.runs, options.events))
    if options.json:
        report: dict[str, Any] = {figure.name: {"value": round(figure.value, 3), "unit": figure.unit} for figure in figures}
        more = {
            "guarantee": guarantees,
            "exchanges": list(bench_recorded.costs()),
            "serving": list(bench_serving.costs(*SERVING)),
        }
        print(json.dumps(report | msgspec.to_builtins(more, str_keys=True)))
        return 0
    table = Table(title="CPU of the measured process, median of runs", title_justify="left")
    for heading in ("what", "value", "unit", "target", "runs"):
        table.add_column(heading, justify="left" if heading in ("what", "unit") else "right")
    for figure in figures:
        target = "" if figure.target is None else f"{figure.target:g}"
        runs = " ".join(f"{run:.2f}" for run in sorted(figure.runs))
        table.add_row(figure.name, f"{figure.value:.2f}", figure.unit, target, runs)
    console = Console(width=140)
    console.print(table)
    console.print(guarantee_table(guarantees))
    console.print(recorded_table())
    for cost in bench_serving.costs(*SERVING):
        console.print(bench_serving.row(cost), highlight=False)
    return 0


def guarantee(runs: int, events: int) -> list[bench_guarantee.Cost]:
    """The sending side with and without its spool, against a master of its own."""
    with tempfile.TemporaryDirectory() as folder, master(Path(folder)) as measured:
        return list(bench_guarantee.costs(measured.url, runs, events))


def guarantee_table(costs: list[bench_guarantee.Cost]) -> Table:
    """Ratios are to the first row."""
    table = Table(
        title="the guarantee: us of a trade from put to acknowledged, and ms until it is (p50 / p99)", title_justify="left"
    )
    for heading in ("spool", "us", "ratio", *(f"at {rate:,}/s" for rate in bench_guarantee.RATES)):
        table.add_column(heading, justify="left" if heading == "spool" else "right")
    for cost in costs:
        latencies = (f"{half:.1f} / {most:.1f}" for half, most in cost.latency.values())
        table.add_row(cost.guarantee, f"{cost.cpu:.2f}", f"{cost.cpu / costs[0].cpu:.2f}", *latencies)
    return table


def recorded_table() -> Table:
    """Every exchange on its own recorded traffic."""
    table = Table(title="us of the adapter alone, on recorded traffic (least of several replays)", title_justify="left")
    for heading in ("exchange", "a trade", "a book frame", "trades", "book frames"):
        table.add_column(heading, justify="left" if heading == "exchange" else "right")
    for cost in bench_recorded.costs():
        figures = ("" if value is None else f"{value:.2f}" for value in (cost.trade, cost.book))
        table.add_row(cost.exchange, *figures, str(cost.trades), str(cost.books))
    return table


def measure(runs: int, events: int) -> Iterator[Figure]:
    """All figures, one after the other."""

    def repeated(name: str, unit: str, target: float | None, run: Callable[[], Coroutine[Any, Any, float]]) -> Figure:
        values: list[float] = [uvloop.run(run()) for _ in range(runs)]
        return Figure(name, median(values), unit, target, values)

    with tempfile.TemporaryDirectory() as folder, master(Path(folder)) as measured:
        url = measured.url
        ours = repeated("worker: binance trade, socket to acked, saturated", "us", 2.5, lambda: worker("trade", events, url))
        yield ours
        yield repeated("worker: the same at 10,000 frames/s over 50 sockets", "us", None, lambda: paced(events // 2, url))
        plain = repeated("plain websockets + orjson + a dict a trade", "us", None, lambda: plainly(events // 2))
        yield plain
        yield Figure("times cheaper than plain", plain.value / ours.value, "x", 5.0)
        yield repeated("worker: 24-level depth frame with its book", "us", 12.0, lambda: worker("depth", events, url))
        yield repeated("worker: kraken book frame with CRC32", "us", 8.0, lambda: worker("kraken", events, url))
    yield repeated("master: trade, batch to journal fsync", "us", 1.0, lambda: master_side(events * 5, with_audience=False))
    yield repeated("master: the same, and into market, candles and streams", "us", None, lambda: master_side(events * 5))
    yield Figure("worker: memory before books", worker_memory(), "MB", 60.0)
    yield Figure("a book level", level_bytes(), "bytes", 300.0)


# The other processes.


@contextmanager
def source(kind: str, count: int, per_write: int = 20, rate: float = 0) -> Iterator[str]:
    """A venue that sends `count` frames to each connection: its address."""
    command = [sys.executable, str(ROOT / "scripts" / "bench_source.py"), kind, str(count), str(per_write), str(rate)]
    with running(command) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"


# The worker: feed, adapter, outbox and pool as they run in a worker process.

_FEEDS: dict[str, tuple[str, Channel, str]] = {
    "trade": ("binance", "trades", "BTC/USDT"),
    "depth": ("binance", "orderbooks", "BTC/USDT"),
    "kraken": ("kraken", "orderbooks", "BTC/USD"),
}


@asynccontextmanager
async def feeding(kind: str, address: str, master_url: str, connections: int) -> AsyncIterator[tuple[list[Feed], MasterPool]]:
    """Feeds of that kind into a pool to the master, running."""
    gc.freeze()  # as a worker process does
    name, channel, symbol = _FEEDS[kind]
    adapter = registry.adapter(name)
    pool = MasterPool(master_url, PLACEHOLDER_KEY, f"bench-{kind}", 5)
    options = BookOptions(depth=10 if kind == "kraken" else 20)
    async with aiohttp.ClientSession() as session:
        route = route_to(address)
        rest = RestClient(session, adapter.venue.limits, route)
        random = Random()
        connects = Window(adapter.venue.limits.connects)
        around = Surroundings(rest, connects, Breaker(), route, random, Counts())
        put = pool.outbox.open(name, lambda _: None)
        feeds = [Feed(adapter([(channel, symbol)], options), around, put, lambda _: None) for _ in range(connections)]
        async with asyncio.TaskGroup() as tasks:
            started = [tasks.create_task(each) for each in (pool.run(), rest.run(), *(feed.run() for feed in feeds))]
            try:
                yield feeds, pool
            finally:
                for task in started:
                    task.cancel()


async def until(is_done: Callable[[], bool]) -> None:
    async with asyncio.timeout(RUN_WITHIN):
        while not is_done():
            await asyncio.sleep(0.005)


async def worker(kind: str, events: int, master_url: str) -> float:
    """Microseconds of a frame, from the socket to the last acknowledgement, once the frames flow."""
    with source(kind, events) as address:
        async with feeding(kind, address, master_url, 1) as (feeds, pool):
            counts = feeds[0].counts
            await until(lambda: counts.frames > 0)
            before, began = counts.frames, process_time()
            await until(lambda: counts.frames >= events)
            await pool.outbox.drain(RUN_WITHIN)
            spent = process_time() - began
            if counts.errors or feeds[0].adapter.totals()["gaps"]:
                raise RuntimeError(f"the feed was not clean: {counts.errors}")
        return spent / (events - before) * 1e6


async def paced(events: int, master_url: str) -> float:
    """The same for trades as they come in life: one frame a read, on many sockets."""
    connections, rate = 50, 10_000
    each = events // connections
    with source("trade", each, per_write=1, rate=rate / connections) as address:
        began = process_time()
        async with feeding("trade", address, master_url, connections) as (feeds, pool):
            await until(lambda: feeds[0].counts.frames >= each * connections)
            await pool.outbox.drain(RUN_WITHIN)
        return (process_time() - began) / (each * connections) * 1e6


_SINK = """
import asyncio, websockets.asyncio.server as server
async def swallow(socket):
    async for _ in socket: pass
async def main():
    async with server.serve(swallow, "127.0.0.1", 0, compression=None) as listening:
        print(listening.sockets[0].getsockname()[1], flush=True)
        await listening.serve_forever()
asyncio.run(main())
"""


async def plainly(events: int) -> float:
    """What is commonly written: websockets, orjson, a dict of each trade sent on. No order, no acknowledgement, no batch."""
    connect = websockets.asyncio.client.connect
    with source("trade", events) as address, running([sys.executable, "-c", _SINK]) as sink:
        assert sink.stdout is not None
        port = int(sink.stdout.readline())
        began = process_time()
        url = address.replace("http", "ws") + "/stream"
        async with connect(url, compression=None) as venue, connect(f"ws://127.0.0.1:{port}", compression=None) as out:
            await venue.send("{}")
            for _ in range(events):
                data = orjson.loads(await venue.recv())["data"]
                trade = {
                    "type": "trade",
                    "exchange": "binance",
                    "symbol": "BTC/USDT",
                    "timestamp": data["T"],
                    "price": data["p"],
                    "amount": data["q"],
                    "side": "sell" if data["m"] else "buy",
                }
                await out.send(orjson.dumps(trade))
        return (process_time() - began) / events * 1e6


# The master: this process is it; the events come from another.

_SENDER = """
import asyncio, sys, uvloop
from adapters.events import Trade
from collector.master_pool import MasterPool
async def main(url, key, events):
    pool = MasterPool(url, key, "bench", 5)
    running = asyncio.ensure_future(pool.run())
    put = pool.outbox.open("binance", lambda _: None)
    for number in range(events):
        symbol, now = f"C{number % 50}/USDT", 1723161255342000
        put(Trade("binance", symbol, now, now, str(number), "61837.63", "0.02", "buy"))
        if number % 1000 == 0:
            await asyncio.sleep(0)
            while pool.outbox.held_bytes > 16_000_000:
                await asyncio.sleep(0.001)
    print(await pool.outbox.drain(60), flush=True)
uvloop.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


async def master_side(events: int, *, with_audience: bool = True) -> float:
    """Microseconds of a trade, from its batch on the socket to the fsync of the journal and the acknowledgement; and into what
    is served."""
    from master.live.pulse import Pulse  # noqa: PLC0415
    from master.relay import Relay  # noqa: PLC0415
    from master.service import run  # noqa: PLC0415 (opens the lake's libraries)
    from master.settings import MasterSettings, load  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        if not with_audience:  # a master has no such switch, and needs none
            for audience in (Pulse, Relay):
                stack.enter_context(patch.object(audience, "hear", lambda *_: None))
        data = Path(folder)
        settings = load(MasterSettings, {"server": {"port": 0, "http_port": 0, "data": folder}})
        stop = asyncio.Event()
        serving = asyncio.create_task(run(settings, stop))
        await until((data / "master.json").exists)
        url = f"ws://127.0.0.1:{json.loads((data / 'master.json').read_text())['port']}"
        sender = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _SENDER, url, PLACEHOLDER_KEY, str(events)), cwd=ROOT, stdout=asyncio.subprocess.PIPE
        )
        began = process_time()
        await sender.communicate()
        stop.set()
        await serving  # until all of it is told
        spent = process_time() - began
    return spent / events * 1e6


# Memory.

_WORKER = """
import asyncio, logging, structlog, uvloop
from collector.exchanges import running
from collector.master_pool import MasterPool
from collector.plan import Chunk, ExchangePlan
from adapters.book import BookOptions
logging.disable()
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
async def main():
    pool = MasterPool("ws://127.0.0.1:9", "key", "bench", 5)
    chunks = tuple(Chunk(name, "trades", tuple(f"C{number}/USDT" for number in range(50))) for name in ("binance",) * 4)
    plans = tuple(ExchangePlan(name, BookOptions(), chunks) for name in ("binance", "kraken", "okx", "kucoin"))
    async with running(plans, pool.outbox, "http://127.0.0.1:9"):
        await asyncio.sleep(0.5)
        print(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1], flush=True)
uvloop.run(main())
"""


def worker_memory() -> float:
    """RSS in MB of a worker with four exchanges and 200 trade subscriptions each, before any book."""
    done = subprocess.run([sys.executable, "-c", _WORKER], cwd=ROOT, capture_output=True, check=True)
    return int(done.stdout) / 1024


_BOOKS = """
import sys
sys.path.insert(0, "scripts")
import bench_source
from adapters.binance import Binance
from adapters.book import BookOptions
from adapters.effects import Answer
def resident(): return int(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1]) * 1024
bodies, count = bench_source.depth_snapshot(), 50
adapter = Binance([("orderbooks", f"C{number}/USDT") for number in range(count)], BookOptions())
adapter.connected(0.0)
for number in range(count):  # a first change each, upon which its snapshot is asked for
    change = '{"e":"depthUpdate","E":1,"s":"C%dUSDT","U":1000,"u":1001,"b":[],"a":[]}' % number
    adapter.receive(('{"stream":"c@depth@100ms","data":' + change + "}").encode(), 0)
before = resident()
for number in range(count):
    adapter.fetched(("book", f"C{number}USDT"), Answer(200, bodies, 0), 0.0)
assert all(len(book.book.bids.levels) == 1000 for book in adapter.live.books.values())
print((resident() - before) / (count * 2000))
"""


def level_bytes() -> float:
    """Bytes of memory of one price level, measured over fifty books of 2,000 levels."""
    done = subprocess.run([sys.executable, "-c", _BOOKS], cwd=ROOT, capture_output=True, check=True)
    return float(done.stdout)


if __name__ == "__main__":
    sys.exit(main())
