"""KuCoin spot (classic): a token for each connection, REST under each book. Numbered rules follow the venue's fact sheet."""

from typing import Any, Literal, cast
from urllib.parse import quote, urlencode
from zlib import crc32

import orjson
from msgspec import Raw, Struct
from msgspec.json import Decoder

from adapters import symbols
from adapters.adapter import ExchangeAdapter
from adapters.book import BookRule, Change, Snapshot
from adapters.effects import Connect, Effect, Fetch, Reconnect, Request, Send
from adapters.errors import FetchError, FrameError, VenueError
from adapters.events import Channel
from adapters.handler import Handler
from adapters.holes import Hole
from adapters.numbers import ZEROS, Millis, Natural, text
from adapters.sides import Level, Rows
from adapters.symbols import Instrument
from adapters.venue import History, Keepalive, Limits, Rate, Venue


class ChangedLevel(Struct, array_like=True, gc=False, frozen=True):
    """A level of a change, with the sequence of its last change."""

    price: str
    amount: str
    sequence: Natural


def newer(rows: Rows, sequence: int) -> Rows:
    """7. At alignment, a change that straddles the snapshot has rows that the snapshot holds already, in a later state."""
    return [row for row in cast("list[ChangedLevel]", rows) if row.sequence > sequence]


VENUE = Venue(
    name="kucoin",
    websocket="wss://ws-api-spot.kucoin.com/",  # as a rule: the address to use comes with the token
    rest="https://api.kucoin.com",
    documentation=(
        "https://www.kucoin.com/docs-new/3470063w0",
        "https://www.kucoin.com/docs-new/rest/spot-trading/market-data/get-part-orderbook",
    ),
    limits=Limits(
        connects=Rate(30, 60.0),
        frames=Rate(100, 10.0),
        weight=Rate(2000, 30.0),
        topics_per_connection=300,
        topics_per_frame=100,
    ),
    keepalive=Keepalive(ping=18.0, silence=45.0),
    book=BookRule(chain="range", source="rest", limited=True, newer=newer),
    depths=(100,),
    per_connection={"trades": 100, "orderbooks": 50, "tickers": 100},
    greets=True,
    history=History("last", rows=100),
    past_trades="the last 100",
    evidence=(
        "300 topics a connection are assumed (400 in a profile of 2026), and fewer than 50 connections.",
        "Connects are held to 30 a minute, which is ours: the venue publishes no number for this stack.",
        "An unknown symbol is acknowledged and stays silent: the instrument list decides what is rejected.",
        "The whole book needs a signed request, so that books are known within the 100 levels a side of the public one.",
        "Trade ids are not consecutive: no gap is read from them.",
        "The ping interval of the token's answer has always been 18 s and is taken as a fact.",
        "Tickers are /market/ticker, with best prices and the last; the day's volume is in /market/snapshot, only read.",
        "Error 509 (too frequent) is listed without certainty; it is passing, and its topics are asked for again.",
        "In call auctions the normal topics are silent; the topics of the auction are passed over.",
    ),
)

_TOPICS: dict[Channel, str] = {
    "trades": "/market/match",
    "orderbooks": "/market/level2",
    "tickers": "/market/ticker",
}
_UNUSED = ("/market/candles", "/market/level3", "/spotMarket/level3", "/indicator/", "/callauction/")
_TOKEN_REFUSED = 401
_TOO_FREQUENT = {429, 509}


# What the venue sends. Prices and amounts are quoted, but for the day's snapshot; sequences and times come in both spellings.


class Message(Struct, gc=False):
    type: str
    topic: str = ""
    subject: str = ""
    data: Raw = Raw()
    id: str | None = None
    code: int | None = None


class Match(Struct, gc=False):
    symbol: str
    tradeId: str
    price: str
    size: str
    side: Literal["buy", "sell"]
    time: Natural


class Changes(Struct, gc=False):
    asks: list[ChangedLevel]
    bids: list[ChangedLevel]


class Level2(Struct, gc=False):
    symbol: str
    changes: Changes
    sequenceStart: Natural
    sequenceEnd: Natural
    time: Millis | None = None


class View(Struct, gc=False):
    asks: list[Level]
    bids: list[Level]
    timestamp: Millis


class Level1(Struct, gc=False):
    asks: list[str]
    bids: list[str]
    timestamp: Millis


class Ticker(Struct, gc=False):
    price: str | None = None
    bestBid: str | None = None
    bestBidSize: str | None = None
    bestAsk: str | None = None
    bestAskSize: str | None = None
    time: Millis | None = None
    Time: Millis | None = None


class Day(Struct, gc=False):
    symbol: str
    datetime: Millis
    buy: Raw = Raw()
    bidSize: Raw = Raw()
    sell: Raw = Raw()
    askSize: Raw = Raw()
    lastTradedPrice: Raw = Raw()
    vol: Raw = Raw()


class DaySnapshot(Struct, gc=False):
    data: Day


class Answer(Struct):
    code: str
    msg: str = ""
    data: Raw = Raw()


class Server(Struct):
    endpoint: str


class Token(Struct):
    token: str
    instanceServers: list[Server]


class Book(Struct, gc=False):
    sequence: Natural
    asks: list[Level]
    bids: list[Level]
    time: Millis | None = None


class PastTrade(Struct, gc=False):
    sequence: str
    price: str
    size: str
    side: Literal["buy", "sell"]
    time: Natural


class Market(Struct):
    symbol: str
    baseCurrency: str
    quoteCurrency: str
    baseIncrement: str
    priceIncrement: str
    enableTrading: bool


_message = Decoder(Message, strict=False)
_match = Decoder(Match, strict=False)
_level2 = Decoder(Level2, strict=False)
_view = Decoder(View, strict=False)
_level1 = Decoder(Level1, strict=False)
_ticker = Decoder(Ticker, strict=False)
_day_snapshot = Decoder(DaySnapshot, strict=False)
_answer = Decoder(Answer)
_token = Decoder(Token)
_book = Decoder(Book, strict=False)
_past_trades = Decoder(list[PastTrade], strict=False)
_markets = Decoder(list[Market])


def _moving(rows: list[ChangedLevel]) -> list[ChangedLevel]:
    """7. A row at price 0 is no level: it only moves the sequence on."""
    return [row for row in rows if row.price not in ZEROS]


class Kucoin(ExchangeAdapter):
    venue = VENUE
    endpoints = {
        "/api/v1/bullet-public": ("token", None),
        "/api/v1/symbols": ("instruments", None),
        "/api/v2/symbols": ("instruments", None),
        "/api/v1/market/histories": ("trades", "symbol"),
        "/api/v1/market/orderbook/level2_20": ("view", "symbol"),
        "/api/v1/market/orderbook/level2_100": ("book", "symbol"),
        "/api/v3/market/orderbook/level2": ("book", "symbol"),
    }

    # 2. BTC-USDT: `symbol` is stable, while the venue may change a market's `name`.

    @staticmethod
    def native(symbol: str) -> str:
        parts = symbols.spot(symbol)
        return f"{parts.base}-{parts.quote}"

    @staticmethod
    def canonical(native: str) -> str | None:
        return symbols.cut(native, "-")

    # 3. A token serves one connection, and comes with the address to use.

    def connect(self) -> Effect:
        return Fetch(("token",), Request(f"{VENUE.rest}/api/v1/bullet-public", method="POST"), weight=10)

    @staticmethod
    def _tell_token(granted: Token, say: Handler) -> None:
        if not granted.instanceServers:
            raise FetchError("a token without a server")
        parameters = {"token": granted.token, "connectId": f"{crc32(granted.token.encode()):08x}"}
        say.effect(Connect(f"{granted.instanceServers[0].endpoint}?{urlencode(parameters)}"))

    # 4. Protocol pings are not enough: without this one the venue closes after a minute.

    def ping(self) -> Send:
        self._requests += 1
        return Send(orjson.dumps({"id": str(self._requests), "type": "ping"}).decode())

    # 5. Symbols of a topic are joined by commas, and answered together, by the id of the request alone.

    def subscribe(self, channel: Channel, natives: list[str], request: str) -> Send:
        return self._request("subscribe", channel, natives, request)

    def unsubscribe(self, channel: Channel, natives: list[str], request: str) -> Send:
        return self._request("unsubscribe", channel, natives, request)

    def _request(self, kind: str, channel: Channel, natives: list[str], request: str) -> Send:
        topic = f"{_TOPICS[channel]}:{','.join(natives)}"
        frame = {"id": request, "type": kind, "topic": topic, "privateChannel": False, "response": True}
        return Send(orjson.dumps(frame).decode())

    def parse(self, frame: bytes, say: Handler) -> None:
        message = _message.decode(frame)
        if message.type == "message":
            self._tell_data(message, say)
        elif message.type == "welcome":
            say.welcomed()
        elif message.type == "ack":
            say.acked(request=message.id)
        elif message.type == "error":
            self._tell_error(message, say)
        elif message.type != "pong":
            raise FrameError(f"a message of no known kind: {message.type}")

    def _tell_error(self, message: Message, say: Handler) -> None:
        reason = f"{text(message.data)} (code {message.code})"
        if message.code == _TOKEN_REFUSED:
            say.effect(Reconnect(reason))
        elif message.code in _TOO_FREQUENT:
            say.error(VenueError(reason))
        else:
            say.refused(reason, request=message.id)

    def _tell_data(self, message: Message, say: Handler) -> None:
        topic, _, native = message.topic.partition(":")
        if topic == "/market/match":
            # 6. `side` is the taker's, the time is in nanoseconds.
            match = _match.decode(message.data)
            say.trade(match.symbol, match.tradeId, match.price, match.size, match.side, match.time // 1000)
        elif topic == "/market/level2":
            self._tell_change(_level2.decode(message.data), say)
        elif topic == "/market/ticker":
            self._tell_ticker(message.subject if native == "all" else native, _ticker.decode(message.data), say)
        elif topic in ("/spotMarket/level2Depth5", "/spotMarket/level2Depth50"):
            view = _view.decode(message.data)
            say.view(native, Snapshot(view.bids, view.asks, None, view.timestamp * 1000))
        elif topic == "/spotMarket/level1":
            self._tell_best(native, _level1.decode(message.data), say)
        elif topic == "/market/snapshot":
            self._tell_day(_day_snapshot.decode(message.data).data, say)
        elif not topic.startswith(_UNUSED):
            raise FrameError(f"data of no known topic: {topic}")

    # 7. A change covers the sequences from sequenceStart to sequenceEnd; that of a row is no link of the chain.

    def _tell_change(self, level2: Level2, say: Handler) -> None:
        bids, asks = _moving(level2.changes.bids), _moving(level2.changes.asks)
        timestamp = level2.time * 1000 if level2.time is not None else None
        say.change(level2.symbol, Change(bids, asks, level2.sequenceStart, level2.sequenceEnd, None, timestamp))

    def _tell_ticker(self, native: str, ticker: Ticker, say: Handler) -> None:
        prices = {"bid": ticker.bestBid, "bid_amount": ticker.bestBidSize, "last": ticker.price}
        prices |= {"ask": ticker.bestAsk, "ask_amount": ticker.bestAskSize}
        time = ticker.time or ticker.Time
        say.ticker(native, time * 1000 if time is not None else None, prices)

    def _tell_best(self, native: str, best: Level1, say: Handler) -> None:
        bid = dict(zip(("bid", "bid_amount"), best.bids, strict=False))
        ask = dict(zip(("ask", "ask_amount"), best.asks, strict=False))
        say.ticker(native, best.timestamp * 1000, bid | ask)

    def _tell_day(self, day: Day, say: Handler) -> None:
        prices = {"bid": text(day.buy), "bid_amount": text(day.bidSize)}
        prices |= {"ask": text(day.sell), "ask_amount": text(day.askSize)}
        prices |= {"last": text(day.lastTradedPrice), "volume_24h": text(day.vol)}
        say.ticker(day.symbol, day.datetime * 1000, prices)

    # 7, 8. The public snapshot holds 100 levels a side. Every answer has a code, which alone says whether it is one.

    def book_request(self, native: str) -> Fetch:
        url = f"{VENUE.rest}/api/v1/market/orderbook/level2_100?symbol={quote(native)}"
        return Fetch(("book", native), Request(url), weight=4)

    # 8. The last hundred; there is no way to older ones.

    def trades_request(self, native: str, hole: Hole) -> Fetch:
        url = f"{VENUE.rest}/api/v1/market/histories?symbol={quote(native)}"
        return Fetch(("trades", native), Request(url), weight=3)

    @classmethod
    def instruments_request(cls) -> Fetch:
        return Fetch(("instruments",), Request(f"{VENUE.rest}/api/v2/symbols"), weight=4)

    @classmethod
    def parse_instruments(cls, body: bytes) -> list[Instrument]:
        return [
            Instrument(
                symbol=f"{market.baseCurrency}/{market.quoteCurrency}",
                native=market.symbol,
                active=market.enableTrading,
                state="trading" if market.enableTrading else "trading disabled",
                price_step=market.priceIncrement,
                amount_step=market.baseIncrement,
            )
            for market in _markets.decode(cls._data(body))
        ]

    @staticmethod
    def _data(body: bytes) -> Raw:
        answer = _answer.decode(body)
        if answer.code != "200000":
            raise FetchError(f"{answer.msg} (code {answer.code})")
        return answer.data

    @classmethod
    def parse_answer(cls, key: tuple[str, ...], body: bytes, say: Handler) -> None:
        data = cls._data(body)
        match key:
            case ("token",):
                cls._tell_token(_token.decode(data), say)
            case ("book" | "view", native):
                book = _book.decode(data)
                timestamp = book.time * 1000 if book.time is not None else None
                tell = say.snapshot if key[0] == "book" else say.view
                tell(native, Snapshot(book.bids, book.asks, book.sequence, timestamp))
            case ("trades", native):
                for each in _past_trades.decode(data):
                    say.past_trade(native, each.sequence, each.price, each.size, each.side, each.time // 1000)
            case _:
                raise FetchError(f"nothing is known about {key}")

    @classmethod
    def shape(cls, answer: Any) -> str | None:
        match answer:
            case {"data": {"sequence": _, "asks": _, "bids": _}}:
                return "book"
            case {"data": [{"sequence": _, "price": _, "side": _}, *_]}:
                return "trades"
            case {"data": [{"symbol": _, "baseIncrement": _}, *_]}:
                return "instruments"
            case {"data": {"token": _, "instanceServers": _}}:
                return "token"
        return None
