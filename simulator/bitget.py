"""Bitget spot: /v2/ws/public and /v3/ws/public, REST /api/v2, their limits and errors. From the venue's sheet, section by
section."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import orjson

from simulator.bitget_feeds import CHANNELS, CLASSIC, UNIFIED, BitgetFeed, Version, native, trade_id
from simulator.bitget_rest import Rest
from simulator.instruments import Listing, padded
from simulator.market import Trade
from simulator.venue import Answer, Call, Facts, RefusalError

if TYPE_CHECKING:
    from simulator.connection import Connection
    from simulator.exchange import Exchange

VERSIONS = {"/v2/ws/public": CLASSIC, "/v3/ws/public": UNIFIED}
REQUESTS = ("subscribe", "unsubscribe")  # tuples: what a client sends need not be hashable
ARGUMENTS = 4096  # bytes of all args of one request
BOOKS = 25  # books of one request that the unified socket does not bear


class Bitget:
    """The dialect of Bitget spot, classic and unified."""

    name: ClassVar[str] = "bitget"
    hosts: ClassVar[tuple[str, ...]] = ("ws.bitget.com", "api.bitget.com")
    listing: ClassVar[Listing] = Listing(
        quotes=("USDT", "USDC", "EUR", "BTC"),
        halted={"LUNA/USDT": "offline", "WAVES/USDT": "halt", "FTT/USDC": "gray"},
        price_decimals=12,
        lots=lambda magnitude: 6 if magnitude > 4 else 4,
        text=lambda decimals: padded(decimals, decimals),
        fine={"BTC": 7, "ETH": 6},
    )
    facts: ClassVar[Facts] = Facts(
        connects=300, connect_window=300.0, messages=10, message_window=1.0, topics=1000,
        operations=240, operation_window=3600.0, rest=20, rest_window=1.0, idle=120.0,
    )  # fmt: skip
    blanks: ClassVar[float] = 0.0
    checksum: ClassVar[re.Pattern[bytes] | None] = re.compile(rb'("checksum":)(-?[1-9]\d*)')

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.symbols = {native(instrument): instrument.symbol for instrument in self.listing.instruments}
        self._rest = Rest(exchange, self.symbols)

    def trade_id(self, trade: Trade) -> int:
        return trade_id(trade)

    # -------------------------------------------------------------- websocket

    def refuse(self, call: Call) -> Answer | None:
        return None if call.path in VERSIONS else Answer("", 404, content_type="text/plain")

    def opened(self, connection: Connection, call: Call) -> None:
        """No welcome."""

    def received(self, connection: Connection, message: str | bytes, now: float) -> None:
        """`ping`, or subscribe and unsubscribe: one answer per arg."""
        if message == "ping":
            connection.send("pong")
            return
        try:
            operation, args = self._request(connection, message, now)
        except RefusalError as error:
            self._error(connection, error, None)
            return
        version = _version(connection)
        if version is UNIFIED and sum(arg.get("topic") == "books" for arg in args if isinstance(arg, dict)) >= BOOKS:
            connection.abort()
            return
        for arg in args:
            try:
                (self._subscribe if operation == "subscribe" else self._unsubscribe)(connection, version, arg)
            except RefusalError as error:
                self._error(connection, error, arg if version is CLASSIC else None)

    def _request(self, connection: Connection, message: str | bytes, now: float) -> tuple[str, list[Any]]:
        """The operation and its args; they count, and may not be too long."""
        try:
            request = orjson.loads(message)
        except orjson.JSONDecodeError:
            request = None
        if not isinstance(request, dict) or request.get("op") not in REQUESTS:
            raise RefusalError("Illegal op", 30002)
        args = request.get("args")
        if not isinstance(args, list) or not args or len(orjson.dumps(args)) > ARGUMENTS:
            raise RefusalError("Invalid args", 30003)
        if request["op"] == "subscribe" and not connection.operations.take(now):
            self.exchange.limited["operations"] += 1
            raise RefusalError("request too many", 30006)
        return request["op"], args

    def _subscribe(self, connection: Connection, version: Version, arg: Any) -> None:
        """Acknowledge, then send what the channel begins with. A real symbol of another market type stays silent."""
        key = _key(version, arg)
        kind, channel, name = key
        market = self.exchange.market(self.symbols.get(name, ""))
        if channel not in CHANNELS[version] or market is None or kind not in {version.spot, *version.others}:
            raise _missing(version, arg)
        if len(connection.names.keys() | {str(key)}) > self.exchange.facts.topics:
            self.exchange.limited["topics"] += 1
            raise RefusalError("request too many", 30006)
        connection.names[str(key)] = None
        connection.send(orjson.dumps({"event": "subscribe", "arg": arg}).decode())
        if kind != version.spot:
            return
        self.exchange.settle(key)  # so that the sequence chains for all
        feed = self.exchange.subscribe(connection, key, partial(CHANNELS[version][channel], channel, market))
        assert isinstance(feed, BitgetFeed)
        sequence, book = self.exchange.snapshot(market) if feed.kind == "book" else (market.sequence, market.book)
        for payload in feed.first(sequence, book, self.exchange.clock.stamp()):
            connection.send(payload)

    def _unsubscribe(self, connection: Connection, version: Version, arg: Any) -> None:
        key = _key(version, arg)
        connection.names.pop(str(key), None)
        self.exchange.unsubscribe(connection, key)
        connection.send(orjson.dumps({"event": "unsubscribe", "arg": arg}).decode())

    def _error(self, connection: Connection, error: RefusalError, arg: object) -> None:
        """The unified socket does not say which arg."""
        answer = {"event": "error", **({} if arg is None else {"arg": arg}), "code": error.code, "msg": error.text}
        connection.send(orjson.dumps(answer).decode())

    def upkeep(self, connection: Connection, now: float) -> None:
        """Nothing: the client pings."""

    def farewell(self, connection: Connection, time: int) -> None:
        """It says nothing before it goes."""

    def expire(self, connection: Connection, why: str, now: float) -> None:
        """Too many messages, silence of the client, a maintenance: all end the connection."""
        if why == "messages":
            self._error(connection, RefusalError("request over limit,connection close", 30007), None)
        connection.close(1012 if why == "maintenance" else 1001)

    def rest(self, call: Call, now: float) -> Answer:
        return self._rest.answer(call, now)

    def unavailable(self, call: Call) -> Answer:
        return self._rest.envelope("45001", "Unknown error", None, 503)


def _version(connection: Connection) -> Version:
    return VERSIONS.get(connection.path, CLASSIC)


def _key(version: Version, arg: Any) -> tuple[str, str, str]:
    match [arg.get(name) for name in ("instType", version.channel, version.symbol)] if isinstance(arg, dict) else []:
        case [str(kind), str(channel), str(name)]:
            return kind, channel, name
    raise RefusalError("Param error", 30016)


def _missing(version: Version, arg: dict[str, Any]) -> RefusalError:
    """The classic socket lists the fields, the unified one quotes the arg."""
    listed = ",".join([f"{name}:{arg[name]}" for name in ("instType", version.channel, version.symbol)])
    return RefusalError(f"{listed if version is CLASSIC else orjson.dumps(arg).decode()} doesn't exist", 30001)
