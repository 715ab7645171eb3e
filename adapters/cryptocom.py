"""Crypto.com Exchange spot: heartbeats to be answered, book changes that name the one before. Numbered rules follow the
sections of the venue's fact sheet.
"""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any, Literal
from urllib.parse import quote

import orjson
from msgspec import Meta, Raw, Struct
from msgspec.json import Decoder

from adapters import symbols
from adapters.adapter import ExchangeAdapter
from adapters.book import BookRule, Change, Snapshot
from adapters.effects import Fetch, Request, Send
from adapters.errors import FetchError, FrameError, VenueError
from adapters.events import Channel, Side
from adapters.handler import Handler
from adapters.holes import Hole
from adapters.numbers import Millis, Natural, text, unquoted
from adapters.sides import Level
from adapters.symbols import Instrument
from adapters.venue import History, Keepalive, Limits, Rate, Venue

VENUE = Venue(
    name="cryptocom",
    websocket="wss://stream.crypto.com/exchange/v1/market",
    rest="https://api.crypto.com/exchange/v1",
    documentation=(
        "https://exchange-docs.crypto.com/exchange/v1/rest-ws/index.html#websocket-subscriptions",
        "https://exchange-docs.crypto.com/exchange/v1/rest-ws/index.html#public-get-instruments",
    ),
    limits=Limits(
        connects=Rate(30, 60.0),
        frames=Rate(100, 1.0),
        weight=Rate(100, 1.0),
        topics_per_connection=400,
        topics_per_frame=100,
    ),
    keepalive=Keepalive(ping=None, silence=70.0),  # the server speaks up every 30 s
    book=BookRule(chain="previous", source="socket"),
    depths=(10, 50),
    per_connection={"trades": 100, "orderbooks": 50, "tickers": 100},
    asked_after=1.0,
    history=History("down", rows=150, reach=86_400.0),
    past_trades="any, by time (get-trades)",
    evidence=(
        "Connects are held to 30 a minute, which is ours: the venue publishes no number.",
        "The checksum of books is not compared: its algorithm is not published; the chain of pu and u stands alone.",
        "Trade ids are unique and not consecutive: no gap is read from them.",
        "The recent trades that come with a subscription are told where they were not before; after a restart of the collector "
        "they may be in the store already, under the same ids.",
        "Before 2026 fills of one match shared an id: there the second and later ones of a frame get their place behind it.",
        "Acknowledgements name a topic, or nothing at all; data is taken as one as well.",
        "Codes 40801, 42901, 50001 and 9010001 are passing: what they refuse is asked for again.",
        "Best prices of a ticker may be null while the book has both sides: the field is left out.",
        "get-trades is taken to have every trade of a day, its span where none is named; how far back it goes is not known.",
    ),
)

_NAMES: dict[Channel, str] = {"trades": "trade", "orderbooks": "book", "tickers": "ticker"}
_CHANNELS = {name: channel for channel, name in _NAMES.items()}
_UNUSED = {"candlestick", "funding", "estimatedfunding", "mark", "index", "settlement"}
_TOPIC = re.compile(r"\b(trade|book|ticker)\.([A-Z0-9_-]+)")
_PASSING = {40801, 42901, 50001, 9010001}
_SIDES: dict[str, Side] = {"BUY": "buy", "SELL": "sell"}


# What the venue sends. Numbers are quoted now and were bare before: each is kept raw until it is text.


class Result(Struct, gc=False):
    instrument_name: str = ""
    subscription: str = ""
    channel: str = ""
    data: Raw = Raw()


class Message(Struct, gc=False):
    method: str
    id: Annotated[int, Meta(ge=-1, le=2**63 - 1)] | None = None
    code: int = 0
    message: str = ""
    channel: str = ""
    result: Result | None = None


class Trade(Struct, gc=False):
    d: Natural | str
    t: Millis
    p: Raw
    q: Raw
    s: Literal["BUY", "SELL", "buy", "sell"]


class Row(Struct, array_like=True, gc=False):
    price: Raw
    amount: Raw


class Sides(Struct, gc=False):
    bids: list[Row]
    asks: list[Row]


class Book(Struct, gc=False):
    bids: list[Row]
    asks: list[Row]
    t: Millis
    u: Natural | None = None


class Update(Struct, gc=False):
    update: Sides
    t: Millis
    u: Natural
    pu: Natural


class Ticker(Struct, gc=False):
    t: Millis
    i: str = ""
    a: Raw = Raw()
    b: Raw = Raw()
    bs: Raw = Raw()
    k: Raw = Raw()
    ks: Raw = Raw()
    v: Raw = Raw()


class Answer(Struct):
    code: int
    message: str = ""
    result: Result | None = None


class Market(Struct):
    symbol: str
    inst_type: str
    base_ccy: str
    quote_ccy: str
    tradable: bool
    price_tick_size: str
    qty_tick_size: str


_message = Decoder(Message)
_trades = Decoder(list[Trade])
_books = Decoder(list[Book])
_updates = Decoder(list[Update])
_tickers = Decoder(list[Ticker])
_answer = Decoder(Answer)
_markets = Decoder(list[Market])


def _levels(rows: list[Row]) -> list[Level]:
    return [Level(unquoted(row.price), unquoted(row.amount)) for row in rows]


def _in_order(trades: list[Trade]) -> Iterator[tuple[str, Trade]]:
    """6. Rows come newest first; each is given with an id of its own."""
    fills: Counter[str] = Counter()
    for trade in sorted(trades, key=lambda trade: (trade.t, str(trade.d))):
        number = str(trade.d)
        place, fills[number] = fills[number], fills[number] + 1
        yield f"{number}-{place}" if place else number, trade


class Cryptocom(ExchangeAdapter):
    venue = VENUE
    endpoints = {
        "/public/get-instruments": ("instruments", None),
        "/public/get-trades": ("trades", "instrument_name"),
        "/public/get-book": ("view", "instrument_name"),
        "/public/get-tickers": ("tickers", None),
    }

    # 2. BTC_USDT is spot; BTCUSD-PERP and all others have no such name.

    @staticmethod
    def native(symbol: str) -> str:
        parts = symbols.spot(symbol)
        return f"{parts.base}_{parts.quote}"

    @staticmethod
    def canonical(native: str) -> str | None:
        return symbols.cut(native, "_")

    # 5. One frame names many topics. What is said of books holds for all of a frame, which is of one channel.

    def subscribe(self, channel: Channel, natives: list[str], request: str) -> Send:
        return self._request("subscribe", channel, natives, request)

    def unsubscribe(self, channel: Channel, natives: list[str], request: str) -> Send:
        return self._request("unsubscribe", channel, natives, request)

    def _request(self, method: str, channel: Channel, natives: list[str], request: str) -> Send:
        depth = f".{self.depth}" if channel == "orderbooks" else ""
        parameters: dict[str, Any] = {"channels": [f"{_NAMES[channel]}.{native}{depth}" for native in natives]}
        if channel == "orderbooks" and method == "subscribe":
            parameters |= {"book_subscription_type": "SNAPSHOT_AND_UPDATE", "book_update_frequency": 100}
        return Send(orjson.dumps({"id": int(request), "method": method, "params": parameters}).decode())

    def parse(self, frame: bytes, say: Handler) -> None:
        message = _message.decode(frame)
        if message.result is not None and message.result.data:
            self._tell_data(message.result, say)
        elif message.method == "public/heartbeat" and message.id is not None:
            # 4. Three heartbeats without an answer of the same id, and the venue closes.
            say.effect(Send(f'{{"id":{message.id},"method":"public/respond-heartbeat"}}'))
        elif message.code != 0:
            self._tell_error(message, say)
        elif message.method == "subscribe":
            self._tell_ack(message, say)
        elif message.method != "unsubscribe":
            raise FrameError(f"a message of no known kind: {message.method}")

    # 10. What data is about stands in its channel: its id is that of a request, or none.

    def _tell_data(self, result: Result, say: Handler) -> None:
        channel, native = result.channel, result.instrument_name
        if channel == "book.update":
            self._tell_changes(native, _updates.decode(result.data), say)
        elif channel == "trade":
            for number, trade in _in_order(_trades.decode(result.data)):
                say.trade(native, number, unquoted(trade.p), unquoted(trade.q), _SIDES[trade.s.upper()], trade.t * 1000)
        elif channel == "ticker":
            for ticker in _tickers.decode(result.data):
                self._tell_ticker(native, ticker, say)
        elif channel == "book":
            for book in _books.decode(result.data):
                say.snapshot(native, Snapshot(_levels(book.bids), _levels(book.asks), book.u, book.t * 1000))
        elif channel not in _UNUSED:
            raise FrameError(f"data of no known channel: {channel}")

    # 7. A snapshot comes with each subscription; then pu names the u before. In a quiet market both are equal. The venue itself
    #    removes what leaves the window.

    @staticmethod
    def _tell_changes(native: str, updates: list[Update], say: Handler) -> None:
        for each in updates:
            bids, asks = _levels(each.update.bids), _levels(each.update.asks)
            say.change(native, Change(bids, asks, None, each.u, each.pu, each.t * 1000))

    @staticmethod
    def _tell_ticker(native: str, ticker: Ticker, say: Handler) -> None:
        prices = {"bid": ticker.b, "bid_amount": ticker.bs, "ask": ticker.k, "ask_amount": ticker.ks}
        fields = prices | {"last": ticker.a, "volume_24h": ticker.v}
        say.ticker(native, ticker.t * 1000, {name: unquoted(token) for name, token in fields.items() if text(token)})

    # 5. Each topic is answered by itself; one that is refused does not stop the others. Older answers name none.

    @staticmethod
    def _tell_ack(message: Message, say: Handler) -> None:
        topic = message.channel or (message.result.subscription if message.result else "")
        if about := _TOPIC.match(topic):
            say.acked(channel=_CHANNELS[about[1]], native=about[2])
        elif not topic and message.id is not None:
            say.acked(request=str(message.id))

    @staticmethod
    def _tell_error(message: Message, say: Handler) -> None:
        reason = f"{message.message} (code {message.code})"
        about = _TOPIC.search(message.channel) or _TOPIC.search(message.message)
        if message.method != "subscribe" or message.code in _PASSING:
            say.error(VenueError(reason))
        elif about:
            say.refused(reason, channel=_CHANNELS[about[1]], native=about[2])
        else:
            say.refused(reason, request=None if message.id is None else str(message.id))

    # 8. Every answer comes in one envelope, whose code says whether it is one.

    # 8. Back from a time, which is not included itself.

    def trades_request(self, native: str, hole: Hole) -> Fetch:
        span = f"start_ts={hole.since // 1000}&end_ts={hole.until // 1000 + 1}"
        url = f"{VENUE.rest}/public/get-trades?instrument_name={quote(native)}&count=150&{span}"
        return Fetch(("trades", native), Request(url))

    @classmethod
    def instruments_request(cls) -> Fetch:
        return Fetch(("instruments",), Request(f"{VENUE.rest}/public/get-instruments"))

    @classmethod
    def parse_instruments(cls, body: bytes) -> list[Instrument]:
        return [
            Instrument(
                symbol=f"{market.base_ccy}/{market.quote_ccy}",
                native=market.symbol,
                active=market.tradable,
                state="tradable" if market.tradable else "not tradable",
                price_step=market.price_tick_size,
                amount_step=market.qty_tick_size,
            )
            for market in _markets.decode(cls._data(body))
            if market.inst_type == "CCY_PAIR"
        ]

    @staticmethod
    def _data(body: bytes) -> Raw:
        answer = _answer.decode(body)
        if answer.code != 0 or answer.result is None:
            raise FetchError(f"{answer.message} (code {answer.code})")
        return answer.result.data

    @classmethod
    def parse_answer(cls, key: tuple[str, ...], body: bytes, say: Handler) -> None:
        data = cls._data(body)
        match key:
            case ("trades", native):
                for number, trade in _in_order(_trades.decode(data)):
                    side = _SIDES[trade.s.upper()]
                    say.past_trade(native, number, unquoted(trade.p), unquoted(trade.q), side, trade.t * 1000)
            case ("view", native):
                for book in _books.decode(data):
                    say.view(native, Snapshot(_levels(book.bids), _levels(book.asks), book.u, book.t * 1000))
            case ("tickers",):
                for ticker in _tickers.decode(data):
                    cls._tell_ticker(ticker.i, ticker, say)
            case _:
                raise FetchError(f"nothing is known about {key}")

    @classmethod
    def shape(cls, answer: Any) -> str | None:
        match answer:
            case {"result": {"data": [{"d": _, "p": _, "q": _}, *_]}}:
                return "trades"
            case {"result": {"data": [{"asks": _, "bids": _}, *_]}}:
                return "view"
            case {"result": {"data": [{"i": _, "a": _, "k": _}, *_]}}:
                return "tickers"
            case {"result": {"data": [{"symbol": _, "inst_type": _}, *_]}}:
                return "instruments"
        return None
