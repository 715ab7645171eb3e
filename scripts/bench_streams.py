"""What streams cost the master: CPU time of the fan-out to many consumers, who are a process of their own.

python scripts/bench_streams.py [--consumers 100] [--rate 5000] [--seconds 10] [--topic 'trades:*:*']
"""

import argparse
import asyncio
import json
import subprocess
import sys
from contextlib import suppress
from time import monotonic, process_time, time_ns

import uvloop
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from adapters.events import Event, Trade
from master.door import Grant
from master.live.candles import Candles
from master.streams.fanout import Fanout
from master.streams.sessions import Streams

TICK = 0.01
MARKETS = 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--consumers", type=int, default=100)
    parser.add_argument("--rate", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--topic", default="trades:*:*")
    parser.add_argument("--consume", metavar="PORT", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    uvloop.run(consume(options) if options.consume else measure(options))


async def measure(options: argparse.Namespace) -> None:
    fanout = Fanout(Candles(0))
    streams = Streams(fanout, _Nothing())

    async def session(socket: ServerConnection) -> None:
        with suppress(ConnectionClosed):
            await streams.serve(socket, Grant("consumer", "bench", "", "challenge"))

    async with serve(session, "127.0.0.1", 0, compression=None) as server:
        port = server.sockets[0].getsockname()[1]
        alone = await feed(fanout, options)
        command = [sys.executable, __file__, *sys.argv[1:], "--consume", str(port)]
        child = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
        while sum(bool(each.patterns) for each in fanout.clients) < options.consumers:
            await asyncio.sleep(0.05)
        spent = await feed(fanout, options)
        await asyncio.sleep(1.0)
        await streams.close()
        said, _ = await child.communicate()
    figures = fanout.figures
    print(f"nobody listens: {alone:.1%} of a core; {options.consumers} consumers: {spent:.1%} of a core")
    each = spent * options.seconds / figures.events * 1e6
    print(f"sent {figures.events} events, {figures.slow} consumers too slow; {each:.3f} us an event sent")
    print("consumers:", said.decode().strip())


async def feed(fanout: Fanout, options: argparse.Namespace) -> float:
    """The share of a core that it took."""
    sent, began, spent = 0, monotonic(), process_time()
    while (passed := monotonic() - began) < options.seconds:
        due = int(passed * options.rate) - sent
        now = time_ns() // 1000
        events = [
            Trade("kraken", f"{(sent + n) % MARKETS}/USD", now - 250, now, str(sent + n), "71287.34", "0.01500000", "buy")
            for n in range(due)
        ]
        fanout.hear(events, fanout.position + 1)
        sent += due
        await asyncio.sleep(TICK)
    return (process_time() - spent) / (monotonic() - began)


class _Nothing:
    """The past of a master that has none."""

    async def oldest(self) -> int:
        return 0

    async def events(self, *_: object) -> list[tuple[int, Event]]:
        return []


async def consume(options: argparse.Namespace) -> None:
    async def one() -> int:
        taken = 0
        async with connect(f"ws://127.0.0.1:{options.consume}", compression=None, max_size=None, proxy=None) as socket:
            await socket.send(json.dumps({"op": "subscribe", "id": 1, "topics": [options.topic]}))
            async for frame in socket:
                taken += len(frame)
        return taken

    spent = process_time()
    taken = sum(await asyncio.gather(*(one() for _ in range(options.consumers))))
    print(f"{taken / 1e6:.0f} MB, {process_time() - spent:.1f} s of CPU")


if __name__ == "__main__":
    main()
