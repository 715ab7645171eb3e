"""Bitget spot: book changes that name the one before, with a checksum where the venue sends one.

Numbered rules follow the sections of the venue's fact sheet. Spoken is the classic API (v2), whose refusals name their market,
which those of the unified one (v3) do not; what v3 calls differently is read as well.
"""

from itertools import zip_longest
from typing import Annotated, Any, Literal
from urllib.parse import quote
from zlib import crc32

import orjson
from msgspec import Meta, Raw, Struct
from msgspec.json import Decoder

from adapters import symbols
from adapters.adapter import ExchangeAdapter
from adapters.book import BookRule, Change, OrderBook, Snapshot
from adapters.effects import Fetch, Request, Send
from adapters.errors import FetchError, FrameError, VenueError
from adapters.events import Channel
from adapters.handler import Handler
from adapters.holes import Hole
from adapters.numbers import Millis, Natural, plain
from adapters.sides import Level, Side
from adapters.symbols import Instrument
from adapters.venue import History, Keepalive, Limits, Rate, Venue

CHECKED_LEVELS = 25


def checksum(book: OrderBook) -> int:
    """7. Signed CRC32 of the 25 best bids and asks in turn: price and amount as sent, with colons between."""
    levels = zip_longest(_best(book.bids), _best(book.asks))
    crc = crc32(":".join(text for pair in levels for text in pair if text is not None).encode())
    return crc - 2**32 if crc >= 2**31 else crc


def _best(side: Side) -> list[str]:
    return [f"{row.price}:{row.amount}" for row in side.leading(CHECKED_LEVELS)]


_WEEK = 7 * 86_400.0

VENUE = Venue(
    name="bitget",
    websocket="wss://ws.bitget.com/v2/ws/public",
    rest="https://api.bitget.com",
    documentation=(
        "https://www.bitget.com/api-doc/spot/websocket/public/Depth-Channel",
        "https://www.bitget.com/api-doc/spot/market/Get-Symbols",
    ),
    limits=Limits(
        connects=Rate(300, 300.0),
        frames=Rate(8, 1.0),  # 10 a second, of which pings take a share
        requests=Rate(240, 3600.0),
        weight=Rate(20, 1.0),
        topics_per_connection=1000,
        topics_per_frame=20,  # 25 were too many for the unified API
    ),
    keepalive=Keepalive(ping=20.0, silence=45.0),
    book=BookRule(chain="previous", source="socket", checksum=checksum),
    depths=(200,),
    per_connection={"trades": 45, "orderbooks": 45, "tickers": 45},  # fewer than 50 channels are advised
    history=History("down", rows=1000, reach=_WEEK),
    past_trades="90 days, by trade id, of which the last 7 are asked for (fills-history)",
    evidence=(
        "No recording was at hand: everything is from documentation, code of others and a probe of the futures sockets.",
        "The classic API is in maintenance, and the unified one recommended; both show the same books.",
        "A snapshot has 200 to 500 levels a side; that levels coming into this window later are told is assumed.",
        "Where no checksum is sent (none, or 0), the chain of sequences stands alone; older books have a checksum alone.",
        "Trade ids are not consecutive: no gap is read from them.",
        "Trades under the action snapshot are those before the subscription, and past.",
        "Whether each argument counts among the 240 subscriptions an hour is not known; frames are counted.",
        "Refusals for too many requests or connections (30006, 30007) are passing: asked for again.",
        "Markets in gray, halt or offline count as not trading; gray ones may trade for some.",
        "Rows of REST trades are taken to be those of the socket.",
    ),
)

_NAMES: dict[Channel, str] = {"trades": "trade", "orderbooks": "books", "tickers": "ticker"}
_CHANNELS = {name: channel for channel, name in _NAMES.items()}
_VIEWS = {"books5", "books15", "books50"}
_UNUSED = ("candle", "kline", "liquidation")
_PASSING = {30006, 30007}


# What the venue sends. Numbers are quoted, times and precisions too; sequences need all of their 64 bits.


class Argument(Struct, gc=False):
    """What a message is about; the unified API says topic and symbol for channel and instId."""

    instType: str = ""
    channel: str = ""
    instId: str = ""
    topic: str = ""
    symbol: str = ""

    @property
    def native(self) -> str:
        """2. Derivatives have the names of spot markets: theirs are told apart by their type."""
        name = self.instId or self.symbol
        return name if self.instType.lower() == "spot" else f"{self.instType}:{name}"


class Message(Struct, gc=False):
    """Any frame but a pong: data of `arg`, or an `event`."""

    arg: Argument | None = None
    action: Literal["snapshot", "update"] | None = None
    data: Raw = Raw()
    ts: Millis | None = None
    event: str | None = None
    code: int | None = None
    msg: str = ""


class Trade(Struct, gc=False):
    ts: Millis
    price: str
    size: str
    side: Literal["buy", "sell"]
    tradeId: str


class UnifiedTrade(Struct, gc=False, rename={"ts": "T", "price": "p", "size": "v", "side": "S", "tradeId": "i"}):
    ts: Millis
    price: str
    size: str
    side: Literal["buy", "sell"]
    tradeId: str


Checksum = Annotated[int, Meta(ge=-(2**31), lt=2**31)]


class Book(Struct, gc=False):
    asks: list[Level]
    bids: list[Level]
    ts: Millis
    seq: Natural | None = None
    pseq: Natural | None = None
    checksum: Checksum | None = None


class UnifiedBook(Struct, gc=False, rename={"asks": "a", "bids": "b"}):
    asks: list[Level]
    bids: list[Level]
    ts: Millis
    seq: Natural | None = None
    pseq: Natural | None = None
    checksum: Checksum | None = None


class Ticker(Struct, gc=False):
    ts: Millis | None = None
    symbol: str = ""
    lastPr: str = ""
    bidPr: str = ""
    bidSz: str = ""
    askPr: str = ""
    askSz: str = ""
    baseVolume: str = ""


class UnifiedTicker(
    Struct,
    gc=False,
    rename={
        **{"lastPr": "lastPrice", "baseVolume": "volume24h"},
        **{"bidPr": "bid1Price", "bidSz": "bid1Size", "askPr": "ask1Price", "askSz": "ask1Size"},
    },
):
    ts: Millis | None = None
    lastPr: str = ""
    bidPr: str = ""
    bidSz: str = ""
    askPr: str = ""
    askSz: str = ""
    baseVolume: str = ""


class Answer(Struct):
    code: str
    msg: str = ""
    data: Raw = Raw()


class RestBook(Struct):
    asks: list[Level]
    bids: list[Level]
    ts: Millis | None = None


class Market(Struct):
    symbol: str
    baseCoin: str
    quoteCoin: str
    status: str
    pricePrecision: Natural
    quantityPrecision: Natural


_message = Decoder(Message, strict=False)
_trades = Decoder(list[Trade], strict=False)
_unified_trades = Decoder(list[UnifiedTrade], strict=False)
_books = Decoder(list[Book], strict=False)
_unified_books = Decoder(list[UnifiedBook], strict=False)
_tickers = Decoder(list[Ticker], strict=False)
_unified_tickers = Decoder(list[UnifiedTicker], strict=False)
_answer = Decoder(Answer)
_rest_book = Decoder(RestBook, strict=False)
_markets = Decoder(list[Market], strict=False)


class Bitget(ExchangeAdapter):
    venue = VENUE
    endpoints = {
        "/api/v2/spot/public/symbols": ("instruments", None),
        "/api/v2/spot/market/fills": ("trades", "symbol"),
        "/api/v2/spot/market/fills-history": ("trades", "symbol"),
        "/api/v2/spot/market/orderbook": ("view", "symbol"),
        "/api/v2/spot/market/merge-depth": ("view", "symbol"),
        "/api/v2/spot/market/tickers": ("tickers", None),
    }

    # 2. Names have no delimiter.

    @staticmethod
    def native(symbol: str) -> str:
        parts = symbols.spot(symbol)
        return parts.base + parts.quote

    @staticmethod
    def canonical(native: str) -> str | None:
        return None if ":" in native else symbols.split(native)

    # 4. Ping and pong are bare words; without a ping the venue closes after two minutes, whatever flows.

    def ping(self) -> Send:
        return Send("ping", cost=0)

    # 5. One frame names many channels; each is acknowledged or refused by itself.

    def subscribe(self, channel: Channel, natives: list[str], request: str) -> Send:
        return self._request("subscribe", channel, natives)

    def unsubscribe(self, channel: Channel, natives: list[str], request: str) -> Send:
        return self._request("unsubscribe", channel, natives)

    def _request(self, operation: str, channel: Channel, natives: list[str]) -> Send:
        arguments = [{"instType": "SPOT", "channel": _NAMES[channel], "instId": native} for native in natives]
        return Send(orjson.dumps({"op": operation, "args": arguments}).decode())

    def parse(self, frame: bytes, say: Handler) -> None:
        if frame == b"pong":
            return
        message = _message.decode(frame)
        if message.event is not None:
            self._tell_event(message.event, message, say)
        elif message.arg is not None:
            self._tell_data(message.arg, message, say)
        else:
            raise FrameError("a message of no known kind")

    def _tell_data(self, about: Argument, message: Message, say: Handler) -> None:
        channel, native, is_unified = about.topic or about.channel, about.native, bool(about.topic)
        if channel == "books":
            for book in (_unified_books if is_unified else _books).decode(message.data):
                self._tell_book(native, book, message.action, say)
        elif channel in ("trade", "publicTrade"):
            # 6. `side` is the taker's. The first frame after a subscription holds trades that were before it.
            tell = say.past_trade if message.action == "snapshot" else say.trade
            for trade in (_unified_trades if is_unified else _trades).decode(message.data):
                tell(native, trade.tradeId, trade.price, trade.size, trade.side, trade.ts * 1000)
        elif channel == "ticker":
            for ticker in (_unified_tickers if is_unified else _tickers).decode(message.data):
                self._tell_ticker(native, ticker, message.ts, say)
        elif channel == "books1":
            for book in (_unified_books if is_unified else _books).decode(message.data):
                self._tell_best(native, book, say)
        elif channel in _VIEWS:
            for book in (_unified_books if is_unified else _books).decode(message.data):
                say.view(native, Snapshot(book.bids, book.asks, book.seq, book.ts * 1000))
        elif not channel.startswith(_UNUSED):
            raise FrameError(f"data of no known channel: {channel}")

    # 7. A snapshot comes with each subscription; then pseq names the seq before. A checksum of 0 is none.

    @staticmethod
    def _tell_book(native: str, book: Book | UnifiedBook, action: str | None, say: Handler) -> None:
        checked, timestamp = book.checksum or None, book.ts * 1000
        if action == "update":
            say.change(native, Change(book.bids, book.asks, None, book.seq, book.pseq, timestamp, checked))
        elif action == "snapshot":
            say.snapshot(native, Snapshot(book.bids, book.asks, book.seq, timestamp, checked))
        else:
            raise FrameError("a book that is neither snapshot nor update")

    @staticmethod
    def _tell_ticker(native: str, ticker: Ticker | UnifiedTicker, sent: int | None, say: Handler) -> None:
        prices = {"bid": ticker.bidPr, "bid_amount": ticker.bidSz, "ask": ticker.askPr, "ask_amount": ticker.askSz}
        millis = sent if ticker.ts is None else ticker.ts
        timestamp = None if millis is None else millis * 1000
        say.ticker(native, timestamp, prices | {"last": ticker.lastPr, "volume_24h": ticker.baseVolume})

    @staticmethod
    def _tell_best(native: str, book: Book | UnifiedBook, say: Handler) -> None:
        prices: dict[str, str | None] = {}
        for bid in book.bids[:1]:
            prices |= {"bid": bid.price, "bid_amount": bid.amount}
        for ask in book.asks[:1]:
            prices |= {"ask": ask.price, "ask_amount": ask.amount}
        say.ticker(native, book.ts * 1000, prices)

    def _tell_event(self, event: str, message: Message, say: Handler) -> None:
        about = message.arg
        channel = _CHANNELS.get(about.channel) if about is not None else None
        native = about.native if about is not None and channel is not None else None
        if event == "subscribe":
            if channel is not None:
                say.acked(channel=channel, native=native)
        elif event == "error":
            reason = f"{message.msg} (code {message.code})"
            if message.code in _PASSING:
                say.error(VenueError(reason))
            else:
                say.refused(reason, channel=channel, native=native)
        elif event != "unsubscribe":
            raise FrameError(f"an event of no known kind: {event}")

    # 8. Every answer comes in one envelope, whose code says whether it is one.

    # 8. Back from an id. A question spans seven days at most, so that of a longer absence the last seven are asked for.

    def trades_request(self, native: str, hole: Hole) -> Fetch:
        since = max(hole.since, hole.until - int(_WEEK) * 1_000_000) // 1000
        url = f"{VENUE.rest}/api/v2/spot/market/fills-history?symbol={quote(native)}&limit=1000"
        below = f"&idLessThan={hole.edge}" if hole.edge is not None else ""
        return Fetch(("trades", native), Request(f"{url}&startTime={since}&endTime={hole.until // 1000}{below}"))

    @classmethod
    def instruments_request(cls) -> Fetch:
        return Fetch(("instruments",), Request(f"{VENUE.rest}/api/v2/spot/public/symbols"))

    @classmethod
    def parse_instruments(cls, body: bytes) -> list[Instrument]:
        return [
            Instrument(
                symbol=f"{market.baseCoin}/{market.quoteCoin}",
                native=market.symbol,
                active=market.status == "online",
                state=market.status,
                price_step=plain(f"1e-{market.pricePrecision}"),
                amount_step=plain(f"1e-{market.quantityPrecision}"),
            )
            for market in _markets.decode(cls._data(body))
        ]

    @staticmethod
    def _data(body: bytes) -> Raw:
        answer = _answer.decode(body)
        if answer.code != "00000":
            raise FetchError(f"{answer.msg} (code {answer.code})")
        return answer.data

    @classmethod
    def parse_answer(cls, key: tuple[str, ...], body: bytes, say: Handler) -> None:
        data = cls._data(body)
        match key:
            case ("trades", native):
                for trade in _trades.decode(data):
                    say.past_trade(native, trade.tradeId, trade.price, trade.size, trade.side, trade.ts * 1000)
            case ("view", native):
                book = _rest_book.decode(data)
                timestamp = None if book.ts is None else book.ts * 1000
                say.view(native, Snapshot(book.bids, book.asks, None, timestamp))
            case ("tickers",):
                for ticker in _tickers.decode(data):
                    cls._tell_ticker(ticker.symbol, ticker, None, say)
            case _:
                raise FetchError(f"nothing is known about {key}")

    @classmethod
    def shape(cls, answer: Any) -> str | None:
        match answer:
            case {"data": [{"tradeId": _, "price": _}, *_]}:
                return "trades"
            case {"data": [{"symbol": _, "lastPr": _}, *_]}:
                return "tickers"
            case {"data": {"asks": _, "bids": _}}:
                return "view"
            case {"data": [{"symbol": _, "quantityPrecision": _}, *_]}:
                return "instruments"
        return None
