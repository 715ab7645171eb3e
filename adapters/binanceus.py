"""Binance.US spot: the frames of Binance under limits of its own. Numbered rules follow the venue's fact sheet."""

from typing import Any
from urllib.parse import quote

import orjson

from adapters.adapter import ExchangeAdapter
from adapters.binance import Binance
from adapters.book import BookRule
from adapters.effects import Fetch, Request, Send
from adapters.events import Channel
from adapters.handler import Handler
from adapters.holes import Hole
from adapters.symbols import Instrument, split
from adapters.venue import History, Keepalive, Limits, Rate, Venue

VENUE = Venue(
    name="binanceus",
    websocket="wss://stream.binance.us:9443/stream",
    rest="https://api.binance.us",
    documentation=(
        "https://docs.binance.us/#websocket-market-data-streams",
        "https://github.com/binance-us/binance-us-api-docs/blob/master/web-socket-streams.md",
    ),
    limits=Limits(
        connects=Rate(300, 300.0),
        frames=Rate(4, 1.0),  # 5 a second, of which pongs take a share
        weight=Rate(1200, 60.0),
        topics_per_connection=1024,
        topics_per_frame=200,
    ),
    keepalive=Keepalive(ping=30.0, silence=90.0),
    book=BookRule(chain="range", source="rest", limited=True),
    depths=(1000, 5000),  # less is known to go stale at its edge
    per_connection={"trades": 100, "orderbooks": 50, "tickers": 100},
    lifetime=24 * 3600.0,
    numbers_trades=True,
    history=History("last", rows=1000),
    past_trades="the last 1,000 (trades); older ones merged, by aggregate id (aggTrades)",
    evidence=(
        "The venue's documentation stands still since 2024-06; what Binance changed since then is not assumed here.",
        "300 connection attempts in 5 minutes are those of Binance, since the venue publishes no number.",
        "Trade ids rise by one a market, as on Binance: the ranges that aggTrade names do in a recording of 2021.",
        "Tickers are the 1 s @ticker stream; bookTicker, which has no time and no last price, is read and not subscribed.",
        "An unknown symbol is acknowledged and stays silent: the instrument list decides what is rejected.",
        "The question that stands for a ping is documented, and was not recorded; any answer to it will do.",
        "Trades older than the last 1,000 stay a gap: without a key they are to be had merged only, several in a row.",
    ),
)

_STREAMS: dict[Channel, str] = {"trades": "@trade", "orderbooks": "@depth@100ms", "tickers": "@ticker"}
_WEIGHTS = {1000: 10, 5000: 50}

_BINANCE = Binance([])
"""Reads the frames: the fork has the same, of fewer kinds. What is asked, how often and at what cost is the venue's own."""


class BinanceUs(ExchangeAdapter):
    venue = VENUE
    endpoints = Binance.endpoints

    @staticmethod
    def native(symbol: str) -> str:
        return Binance.native(symbol)

    @staticmethod
    def canonical(native: str) -> str | None:
        return split(native)

    # 4, 10. The server pings every 3 minutes only, and most pairs are silent for hours. A question that is always answered
    #        tells a quiet connection from a dead one.

    def ping(self) -> Send:
        self._requests += 1
        return Send(orjson.dumps({"method": "LIST_SUBSCRIPTIONS", "id": self._requests}).decode())

    # 3, 5. One frame names many streams and is answered once, by its id, which must be an unsigned integer.

    def subscribe(self, channel: Channel, natives: list[str], request: str) -> Send:
        return self._request("SUBSCRIBE", channel, natives, request)

    def unsubscribe(self, channel: Channel, natives: list[str], request: str) -> Send:
        return self._request("UNSUBSCRIBE", channel, natives, request)

    def _request(self, method: str, channel: Channel, natives: list[str], request: str) -> Send:
        streams = [native.lower() + _STREAMS[channel] for native in natives]
        return Send(orjson.dumps({"method": method, "params": streams, "id": int(request)}).decode())

    # 6, 7. Messages and the alignment of books are those of Binance; a trade may still name the orders of both sides.

    def parse(self, frame: bytes, say: Handler) -> None:
        _BINANCE.parse(frame, say)

    @classmethod
    def parse_answer(cls, key: tuple[str, ...], body: bytes, say: Handler) -> None:
        Binance.parse_answer(key, body, say)

    @classmethod
    def parse_instruments(cls, body: bytes) -> list[Instrument]:
        return Binance.parse_instruments(body)

    @classmethod
    def shape(cls, answer: Any) -> str | None:
        return Binance.shape(answer)

    # 2, 7, 8. Snapshots cost a fifth of what they cost at Binance; the instrument list takes no parameters.

    def book_request(self, native: str) -> Fetch:
        url = f"{VENUE.rest}/api/v3/depth?symbol={quote(native)}&limit={self.depth}"
        return Fetch(("book", native), Request(url), weight=_WEIGHTS[self.depth])

    # 8. The last thousand need no key; aggTrades goes further back, and its rows may hold several trades.

    def trades_request(self, native: str, hole: Hole) -> Fetch:
        return Fetch(("trades", native), Request(f"{VENUE.rest}/api/v3/trades?symbol={quote(native)}&limit=1000"))

    @classmethod
    def instruments_request(cls) -> Fetch:
        return Fetch(("instruments",), Request(f"{VENUE.rest}/api/v3/exchangeInfo"), weight=10)
