"""Crypto.com Exchange v1: the market socket and public REST, their limits and errors. From the venue's sheet, section by
section."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import orjson

from simulator.cryptocom_feeds import INTERVALS, Candlestick, CryptocomFeed, Ticker, Trades, book_feed, native, trade_id
from simulator.cryptocom_rest import Rest
from simulator.instruments import Listing, padded
from simulator.market import Market, Trade
from simulator.venue import Answer, Call, Facts, RefusalError

if TYPE_CHECKING:
    from simulator.connection import Connection
    from simulator.exchange import Exchange

DEPTHS = ("10", "50", "150")  # tuples: what a client sends need not be hashable
REQUESTS = ("subscribe", "unsubscribe")
FREQUENCIES = {"SNAPSHOT": (None, 500), "SNAPSHOT_AND_UPDATE": (None, 10, 100)}
CLOSE = {"pong": (1000, ""), "maintenance": (1013, "Service Restart")}
Make = Callable[[str, Market], CryptocomFeed]


class Cryptocom:
    """The dialect of Crypto.com spot."""

    name: ClassVar[str] = "cryptocom"
    hosts: ClassVar[tuple[str, ...]] = ("stream.crypto.com", "api.crypto.com")
    listing: ClassVar[Listing] = Listing(
        quotes=("USD", "USDT", "BTC"),
        halted={"LUNA/USD": "halted", "WAVES/USD": "halted", "FTT/USD": "halted"},
        price_decimals=10,
        lots=lambda magnitude: max(0, magnitude),
        text=lambda decimals: padded(decimals, decimals),
        fine={"BTC": 7, "ETH": 6},
    )
    facts: ClassVar[Facts] = Facts(
        connects=300, connect_window=60.0, messages=100, message_window=1.0, topics=400,
        rest=100, rest_window=1.0, heartbeat=30.0, pong=5.0,
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
        return None if call.path == "/exchange/v1/market" else Answer("", 404, content_type="text/plain")

    def opened(self, connection: Connection, call: Call) -> None:
        """No welcome. Of its first second a connection has only what is left of it (section 3)."""
        gone = self.exchange.clock.stamp() % 1_000_000 / 1_000_000
        connection.messages.take(self.exchange.clock.now(), int(gone * self.exchange.facts.messages))

    def received(self, connection: Connection, message: str | bytes, now: float) -> None:
        """subscribe, unsubscribe, and the answer to a heartbeat. What is not JSON has no answer."""
        try:
            request = orjson.loads(message)
        except orjson.JSONDecodeError:
            return
        if not isinstance(request, dict):
            return
        method, identity = request.get("method"), request.get("id", -1)
        if method == "public/respond-heartbeat":
            if identity == connection.awaited:
                connection.pinged = 0.0
            return
        reply = {"id": identity, "method": method, "code": 0}
        params = request.get("params")
        params = params if isinstance(params, dict) else {}
        channels = params.get("channels")
        if method not in REQUESTS:
            self._send(connection, reply | {"code": 40003, "message": "No such method"})
        elif not isinstance(channels, list) or not all(isinstance(channel, str) for channel in channels):
            self._send(connection, reply | {"code": 40004, "message": "Missing or invalid argument"})
        else:
            for channel in channels:
                self._change(connection, channel, params, reply)

    def _change(self, connection: Connection, channel: str, params: dict[str, Any], reply: dict[str, object]) -> None:
        """One channel; a bad one does not stop the others."""
        if reply["method"] == "unsubscribe":
            self._unsubscribe(connection, channel)
            self._send(connection, reply | {"channel": channel})
            return
        try:
            self._subscribe(connection, channel, params, reply)
        except RefusalError as error:
            self._send(connection, reply | {"code": error.code, "message": error.text, "channel": channel})

    def _subscribe(self, connection: Connection, channel: str, params: dict[str, Any], reply: dict[str, object]) -> None:
        """Acknowledge, then send what the channel begins with. A ticker's acknowledgement is a result without data."""
        symbol, make, option = _parsed(channel, params)
        market = self.exchange.market(self.symbols.get(symbol, ""))
        if market is None:
            raise RefusalError("Unknown symbol", 40003)
        if channel not in connection.names and len(connection.names) >= self.exchange.facts.topics:
            self.exchange.limited["topics"] += 1
            raise RefusalError("Exceeded max subscriptions", 40107)
        self._unsubscribe(connection, channel)
        connection.names[channel] = None
        key = (channel, option)
        self.exchange.settle(key)
        feed = self.exchange.subscribe(connection, key, partial(make, channel, market))
        assert isinstance(feed, CryptocomFeed)
        ticker = {"result": {"instrument_name": symbol, "subscription": channel, "channel": "ticker"}}
        self._send(connection, reply | (ticker if isinstance(feed, Ticker) else {"channel": channel}))
        sequence, book = self.exchange.snapshot(market) if feed.kind == "book" else (market.sequence, market.book)
        data = feed.first(sequence, book, self.exchange.clock.stamp())
        if data is not None:
            connection.send(feed.frame(data, orjson.dumps(reply["id"]).decode() if isinstance(feed, Trades) else -1))

    def _unsubscribe(self, connection: Connection, channel: str) -> None:
        connection.names.pop(channel, None)
        for key in [key for key in connection.feeds if isinstance(key, tuple) and key[0] == channel]:
            self.exchange.unsubscribe(connection, key)

    def _send(self, connection: Connection, answer: dict[str, object]) -> None:
        connection.send(orjson.dumps(answer).decode())

    def upkeep(self, connection: Connection, now: float) -> None:
        """Heartbeats that must be answered, with the same id."""
        heartbeat = self.exchange.facts.heartbeat
        if heartbeat is not None and now - connection.beat >= heartbeat:
            connection.beat = now
            connection.pinged = connection.pinged or now
            connection.awaited = self.exchange.clock.stamp() // 1000
            self._send(connection, {"id": connection.awaited, "method": "public/heartbeat", "code": 0})

    def farewell(self, connection: Connection, time: int) -> None:
        """It says nothing before it goes."""

    def expire(self, connection: Connection, why: str, now: float) -> None:
        """Too many requests are answered with an error; the rest ends the connection."""
        if why == "messages":
            self._send(connection, {"id": -1, "code": 42901, "message": "Too many requests"})
        else:
            connection.close(*CLOSE.get(why, (1001, "")))

    def rest(self, call: Call, now: float) -> Answer:
        return self._rest.answer(call, now)

    def unavailable(self, call: Call) -> Answer:
        method = call.path.removeprefix("/exchange/v1/")
        return Answer.json({"id": -1, "method": method, "code": 9010001, "message": "SYSTEM_MAINTENANCE"}, 500)


def _parsed(channel: str, params: dict[str, Any]) -> tuple[str, Make, Hashable]:
    """The symbol of a channel, what makes its feed, and what else tells two feeds of that name apart."""
    match channel.split("."):
        case ["trade", symbol]:
            return symbol, Trades, None
        case ["ticker", symbol]:
            return symbol, Ticker, None
        case ["candlestick", interval, symbol]:
            if interval not in INTERVALS:
                raise RefusalError("Unrecognized channel", 40003)
            return symbol, partial(Candlestick, interval), None
        case ["book", symbol, depth]:
            frequency = _frequency(depth, params)
            return symbol, book_feed(int(depth), frequency), frequency
        case _:
            raise RefusalError("Unrecognized channel", 40003)


def _frequency(depth: str, params: dict[str, Any]) -> int | None:
    """Milliseconds between deltas, 10 where nothing is said; None for whole books."""
    mode, frequency = params.get("book_subscription_type", "SNAPSHOT"), params.get("book_update_frequency")
    if not isinstance(mode, str) or mode not in FREQUENCIES:
        raise RefusalError("Invalid book_subscription_type", 40003)
    if depth not in DEPTHS:
        raise RefusalError("Invalid depth", 40003)
    if frequency not in FREQUENCIES[mode] or (mode != "SNAPSHOT" and depth == "150"):
        raise RefusalError("Unsupported depth/interval combination", 40003)
    return None if mode == "SNAPSHOT" else frequency or 10
