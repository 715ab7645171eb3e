"""Kraken spot: WebSocket v2 and public REST, their limits and errors. From the venue's sheet, section by section."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import orjson

from simulator.instruments import Listing, padded
from simulator.kraken_feeds import BookFeed, KrakenFeed, Ohlc, Ticker, Trades, stamp
from simulator.kraken_rest import INTERVALS, Rest, least
from simulator.market import Market, Trade
from simulator.venue import Answer, Call, Facts, RefusalError

if TYPE_CHECKING:
    from simulator.connection import Connection
    from simulator.exchange import Exchange

VERSION = "2.0.10"
DEPTHS = (10, 25, 100, 500, 1000)  # tuples: what a client sends need not be hashable
CHANNELS = ("trade", "book", "ticker", "ohlc", "instrument")
TRIGGERS = ("trades", "bbo")
REQUESTS = ("subscribe", "unsubscribe")
OPTIONS = {"book": "depth", "ohlc": "interval", "ticker": "event_trigger"}
DEFAULTS = {"depth": 10, "interval": 1, "event_trigger": "trades"}
CLOSE = {"mute": (1000, "")}


class Kraken:
    """The dialect of Kraken spot."""

    name: ClassVar[str] = "kraken"
    hosts: ClassVar[tuple[str, ...]] = ("ws.kraken.com", "api.kraken.com")
    listing: ClassVar[Listing] = Listing(
        quotes=("USD", "EUR", "USDT", "USDC", "BTC"),
        halted={"LUNA/USD": "cancel_only", "WAVES/USD": "cancel_only", "FTT/EUR": "cancel_only"},
        price_decimals=10,
        lots=lambda _magnitude: 8,
        text=lambda decimals: padded(decimals, decimals),
    )
    facts: ClassVar[Facts] = Facts(
        connects=150, connect_window=600.0, messages=50, message_window=1.0, topics=10_000,
        rest=5, rest_window=5.0, mute=60.0, heartbeat=1.0,
    )  # fmt: skip
    blanks: ClassVar[float] = 0.0
    checksum: ClassVar[re.Pattern[bytes] | None] = re.compile(rb'("checksum":)(\d+)')

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self._rest = Rest(exchange, self.listing)

    def trade_id(self, trade: Trade) -> int:
        return trade.id

    # -------------------------------------------------------------- websocket

    def refuse(self, call: Call) -> Answer | None:
        return None if call.path.rstrip("/") == "/v2" else Answer("", 404, content_type="text/plain")

    def opened(self, connection: Connection, call: Call) -> None:
        """The status of the system comes first, unasked."""
        self._status(connection, "online")

    def received(self, connection: Connection, message: str | bytes, now: float) -> None:
        """subscribe, unsubscribe, ping: one answer per symbol."""
        began = self.exchange.clock.stamp()
        try:
            request = orjson.loads(message)
        except orjson.JSONDecodeError:
            request = None
        if not isinstance(request, dict) or not isinstance(request.get("params", {}), dict):
            self._reply(connection, {"error": "Malformed request", "success": False}, began, None)
            return
        method, identity = request.get("method"), request.get("req_id")
        if method == "ping":
            answer: dict[str, object] = {"method": "pong"} if identity is None else {"method": "pong", "req_id": identity}
            self._reply(connection, answer, began, None)
        elif method in REQUESTS:
            self._subscriptions(connection, method, request.get("params", {}), began, identity)
        else:
            self._reply(connection, {"error": "Event(s) not found", "method": method, "success": False}, began, identity)

    def _subscriptions(self, connection: Connection, method: str, params: dict[str, Any], began: int, identity: object) -> None:
        change = self._subscribe if method == "subscribe" else self._unsubscribe
        try:
            channel, option = _options(params)
            symbols = [""] if channel == "instrument" else params.get("symbol")
            if not isinstance(symbols, list) or not symbols or not all(isinstance(symbol, str) for symbol in symbols):
                raise RefusalError("Malformed request")
        except RefusalError as error:
            self._refusal(connection, method, error, began, identity)
            return
        for symbol in symbols:
            try:
                result, first = change(connection, channel, symbol, option, params.get("snapshot"))
            except RefusalError as error:
                self._refusal(connection, method, error, began, identity)
                continue
            answer: dict[str, object] = {"method": method, "result": dict(sorted(result.items())), "success": True}
            self._reply(connection, answer, began, identity)
            if first:
                connection.send(first)

    def _subscribe(
        self, connection: Connection, channel: str, symbol: str, option: Any, snapshot: object
    ) -> tuple[dict[str, Any], str | None]:
        """The fields of the acknowledgement, and the snapshot that follows it."""
        first = snapshot is not False if channel != "trade" else snapshot is True
        result: dict[str, Any] = {"channel": channel, "snapshot": first}
        name = f"{channel}:{symbol}"
        if name in connection.names:
            raise RefusalError("Already subscribed", symbol=symbol or None)
        if channel == "instrument":
            connection.names[name] = None
            return result, self._instruments() if first else None
        if symbol.count("/") != 1:
            raise RefusalError(f"Currency pair not in ISO 4217-A3 format {symbol}", symbol=symbol)
        market = self.exchange.market(symbol)
        if market is None:
            raise RefusalError(f"Currency pair not supported {symbol}", symbol=symbol)
        key = (channel, symbol, option)
        feed = self.exchange.subscribe(connection, key, partial(_feed, channel, option, market))
        connection.names[name] = None
        result["symbol"] = symbol
        if channel in OPTIONS:
            result[OPTIONS[channel]] = option
        assert isinstance(feed, KrakenFeed)
        time = self.exchange.clock.stamp()
        sequence, book = self.exchange.snapshot(market) if channel == "book" else (market.sequence, market.book)
        return result, feed.snapshot(sequence, book, time) if first else None

    def _unsubscribe(
        self, connection: Connection, channel: str, symbol: str, option: Any, snapshot: object
    ) -> tuple[dict[str, Any], str | None]:
        name, key = f"{channel}:{symbol}", (channel, symbol, option)
        if name not in connection.names or (key not in connection.feeds and channel != "instrument"):
            raise RefusalError("Subscription Not Found", symbol=symbol or None)
        del connection.names[name]
        self.exchange.unsubscribe(connection, key)
        result: dict[str, Any] = {"channel": channel}
        if symbol:
            result["symbol"] = symbol
        if channel in OPTIONS:
            result[OPTIONS[channel]] = option
        return result, None

    def _refusal(self, connection: Connection, method: str, error: RefusalError, began: int, identity: object) -> None:
        answer: dict[str, object] = {"error": error.text, "method": method, "success": False}
        if error.symbol is not None:
            answer["symbol"] = error.symbol
        self._reply(connection, answer, began, identity)

    def _reply(self, connection: Connection, answer: dict[str, object], began: int, identity: object) -> None:
        answer |= {"time_in": stamp(began), "time_out": stamp(self.exchange.clock.stamp())}
        if identity is not None:
            answer["req_id"] = identity
        connection.send(orjson.dumps(answer).decode())

    def _status(self, connection: Connection, system: str) -> None:
        identity = self.exchange.identities.getrandbits(64)  # above 2**63 at times, as recorded
        data = f'{{"version":"{VERSION}","system":"{system}","api_version":"v2","connection_id":{identity}}}'
        connection.send(f'{{"channel":"status","type":"update","data":[{data}]}}')

    def upkeep(self, connection: Connection, now: float) -> None:
        """A heartbeat each second once there is a subscription: recorded also between data. The end of a maintenance."""
        if connection.paused and now >= self.exchange.closed_until:
            connection.paused = False
            self._status(connection, "online")
        heartbeat = self.exchange.facts.heartbeat
        if heartbeat is not None and connection.names and now - connection.beat >= heartbeat:
            connection.beat = now
            connection.send('{"channel":"heartbeat"}')

    def farewell(self, connection: Connection, time: int) -> None:
        self._status(connection, "maintenance")

    def expire(self, connection: Connection, why: str, now: float) -> None:
        """Too many messages are answered, not punished; a maintenance leaves heartbeats only (section 10; whether what was
        subscribed outlives it is not known: here it does not); the rest ends the connection."""
        if why == "messages":
            connection.send('{"Error":"Exceeded msg rate"}')
        elif why == "maintenance":
            connection.paused = True
            for key in tuple(connection.feeds):
                self.exchange.unsubscribe(connection, key)
        else:
            connection.close(*CLOSE.get(why, (1001, "")))

    def _instruments(self) -> str:
        pairs: list[str] = []
        assets: dict[str, None] = {}
        for instrument in self.exchange.instruments.values():
            assets[instrument.base] = assets[instrument.quote] = None
            pairs.append(
                f'{{"symbol":"{instrument.symbol}","base":"{instrument.base}","quote":"{instrument.quote}",'
                f'"status":"{instrument.state or "online"}","qty_precision":8,"qty_increment":1e-8,'
                f'"price_precision":{instrument.price_decimals},"cost_precision":5,"marginable":false,"has_index":true,'
                f'"cost_min":0.5,"price_increment":{instrument.tick},"tick_size":{instrument.tick},"qty_min":{least(instrument)}}}'
            )
        rows = [
            f'{{"id":"{asset}","status":"enabled","precision":8,"precision_display":5,"borrowable":false,"margin_rate":0.0}}'
            for asset in assets
        ]
        data = f'{{"assets":[{",".join(rows)}],"pairs":[{",".join(pairs)}]}}'
        return f'{{"channel":"instrument","type":"snapshot","data":{data}}}'

    def rest(self, call: Call, now: float) -> Answer:
        return self._rest.answer(call, now)

    def unavailable(self, call: Call) -> Answer:
        """SystemStatus still tells what is going on."""
        if call.path == "/0/public/SystemStatus":
            time = stamp(self.exchange.clock.stamp())[:19] + "Z"
            return Answer.json({"error": [], "result": {"status": "maintenance", "timestamp": time}})
        return Answer.json({"error": ["EService:Unavailable"]})


def _options(params: dict[str, Any]) -> tuple[str, Any]:
    """The channel and the one option it has."""
    channel = params.get("channel")
    if channel not in CHANNELS:
        raise RefusalError("Event(s) not found")
    option = OPTIONS.get(channel, "")
    value = params.get(option, DEFAULTS.get(option))
    if option == "depth" and value not in DEPTHS:
        raise RefusalError("Subscription depth not supported")
    if option == "interval" and value not in INTERVALS:
        raise RefusalError("Subscription ohlc interval not supported")
    if option == "event_trigger" and value not in TRIGGERS:
        raise RefusalError("Malformed request")
    return channel, value


def _feed(channel: str, option: Any, market: Market) -> KrakenFeed:
    if channel == "trade":
        return Trades("trade", market)
    if channel == "book":
        return BookFeed(option, f"book-{option}", market)
    if channel == "ticker":
        return Ticker(option, "ticker", market)
    return Ohlc(option, f"ohlc-{option}", market)
