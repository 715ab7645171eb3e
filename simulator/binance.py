"""Binance spot: /ws and /stream, REST /api/v3, their limits and errors. From the venue's sheet, section by section."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar

import orjson

from simulator.binance_feeds import COMBINED, STREAMS, native
from simulator.binance_rest import Rest
from simulator.instruments import Listing, padded
from simulator.market import Trade
from simulator.venue import Answer, Call, Facts, RefusalError

if TYPE_CHECKING:
    from simulator.connection import Connection
    from simulator.exchange import Exchange

METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")
CLOSE = {
    "pong": (1008, "Pong timeout"),
    "messages": (1008, "Too many requests"),
    "maintenance": (1012, "Service Restart"),
}


class Binance:
    """The dialect of Binance spot."""

    name: ClassVar[str] = "binance"
    hosts: ClassVar[tuple[str, ...]] = (
        "stream.binance.com",
        "data-stream.binance.vision",
        "api.binance.com",
        "api-gcp.binance.com",
        *(f"api{n}.binance.com" for n in range(1, 5)),
        "data-api.binance.vision",
    )
    listing: ClassVar[Listing] = Listing(
        quotes=("USDT", "USDC", "FDUSD", "EUR", "BTC"),
        halted={"LUNA/USDT": "BREAK", "WAVES/USDT": "BREAK", "FTT/BTC": "HALT"},
        price_decimals=8,
        lots=lambda magnitude: max(0, magnitude),
        text=lambda decimals: padded(decimals, 8),
        fine={"BTC": 7, "ETH": 6},
    )
    facts: ClassVar[Facts] = Facts(
        connects=300, connect_window=300.0, messages=5, message_window=1.0, controls=True, topics=1024,
        rest=6000, rest_window=60.0, session=86_400.0, ping=20.0, pong=60.0,
    )  # fmt: skip
    blanks: ClassVar[float] = 0.0
    checksum: ClassVar[re.Pattern[bytes] | None] = None

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.symbols = {native(instrument): instrument.symbol for instrument in self.listing.instruments}
        self.streams = STREAMS
        self._rest = Rest(exchange, self.symbols)

    def trade_id(self, trade: Trade) -> int:
        return trade.id

    # -------------------------------------------------------------- websocket

    def refuse(self, call: Call) -> Answer | None:
        """Only /ws, /ws/<stream>/... and /stream are endpoints."""
        known = call.path in {"/ws", "/ws/", "/stream", "/stream/"} or call.path.startswith("/ws/")
        return None if known else Answer("", 404, content_type="text/plain")

    def opened(self, connection: Connection, call: Call) -> None:
        """No welcome; streams named in the address are live at once."""
        if call.query.get("timeUnit", "").upper() == "MICROSECOND":
            connection.unit = 1
        combined = call.path.startswith("/stream")
        connection.envelope = COMBINED if combined else None
        names = call.query.get("streams", "") if combined else call.path.removeprefix("/ws").lstrip("/")
        for name in filter(None, names.split("/")):
            self._subscribe(connection, name)

    def received(self, connection: Connection, message: str | bytes, now: float) -> None:
        """SUBSCRIBE and its kin: one answer per frame, by id."""
        identity: object = None
        try:
            request = orjson.loads(message)
            if not isinstance(request, dict) or "method" not in request:
                raise RefusalError("Invalid request: missing field `method`", 2)
            identity = request.get("id")
            if isinstance(identity, (dict, list, float, bool)) or (isinstance(identity, str) and len(identity) > 36):
                identity = None
                raise RefusalError("Invalid request: request ID must be an unsigned integer", 2)
            answer = {"result": self._perform(connection, request["method"], request.get("params")), "id": identity}
        except orjson.JSONDecodeError as error:
            answer = {"error": {"code": 3, "msg": f"Invalid JSON: {error}"}, "id": identity}
        except RefusalError as error:
            answer = {"error": {"code": error.code, "msg": error.text}, "id": identity}
        connection.send(orjson.dumps(answer).decode())

    def _perform(self, connection: Connection, method: object, params: Any) -> object:
        if method not in METHODS:
            names = ", ".join(f"`{name}`" for name in METHODS)
            raise RefusalError(f"Invalid request: unknown variant `{method}`, expected one of {names}", 2)
        if method == "LIST_SUBSCRIPTIONS":
            return list(connection.names)
        if not isinstance(params, list) or not params:
            raise RefusalError("Invalid request: params must be a non-empty array", 2)
        if method in {"SET_PROPERTY", "GET_PROPERTY"}:
            return _property(connection, params)
        if not all(isinstance(name, str) for name in params):
            raise RefusalError("Invalid request: stream names must be strings", 2)
        if method == "SUBSCRIBE":
            if len(connection.names.keys() | set(params)) > self.exchange.facts.topics:
                self.exchange.limited["topics"] += 1
                raise RefusalError("Invalid request: too many streams on this connection", 2)
            for name in params:
                self._subscribe(connection, name)
            return None
        for name in params:
            connection.names.pop(name, None)
            self.exchange.unsubscribe(connection, (name, connection.unit))
        return None

    def _subscribe(self, connection: Connection, name: str) -> None:
        """Whatever is asked for is granted; an unknown name or symbol (or an upper-case one) is silent for ever."""
        connection.names[name] = None
        symbol, _, channel = name.partition("@")
        stream = self.streams.get(channel)
        canonical = self.symbols.get(symbol.upper(), "") if symbol == symbol.lower() else ""
        market = self.exchange.market(canonical)
        if stream is None or market is None:
            return
        make, period = stream
        unit = connection.unit
        self.exchange.subscribe(connection, (name, unit), lambda: make(name, market, period, unit))

    def upkeep(self, connection: Connection, now: float) -> None:
        """Nothing beyond the ping frames."""

    def farewell(self, connection: Connection, time: int) -> None:
        """`serverShutdown` comes before a planned end."""
        event = f'{{"e":"serverShutdown","E":{time // connection.unit}}}'
        combined = connection.envelope == COMBINED
        connection.send(f'{{"stream":"!serverShutdown","data":{event}}}' if combined else event)

    def expire(self, connection: Connection, why: str, now: float) -> None:
        """Every broken rule ends the connection."""
        connection.close(*CLOSE.get(why, (1001, "")))

    def rest(self, call: Call, now: float) -> Answer:
        return self._rest.answer(call, now)

    def unavailable(self, call: Call) -> Answer:
        return Answer.json({"code": -1008, "msg": "Server is currently overloaded with other requests. Please try again."}, 503)


def _property(connection: Connection, params: list[Any]) -> bool | None:
    """SET_PROPERTY ["combined", true] and GET_PROPERTY ["combined"]: the wrapping of a live connection."""
    if params[0] != COMBINED:
        raise RefusalError("Unknown property", 0)
    if len(params) == 1:
        return connection.envelope == COMBINED
    if not isinstance(params[1], bool):
        raise RefusalError("Invalid value type: expected Boolean", 1)
    connection.envelope = COMBINED if params[1] else None
    return None
