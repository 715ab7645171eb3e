"""MEXC spot v3: /ws with protobuf data, REST /api/v3, their limits and errors. From the venue's sheet, section by section."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar

import orjson

from simulator.instruments import Listing, padded
from simulator.market import Trade
from simulator.mexc_feeds import channel, native, trade_id
from simulator.mexc_rest import Rest
from simulator.venue import Answer, Call, Facts

if TYPE_CHECKING:
    from simulator.connection import Connection
    from simulator.exchange import Exchange

CLOSE = {"messages": (1008, "Too many requests"), "maintenance": (1012, "Service Restart")}


class Mexc:
    """The dialect of MEXC spot."""

    name: ClassVar[str] = "mexc"
    hosts: ClassVar[tuple[str, ...]] = ("wbs-api.mexc.com", "api.mexc.com")
    listing: ClassVar[Listing] = Listing(
        quotes=("USDT", "USDC", "EUR", "BTC"),
        halted={"LUNA/USDT": "2", "WAVES/USDT": "2", "FTT/USDT": "3"},
        price_decimals=10,
        lots=lambda magnitude: min(max(0, magnitude + 3), 8),
        text=lambda decimals: padded(decimals, decimals),
        fine={"BTC": 7, "ETH": 6},
    )
    facts: ClassVar[Facts] = Facts(
        connects=300, connect_window=60.0, messages=100, message_window=1.0, topics=30,
        rest=500, rest_window=10.0, session=86_400.0, mute=60.0, unused=30.0,
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
        return None if call.path == "/ws" else Answer("", 404, content_type="text/plain")

    def opened(self, connection: Connection, call: Call) -> None:
        """No welcome."""

    def received(self, connection: Connection, message: str | bytes, now: float) -> None:
        """PING, SUBSCRIPTION, UNSUBSCRIPTION: one answer per frame, in text, and its code is 0 also for a failure."""
        try:
            request = orjson.loads(message)
        except orjson.JSONDecodeError:
            request = None
        fields = request if isinstance(request, dict) else {}
        method, params, identity = fields.get("method"), fields.get("params"), fields.get("id")
        names = [name for name in params if isinstance(name, str)] if isinstance(params, list) else []
        if method == "PING":
            answer = "PONG"
        elif method == "SUBSCRIPTION" and names:
            answer = self._subscribe(connection, names)
        elif method == "UNSUBSCRIPTION" and names:
            answer = self._unsubscribe(connection, names)
        else:
            answer = "msg format invalid"
        reply = {"id": identity if isinstance(identity, int) else 0, "code": 0, "msg": answer}
        connection.send(orjson.dumps(reply).decode())

    def _subscribe(self, connection: Connection, names: list[str]) -> str:
        """The names that are granted; then those that are not, said in words (section 5)."""
        refused = [name for name in names if not self._granted(connection, name)]
        granted = [name for name in names if name not in refused]
        blocked = f"Not Subscribed successfully! [{','.join(refused)}].  Reason： Blocked! "
        return ",".join([*granted, blocked] if refused else granted)

    def _granted(self, connection: Connection, name: str) -> bool:
        symbol, make = channel(name) or ("", None)
        market = self.exchange.market(self.symbols.get(symbol, ""))
        if make is None or market is None:
            return False
        if name not in connection.feeds and len(connection.feeds) >= self.exchange.facts.topics:
            self.exchange.limited["topics"] += 1
            return False
        self.exchange.subscribe(connection, name, lambda: make(name, market))
        return True

    def _unsubscribe(self, connection: Connection, names: list[str]) -> str:
        for name in names:
            self.exchange.unsubscribe(connection, name)
        return ",".join(names)

    def upkeep(self, connection: Connection, now: float) -> None:
        """Nothing: the client pings."""

    def farewell(self, connection: Connection, time: int) -> None:
        """It says nothing before it goes."""

    def expire(self, connection: Connection, why: str, now: float) -> None:
        """Silence, no subscription, too many messages: all end the connection."""
        connection.close(*CLOSE.get(why, (1001, "")))

    def rest(self, call: Call, now: float) -> Answer:
        return self._rest.answer(call, now)

    def unavailable(self, call: Call) -> Answer:
        return Answer.json({"code": 503, "msg": "Service unavailable, please try again"}, 503)
