"""Binance.US: an older Binance. Its streams and calls are Binance's (see binance); here is what differs, from its own sheet."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import orjson

from simulator.binance import Binance
from simulator.binance_feeds import STREAMS, BinanceFeed, native
from simulator.binanceus_rest import Rest
from simulator.feeds import Payloads
from simulator.instruments import Listing, padded
from simulator.market import Step, Trade
from simulator.venue import Answer, Call, Facts

if TYPE_CHECKING:
    from simulator.connection import Connection
    from simulator.exchange import Exchange


class Trades(BinanceFeed):
    """One frame a match, with the ids of the two orders, which Binance has given up."""

    kind, notes = "trade", True

    def note(self, step: Step) -> Payloads:
        return [self._frame(trade) for trade in step.trades]

    def _frame(self, t: Trade) -> str:
        time, taker, maker = t.time // self.unit, 2 * t.group + 1, 2 * t.id
        buyer, seller = (taker, maker) if t.buyer else (maker, taker)
        return (
            f'{{"e":"trade","E":{time},"s":"{self.native}","t":{t.id},"p":"{self.price(t.ticks)}","q":"{self.amount(t.lots)}",'
            f'"b":{buyer},"a":{seller},"T":{time},"m":{"false" if t.buyer else "true"},"M":true}}'
        )


class BinanceUs:
    """The dialect of Binance.US."""

    name: ClassVar[str] = "binanceus"
    hosts: ClassVar[tuple[str, ...]] = ("stream.binance.us", "api.binance.us")
    listing: ClassVar[Listing] = Listing(
        quotes=("USDT", "USD", "USDC", "BTC"),
        halted={"LUNA/USD": "BREAK", "WAVES/USD": "BREAK", "FTT/USD": "HALT"},
        price_decimals=8,
        lots=lambda magnitude: max(0, magnitude + 1),
        text=lambda decimals: padded(decimals, 8),
        fine={"BTC": 7, "ETH": 6},
    )
    facts: ClassVar[Facts] = Facts(
        connects=300, connect_window=300.0, messages=5, message_window=1.0, controls=True, topics=1024,
        rest=1200, rest_window=60.0, session=86_400.0, ping=180.0, pong=600.0,
    )  # fmt: skip
    blanks: ClassVar[float] = 0.0
    checksum: ClassVar[re.Pattern[bytes] | None] = None

    def __init__(self, exchange: Exchange) -> None:
        self.symbols = {native(instrument): instrument.symbol for instrument in self.listing.instruments}
        self._socket = Binance(exchange)
        self._socket.symbols = self.symbols
        self._socket.streams = STREAMS | {"trade": (Trades, 0.0)}
        self._rest = Rest(exchange, self.symbols)

    def trade_id(self, trade: Trade) -> int:
        return trade.id

    # -------------------------------------------------------------- websocket

    def refuse(self, call: Call) -> Answer | None:
        return self._socket.refuse(call)

    def opened(self, connection: Connection, call: Call) -> None:
        """Milliseconds only: `timeUnit` came later."""
        query = {name: value for name, value in call.query.items() if name != "timeUnit"}
        self._socket.opened(connection, replace(call, query=query))

    def received(self, connection: Connection, message: str | bytes, now: float) -> None:
        """Ids are unsigned integers, texts are refused (section 3)."""
        if _refused_id(message):
            error = {"code": 2, "msg": "Invalid request: request ID must be an unsigned integer"}
            connection.send(orjson.dumps({"error": error, "id": None}).decode())
        else:
            self._socket.received(connection, message, now)

    def upkeep(self, connection: Connection, now: float) -> None:
        """Nothing beyond the ping frames."""

    def farewell(self, connection: Connection, time: int) -> None:
        """No `serverShutdown`: it came later."""

    def expire(self, connection: Connection, why: str, now: float) -> None:
        self._socket.expire(connection, why, now)

    def rest(self, call: Call, now: float) -> Answer:
        return self._rest.answer(call, now)

    def unavailable(self, call: Call) -> Answer:
        return self._socket.unavailable(call)


def _refused_id(message: str | bytes) -> bool:
    try:
        request = orjson.loads(message)
    except orjson.JSONDecodeError:
        return False
    identity = request.get("id") if isinstance(request, dict) else None
    return isinstance(identity, str) or (isinstance(identity, int) and identity < 0)
