"""KuCoin spot, classic: token, WebSocket, public REST, their limits and errors. From the venue's sheet, section by section."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import orjson

from simulator.instruments import ACTIVITY, Listing, trimmed
from simulator.kucoin_feeds import TOPICS, TYPES, Candles, native, trade_id
from simulator.kucoin_rest import SOCKET, Rest
from simulator.market import Trade
from simulator.venue import Answer, Call, Facts, RefusalError

if TYPE_CHECKING:
    from simulator.connection import Connection
    from simulator.exchange import Exchange

BATCH = 100  # topics of one subscribe frame
REQUESTS = ("subscribe", "unsubscribe")  # tuples: what a client sends need not be hashable
EVERYTHING = "/market/ticker:all"
CLOSE = {"idle": (1000, "Bye"), "maintenance": (1012, "Service Restart")}


class Kucoin:
    """The dialect of KuCoin spot."""

    name: ClassVar[str] = "kucoin"
    hosts: ClassVar[tuple[str, ...]] = ("api.kucoin.com", SOCKET)
    listing: ClassVar[Listing] = Listing(
        quotes=("USDT", "USDC", "EUR", "BTC"),
        halted={"LUNA/USDT": "closed", "WAVES/USDT": "closed", "FTT/USDT": "closed"},
        price_decimals=12,
        lots=lambda magnitude: min(max(0, magnitude + 3), 8),
        text=trimmed,
    )
    facts: ClassVar[Facts] = Facts(
        connects=500, connect_window=300.0, messages=100, message_window=10.0, topics=300,
        rest=2000, rest_window=30.0, idle=60.0, token=86_400.0,
    )  # fmt: skip
    blanks: ClassVar[float] = 0.37
    checksum: ClassVar[re.Pattern[bytes] | None] = None

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.symbols = {native(instrument): instrument.symbol for instrument in self.listing.instruments}
        self._rest = Rest(exchange, self.symbols)

    def trade_id(self, trade: Trade) -> int:
        return trade_id(trade)

    # -------------------------------------------------------------- websocket

    def refuse(self, call: Call) -> Answer | None:
        return None if call.path in {"/", "/endpoint"} else Answer("", 404, content_type="text/plain")

    def opened(self, connection: Connection, call: Call) -> None:
        """A token lets one connection in, once; then comes the welcome."""
        if not self._rest.redeem(call.query.get("token", ""), self.exchange.clock.now()):
            connection.send('{"type":"error","code":401,"data":"token is expired"}')
            connection.close(1000)
            return
        identity = call.query.get("connectId") or f"{connection.number:010d}"
        self._send(connection, {"id": identity, "type": "welcome"})

    def received(self, connection: Connection, message: str | bytes, now: float) -> None:
        """ping, subscribe, unsubscribe: one answer per frame, naming no topic."""
        try:
            request = orjson.loads(message)
        except orjson.JSONDecodeError:
            request = {}
        if not isinstance(request, dict):
            request = {}
        identity = str(request.get("id", ""))
        kind, topic = request.get("type"), request.get("topic")
        if kind == "ping":
            self._send(connection, {"id": identity, "type": "pong", "timestamp": self.exchange.clock.stamp()})
            return
        try:
            if kind not in REQUESTS:
                raise RefusalError("type is not supported", 415)
            if not isinstance(topic, str):
                raise RefusalError("topic is required", 400)
            (self._subscribe if kind == "subscribe" else self._unsubscribe)(connection, topic)
        except RefusalError as error:
            self._send(connection, {"id": identity, "type": "error", "code": error.code, "data": error.text})
            return
        if request.get("response"):
            self._send(connection, {"id": identity, "type": "ack"})

    def _subscribe(self, connection: Connection, topic: str) -> None:
        """One symbol is one topic. Unknown symbols are acknowledged, and stay silent."""
        topics = _topics(topic)
        if len(topics) > BATCH:
            raise RefusalError(f"exceed max subscription count limitation of {BATCH} per time", 509)
        if len(connection.names.keys() | set(topics)) > self.exchange.facts.topics:
            self.exchange.limited["topics"] += 1
            most = self.exchange.facts.topics
            raise RefusalError(f"exceed max subscription count limitation of {most} per session", 509)
        for name in topics:
            connection.names[name] = None
            if name == EVERYTHING:
                self._subscribe_everything(connection)
                continue
            prefix, _, symbol = name.partition(":")
            make: Any = TOPICS.get(prefix)
            if prefix == "/market/candles":
                symbol, _, kind = symbol.partition("_")
                make = partial(Candles, kind) if kind in TYPES else None
            market = self.exchange.market(self.symbols.get(symbol, ""))
            if make is not None and market is not None:
                self.exchange.subscribe(connection, name, partial(make, name, market))

    def _subscribe_everything(self, connection: Connection) -> None:
        """The tickers of the markets that are alive, and of the most traded ones."""
        busy = [f"{base}/USDT" for base in ACTIVITY]
        for symbol in dict.fromkeys([*busy, *self.exchange.markets]):
            market = self.exchange.market(symbol)
            if market is not None:
                make = partial(TOPICS["/market/ticker"], EVERYTHING, market)
                self.exchange.subscribe(connection, (EVERYTHING, symbol), make)

    def _unsubscribe(self, connection: Connection, topic: str) -> None:
        for name in _topics(topic):
            connection.names.pop(name, None)
            for key in [key for key in connection.feeds if key == name or (isinstance(key, tuple) and key[0] == name)]:
                self.exchange.unsubscribe(connection, key)

    def _send(self, connection: Connection, answer: dict[str, object]) -> None:
        connection.send(orjson.dumps(answer).decode())

    def upkeep(self, connection: Connection, now: float) -> None:
        """Nothing: the client pings."""

    def farewell(self, connection: Connection, time: int) -> None:
        """It says nothing before it goes."""

    def expire(self, connection: Connection, why: str, now: float) -> None:
        """Too many messages are answered with an error; the rest ends the connection."""
        if why == "messages":
            self._send(connection, {"id": "", "type": "error", "code": 509, "data": "exceed max permits per second"})
        else:
            connection.close(*CLOSE.get(why, (1001, "")))

    def rest(self, call: Call, now: float) -> Answer:
        return self._rest.answer(call, now)

    def unavailable(self, call: Call) -> Answer:
        """The status call still tells what is going on."""
        if call.path == "/api/v1/status":
            return Answer.json({"code": "200000", "data": {"status": "close", "msg": "system maintenance"}})
        return Answer.json({"code": "500000", "msg": "Internal Server Error"}, 503)


def _topics(topic: str) -> list[str]:
    """`/market/match:A,B` as one name per symbol; RefusalError for a topic that does not exist."""
    prefix, _, symbols = topic.partition(":")
    if (prefix not in TOPICS and prefix != "/market/candles") or not symbols:
        raise RefusalError(f"topic {topic} is not found", 404)
    return list(dict.fromkeys(f"{prefix}:{symbol}" for symbol in symbols.split(",")))
