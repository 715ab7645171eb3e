"""A venue under load: Binance's trade streams and trade history, telling a tape. A process of its own.

usage: python -m tests.faults.venue MARKETS RATE BEGAN

A trade happens whether or not anyone listens; numbers go on over every connection. Prints its port. Beside Binance's REST it
answers /state (of each market, the first and the last id that went out to a subscriber, and the last that happened) and /halt
(the same, and no further trade happens).
"""

import asyncio
import struct
import sys
from collections.abc import Callable
from time import monotonic, time_ns
from urllib.parse import parse_qs, urlsplit

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

from tests.faults.tape import Tape

TICK = 0.01
MOST_WAITING = 8 << 20
"""Bytes that may wait for a slow subscriber before it is disconnected, as venues do."""
MOST_ROWS = 1000

Accepted = WSListener | WSUpgradeResponseWithListener


class Market:
    """One market: who listens, and how far its tape was told."""

    def __init__(self, index: int, symbol: str) -> None:
        self.symbol = symbol
        self.native = symbol.replace("/", "")
        self.first_id = Tape.first_id(index)
        self.listeners: list[Connection] = []
        self.first_told: int | None = None
        self.last_told: int | None = None
        stream = self.native.lower()
        self._form = (
            f'{{"stream":"{stream}@trade","data":{{"e":"trade","E":%d,"s":"{self.native}","t":%d,"p":"%s","q":"%s",'
            f'"T":%d,"m":%s,"M":true}}}}'
        )

    def frame(self, tape: Tape, number: int) -> bytes:
        """One unmasked text frame, as servers send them."""
        at = tape.time(number) // 1000
        sold = "true" if tape.is_sold(number) else "false"
        payload = (self._form % (at, number, tape.price(number), tape.amount(number), at, sold)).encode()
        return struct.pack(">BBH", 0x81, 126, len(payload)) + payload

    def tell(self, tape: Tape, numbers: range) -> None:
        if not self.listeners:
            return
        if self.first_told is None:
            self.first_told = numbers[0]
        self.last_told = numbers[-1]
        frames = b"".join([self.frame(tape, number) for number in numbers])
        for listener in self.listeners:
            listener.pending.append(frames)


class Connection(WSListener):
    """A subscriber."""

    def __init__(self, venue: "Venue") -> None:
        self.pending: list[bytes] = []
        self._venue = venue
        self._transport: WSTransport | None = None

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        self._venue.connections.add(self)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._venue.connections.discard(self)
        for market in self._venue.markets.values():
            if self in market.listeners:
                market.listeners.remove(self)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type is not WSMsgType.TEXT:
            return
        request = orjson.loads(frame.get_payload_as_bytes())
        for stream in request["params"]:
            market = self._venue.markets[stream.removesuffix("@trade").upper()]
            if request["method"] == "SUBSCRIBE":
                market.listeners.append(self)
            else:
                market.listeners.remove(self)
        transport.send(WSMsgType.TEXT, orjson.dumps({"result": None, "id": request["id"]}))

    def flush(self) -> None:
        pending, self.pending = self.pending, []
        if not pending or self._transport is None:
            return
        socket = self._transport.underlying_transport
        if socket.get_write_buffer_size() > MOST_WAITING:
            socket.abort()
        else:
            socket.write(b"".join(pending))


class Venue:
    def __init__(self, tape: Tape) -> None:
        self.connections: set[Connection] = set()
        self.markets = {market.native: market for market in map(Market, range(tape.markets), tape.symbols)}
        self._tape = tape
        self._began = monotonic() - (time_ns() / 1000 - tape.began) / 1e6
        self._told = 0
        self._is_halted = False
        self._answers: dict[str, Callable[[dict[str, str]], object]] = {
            "/state": lambda _: self._state(),
            "/halt": self._halt,
            "/api/v3/exchangeInfo": lambda _: self._listing(),
            "/api/v3/historicalTrades": self._history,
        }

    async def run(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            if not self._is_halted:
                self._tell()

    def _tell(self) -> None:
        begin, self._told = self._told, self._tape.happened(monotonic() - self._began)
        if begin == self._told:
            return
        for market in self.markets.values():
            market.tell(self._tape, range(market.first_id + begin, market.first_id + self._told))
        for connection in list(self.connections):
            connection.flush()

    def accept(self, request: WSUpgradeRequest) -> Accepted:
        """A subscriber, or a question over HTTP. Paths begin with the host that they stand for, as in the simulator."""
        url = urlsplit(request.path.decode())
        path = url.path[url.path.find("/api/") :] if "/api/" in url.path else url.path
        answer = self._answers.get(path)
        if answer is None:
            return Connection(self)
        question = {name: values[0] for name, values in parse_qs(url.query).items()}
        body = orjson.dumps(answer(question))
        response = WSUpgradeResponse.create_ok_response(body, {"Content-Type": "application/json"})
        return WSUpgradeResponseWithListener(response, None)

    def _state(self) -> object:
        return {
            market.symbol: [market.first_told, market.last_told, market.first_id + self._told - 1]
            for market in self.markets.values()
        }

    def _halt(self, _: dict[str, str]) -> object:
        self._is_halted = True
        return self._state()

    def _listing(self) -> object:
        common = {"status": "TRADING", "quoteAsset": "USDT", "filters": []}
        names = ((market.native, market.symbol.partition("/")[0]) for market in self.markets.values())
        return {"symbols": [{"symbol": native, "baseAsset": base, **common} for native, base in names]}

    def _history(self, question: dict[str, str]) -> object:
        """Rows rise by id from `fromId`; without it, the newest."""
        market = self.markets[question["symbol"]]
        limit = min(int(question.get("limit", 500)), MOST_ROWS)
        end = market.first_id + self._told
        begin = max(market.first_id, int(question.get("fromId", end - limit)))
        return [self._row(number) for number in range(begin, min(begin + limit, end))]

    def _row(self, number: int) -> object:
        tape = self._tape
        told = {"id": number, "price": tape.price(number), "qty": tape.amount(number), "time": tape.time(number) // 1000}
        return {**told, "isBuyerMaker": tape.is_sold(number), "isBestMatch": True}


async def main(tape: Tape) -> None:
    venue = Venue(tape)
    server = await ws_create_server(venue.accept, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await venue.run()


if __name__ == "__main__":
    uvloop.run(main(Tape(*map(int, sys.argv[1:]))))
