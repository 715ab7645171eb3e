"""Bitfinex spot: /ws/2, REST /v2, their limits and errors. From the venue's sheet, section by section."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

import orjson

from simulator.bitfinex_feeds import (
    BULK_UPDATES,
    OB_CHECKSUM,
    BitfinexFeed,
    Books,
    Key,
    Tickers,
    Trades,
    Wire,
    native,
    number,
    trade_id,
)
from simulator.bitfinex_rest import Rest
from simulator.instruments import Listing
from simulator.market import Market, Trade
from simulator.venue import Answer, Call, Facts, RefusalError

if TYPE_CHECKING:
    from simulator.connection import Connection
    from simulator.exchange import Exchange

CHANNELS = ("trades", "book", "ticker")  # tuples: what a client sends need not be hashable
BOOK = {
    "prec": ("P0", "precision", ("P0",)),
    "freq": ("F0", "freq", ("F0",)),
    "len": ("25", "length", ("1", "25", "100", "250")),
}
"""The options of a book: what each is by default, its name in errors, what it may be."""
STOPPING = (20051, "Stopping. Please try to reconnect")
PAUSE = (20060, "Entering in Maintenance mode. Please pause any activity and resume after receiving the info message 20061")
RESUME = (20061, "Maintenance ended. You can resume normal activity. It is advised to unsubscribe/subscribe again all channels")


class Bitfinex:
    """The dialect of Bitfinex spot. Of books it has the ones at full precision and in real time (P0, F0)."""

    name: ClassVar[str] = "bitfinex"
    hosts: ClassVar[tuple[str, ...]] = ("api-pub.bitfinex.com", "api.bitfinex.com")
    listing: ClassVar[Listing] = Listing(
        quotes=("USD", "USDT", "EUR", "BTC"),
        halted={},  # listed is active there
        price_decimals=8,
        lots=lambda magnitude: min(max(0, magnitude + 6), 8),
        text=number,
        fine={},
    )
    facts: ClassVar[Facts] = Facts(
        connects=20, connect_window=60.0, topics=25, rest=240, rest_window=60.0, mute=60.0, heartbeat=15.0,
    )  # fmt: skip
    blanks: ClassVar[float] = 0.0
    checksum: ClassVar[re.Pattern[bytes] | None] = re.compile(rb'("cs",)(-?\d+)')

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.symbols = {native(instrument): instrument.symbol for instrument in self.listing.instruments}
        self._rest = Rest(exchange, lambda name: exchange.market(self.symbols.get(name, ""), asked=True))

    def trade_id(self, trade: Trade) -> int:
        return trade_id(trade)

    # -------------------------------------------------------------- websocket

    def refuse(self, call: Call) -> Answer | None:
        return None if call.path.rstrip("/") == "/ws/2" else Answer("", 404, content_type="text/plain")

    def opened(self, connection: Connection, call: Call) -> None:
        """The welcome says whether the platform works."""
        identity = UUID(int=self.exchange.identities.getrandbits(128), version=4)
        _send(connection, {"event": "info", "version": 2, "serverId": str(identity), "platform": {"status": 1}})

    def received(self, connection: Connection, message: str | bytes, now: float) -> None:
        """One event a frame; what is not an event is not answered."""
        try:
            request = orjson.loads(message)
        except orjson.JSONDecodeError:
            return
        if not isinstance(request, dict):
            return
        events = {"ping": self._ping, "conf": self._conf, "subscribe": self._subscribe, "unsubscribe": self._unsubscribe}
        event = request.get("event")
        try:
            if not isinstance(event, str) or event not in events:
                raise RefusalError(f"event: invalid ({event})", 10000)
            events[event](connection, request)
        except RefusalError as error:
            _send(connection, request | {"event": "error", "msg": error.text, "code": error.code})

    def _ping(self, connection: Connection, request: dict[str, Any]) -> None:
        identity = {"cid": request["cid"]} if "cid" in request else {}
        _send(connection, {"event": "pong", "ts": self.exchange.clock.stamp() // 1000} | identity)

    def _conf(self, connection: Connection, request: dict[str, Any]) -> None:
        """One conf sets all flags. A book keeps the kind of update it began with."""
        flags = request.get("flags")
        if not isinstance(flags, int) or isinstance(flags, bool):
            raise RefusalError("flags: invalid", 10000)
        _wire(connection).flags = flags
        _send(connection, {"event": "conf", "status": "OK", "flags": flags})

    def _subscribe(self, connection: Connection, request: dict[str, Any]) -> None:
        """Acknowledge under a number of this connection's own, then send what the channel begins with."""
        channel, wire = request.get("channel"), _wire(connection)
        if channel == "status":  # not simulated, and silent like an unknown key
            return
        if channel not in CHANNELS:
            raise RefusalError("channel: unknown", 10300)
        options = _options(request) if channel == "book" else {}
        symbol, market = self._symbol(request)
        key: Key = (channel, symbol, *options.values())
        if key in wire.channels:
            request |= {"chanId": wire.channels[key]}
            raise RefusalError("subscribe: dup", 10301)
        if len(wire.channels) >= self.exchange.facts.topics:
            self.exchange.limited["topics"] += 1
            raise RefusalError("subscribe: limit", 10305)
        while (number := self.exchange.identities.randrange(10_000, 1_000_000)) in wire.channels.values():
            pass
        wire.channels[key] = number
        answer = {"event": "subscribed", "channel": channel, "chanId": number, "symbol": symbol, **options}
        answer |= {name: request[name] for name in ("subId",) if name in request}
        _send(connection, answer | {"pair": symbol.removeprefix("t")})
        self._begin(connection, wire, key, market)

    def _begin(self, connection: Connection, wire: Wire, key: Key, market: Market) -> None:
        flags = wire.flags & (OB_CHECKSUM | BULK_UPDATES)
        feed = self.exchange.subscribe(connection, (key, flags), lambda: _feed(key, flags, market))
        assert isinstance(feed, BitfinexFeed)
        _, book = self.exchange.snapshot(market) if feed.kind == "book" else (0, market.book)
        connection.send(wire.frame(wire.channels[key], feed.first(book), self.exchange.clock.stamp()))

    def _symbol(self, request: dict[str, Any]) -> tuple[str, Market]:
        """A symbol may come without its leading `t`."""
        name = str(request.get("symbol"))
        symbol = name if name.startswith("t") else f"t{name}"
        market = self.exchange.market(self.symbols.get(symbol, ""))
        if market is None:
            raise RefusalError("symbol: invalid", 10300)
        return symbol, market

    def _unsubscribe(self, connection: Connection, request: dict[str, Any]) -> None:
        wire, number = _wire(connection), request.get("chanId")
        key = next((key for key, taken in wire.channels.items() if taken == number), None)
        if key is None:
            raise RefusalError("unsubscribe: invalid", 10400)
        for shared, feed in tuple(connection.feeds.items()):
            if isinstance(feed, BitfinexFeed) and feed.key == key:
                self.exchange.unsubscribe(connection, shared)
        del wire.channels[key]
        _send(connection, {"event": "unsubscribed", "status": "OK", "chanId": number})

    def upkeep(self, connection: Connection, now: float) -> None:
        """A heartbeat on every channel, busy or not; the end of a maintenance."""
        wire, heartbeat, time = _wire(connection), self.exchange.facts.heartbeat, self.exchange.clock.stamp()
        if connection.paused:
            connection.spoke = now  # the silence is announced
            if now >= self.exchange.closed_until:
                connection.paused = False
                connection.stall(0.0)
                _inform(connection, RESUME)
        if heartbeat is not None and now - connection.beat >= heartbeat:
            connection.beat = now
            for number in wire.channels.values():
                connection.send(wire.frame(number, '"hb"', time))

    def farewell(self, connection: Connection, time: int) -> None:
        """A maintenance is a pause, any other end a restart."""
        pause = self.exchange.clock.now() < self.exchange.closed_until
        _inform(connection, PAUSE if pause else STOPPING)

    def expire(self, connection: Connection, why: str, now: float) -> None:
        """A maintenance keeps the connection, and what falls into it is lost; a silent socket is cut off."""
        if why == "maintenance":
            connection.paused = True
            connection.stall(math.inf)
        elif why == "mute":
            connection.abort()
        else:
            connection.close(1001)

    def rest(self, call: Call, now: float) -> Answer:
        return self._rest.answer(call, now)

    def unavailable(self, call: Call) -> Answer:
        """The status still tells what is going on."""
        if call.path == "/v2/platform/status":
            return Answer.json([0])
        return Answer.json(["error", 20060, "maintenance"], 503)


def _options(request: dict[str, Any]) -> dict[str, str]:
    options = {name: str(request.get(name, default)) for name, (default, _, _) in BOOK.items()}
    for name, (_, word, known) in BOOK.items():
        if options[name] not in known:
            raise RefusalError(f"{word}: invalid", 10300)
    return options


def _feed(key: Key, flags: int, market: Market) -> BitfinexFeed:
    if key[0] == "book":
        return Books(int(key[4]), flags, key, market)
    return Trades(key, market) if key[0] == "trades" else Tickers(key, market)


def _wire(connection: Connection) -> Wire:
    if not isinstance(connection.envelope, Wire):
        connection.envelope = Wire()
    return connection.envelope


def _inform(connection: Connection, info: tuple[int, str]) -> None:
    _send(connection, {"event": "info", "code": info[0], "msg": info[1]})


def _send(connection: Connection, answer: dict[str, Any]) -> None:
    connection.send(orjson.dumps(answer).decode())
