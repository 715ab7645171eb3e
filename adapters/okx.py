"""OKX spot: book changes that name the one before. Numbered rules follow the sections of the venue's fact sheet."""

import re
from typing import Annotated, Any, Literal
from urllib.parse import quote

import orjson
from msgspec import Meta, Raw, Struct
from msgspec.json import Decoder

from adapters import symbols
from adapters.adapter import ExchangeAdapter
from adapters.book import BookRule, Change, Snapshot
from adapters.effects import Fetch, Reconnect, Request, Send
from adapters.errors import FetchError, FrameError, VenueError
from adapters.events import Channel
from adapters.handler import Handler
from adapters.holes import Hole
from adapters.numbers import Millis, Natural
from adapters.sides import Level
from adapters.symbols import Instrument
from adapters.venue import History, Keepalive, Limits, Rate, Venue

_MOST_MATCHES = 1000
"""Of one row, whatever it says."""

VENUE = Venue(
    name="okx",
    websocket="wss://ws.okx.com/ws/v5/public",  # port 443: 8443, which older code names, is refused after 2026-10-31
    rest="https://www.okx.com",
    documentation=(
        "https://www.okx.com/docs-v5/en/#order-book-trading-market-data-ws-order-book-channel",
        "https://www.okx.com/docs-v5/en/#public-data-rest-api-get-instruments",
    ),
    limits=Limits(
        connects=Rate(3, 1.0),
        frames=Rate(480, 3600.0),  # subscribing and unsubscribing only
        weight=Rate(20, 2.0),  # each endpoint has its own; this is that of the instruments
        topics_per_connection=300,
        topics_per_frame=100,
    ),
    keepalive=Keepalive(ping=20.0, silence=30.0),
    # In call auctions, before the opening of a market, books are crossed and right.
    book=BookRule(chain="previous", source="socket", crossed="right"),
    depths=(400,),
    per_connection={"trades": 100, "orderbooks": 25, "tickers": 100},
    history=History("down", rows=100, reach=90 * 86_400.0),
    past_trades="three months, by trade id (history-trades)",
    evidence=(
        "The checksum of books is 0 on every frame since mid-2026, and was stale before: the chain of sequences stands alone.",
        "Books of 2022 recordings have no sequence at all; they are taken as they come.",
        "The id of a merged trade is that of its last match, so ids have lawful holes and no gap is read from them.",
        "480 operations an hour are counted as frames; whether each argument of a frame counts is not published.",
        "Whether one bad argument rejects its whole frame is not known: the named one is rejected, the rest asked for again.",
        "Topics a connection are our own bound; the venue advises fewer than 30 deep books.",
        "Refusals for haste, an internal error or a failed operation (60014, 63999, 64007) are passing: asked for again.",
        "volume_24h is in the base asset, which vol24h is for spot alone.",
        "Markets in preopen and rebase count as trading, since both have books; suspend and test do not.",
        "A live row of several matches is taken to hold those up to its id, as many as it counts; REST has each by itself.",
    ),
)

_NAMES: dict[Channel, str] = {"trades": "trades", "orderbooks": "books", "tickers": "tickers"}
_TRADES = {"trades", "trades-all"}
_BOOKS = {"books", "books-l2-tbt", "books50-l2-tbt"}
_CHANNELS: dict[str, Channel] = {
    **dict.fromkeys(_TRADES, "trades"),
    **dict.fromkeys({*_BOOKS, "books5"}, "orderbooks"),
    **dict.fromkeys({"tickers", "bbo-tbt"}, "tickers"),
}
_UNUSED = re.compile(
    "(mark-price-|index-)?candle.+|books-(rpi|elp)|funding-rate|mark-price|index-tickers|open-interest|price-limit"
    "|liquidation-orders|estimated-price|opt-summary|instruments|status"
)
_OPEN = {"live", "preopen", "rebase"}
_PASSING = {"60014", "63999", "64007"}
_CLOSES_SOON = "64008"
_ABOUT = re.compile(r"channel: ?([^\s,]+), ?instId: ?([^\s,]+)")


# What the venue sends. Numbers are quoted, times and integers mostly too, so that decoders take both spellings of those.


class Argument(Struct):
    channel: str
    instId: str = ""


class Message(Struct):
    """Any frame but a pong: data of the channel in `arg`, or an `event`."""

    arg: Argument | None = None
    action: str | None = None
    data: Raw = Raw()
    event: str | None = None
    code: str = ""
    msg: str = ""
    id: str | None = None


class Trade(Struct, gc=False):
    instId: str
    tradeId: str
    px: str
    sz: str
    side: Literal["buy", "sell"]
    ts: Millis
    count: Natural = 1


class Book(Struct, gc=False):
    asks: list[Level]
    bids: list[Level]
    ts: Millis
    seqId: Natural | None = None
    prevSeqId: Annotated[int, Meta(ge=-1, le=2**63 - 1)] | None = None


class Ticker(Struct, gc=False):
    instId: str
    ts: Millis
    last: str = ""
    bidPx: str = ""
    bidSz: str = ""
    askPx: str = ""
    askSz: str = ""
    vol24h: str = ""


class Answer(Struct):
    code: str
    msg: str = ""
    data: Raw = Raw()


class Market(Struct):
    instId: str
    instType: str
    baseCcy: str
    quoteCcy: str
    state: str
    tickSz: str
    lotSz: str


_message = Decoder(Message)
_trades = Decoder(list[Trade], strict=False)
_books = Decoder(list[Book], strict=False)
_tickers = Decoder(list[Ticker], strict=False)
_answer = Decoder(Answer)
_markets = Decoder(list[Market])


def _tell_merged(trade: Trade, say: Handler) -> None:
    """The ids of a row of several matches end with its own."""
    if trade.tradeId.isdecimal():
        last = int(trade.tradeId)
        say.merged(trade.instId, last - min(trade.count, _MOST_MATCHES) + 1, last - 1)


class Okx(ExchangeAdapter):
    venue = VENUE
    endpoints = {
        "/api/v5/public/instruments": ("instruments", None),
        "/api/v5/market/trades": ("trades", "instId"),
        "/api/v5/market/history-trades": ("trades", "instId"),
        "/api/v5/market/books": ("view", "instId"),
        "/api/v5/market/books-full": ("view", "instId"),
        "/api/v5/market/ticker": ("tickers", "instId"),
        "/api/v5/market/tickers": ("tickers", None),
    }

    # 2. BTC-USDT is spot; a third part makes a swap, a future or an option of it.

    @staticmethod
    def native(symbol: str) -> str:
        parts = symbols.spot(symbol)
        return f"{parts.base}-{parts.quote}"

    @staticmethod
    def canonical(native: str) -> str | None:
        return symbols.cut(native, "-")

    # 4. Ping and pong are bare words, and no operations.

    def ping(self) -> Send:
        return Send("ping", cost=0)

    # 5. One frame names many channels; each is acknowledged by itself, also when it was subscribed before.

    def subscribe(self, channel: Channel, natives: list[str], request: str) -> Send:
        return self._request("subscribe", channel, natives, request)

    def unsubscribe(self, channel: Channel, natives: list[str], request: str) -> Send:
        return self._request("unsubscribe", channel, natives, request)

    def _request(self, operation: str, channel: Channel, natives: list[str], request: str) -> Send:
        arguments = [{"channel": _NAMES[channel], "instId": native} for native in natives]
        return Send(orjson.dumps({"id": request, "op": operation, "args": arguments}).decode())

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
        channel, native = about.channel, about.instId
        if channel in _BOOKS:
            self._tell_books(native, message, say)
        elif channel in _TRADES:
            # 6. `side` is the taker's; a row may hold many matches, of which tradeId is the last.
            for trade in _trades.decode(message.data):
                if trade.count > 1:
                    _tell_merged(trade, say)
                say.trade(trade.instId, trade.tradeId, trade.px, trade.sz, trade.side, trade.ts * 1000)
        elif channel == "tickers":
            for ticker in _tickers.decode(message.data):
                self._tell_ticker(ticker, say)
        elif channel == "bbo-tbt":
            for best in _books.decode(message.data):
                self._tell_best(native, best, say)
        elif channel == "books5":
            for view in _books.decode(message.data):
                say.view(native, Snapshot(view.bids, view.asks, view.seqId, view.ts * 1000))
        elif not _UNUSED.fullmatch(channel):
            raise FrameError(f"data of no known channel: {channel}")

    # 7. A snapshot comes with each subscription; then prevSeqId names the seqId before. The two are equal where nothing
    #    changed, and the chain holds where the venue begins to number anew.

    def _tell_books(self, native: str, message: Message, say: Handler) -> None:
        for book in _books.decode(message.data):
            if message.action == "update":
                change = Change(book.bids, book.asks, None, book.seqId, book.prevSeqId, book.ts * 1000)
                say.change(native, change)
            elif message.action == "snapshot":
                say.snapshot(native, Snapshot(book.bids, book.asks, book.seqId, book.ts * 1000))
            else:
                raise FrameError(f"a book that is neither snapshot nor update: {message.action}")

    @staticmethod
    def _tell_ticker(ticker: Ticker, say: Handler) -> None:
        prices = {"bid": ticker.bidPx, "bid_amount": ticker.bidSz, "ask": ticker.askPx, "ask_amount": ticker.askSz}
        say.ticker(ticker.instId, ticker.ts * 1000, prices | {"last": ticker.last, "volume_24h": ticker.vol24h})

    def _tell_best(self, native: str, book: Book, say: Handler) -> None:
        prices: dict[str, str | None] = {}
        for bid in book.bids[:1]:
            prices |= {"bid": bid.price, "bid_amount": bid.amount}
        for ask in book.asks[:1]:
            prices |= {"ask": ask.price, "ask_amount": ask.amount}
        say.ticker(native, book.ts * 1000, prices)

    def _tell_event(self, event: str, message: Message, say: Handler) -> None:
        about = message.arg
        if event == "subscribe":
            if about is not None and about.channel in _CHANNELS:
                say.acked(channel=_CHANNELS[about.channel], native=about.instId, request=message.id)
        elif event == "error":
            self._tell_error(message, say)
        elif message.code == _CLOSES_SOON:
            say.effect(Reconnect(message.msg or "the venue announces an upgrade", overlap=True))
        elif event not in ("unsubscribe", "login", "channel-conn-count"):
            say.error(VenueError(f"{event}: {message.msg} (code {message.code})"))

    def _tell_error(self, message: Message, say: Handler) -> None:
        # 5. The argument that was refused is named inside the text only; other errors are about all of their request.
        reason = f"{message.msg} (code {message.code})"
        about = _ABOUT.search(message.msg)
        if message.code in _PASSING:
            say.error(VenueError(reason))
        elif about is not None and about[1] in _CHANNELS:
            say.refused(reason, channel=_CHANNELS[about[1]], native=about[2], request=message.id)
        else:
            say.refused(reason, request=message.id)

    # 8. Every answer comes in one envelope, whose code says whether it is one.

    # 8. Back from a time (type 2) for the first page, then from an id; `after` means older, and excludes what it names.

    def trades_request(self, native: str, hole: Hole) -> Fetch:
        after = f"type=2&after={hole.until // 1000 + 1}" if hole.edge is None else f"type=1&after={hole.edge}"
        url = f"{VENUE.rest}/api/v5/market/history-trades?instId={quote(native)}&limit=100&{after}"
        return Fetch(("trades", native), Request(url))

    @classmethod
    def instruments_request(cls) -> Fetch:
        return Fetch(("instruments",), Request(f"{VENUE.rest}/api/v5/public/instruments?instType=SPOT"))

    @classmethod
    def parse_instruments(cls, body: bytes) -> list[Instrument]:
        return [
            Instrument(
                symbol=f"{market.baseCcy}/{market.quoteCcy}",
                native=market.instId,
                active=market.state in _OPEN,
                state=market.state,
                price_step=market.tickSz,
                amount_step=market.lotSz,
            )
            for market in _markets.decode(cls._data(body))
            if market.instType == "SPOT"
        ]

    @staticmethod
    def _data(body: bytes) -> Raw:
        answer = _answer.decode(body)
        if answer.code != "0":
            raise FetchError(f"{answer.msg} (code {answer.code})")
        return answer.data

    @classmethod
    def parse_answer(cls, key: tuple[str, ...], body: bytes, say: Handler) -> None:
        data = cls._data(body)
        match key:
            case ("trades", _):
                for trade in _trades.decode(data):
                    say.past_trade(trade.instId, trade.tradeId, trade.px, trade.sz, trade.side, trade.ts * 1000)
            case ("view", native):
                for view in _books.decode(data):
                    say.view(native, Snapshot(view.bids, view.asks, view.seqId, view.ts * 1000))
            case ("tickers", *_):
                for ticker in _tickers.decode(data):
                    cls._tell_ticker(ticker, say)
            case _:
                raise FetchError(f"nothing is known about {key}")

    @classmethod
    def shape(cls, answer: Any) -> str | None:
        match answer:
            case {"data": [{"tradeId": _, "px": _}, *_]}:
                return "trades"
            case {"data": [{"asks": _, "bids": _}, *_]}:
                return "view"
            case {"data": [{"instId": _, "last": _, "vol24h": _}, *_]}:
                return "tickers"
            case {"data": [{"instId": _, "tickSz": _}, *_]}:
                return "instruments"
        return None
