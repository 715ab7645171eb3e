"""OKX spot: /ws/v5/public and /business, REST /api/v5, their limits and errors. From the venue's sheet, section by section."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import orjson

from simulator.instruments import Listing, trimmed
from simulator.market import Trade
from simulator.okx_feeds import BUSINESS, PUBLIC, Books, OkxFeed, native
from simulator.okx_rest import Rest
from simulator.venue import Answer, Call, Facts, RefusalError

if TYPE_CHECKING:
    from simulator.connection import Connection
    from simulator.exchange import Exchange

ARGUMENTS = 64 << 10  # bytes of all args of one request
REQUESTS = ("subscribe", "unsubscribe")  # tuples: what a client sends need not be hashable
LOGIN = {"books-l2-tbt", "books50-l2-tbt"}
CLOSE = {"mute": (4004, "No data received in 30s."), "maintenance": (1012, "Service Restart")}


class Okx:
    """The dialect of OKX spot."""

    name: ClassVar[str] = "okx"
    hosts: ClassVar[tuple[str, ...]] = ("ws.okx.com", "www.okx.com")
    listing: ClassVar[Listing] = Listing(
        quotes=("USDT", "USDC", "EUR", "BTC"),
        halted={"LUNA/USDT": "suspend", "WAVES/USDT": "suspend", "FTT/USDC": "preopen"},
        price_decimals=12,
        lots=lambda magnitude: min(max(0, magnitude + 3), 8),
        text=trimmed,
    )
    facts: ClassVar[Facts] = Facts(
        connects=3, connect_window=1.0, topics=10_000, operations=480, operation_window=3600.0,
        rest=100, rest_window=2.0, mute=30.0, heartbeat=60.0, notice=60.0,
    )  # fmt: skip
    blanks: ClassVar[float] = 0.0
    checksum: ClassVar[re.Pattern[bytes] | None] = None

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.symbols = {native(instrument): instrument.symbol for instrument in self.listing.instruments}
        self._rest = Rest(exchange, self.symbols)

    def trade_id(self, trade: Trade) -> int:
        return trade.id

    # -------------------------------------------------------------- websocket

    def refuse(self, call: Call) -> Answer | None:
        known = call.path in {"/ws/v5/public", "/ws/v5/business"}
        return None if known else Answer("", 404, content_type="text/plain")

    def opened(self, connection: Connection, call: Call) -> None:
        """No welcome."""

    def received(self, connection: Connection, message: str | bytes, now: float) -> None:
        """`ping`, or subscribe and unsubscribe: one answer per arg."""
        if message == "ping":
            connection.send("pong")
            return
        try:
            request = orjson.loads(message)
        except orjson.JSONDecodeError:
            request = None
        args = request.get("args") if isinstance(request, dict) else None
        identity = request.get("id") if isinstance(request, dict) else None
        try:
            if not isinstance(request, dict) or not isinstance(args, list) or len(message) > ARGUMENTS:
                raise RefusalError(f"Invalid request: {str(message)[:100]}", 60012)
            if request.get("op") not in REQUESTS:
                raise RefusalError(f"Invalid request: {str(message)[:100]}", 60012)
            if not connection.operations.take(now):
                self.exchange.limited["operations"] += 1
                raise RefusalError("Requests too frequent", 60014)
        except RefusalError as error:
            self._error(connection, error, identity)
            return
        change = self._subscribe if request["op"] == "subscribe" else self._unsubscribe
        for arg in args:
            try:
                change(connection, arg, identity)
            except RefusalError as error:
                self._error(connection, error, identity)

    def _subscribe(self, connection: Connection, arg: Any, identity: object) -> None:
        """Acknowledge, then send what the channel begins with. A repeated subscription is acknowledged again."""
        channel, name = _names(arg)
        key = (channel, name)
        if channel in LOGIN:
            raise RefusalError("Please log in", 60011)
        make = (PUBLIC if connection.path.endswith("public") else BUSINESS).get(channel)
        if channel == "books" and connection.path.endswith("public"):
            make = partial(Books, self.exchange.facts.heartbeat or 60.0)
        market = self.exchange.market(self.symbols.get(name, ""))
        if make is None or market is None:
            raise _wrong(channel, name)
        shared = self.exchange.feeds.get(key)
        time = self.exchange.clock.stamp()
        if shared is not None:  # those who listen already get what is pending first, so that the sequence chains for all
            for payload in shared.flush(time):
                self.exchange.publish(shared, payload)
        feed = self.exchange.subscribe(connection, key, partial(make, channel, market))
        self._acknowledge(connection, "subscribe", arg, identity)
        sequence, book = self.exchange.snapshot(market) if channel == "books" else (market.sequence, market.book)
        assert isinstance(feed, OkxFeed)
        for payload in feed.first(sequence, book, time):
            connection.send(payload)

    def _unsubscribe(self, connection: Connection, arg: Any, identity: object) -> None:
        channel, name = _names(arg)
        if name not in self.symbols:
            raise _wrong(channel, name)
        self.exchange.unsubscribe(connection, (channel, name))
        self._acknowledge(connection, "unsubscribe", arg, identity)

    def _acknowledge(self, connection: Connection, event: str, arg: object, identity: object) -> None:
        answer = {} if identity is None else {"id": identity}
        answer |= {"event": event, "arg": arg, "connId": _identity(connection)}
        connection.send(orjson.dumps(answer).decode())

    def _error(self, connection: Connection, error: RefusalError, identity: object) -> None:
        answer = {} if identity is None else {"id": identity}
        answer |= {"event": "error", "code": str(error.code), "msg": error.text, "connId": _identity(connection)}
        connection.send(orjson.dumps(answer).decode())

    def upkeep(self, connection: Connection, now: float) -> None:
        """Nothing: the client pings."""

    def farewell(self, connection: Connection, time: int) -> None:
        text = "The connection will soon be closed for a service upgrade. Please reconnect."
        notice = {"event": "notice", "code": "64008", "msg": text, "connId": _identity(connection)}
        connection.send(orjson.dumps(notice).decode())

    def expire(self, connection: Connection, why: str, now: float) -> None:
        """Silence for 30 seconds ends the connection, so does a planned end."""
        connection.close(*CLOSE.get(why, (1001, "")))

    def rest(self, call: Call, now: float) -> Answer:
        return self._rest.answer(call, now)

    def unavailable(self, call: Call) -> Answer:
        return Answer.json({"code": "50001", "msg": "Service temporarily unavailable. Try again later.", "data": []}, 503)


def _names(arg: Any) -> tuple[str, str]:
    if not isinstance(arg, dict) or not isinstance(arg.get("channel"), str) or not isinstance(arg.get("instId"), str):
        raise RefusalError("Invalid args", 60013)
    return arg["channel"], arg["instId"]


def _wrong(channel: str, name: str) -> RefusalError:
    rest = "doesn't exist. Please use the correct URL, channel and parameters referring to API document."
    return RefusalError(f"Wrong URL or channel:{channel},instId:{name} {rest}", 60018)


def _identity(connection: Connection) -> str:
    return f"{connection.number * 0x9E3779B1 & 0xFFFFFFFF:08x}"
