"""What serving costs while the ingest runs: a real master, a collector's pool that feeds it at an even rate, and those who ask.

python scripts/bench_serving.py [--rate 50000] [--trades 10000000] [--part price streams vwap hour]

The lake holds a day of trades of 200 markets before it begins. Feeder, consumers and master are processes of their own; the
figures of a part stand beside how the ingest did meanwhile.
"""

import argparse
import asyncio
import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from statistics import median, quantiles
from threading import Thread
from time import monotonic, sleep, time_ns
from typing import IO
from urllib.parse import urlencode
from zlib import crc32

import msgspec
import uvloop
from msgspec import Struct
from websockets.asyncio.client import connect

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from adapters.events import Book, Event, Ticker, Trade  # noqa: E402 (the project is run from its folder, not installed)
from collector.master_pool import MasterPool  # noqa: E402
from collector.outbox import Stream  # noqa: E402
from master import auth  # noqa: E402
from master.login import Expected, log_in  # noqa: E402
from master.protocol import decode_control  # noqa: E402

EXCHANGES = ("binance", "bitfinex", "bitstamp", "bybit", "coinbase", "gateio", "htx", "kraken", "kucoin", "okx")
SYMBOLS = [f"C{number}/USD" for number in range(20)]
MARKETS = [(exchange, symbol) for symbol in SYMBOLS for exchange in EXCHANGES]
LANES = 5
TICK = 0.005
MADE = 50_000
"""Events of the feeder; more than ever wait in it to be encoded."""
SEGMENTS = 96
"""Of a day: one each quarter of an hour, as a master makes them."""
CONSUMERS = 100
RUN_WITHIN = 120.0
DEPTH = 20
VWAP = (
    "SELECT exchange, symbol, epoch_us(timestamp) // 60000000 AS minute, sum(price * amount) / sum(amount) AS vwap"
    " FROM trades GROUP BY ALL"
)
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


class Meanwhile(Struct):
    """The ingest while a part ran: events acknowledged a second, milliseconds from put to acknowledgement (p99, of the median
    second and of the worst), and the master's share of a core."""

    acked: float
    p99: float
    worst: float
    master: float


class Cost(Struct):
    """A figure of one part."""

    name: str
    value: float
    unit: str
    target: float | None
    meanwhile: Meanwhile


class Second(Struct):
    """What the feeder says each second; latencies in milliseconds."""

    acked: int
    p50: float
    p99: float


class Master(Struct):
    pid: int
    url: str
    http_port: int
    data: Path

    @property
    def cpu(self) -> float:
        """Seconds so far, without the children."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND


# The other processes.


@contextmanager
def running(command: list[str], stderr: int | IO[bytes] = subprocess.DEVNULL) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=stderr)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


@contextmanager
def master(folder: Path) -> Iterator[Master]:
    """A master of its own that knows the last hour of what it finds in `folder`/data."""
    config, data, said = folder / "config.json", folder / "data", folder / "master.log"
    config.write_text('{"server": {"port": 0, "http_port": 0, "http": {"rate": null}}}')
    command = [sys.executable, "-m", "master", "--config", str(config), "--data", str(data)]
    with said.open("wb") as log, running(command, stderr=log) as process:
        _wait((data / "master.json").exists)
        about = json.loads((data / "master.json").read_text())
        _wait(lambda: "knows the last hour" in said.read_text())
        yield Master(process.pid, f"ws://127.0.0.1:{about['port']}", about["http_port"], data)


def _wait(is_done: Callable[[], bool]) -> None:
    deadline = monotonic() + RUN_WITHIN
    while not is_done():
        if monotonic() > deadline:
            raise TimeoutError("the master does not come up")
        sleep(0.01)


class Feeder:
    """The collector's side, and what it has told of each second."""

    def __init__(self, url: str, rate: int, stack: ExitStack) -> None:
        command = [sys.executable, __file__, "--feed", url, "--rate", str(rate)]
        self._process = stack.enter_context(running(command))
        self.seconds: list[Second] = []
        Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.seconds.append(msgspec.json.decode(line, type=Second))

    def wait(self, seconds: int) -> None:
        """Until so many have been told from now on."""
        until = len(self.seconds) + seconds
        _wait(lambda: len(self.seconds) >= until)


@contextmanager
def meanwhile(of: Master, feeder: Feeder) -> Iterator[Meanwhile]:
    """Filled in at the end, over at least three whole seconds."""
    told = Meanwhile(0, 0, 0, 0)
    feeder.wait(1)
    first, cpu, began = len(feeder.seconds), of.cpu, monotonic()
    yield told
    told.master = (of.cpu - cpu) / (monotonic() - began)
    feeder.wait(max(1, 3 - (len(feeder.seconds) - first)))
    seconds = feeder.seconds[first:]
    told.acked = sum(each.acked for each in seconds) / len(seconds)
    told.p99, told.worst = median(each.p99 for each in seconds), max(each.p99 for each in seconds)


# The parts.


def costs(rate: int, trades: int, chosen: list[str], seconds: float) -> Iterator[Cost]:
    """Every part that is chosen, one after the other, of one master."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        prepare(Path(folder, "data"), trades)
        of = stack.enter_context(master(Path(folder)))
        feeder = Feeder(of.url, rate, stack)
        feeder.wait(5)
        with meanwhile(of, feeder) as alone:
            sleep(seconds)
        yield Cost("nobody asks: the master's CPU of an event", alone.master / max(alone.acked, 1) * 1e6, "us", None, alone)
        for name in chosen:
            yield from PARTS[name](of, feeder, seconds)


def _asked(port: int, of: Master, feeder: Feeder, path: str, count: int, pause: float) -> tuple[list[float], Meanwhile]:
    """Milliseconds of each answer of that port, over one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=RUN_WITHIN)
    took = []
    with meanwhile(of, feeder) as told:
        for _ in range(count):
            began = monotonic()
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
            took.append((monotonic() - began) * 1e3)
            if answer.status != 200:
                raise RuntimeError(f"{path}: {answer.status} {body[:200]!r}")
            sleep(pause)
    connection.close()
    return took, told


_SAYS_OK = """
import asyncio
class Ok(asyncio.Protocol):
    def connection_made(self, transport): self.transport = transport
    def data_received(self, _): self.transport.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")
async def main():
    server = await asyncio.get_running_loop().create_server(Ok, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


def price(of: Master, feeder: Feeder, seconds: float) -> Iterator[Cost]:
    """And, for scale, what a server that says "ok" takes beside the same ingest: so long this machine makes anybody wait."""
    count = int(seconds * 300)
    with running([sys.executable, "-c", _SAYS_OK]) as idle:
        assert idle.stdout is not None
        took, told = _asked(int(idle.stdout.readline()), of, feeder, "/", count, 0.002)
    yield Cost('an "ok" of another process over HTTP, p50', quantiles(took, n=100)[49], "ms", None, told)
    yield Cost('an "ok" of another process over HTTP, p99', quantiles(took, n=100)[98], "ms", None, told)
    took, told = _asked(of.http_port, of, feeder, "/v1/price?feed=C0/USD", count, 0.002)
    yield Cost("price of a feed of 10 sources over HTTP, p50", quantiles(took, n=100)[49], "ms", None, told)
    yield Cost("price of a feed of 10 sources over HTTP, p99", quantiles(took, n=100)[98], "ms", 1.0, told)


def streams(of: Master, feeder: Feeder, seconds: float) -> Iterator[Cost]:
    """All trades of one exchange, a ninth of what comes, to each."""
    with meanwhile(of, feeder) as before:
        sleep(seconds / 2)
    topic = f"trades:{EXCHANGES[1]}:*"
    command = [sys.executable, __file__, "--consume", of.url, "--topic", topic, "--seconds", str(seconds)]
    with running(command) as process:
        assert process.stdout is not None
        process.stdout.readline()  # all are subscribed
        with meanwhile(of, feeder) as told:
            heard = json.loads(process.stdout.readline())
    yield Cost(f"{CONSUMERS} consumers: events a second to each", heard["least"] / heard["seconds"], "1/s", 5000.0, told)
    yield Cost(f"{CONSUMERS} consumers: share of a core that they add", told.master - before.master, "", None, told)


def vwap(of: Master, feeder: Feeder, seconds: float) -> Iterator[Cost]:
    from master.lake import connect as lake  # noqa: PLC0415 (the feeder needs none of that)

    took, markets = [], 0
    with meanwhile(of, feeder) as told, lake(of.data, with_ledger=False) as connection:
        for _ in range(3):
            began = monotonic()
            markets = len(connection.execute(VWAP).to_arrow_table())
            took.append(monotonic() - began)
    if not markets:
        raise RuntimeError("no VWAP")
    yield Cost("VWAP per minute of all 200 markets of the day", median(took), "s", 1.0, told)


def hour(of: Master, feeder: Feeder, seconds: float) -> Iterator[Cost]:
    asked = {"exchange": EXCHANGES[3], "symbol": SYMBOLS[3], "limit": 10_000, "start": time_ns() // 1000 - 3_600_000_000}
    took, told = _asked(of.http_port, of, feeder, f"/v1/trades?{urlencode(asked)}", int(seconds * 2), 0.2)
    yield Cost("the last hour of one market over HTTP, p50", median(took), "ms", 100.0, told)
    yield Cost("the last hour of one market over HTTP, worst", max(took), "ms", None, told)


PARTS: dict[str, Callable[[Master, Feeder, float], Iterator[Cost]]] = {
    "price": price,
    "streams": streams,
    "vwap": vwap,
    "hour": hour,
}


# What is there before: files as a master seals them.


_DAY = """
SELECT exchange, symbol, make_timestamp(time) AS timestamp, make_timestamp(time + 3000) AS received, number::VARCHAR AS id,
    price_text::DOUBLE AS price, amount_text::DOUBLE AS amount, if(hash(number) % 2 = 0, 'buy', 'sell') AS side,
    'live' AS source, price_text, amount_text, {position} + number AS position
FROM (SELECT number, {start} + (number * {length}) // {count} AS time,
        list_value({exchanges})[1 + (hash(number * 3) % {n_exchanges})::INT] AS exchange,
        'C' || (hash(number * 7) % {n_symbols}) || '/USD' AS symbol,
        (60000 + (hash(number * 5) % 100000)::INT / 100)::DECIMAL(18, 2)::VARCHAR AS price_text,
        ((1 + hash(number * 11) % 100000)::DOUBLE / 100000)::DECIMAL(18, 5)::VARCHAR AS amount_text
    FROM range({count}) t(number))
ORDER BY symbol, exchange, position
"""


def prepare(data: Path, trades: int) -> None:
    """The day up to now in the lake, and behind it a journal's first segment."""
    import duckdb  # noqa: PLC0415

    from master.segments import SegmentWriter, path_of, position  # noqa: PLC0415
    from master.tables import TABLES  # noqa: PLC0415

    day, table = 86_400_000_000, TABLES[0]
    start, length = time_ns() // 1000 - day, day // SEGMENTS
    connection = duckdb.connect()
    names = ", ".join(f"'{each}'" for each in EXCHANGES)
    for number in range(SEGMENTS):
        begin = start + number * length
        told = {"start": begin, "length": length, "count": trades // SEGMENTS, "position": position(number + 1, 1)}
        sizes = {"exchanges": names, "n_exchanges": len(EXCHANGES), "n_symbols": len(SYMBOLS)}
        rows = connection.execute(_DAY.format(**told, **sizes)).to_arrow_table().select(table.schema.names).cast(table.schema)
        date = (duckdb.execute("SELECT strftime(make_timestamp(?), '%Y-%m-%d')", [begin]).fetchone() or ("",))[0]
        target = data / "lake" / "trades" / f"date={date}" / f"{number + 1:012d}.parquet"
        target.parent.mkdir(parents=True, exist_ok=True)
        table.write(rows, target)
    (data / "journal").mkdir()
    SegmentWriter(path_of(data / "journal", SEGMENTS + 1), SEGMENTS + 1, {}).close()


# The feeder: a pool with a clock on each tick.


def events_of(random: Random, number: int, now: int) -> Event:
    """Of a hundred events four are books and tickers."""
    exchange, symbol = MARKETS[int(len(MARKETS) * random.random() ** 2)]  # some markets have more than others
    kind, text = number % 100, f"{60000 + number % 1000 / 10:.2f}"
    if kind < 2:
        sides = (
            [(f"{60000 - level}.10", "0.5") for level in range(DEPTH)],
            [(f"{60001 + level}.10", "0.5") for level in range(DEPTH)],
        )
        return Book(exchange, symbol, now, now, *sides, number)
    if kind < 4:
        return Ticker(exchange, symbol, now, now, "60000.1", "1", "60000.2", "1", "60000.1", "123.4")
    return Trade(exchange, symbol, now, now, str(number), text, f"0.{1 + number % 9999:05d}", "buy")


class Stopwatch:
    """How long events wait for their acknowledgement: of each lane, what was put in a tick, until all of it is acknowledged."""

    def __init__(self) -> None:
        self.latencies: list[float] = []
        self.acked = 0
        self._put, self._acked = [0] * LANES, [0] * LANES
        self._ticks: list[deque[tuple[int, float]]] = [deque() for _ in range(LANES)]

    def put(self, lane: int, count: int) -> None:
        self._put[lane] += count
        self._ticks[lane].append((self._put[lane], monotonic()))

    def ack(self, lane: int, count: int) -> None:
        self.acked += count
        self._acked[lane] += count
        ticks = self._ticks[lane]
        while ticks and ticks[0][0] <= self._acked[lane]:
            self.latencies.append(monotonic() - ticks.popleft()[1])

    def second(self) -> Second:
        """What was acknowledged since the last."""
        percentiles = quantiles(self.latencies or [0.0], n=100) if len(self.latencies) > 1 else [0.0] * 99
        told = Second(self.acked, percentiles[49] * 1e3, percentiles[98] * 1e3)
        self.latencies.clear()
        self.acked = 0
        return told


async def feed(url: str, rate: int) -> None:
    """Until it is ended. Its events are made before, and told again and again with new times and ids: the machine is that of
    the master, and a collector's worker costs a seventh of a core at 50,000 events a second."""
    pool = MasterPool(url, auth.PLACEHOLDER_KEY, "bench-serving", LANES)
    puts = {exchange: pool.outbox.open(exchange, lambda _: None) for exchange in EXCHANGES}
    watch, random = Stopwatch(), Random(1)
    acknowledge = pool.outbox.acked

    def acked(stream: Stream, batches: int) -> None:
        before = pool.outbox.acked_events.total()
        acknowledge(stream, batches)
        watch.ack(stream.lane, pool.outbox.acked_events.total() - before)

    setattr(pool.outbox, "acked", acked)  # noqa: B010 (a method that another takes the place of)
    made = [events_of(random, number, 0) for number in range(MADE)]
    lanes = [crc32(f"{event.exchange}|{event.symbol}".encode()) % LANES for event in made]
    running = asyncio.create_task(pool.run())
    told, began, said = 0, monotonic(), monotonic()
    while not running.done():
        now, due = time_ns() // 1000, int((monotonic() - began) * rate)
        last = min(due, told + rate // 20)  # after a pause it catches up, and goes on
        for number in range(told, last):
            event = made[number % MADE]
            event.timestamp = event.received = now
            if type(event) is Trade:
                event.id = str(number)
            puts[event.exchange](event)
        for lane, count in Counter(lanes[number % MADE] for number in range(told, last)).items():
            watch.put(lane, count)
        told = last
        if monotonic() - said >= 1.0 and watch.latencies:
            said += 1.0
            print(msgspec.json.encode(watch.second()).decode(), flush=True)
        await asyncio.sleep(TICK)
    await running


# The consumers: they count, and decode nothing.


def _expect(kind: type[Expected], frame: str | bytes) -> Expected:
    message = decode_control(frame)
    assert isinstance(message, kind)
    return message


async def consume(url: str, topic: str, seconds: float) -> None:
    ready, taken = asyncio.Event(), [0] * CONSUMERS
    waiting = CONSUMERS

    async def one(number: int) -> None:
        nonlocal waiting
        async with connect(url, compression=None, max_size=None, proxy=None) as socket:
            assert await log_in(socket, "consumer", f"bench{number}", auth.PLACEHOLDER_KEY, _expect)
            await socket.send(json.dumps({"op": "subscribe", "id": 1, "topics": [topic]}))
            await socket.recv()
            waiting -= 1
            if not waiting:
                ready.set()
            async for frame in socket:
                taken[number] += frame.count('"type":"trade"') if isinstance(frame, str) else 0

    tasks = [asyncio.create_task(one(number)) for number in range(CONSUMERS)]
    async with asyncio.timeout(RUN_WITHIN):
        await ready.wait()
    print(flush=True)
    before, began = list(taken), monotonic()
    await asyncio.sleep(seconds)
    heard = [now - then for now, then in zip(taken, before, strict=True)]
    told = {"seconds": monotonic() - began, "least": min(heard), "most": max(heard)}
    print(json.dumps(told | {"lost": sum(task.done() for task in tasks)}), flush=True)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def row(cost: Cost) -> str:
    """A figure and what it was paid with, as a line."""
    aim = "" if cost.target is None else f" (aim {cost.target:g})"
    told = cost.meanwhile
    return (
        f"{cost.name}: {cost.value:.2f} {cost.unit}{aim}; meanwhile {told.acked:,.0f} events/s acknowledged, "
        f"p99 {told.p99:.0f} ms (worst second {told.worst:.0f}), master {told.master:.0%} of a core"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--rate", type=int, default=50_000, help="events a second (default: %(default)s)")
    parser.add_argument("--trades", type=int, default=10_000_000, help="of the day in the lake (default: %(default)s)")
    parser.add_argument("--part", nargs="+", choices=PARTS, default=[*PARTS], help="only these")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each part (default: %(default)s)")
    parser.add_argument("--feed", metavar="URL", help=argparse.SUPPRESS)
    parser.add_argument("--consume", metavar="URL", help=argparse.SUPPRESS)
    parser.add_argument("--topic", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.feed:
        uvloop.run(feed(options.feed, options.rate))
    elif options.consume:
        uvloop.run(consume(options.consume, options.topic, options.seconds))
    else:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # with all that it has started
        for cost in costs(options.rate, options.trades, options.part, options.seconds):
            print(msgspec.json.encode(cost).decode() if options.json else row(cost), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
