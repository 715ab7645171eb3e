"""Bitstamp spot, v2: WebSocket and public REST, their limits and errors. From the venue's sheet, section by section."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import orjson

from simulator.bitstamp_feeds import CHANNELS, native, trade_id
from simulator.bitstamp_rest import Rest
from simulator.instruments import Listing, padded
from simulator.market import Trade
from simulator.venue import Answer, Call, Facts, RefusalError

if TYPE_CHECKING:
    from simulator.connection import Connection
    from simulator.exchange import Exchange

FRAME = 512  # bytes of a client's message that are too many
SUBSCRIBE, UNSUBSCRIBE, HEARTBEAT = "bts:subscribe", "bts:unsubscribe", "bts:heartbeat"
CLOSE = {"maintenance": (1012, "Service Restart"), "frame": (1009, "read limited at 513 bytes")}


class Bitstamp:
    """The dialect of Bitstamp spot. How many connections it lets in and how long it waits for a pong is not known."""

    name: ClassVar[str] = "bitstamp"
    hosts: ClassVar[tuple[str, ...]] = ("ws.bitstamp.net", "www.bitstamp.net")
    listing: ClassVar[Listing] = Listing(
        quotes=("USD", "EUR", "USDT", "USDC", "BTC"),
        halted={"LUNA/USD": "Disabled", "WAVES/USD": "Disabled", "FTT/EUR": "Disabled"},
        price_decimals=8,
        lots=lambda _magnitude: 8,
        text=lambda decimals: padded(decimals, decimals),
        fine={"BTC": 5, "ETH": 6},
    )
    facts: ClassVar[Facts] = Facts(
        connects=100, connect_window=60.0, topics=1024, rest=10_000, rest_window=600.0,
        session=90 * 86_400.0, notice=5.0, ping=54.0, pong=60.0,
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
        known = call.host == "ws.bitstamp.net" and call.path == "/"
        return None if known else Answer("", 404, content_type="text/plain")

    def opened(self, connection: Connection, call: Call) -> None:
        """No welcome."""

    def received(self, connection: Connection, message: str | bytes, now: float) -> None:
        """subscribe and unsubscribe of one channel, and the heartbeat."""
        if len(message) >= FRAME:
            self.exchange.limit(connection, "frame", now)
            return
        try:
            request = orjson.loads(message)
        except orjson.JSONDecodeError:
            request = None
        try:
            if not isinstance(request, dict):
                raise RefusalError("Incorrect JSON format.")
            self._perform(connection, request, now)
        except RefusalError as error:
            answer = {"code": error.code or None, "message": error.text}
            connection.send(orjson.dumps({"event": "bts:error", "channel": "", "data": answer}).decode())

    def _perform(self, connection: Connection, request: dict[str, Any], now: float) -> None:
        event, data = request.get("event"), request.get("data")
        if event == HEARTBEAT:
            _answer(connection, HEARTBEAT, "", {"status": "success"})
            return
        channel = data.get("channel") if isinstance(data, dict) else None
        if event not in (SUBSCRIBE, UNSUBSCRIBE) or not isinstance(channel, str):  # a tuple: an event need not be hashable
            raise RefusalError("Bad subscription string.")
        if event == UNSUBSCRIBE:
            connection.names.pop(channel, None)
            self.exchange.unsubscribe(connection, channel)
            _answer(connection, "bts:unsubscription_succeeded", channel, {})
        elif len(connection.names.keys() | {channel}) > self.exchange.facts.topics:
            self.exchange.limit(connection, "topics", now)
        else:
            self._subscribe(connection, channel)

    def _subscribe(self, connection: Connection, channel: str) -> None:
        """An unknown market is acknowledged, and stays silent; one that is not in lower case is refused (section 5)."""
        prefix, _, name = channel.rpartition("_")
        if channel.startswith("private-"):
            raise RefusalError("Connection is unauthorized.", 4009)
        if prefix not in CHANNELS or not re.fullmatch("[a-z0-9-]+", name):
            raise RefusalError("Invalid channel provided.")
        connection.names[channel] = None
        _answer(connection, "bts:subscription_succeeded", channel, {})
        market = self.exchange.market(self.symbols.get(name, ""))
        if market is not None and channel not in connection.feeds:
            self.exchange.subscribe(connection, channel, partial(CHANNELS[prefix], channel, market))

    def upkeep(self, connection: Connection, now: float) -> None:
        """Nothing beyond the ping frames."""

    def farewell(self, connection: Connection, time: int) -> None:
        """The old socket dies within seconds."""
        connection.send('{"event":"bts:request_reconnect","channel":"","data":""}')

    def expire(self, connection: Connection, why: str, now: float) -> None:
        """One subscription too many ends the connection without a word."""
        if why == "topics":
            connection.abort()
        else:
            connection.close(*CLOSE.get(why, (1001, "")))

    def rest(self, call: Call, now: float) -> Answer:
        return self._rest.answer(call, now)

    def unavailable(self, call: Call) -> Answer:
        return Answer.json({"error": "Bitstamp.net is under scheduled maintenance. We'll be back soon."}, 503)


def _answer(connection: Connection, event: str, channel: str, data: dict[str, str]) -> None:
    connection.send(orjson.dumps({"event": event, "channel": channel, "data": data}).decode())
