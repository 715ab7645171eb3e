"""Coinbase spot: the Exchange feed and Advanced Trade, REST of both, their limits and errors. From the venue's sheet."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import orjson

from simulator.coinbase_feeds import ADVANCED, EXCHANGE, CoinbaseFeed, Make, Session, message, native, numbered, stamp
from simulator.coinbase_rest import ADVANCED_API, EXCHANGE_API, Rest
from simulator.feeds import NOTHING, Payloads
from simulator.instruments import Listing, padded
from simulator.limits import RollingWindow
from simulator.market import Trade
from simulator.venue import Answer, Call, Facts, RefusalError

if TYPE_CHECKING:
    from simulator.connection import Connection
    from simulator.exchange import Exchange

EXCHANGE_FEED, ADVANCED_FEED = "ws-feed.exchange.coinbase.com", "advanced-trade-ws.coinbase.com"
ADVANCED_MESSAGES = 8  # a second and address (section 3)
REQUESTS = ("subscribe", "unsubscribe")  # tuples: what a client sends need not be hashable
LOGIN = ("level2", "level3", "full", "user")  # of the Exchange feed
NAMES = {"level2_batch": "level2_50"}  # what an acknowledgement calls a channel
STABLE = ("USDT", "USDC")  # their books against USDC are their own
HEARTBEATS = "heartbeats"
CLOSE = {"maintenance": (1012, "Service Restart"), "unused": (1008, "")}


class Coinbase:
    """The dialect of Coinbase: which of the two feeds a connection has is a matter of its host.

    What it says to too many messages, and the code with which it sends a silent client away, are not known.
    """

    name: ClassVar[str] = "coinbase"
    hosts: ClassVar[tuple[str, ...]] = (EXCHANGE_FEED, ADVANCED_FEED, EXCHANGE_API, ADVANCED_API)
    listing: ClassVar[Listing] = Listing(
        quotes=("USD", "USDT", "EUR", "BTC"),
        halted={"LUNA/USD": "delisted", "WAVES/USD": "delisted", "FTT/EUR": "trading_disabled"},
        price_decimals=8,
        lots=lambda magnitude: min(max(0, 5 * magnitude + 1), 8),
        text=lambda decimals: padded(decimals, decimals),
        fine={"BTC": 7, "ETH": 6},
    )
    facts: ClassVar[Facts] = Facts(
        connects=8, connect_window=1.0, messages=100, message_window=1.0, topics=10_000,
        rest=15, rest_window=1.5, unused=5.0, mute=60.0, heartbeat=1.0,
    )  # fmt: skip
    blanks: ClassVar[float] = 0.0
    checksum: ClassVar[re.Pattern[bytes] | None] = None

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.symbols = {native(instrument): instrument.symbol for instrument in self.listing.instruments}
        dollars = [i for i in self.listing.instruments if i.quote == "USD" and i.base not in STABLE]
        self.aliases = {f"{i.base}-USDC": i.symbol for i in dollars}  # one book, sold under two names (section 2)
        self._messages: dict[tuple[bool, str], RollingWindow] = {}
        self._rest = Rest(exchange, self.symbols, self.aliases)

    def trade_id(self, trade: Trade) -> int:
        return trade.id

    # -------------------------------------------------------------- websocket

    def refuse(self, call: Call) -> Answer | None:
        known = call.host in {EXCHANGE_FEED, ADVANCED_FEED} and call.path == "/"
        return None if known else Answer("", 404, content_type="text/plain")

    def opened(self, connection: Connection, call: Call) -> None:
        """No welcome. Messages are counted by address."""
        facts, advanced = self.exchange.facts, call.host == ADVANCED_FEED
        connection.envelope = Session() if advanced else None
        limit = min(facts.messages, ADVANCED_MESSAGES) if advanced else facts.messages
        window = RollingWindow(limit, facts.message_window)
        connection.messages = self._messages.setdefault((advanced, call.address), window)

    def received(self, connection: Connection, message: str | bytes, now: float) -> None:
        """subscribe and unsubscribe; either is answered with all that the connection has now."""
        try:
            request = orjson.loads(message)
        except orjson.JSONDecodeError:
            request = None
        answer = self._exchange if connection.envelope is None else self._advanced
        try:
            if not isinstance(request, dict):
                raise RefusalError("Malformed JSON")
            if request.get("type") not in REQUESTS:
                raise RefusalError("Type has to be either subscribe or unsubscribe")
            answer(connection, request)
        except RefusalError as error:
            self._error(connection, error.text)

    def _exchange(self, connection: Connection, request: dict[str, Any]) -> None:
        """The acknowledgement comes first. What cannot be granted refuses the whole frame."""
        try:
            wanted = list(_wanted(request))
            for channel, products in wanted:
                self._check(channel, products, leaves=request["type"] == "unsubscribe")
        except RefusalError as error:
            self._error(connection, "Failed to subscribe", error.text)
            return
        firsts: list[str | bytes] = []
        for channel, products in wanted:
            if request["type"] == "subscribe":
                for product in products:
                    firsts += self._subscribe(connection, channel, self.symbols[product], EXCHANGE[channel])
            else:
                self._unsubscribe(connection, channel, [self.symbols.get(product, "") for product in products])
        rows = [
            {"name": NAMES.get(channel, channel), "product_ids": products, "account_ids": None}
            for channel, products in _held(connection).items()
        ]
        connection.send(orjson.dumps({"type": "subscriptions", "channels": rows}).decode())
        for payload in firsts:
            connection.send(payload)

    def _check(self, channel: str, products: list[str], *, leaves: bool) -> None:
        if channel in LOGIN:
            raise RefusalError("level2, level3, and full channels now require authentication")
        if channel not in EXCHANGE:
            raise RefusalError(f"{channel} is not a valid channel")
        for product in products if leaves else products or [""]:
            if self.exchange.market(self.symbols.get(product, "")) is None:
                raise RefusalError(f"{product} is not a valid product")

    def _advanced(self, connection: Connection, request: dict[str, Any]) -> None:
        """The acknowledgement comes after the snapshots (recorded). The texts of the errors are not known, but one."""
        channel, products = request.get("channel"), request.get("product_ids", [])
        symbols = [(self.symbols | self.aliases).get(product, "") for product in _texts(products)]
        leaves = request["type"] == "unsubscribe"
        if channel == HEARTBEATS:
            connection.names = {} if leaves else {HEARTBEATS: None}
        elif not isinstance(channel, str) or channel not in ADVANCED:
            raise RefusalError("authentication failure" if channel == "user" else "invalid channel")
        elif leaves:
            self._unsubscribe(connection, channel, symbols)
        else:
            if not symbols or not all(self.exchange.market(symbol) for symbol in symbols):
                raise RefusalError("invalid product id")
            for symbol in symbols:
                for payload in self._subscribe(connection, channel, symbol, ADVANCED[channel]):
                    connection.send(payload)
        held = _held(connection) | {name: [name] for name in connection.names}
        event = f'"subscriptions":{orjson.dumps(held, option=orjson.OPT_SORT_KEYS).decode()}'
        connection.send(numbered(message("subscriptions", self.exchange.clock.stamp(), event), connection.envelope))

    def _subscribe(self, connection: Connection, channel: str, symbol: str, make: Make) -> Payloads:
        """What a new subscription begins with; one that is held already brings nothing new."""
        key = (connection.envelope is None, channel, symbol)
        market = self.exchange.market(symbol)
        if key in connection.feeds or market is None:
            return NOTHING
        self.exchange.settle(key)
        feed = self.exchange.subscribe(connection, key, partial(make, channel, market))
        assert isinstance(feed, CoinbaseFeed)
        return [feed.wrap(payload, connection.envelope) for payload in feed.first(self.exchange.clock.stamp())]

    def _unsubscribe(self, connection: Connection, channel: str, symbols: list[str]) -> None:
        """Without products it is the whole channel."""
        for key, feed in tuple(connection.feeds.items()):
            if feed.name == channel and (not symbols or feed.market.symbol in symbols):
                self.exchange.unsubscribe(connection, key)

    def _error(self, connection: Connection, text: str, reason: str | None = None) -> None:
        """Errors have no number."""
        more = {} if reason is None else {"reason": reason}
        connection.send(orjson.dumps({"type": "error", "message": text, **more}).decode())

    def upkeep(self, connection: Connection, now: float) -> None:
        """A heartbeat each second of a connection that asked for it: Advanced Trade."""
        heartbeat = self.exchange.facts.heartbeat
        if heartbeat is None or HEARTBEATS not in connection.names or now - connection.beat < heartbeat:
            return
        connection.beat = connection.used = now
        time, session = self.exchange.clock.stamp(), connection.envelope
        assert isinstance(session, Session)
        number = next(session.heartbeats)
        text = f"{stamp(time)[:-1].replace('T', ' ')}045 +0000 UTC m=+{number}.260485341"  # as Go prints a time
        event = f'"current_time":"{text}","heartbeat_counter":{number}'
        connection.send(numbered(message(HEARTBEATS, time, event), session))

    def farewell(self, connection: Connection, time: int) -> None:
        """It says nothing before it goes."""

    def expire(self, connection: Connection, why: str, now: float) -> None:
        """Too many messages are answered with an error. Silence ends an Advanced Trade connection only (section 4)."""
        if why == "messages":
            self._error(connection, "rate limit exceeded")
        elif why != "mute" or connection.envelope is not None:
            connection.close(*CLOSE.get(why, (1001, "")))

    def rest(self, call: Call, now: float) -> Answer:
        return self._rest.answer(call, now)

    def unavailable(self, call: Call) -> Answer:
        return Answer.json({"message": "Service unavailable"}, 503)


def _held(connection: Connection) -> dict[str, list[str]]:
    """The products of each channel."""
    held: dict[str, list[str]] = {}
    for feed in connection.feeds.values():
        held.setdefault(feed.name, []).append(native(feed.market.instrument))
    return held


def _wanted(request: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Channels are names, or names with products of their own."""
    channels, products = request.get("channels"), _texts(request.get("product_ids", []))
    for channel in channels if isinstance(channels, list) and channels else [""]:
        if isinstance(channel, dict):
            yield str(channel.get("name")), _texts(channel.get("product_ids", products))
        else:
            yield str(channel), products


def _texts(products: Any) -> list[str]:
    return [str(product) for product in products] if isinstance(products, list) else []
