"""Bitrue spot: /market/ws and /kline-api/ws, REST /api/v1, their limits and errors. From the venue's sheet, section by
section."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import orjson

from simulator.bitrue_feeds import SOCKETS, WIDE, BitrueFeed, Depth, Make, local, native, pack, trade_rows
from simulator.bitrue_rest import Rest
from simulator.instruments import Listing, padded
from simulator.market import Market, Trade
from simulator.venue import Answer, Call, Facts

if TYPE_CHECKING:
    from simulator.connection import Connection
    from simulator.exchange import Exchange

CHANNEL = re.compile(r"market_([a-z0-9]+)_(\w+)")
MOST = 300  # rows of an answer
CLOSE = {"maintenance": (1012, "Service Restart")}


class Bitrue:
    """The dialect of Bitrue spot."""

    name: ClassVar[str] = "bitrue"
    hosts: ClassVar[tuple[str, ...]] = ("ws.bitrue.com", "openapi.bitrue.com", "www.bitrue.com")
    listing: ClassVar[Listing] = Listing(
        quotes=("USDT", "USDC", "BTC"),
        halted={"LUNA/USDT": "HALT", "WAVES/USDT": "HALT", "FTT/USDT": "HALT"},
        price_decimals=10,
        lots=lambda magnitude: max(0, magnitude),
        text=lambda decimals: padded(decimals, decimals),
        fine={"BTC": 7, "ETH": 6},
    )
    facts: ClassVar[Facts] = Facts(
        connects=300, connect_window=300.0, topics=10_000, rest=25_000, rest_window=60.0, heartbeat=15.0, pong=60.0,
    )  # fmt: skip
    blanks: ClassVar[float] = 0.0
    checksum: ClassVar[re.Pattern[bytes] | None] = None

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.symbols = {native(instrument): instrument.symbol for instrument in self.listing.instruments}
        self._rest = Rest(exchange, {name.upper(): symbol for name, symbol in self.symbols.items()})

    def trade_id(self, trade: Trade) -> int:
        return trade.id

    # -------------------------------------------------------------- websocket

    def refuse(self, call: Call) -> Answer | None:
        return None if call.path in SOCKETS else Answer("", 404, content_type="text/plain")

    def opened(self, connection: Connection, call: Call) -> None:
        """No welcome."""

    def received(self, connection: Connection, message: str | bytes, now: float) -> None:
        """pong, sub, unsub and req, one channel a frame. What is not understood has no answer."""
        try:
            request = orjson.loads(message)
        except orjson.JSONDecodeError:
            return
        if not isinstance(request, dict):
            return
        if "pong" in request:
            if request["pong"] == connection.awaited:
                connection.pinged = 0.0
            return
        params = request.get("params")
        params = params if isinstance(params, dict) else {}
        found = self._channel(connection, params)
        if found is None:
            return
        name, market, makes = found
        match request.get("event"):
            case "sub":
                self._subscribe(connection, name, market, makes)
            case "unsub":
                for make in makes:
                    self.exchange.unsubscribe(connection, (name, make))
            case "req":
                self._answer(connection, name, market, params)

    def _channel(self, connection: Connection, params: dict[str, Any]) -> tuple[str, Market, tuple[Make, ...]] | None:
        """A channel that this socket has, of a pair that is listed, and named by `cb_id` too."""
        name = params.get("channel")
        match = CHANNEL.fullmatch(name) if isinstance(name, str) else None
        if match is None or match[1] != params.get("cb_id"):
            return None
        makes = SOCKETS.get(connection.path, {}).get(match[2])
        market = self.exchange.market(self.symbols.get(match[1], ""))
        return None if makes is None or market is None else (match[0], market, makes)

    def _subscribe(self, connection: Connection, name: str, market: Market, makes: tuple[Make, ...]) -> None:
        """Acknowledge, then send what the channel begins with."""
        ack = {"channel": name, "cb_id": native(market.instrument), "event_rep": "subed", "status": "ok", "ts": self._time()}
        self._send(connection, ack)
        for make in makes:
            feed = self.exchange.subscribe(connection, (name, make), partial(make, name, market))
            assert isinstance(feed, BitrueFeed)
            for payload in feed.first(self.exchange.clock.stamp()):
                connection.send(payload)

    def _answer(self, connection: Connection, name: str, market: Market, params: dict[str, Any]) -> None:
        """Recent trades, or the book in a frame that does not say which."""
        instrument, stamp = market.instrument, self.exchange.clock.stamp()
        if name.endswith("_depth_step0") and connection.path == "/kline-api/ws":
            connection.send(pack(f'{{"ts":{stamp // 1000},"tick":{Depth(name, market).tick()}}}'))
        elif name.endswith("_trade_ticker"):
            top = params.get("top", 20)
            top = min(top, MOST) if isinstance(top, int) and top > 0 else 20
            head = {"event_rep": "rep", "cb_id": native(instrument), "status": "ok", "top": top, "ds": local(stamp)}
            head |= {"ts": stamp // 1000, "channel": name}
            rows = trade_rows(instrument, market.recent(top), WIDE)
            connection.send(pack(f'{orjson.dumps(head).decode()[:-1]},"data":[{rows}]}}'))

    def _send(self, connection: Connection, answer: dict[str, object]) -> None:
        connection.send(pack(orjson.dumps(answer).decode()))

    def _time(self) -> int:
        return self.exchange.clock.stamp() // 1000

    def upkeep(self, connection: Connection, now: float) -> None:
        """A ping in JSON that the pong repeats: a number on one socket, text on the other (recorded)."""
        heartbeat = self.exchange.facts.heartbeat
        if heartbeat is not None and now - connection.beat >= heartbeat:
            connection.beat = now
            connection.pinged = connection.pinged or now
            connection.awaited = str(self._time()) if connection.path == "/market/ws" else self._time()
            self._send(connection, {"ping": connection.awaited})

    def farewell(self, connection: Connection, time: int) -> None:
        """It says nothing before it goes."""

    def expire(self, connection: Connection, why: str, now: float) -> None:
        connection.close(*CLOSE.get(why, (1001, "")))

    def rest(self, call: Call, now: float) -> Answer:
        return self._rest.answer(call, now)

    def unavailable(self, call: Call) -> Answer:
        return Answer.json({"code": 1, "msg": "System is under maintenance."}, 503)
