"""A venue that sends as fast as it is told: the other end of scripts/bench.py, in a process of its own.

usage: bench_source.py KIND COUNT PER_WRITE RATE

KIND is trade, depth or kraken; RATE is frames a second of each connection, 0: as many as it takes. Prints its port. The
frames of a connection begin when its first frame (a subscription) has come; those of a book that needs a snapshot go on when
that was asked for.
"""

import asyncio
import struct
import sys
from collections.abc import Iterator
from itertools import islice
from random import Random
from time import monotonic
from zlib import crc32

import orjson
import uvloop
from picows import (
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    ws_create_server,
)

MID = 65_000_00
LEVELS = 1000
DEPTH_LEVELS = 24
ROUND = 2000
"""Changes of a book after which the same levels come again: to think of new ones would cost more than to read them does, and a
machine's cores share what they have."""
MOST_WAITING = 1 << 20


def frame(payload: bytes) -> bytes:
    """One unmasked text frame, as servers send them."""
    if len(payload) < 126:
        return struct.pack(">BB", 0x81, len(payload)) + payload
    return struct.pack(">BBH", 0x81, 126, len(payload)) + payload


def price(ticks: int) -> str:
    return f"{ticks // 100}.{ticks % 100:02d}000000"


def trades() -> Iterator[bytes]:
    """Binance trades with rising ids."""
    number = 4_000_000_000
    while True:
        number += 1
        yield (
            b'{"stream":"btcusdt@trade","data":{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":%d,"p":"61837.63000000",'
            b'"q":"0.02000000","T":1723161255342,"m":true,"M":true}}' % number
        )


def depth_snapshot() -> bytes:
    """1000 levels a side, at update 1000."""
    bids = [[price(MID - 1 - level), "1.50000000"] for level in range(LEVELS)]
    asks = [[price(MID + level), "1.50000000"] for level in range(LEVELS)]
    return orjson.dumps({"lastUpdateId": 1000, "bids": bids, "asks": asks})


def depths() -> Iterator[bytes]:
    """Binance depth changes of 24 levels: near the market more often than far from it, nearly half of them removals."""
    random = Random(1)
    changes = [changed_levels(random) for _ in range(ROUND)]
    update = 1000
    while True:
        for change in changes:
            yield (
                b'{"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","E":1723161255343,"s":"BTCUSDT","U":%d,"u":%d,%b}}'
                % (update + 1, update + 30, change)
            )
            update += 30


def changed_levels(random: Random) -> bytes:
    """Members `b` and `a` of one change."""
    rows: tuple[list[list[str]], list[list[str]]] = ([], [])
    for index in range(DEPTH_LEVELS):
        away = min(LEVELS - 1, int(random.expovariate(1 / 150)) + 1)
        ticks = MID + away if index % 2 else MID - 1 - away
        rows[index % 2].append([price(ticks), "0.00000000" if random.random() < 0.45 else "0.25000000"])
    return orjson.dumps({"b": rows[0], "a": rows[1]})[1:-1]


class KrakenBook:
    """Ten levels a side whose amounts move in a circle, so that its frames can be sent round and round."""

    def __init__(self) -> None:
        self._bids = {625_000 - level: 10_000_000 + level for level in range(10)}
        self._asks = {625_001 + level: 20_000_000 + level for level in range(10)}

    def _rows(self, side: dict[int, int], prices: list[int]) -> str:
        return ",".join(f'{{"price":{each / 10:.1f},"qty":{side[each] / 1e8:.8f}}}' for each in prices)

    def _checksum(self) -> int:
        asks = "".join(f"{each}{self._asks[each]}" for each in sorted(self._asks))
        return crc32((asks + "".join(f"{each}{self._bids[each]}" for each in sorted(self._bids, reverse=True))).encode())

    def _message(self, kind: str, bids: list[int], asks: list[int]) -> bytes:
        return (
            f'{{"channel":"book","type":"{kind}","data":[{{"symbol":"BTC/USD","bids":[{self._rows(self._bids, bids)}],'
            f'"asks":[{self._rows(self._asks, asks)}],"checksum":{self._checksum()},'
            f'"timestamp":"2026-08-16T23:37:09.144533Z"}}]}}'
        ).encode()

    def snapshot(self) -> bytes:
        return self._message("snapshot", list(self._bids), list(self._asks))

    def changes(self) -> list[bytes]:
        """A round of changes of two and three levels, after which the book is as before."""
        messages = []
        for step in (1, -1):
            for index in range(200):
                bids, asks = [624_991 + index % 10], [625_001 + index % 9, 625_002 + index % 9][: 1 + index % 2]
                for each in bids:
                    self._bids[each] += step
                for each in asks:
                    self._asks[each] += step
                messages.append(self._message("update", bids, asks))
        return messages


def kraken() -> Iterator[bytes]:
    book = KrakenBook()
    yield book.snapshot()
    changes = book.changes()
    while True:
        yield from changes


SOURCES = {"trade": trades, "depth": depths, "kraken": kraken}


class Connection(WSListener):
    """Sends its frames once it was asked, and waits where the other end is slower."""

    def __init__(self, kind: str, count: int, per_write: int, rate: float, snapshot_given: asyncio.Event) -> None:
        self._snapshot_given = snapshot_given
        self._frames = SOURCES[kind]()
        self._count = count
        self._per_write = per_write
        self._rate = rate
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._task: asyncio.Task[None] | None = None

    def pause_writing(self) -> None:
        self._may_write.clear()

    def resume_writing(self) -> None:
        self._may_write.set()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type is WSMsgType.TEXT and self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._send(transport))

    async def _send(self, transport: WSTransport) -> None:
        sent, began = 0, monotonic()
        while sent < self._count:
            await self._may_write.wait()
            group = list(islice(self._frames, min(self._per_write, self._count - sent)))
            transport.underlying_transport.write(b"".join(map(frame, group)))
            sent += len(group)
            await self._snapshot_given.wait()
            if self._rate:
                await asyncio.sleep(max(0.0, began + sent / self._rate - monotonic()))
            elif sent % 2000 == 0:
                await asyncio.sleep(0)


async def main(kind: str, count: int, per_write: int, rate: float) -> None:
    snapshot_given = asyncio.Event()
    if kind != "depth":
        snapshot_given.set()

    def accept(request: WSUpgradeRequest) -> WSListener | WSUpgradeResponseWithListener:
        if b"/depth" in request.path:
            asyncio.get_running_loop().call_later(0.05, snapshot_given.set)
            headers = {"Content-Type": "application/json"}
            return WSUpgradeResponseWithListener(WSUpgradeResponse.create_ok_response(depth_snapshot(), headers), None)
        return Connection(kind, count, per_write, rate, snapshot_given)

    server = await ws_create_server(accept, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
