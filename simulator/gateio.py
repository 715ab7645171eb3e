"""Gate spot, v4: WebSocket and public REST, their limits and errors. From the venue's sheet, section by section."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import orjson

from simulator.gateio_feeds import PAIRS, BookTop, BookUpdate, FullBook, GateioFeed, native, trade_id
from simulator.gateio_rest import Rest, refusal
from simulator.instruments import Listing, trimmed
from simulator.market import Market, Trade
from simulator.venue import Answer, Call, Facts, RefusalError

if TYPE_CHECKING:
    from simulator.connection import Connection
    from simulator.exchange import Exchange

Stream = tuple[tuple[str, ...], str, Callable[[str, Market], GateioFeed]]
"""What a subscription is kept under, its pair, and what makes its feed."""

REQUESTS = ("subscribe", "unsubscribe")  # tuples: what a client sends need not be hashable
LATE = 60  # seconds the time of a request may be off
FULL = {"50": (50, 0.02), "400": (400, 0.1)}  # levels, seconds
UPDATES = {"20ms": (20, 0.02), "100ms": (100, 0.1)}
LEVELS = {str(level): level for level in (5, 10, 20, 30, 50, 100)}
INTERVALS = {"100ms": 0.1, "1000ms": 1.0}
BOOKS = {"spot.obu", "spot.order_book_update", "spot.order_book"}
UPGRADE = "The connection will soon be closed for a service upgrade. Please reconnect."


class Gateio:
    """The dialect of Gate spot."""

    name: ClassVar[str] = "gateio"
    hosts: ClassVar[tuple[str, ...]] = ("api.gateio.ws",)
    listing: ClassVar[Listing] = Listing(
        quotes=("USDT", "USDC", "BTC"),
        halted={"LUNA/USDT": "untradable", "WAVES/USDT": "untradable", "FTT/USDT": "untradable"},
        price_decimals=12,
        lots=lambda magnitude: min(max(0, magnitude + 1), 8),
        text=trimmed,
    )
    facts: ClassVar[Facts] = Facts(
        connects=300, connect_window=60.0, topics=10_000, rest=200, rest_window=10.0, mute=60.0,
    )  # fmt: skip
    blanks: ClassVar[float] = 0.0
    checksum: ClassVar[re.Pattern[bytes] | None] = None

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.symbols = {native(instrument): instrument.symbol for instrument in self.listing.instruments}
        self._rest = Rest(exchange, self.symbols)

    def trade_id(self, trade: Trade) -> int:
        return trade_id(trade)

    # -------------------------------------------------------------- websocket

    def refuse(self, call: Call) -> Answer | None:
        """The final slash belongs to the address."""
        return None if call.path == "/ws/v4/" else Answer("", 404, content_type="text/plain")

    def opened(self, connection: Connection, call: Call) -> None:
        """No welcome."""

    def received(self, connection: Connection, message: str | bytes, now: float) -> None:
        """spot.ping, or subscribe and unsubscribe: one answer per frame. What is not JSON is ignored."""
        try:
            request = orjson.loads(message)
        except orjson.JSONDecodeError:
            return
        if not isinstance(request, dict):
            request = {}
        if request.get("channel") == "spot.ping":
            pong = {"channel": "spot.pong", "event": "", "error": None, "result": None}
            connection.send(orjson.dumps(self._times() | pong).decode())
            return
        try:
            streams = self._streams(request)
            (self._subscribe if request["event"] == "subscribe" else self._unsubscribe)(connection, request, streams)
        except RefusalError as error:
            self._answer(connection, request, error)

    def _streams(self, request: dict[str, Any]) -> list[Stream]:
        """All that a frame names; one bad word fails the whole of it."""
        channel, payload, time = request.get("channel"), request.get("payload"), request.get("time")
        if request.get("event") not in REQUESTS or not isinstance(channel, str):
            raise RefusalError("invalid request body", 1)
        if not isinstance(time, int) or abs(time - self.exchange.clock.stamp() // 1_000_000) > LATE:
            raise RefusalError("invalid argument: time", 1)
        if not isinstance(payload, list) or not payload or not all(isinstance(word, str) for word in payload):
            raise RefusalError("invalid argument: payload", 2)
        if channel in PAIRS:
            streams: list[Stream] = [((channel, pair), pair, PAIRS[channel]) for pair in dict.fromkeys(payload)]
        else:
            streams = [_book(channel, payload)]
        for _, pair, _ in streams:
            if self.exchange.market(self.symbols.get(pair, "")) is None:
                raise RefusalError(f"unknown currency pair: {pair}", 2)
        return streams

    def _subscribe(self, connection: Connection, request: dict[str, Any], streams: list[Stream]) -> None:
        """Acknowledge, then send the full book where there is one; asking for it twice is an error (sheet, 5)."""
        for key, _, _ in streams:
            if key[0] == "spot.obu" and key in connection.feeds:
                raise RefusalError(f"Alert sub {key[1]}", 2)
        self._answer(connection, request)
        for key, pair, make in streams:
            market = self.exchange.market(self.symbols[pair])
            assert market is not None
            self.exchange.settle(key)
            feed = self.exchange.subscribe(connection, key, partial(make, key[0], market))
            if isinstance(feed, FullBook):
                connection.send(feed.full(*self.exchange.snapshot(market), self.exchange.clock.stamp()))

    def _unsubscribe(self, connection: Connection, request: dict[str, Any], streams: list[Stream]) -> None:
        for key, _, _ in streams:
            self.exchange.unsubscribe(connection, key)
        self._answer(connection, request)

    def _answer(self, connection: Connection, request: dict[str, Any], error: RefusalError | None = None) -> None:
        answer = self._times()
        if request.get("id") is not None:
            answer["id"] = request["id"]
        answer["conn_id"] = f"{connection.number * 0x9E3779B97F4A7C15 & (1 << 64) - 1:016x}"
        trace = f"{self.exchange.identities.getrandbits(128):032x}"
        if error is None:
            answer["trace_id"] = trace
        answer |= {key: request.get(key) for key in ("channel", "event", "payload")}
        if error is None:
            answer |= {"result": {"status": "success"}, "requestId": trace}
        else:
            answer |= {"error": {"code": error.code, "message": error.text}, "result": {"status": "fail"}}
        connection.send(orjson.dumps(answer).decode())

    def _times(self) -> dict[str, object]:
        time = self.exchange.clock.stamp()
        return {"time": time // 1_000_000, "time_ms": time // 1000}

    def upkeep(self, connection: Connection, now: float) -> None:
        """Without a subscription half the silence is enough, and the end as abrupt (sheet, 4)."""
        mute = self.exchange.facts.mute
        if mute is not None and not connection.feeds and now - connection.spoke >= mute / 2:
            connection.abort()

    def farewell(self, connection: Connection, time: int) -> None:
        notice = {"channel": "spot.system", "event": "update", "result": {"type": "upgrade", "msg": UPGRADE}}
        connection.send(orjson.dumps(self._times() | notice).decode())

    def expire(self, connection: Connection, why: str, now: float) -> None:
        """A quiet connection is cut without a close frame."""
        if why == "mute":
            connection.abort()
        else:
            connection.close(1012 if why == "maintenance" else 1001)

    def rest(self, call: Call, now: float) -> Answer:
        return self._rest.answer(call, now)

    def unavailable(self, call: Call) -> Answer:
        return refusal("TOO_BUSY", 503)


def _book(channel: str, payload: list[str]) -> Stream:
    """The book channels take one pair a frame, each in its own form."""
    match [channel, *payload]:
        case ["spot.obu", name] if (parts := name.split("."))[0] == "ob" and len(parts) == 3 and parts[2] in FULL:
            return (channel, name), parts[1], partial(FullBook, *FULL[parts[2]])
        case ["spot.order_book_update", pair, interval] if interval in UPDATES:
            return (channel, pair, interval), pair, partial(BookUpdate, *UPDATES[interval])
        case ["spot.order_book", pair, level, interval] if level in LEVELS and interval in INTERVALS:
            return (channel, pair, level, interval), pair, partial(BookTop, LEVELS[level], INTERVALS[interval])
    raise RefusalError("invalid argument: payload" if channel in BOOKS else f"Unknown channel {channel}", 2)
