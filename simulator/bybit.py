"""Bybit spot: /v5/public/spot, REST /v5/market, their limits and errors. From the venue's sheet, section by section."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import orjson

from simulator.bybit_feeds import TOPICS, BybitFeed, native, trade_id
from simulator.bybit_rest import Rest
from simulator.feeds import Payloads
from simulator.instruments import Listing, trimmed
from simulator.market import Market, Trade
from simulator.venue import Answer, Call, Facts, RefusalError

if TYPE_CHECKING:
    from simulator.connection import Connection
    from simulator.exchange import Exchange

ARGS = 10  # topics of one frame, on spot
CHARACTERS = 21_000  # of all topics of a connection
REQUESTS = ("subscribe", "unsubscribe")  # tuples: what a client sends need not be hashable


class Bybit:
    """The dialect of Bybit spot."""

    name: ClassVar[str] = "bybit"
    hosts: ClassVar[tuple[str, ...]] = ("stream.bybit.com", "api.bybit.com", "api.bytick.com")
    listing: ClassVar[Listing] = Listing(
        quotes=("USDT", "USDC", "EUR", "BTC"),
        halted={"LUNA/USDT": "Closed", "WAVES/USDT": "Closed", "FTT/USDC": "PreLaunch"},
        price_decimals=12,
        lots=lambda magnitude: max(0, magnitude + 1),
        text=trimmed,
    )
    facts: ClassVar[Facts] = Facts(
        connects=500, connect_window=300.0, topics=10_000, rest=600, rest_window=5.0, idle=600.0,
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
        return None if call.path == "/v5/public/spot" else Answer("", 404, content_type="text/plain")

    def opened(self, connection: Connection, call: Call) -> None:
        """No welcome."""

    def received(self, connection: Connection, message: str | bytes, now: float) -> None:
        """ping, subscribe, unsubscribe: one answer per frame, naming no topic."""
        try:
            request = orjson.loads(message)
        except orjson.JSONDecodeError as error:
            self._reply(connection, {}, f"Failed to decode incoming data:{error}", success=False)
            return
        operation = request.get("op") if isinstance(request, dict) else None
        if operation == "ping":
            self._reply(connection, request, "pong")
        elif operation not in REQUESTS:
            answer = {"success": False, "ret_msg": "error:invalid op", "conn_id": _identity(connection), "request": request}
            connection.send(orjson.dumps(answer).decode())
        else:
            try:
                (self._subscribe if operation == "subscribe" else self._unsubscribe)(connection, request)
            except RefusalError as error:
                self._reply(connection, request, error.text, success=False)

    def _subscribe(self, connection: Connection, request: dict[str, Any]) -> None:
        """All topics of the frame or, for one bad topic, none. The first data may come before the acknowledgement."""
        topics = _topics(request)
        if sum(map(len, [*connection.feeds, *topics])) > CHARACTERS:  # type: ignore[arg-type]  # keys are topics
            self.exchange.limited["topics"] += 1
            raise RefusalError(f"args length >{CHARACTERS}")
        markets = {topic: self._market(topic) for topic in topics}
        for topic in topics:
            if topic in connection.feeds:
                raise RefusalError(f"error:already subscribed,topic:{topic}")
        late = self.exchange.identities.random() < 0.5
        if not late:
            self._reply(connection, request, "subscribe")
        for topic, market in markets.items():
            for payload in self._listen(connection, topic, market):
                connection.send(payload)
        if late:
            self._reply(connection, request, "subscribe")

    def _listen(self, connection: Connection, topic: str, market: Market) -> Payloads:
        self.exchange.settle(topic)  # so that `u` chains for all
        feed = self.exchange.subscribe(connection, topic, partial(TOPICS[topic.rpartition(".")[0]], topic, market))
        assert isinstance(feed, BybitFeed)
        sequence, book = self.exchange.snapshot(market) if feed.kind == "book" else (market.sequence, market.book)
        return feed.first(sequence, book, self.exchange.clock.stamp())

    def _unsubscribe(self, connection: Connection, request: dict[str, Any]) -> None:
        for topic in _topics(request):
            self.exchange.unsubscribe(connection, topic)
        self._reply(connection, request, "unsubscribe")

    def _market(self, topic: str) -> Market:
        kind, _, name = topic.rpartition(".")
        if kind not in TOPICS:
            raise RefusalError(f"Invalid topic: {topic}")
        market = self.exchange.market(self.symbols.get(name, ""))
        if market is None:
            raise RefusalError(f"Invalid symbol :[{topic}]")
        return market

    def _reply(self, connection: Connection, request: dict[str, Any], text: str, *, success: bool = True) -> None:
        """`req_id` comes back where it was given."""
        answer: dict[str, object] = {"success": success, "ret_msg": text, "conn_id": _identity(connection)}
        answer |= {key: request[key] for key in ("req_id", "op") if key in request}
        connection.send(orjson.dumps(answer).decode())

    def upkeep(self, connection: Connection, now: float) -> None:
        """Nothing: the client pings."""

    def farewell(self, connection: Connection, time: int) -> None:
        """It says nothing here before it goes."""

    def expire(self, connection: Connection, why: str, now: float) -> None:
        """Ten minutes without a word from the client, and upgrades: the socket just ends."""
        if why == "maintenance":
            connection.close(1012, "Service Restart")
        else:
            connection.abort()

    def rest(self, call: Call, now: float) -> Answer:
        return self._rest.answer(call, now)

    def unavailable(self, call: Call) -> Answer:
        return self._rest.envelope(10016, "Server error.", {}, 503)


def _topics(request: dict[str, Any]) -> list[str]:
    args = request.get("args")
    if not isinstance(args, list) or not args or not all(isinstance(topic, str) for topic in args):
        raise RefusalError("Params Error")
    if len(args) > ARGS:
        raise RefusalError(f"args size >{ARGS}")
    return list(dict.fromkeys(args))


def _identity(connection: Connection) -> str:
    return f"d9avt8shteepr{connection.number:07x}-{connection.number * 0x9E3779B1 & 0xFFFFF:05x}"
