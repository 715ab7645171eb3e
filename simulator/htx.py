"""HTX spot: WebSocket /ws and /feed, public REST, their limits and errors. From the venue's sheet, section by section."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import orjson

from simulator.htx_feeds import DELTAS, TOPICS, HtxFeed, Mbp, double, native, pack, trade_id
from simulator.htx_rest import Rest, refusal
from simulator.instruments import Listing
from simulator.market import Trade
from simulator.venue import Answer, Call, Facts, RefusalError

if TYPE_CHECKING:
    from simulator.connection import Connection
    from simulator.exchange import Exchange

CLOSE = {"pong": (1003, "ping check expired"), "maintenance": (1012, "Service Restart")}


class Htx:
    """The dialect of HTX spot."""

    name: ClassVar[str] = "htx"
    hosts: ClassVar[tuple[str, ...]] = ("api.huobi.pro", "api-aws.huobi.pro")
    listing: ClassVar[Listing] = Listing(
        quotes=("USDT", "USDC", "BTC"),
        halted={"LUNA/USDT": "offline", "WAVES/USDT": "offline", "FTT/USDT": "suspend"},
        price_decimals=10,
        lots=lambda magnitude: {5: 6, 4: 4}.get(magnitude, 2),
        text=double,
        fine={"BTC": 7, "ETH": 6},
    )
    facts: ClassVar[Facts] = Facts(
        connects=300, connect_window=60.0, topics=10_000, operations=60, operation_window=1.0,
        rest=20, rest_window=1.0, heartbeat=5.0, pong=20.0,
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
        return None if call.path in {"/ws", "/feed"} else Answer("", 404, content_type="text/plain")

    def opened(self, connection: Connection, call: Call) -> None:
        """No welcome."""

    def received(self, connection: Connection, message: str | bytes, now: float) -> None:
        """pong, or sub, unsub and req: one topic a frame, one answer each."""
        try:
            request = orjson.loads(message)
        except orjson.JSONDecodeError:
            request = None
        if not isinstance(request, dict):
            request = {}
        if "pong" in request:
            if request["pong"] == connection.awaited:
                connection.pinged = 0.0
            return
        try:
            self._perform(connection, request, now)
        except RefusalError as error:
            answer = {"status": "error", "ts": self._time()} | _identity(request)
            self._send(connection, answer | {"err-code": "bad-request", "err-msg": error.text})

    def _perform(self, connection: Connection, request: dict[str, Any], now: float) -> None:
        actions = {"sub": self._subscribe, "unsub": self._unsubscribe, "req": self._request}
        verb = next((verb for verb in actions if verb in request), None)
        if verb is None or not isinstance(request[verb], str):
            raise RefusalError("invalid command")
        if not connection.operations.take(now):
            self.exchange.limited["operations"] += 1
            raise RefusalError("too many requests")
        actions[verb](connection, request, request[verb])

    def _subscribe(self, connection: Connection, request: dict[str, Any], topic: str) -> None:
        """Acknowledge, then send what the topic begins with. A pair that was taken off is acknowledged, and silent."""
        symbol, make = self._topic(connection, topic)
        connection.names[topic] = None
        self._send(connection, _identity(request) | {"status": "ok", "subbed": topic, "ts": self._time()})
        market = self.exchange.market(symbol)
        if market is not None:
            feed = self.exchange.subscribe(connection, topic, partial(make, topic, market))
            assert isinstance(feed, HtxFeed)
            for payload in feed.first(self.exchange.clock.stamp()):
                connection.send(payload)

    def _unsubscribe(self, connection: Connection, request: dict[str, Any], topic: str) -> None:
        if topic not in connection.names:
            raise RefusalError(f"unsub with not subbed topic {topic}")
        del connection.names[topic]
        self.exchange.unsubscribe(connection, topic)
        self._send(connection, _identity(request) | {"status": "ok", "unsubbed": topic, "ts": self._time()})

    def _request(self, connection: Connection, request: dict[str, Any], topic: str) -> None:
        """The snapshot of a book: a number that the chain goes on from (sheet, 7)."""
        symbol, make = self._topic(connection, topic)
        market = self.exchange.market(symbol)
        if market is None or make not in DELTAS.values():
            raise RefusalError(f"invalid topic {topic}")
        feed = self.exchange.settle(topic) or make(topic, market)
        assert isinstance(feed, Mbp)
        data = orjson.Fragment(feed.snapshot(*self.exchange.snapshot(market)))
        self._send(connection, _identity(request) | {"rep": topic, "status": "ok", "data": data})

    def _topic(self, connection: Connection, topic: str) -> tuple[str, Any]:
        """Symbol and maker of a topic; each of the two addresses has its own."""
        makers: Mapping[str, Any] = DELTAS if connection.path == "/feed" else TOPICS
        market, _, rest = topic.partition(".")
        pair, _, channel = rest.partition(".")
        if market != "market" or pair not in self.symbols or channel not in makers:
            raise RefusalError(f"invalid topic {topic}")
        return self.symbols[pair], makers[channel]

    def _send(self, connection: Connection, answer: dict[str, object]) -> None:
        connection.send(pack(orjson.dumps(answer).decode()))

    def _time(self) -> int:
        return self.exchange.clock.stamp() // 1000

    def upkeep(self, connection: Connection, now: float) -> None:
        """A ping in JSON, whose number the pong has to repeat."""
        heartbeat = self.exchange.facts.heartbeat
        if heartbeat is not None and now - connection.beat >= heartbeat:
            connection.beat = now
            connection.pinged = connection.pinged or now
            connection.awaited = self._time()
            self._send(connection, {"ping": connection.awaited})

    def farewell(self, connection: Connection, time: int) -> None:
        """It says nothing before it goes."""

    def expire(self, connection: Connection, why: str, now: float) -> None:
        connection.close(*CLOSE.get(why, (1001, "")))

    def rest(self, call: Call, now: float) -> Answer:
        return self._rest.answer(call, now)

    def unavailable(self, call: Call) -> Answer:
        return refusal("gateway-internal-error", "Service temporarily unavailable", 503)


def _identity(request: dict[str, Any]) -> dict[str, object]:
    """The id as it was sent, number or text (recorded)."""
    return {"id": request["id"]} if "id" in request else {}
