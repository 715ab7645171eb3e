"""HTX (once Huobi) spot: packed frames, bare numbers, books asked for on the socket. Numbered rules follow the sections of the
venue's fact sheet.
"""

from operator import attrgetter
from typing import Any, Literal
from urllib.parse import quote

import orjson
from msgspec import Raw, Struct, field
from msgspec.json import Decoder

from adapters import symbols
from adapters.adapter import ExchangeAdapter
from adapters.book import BookRule, Change, Snapshot
from adapters.compression import unzipped
from adapters.effects import Connect, Effect, Fetch, Request, Send
from adapters.errors import FetchError, FrameError, VenueError
from adapters.events import Channel, Side
from adapters.handler import Handler
from adapters.holes import Hole
from adapters.numbers import Millis, Natural, plain, text
from adapters.sides import Level
from adapters.symbols import Instrument
from adapters.venue import History, Keepalive, Limits, Rate, Venue

VENUE = Venue(
    name="htx",
    websocket="wss://api.huobi.pro/ws",
    rest="https://api.huobi.pro",
    documentation=(
        "https://huobiapi.github.io/docs/spot/v1/en/#websocket-market-data",
        "https://huobiapi.github.io/docs/spot/v1/en/#reference-data",
    ),
    limits=Limits(
        connects=Rate(20, 60.0),
        frames=Rate(30, 1.0),  # of 40 subscriptions
        weight=Rate(10, 1.0),
        topics_per_connection=150,
        topics_per_frame=1,
    ),
    keepalive=Keepalive(ping=None, silence=20.0),  # the server pings every 5 s
    book=BookRule(chain="range", source="rest", truncates=True),
    depths=(150, 400),
    per_connection={"trades": 100, "orderbooks": 50, "tickers": 100},
    numbers_trades=True,
    history=History("last", rows=2000),
    past_trades="the last 2,000",
    evidence=(
        "Pace of connects is our own bound; 150 topics a connection were seen to work, and no limit is published.",
        "tradeId rises by one a market: every trade of a 2021-04 recording does; a jump is reported as a gap.",
        "The last trade before a subscription comes with it: it is told where it was not before, and shows what was missed.",
        "Levels that are pushed out of the 150 or 400 best are dropped: whether the venue removes them is not documented.",
        "Books of 5 and 20 levels are read, not subscribed: whether their changes are whole books is not certain.",
        "A change that begins before a snapshot and ends after it is applied: its amounts are absolute.",
        "A suspended market is acknowledged and silent: the instrument list decides what is rejected.",
        "Tickers are the ticker topic, with best prices, last and volume; bbo and detail are read, not subscribed.",
        "Only bad-request is taken as a refusal for good: other codes are passing, and their topics are asked for again.",
        "The lifetime of a connection is not known; none is assumed.",
    ),
)

_CHANGES = "wss://api.huobi.pro/feed"
_TOPICS: dict[Channel, str] = {"trades": "trade.detail", "tickers": "ticker"}
_REFUSED = "bad-request"
_QUOTES = (*(quote for quote in symbols.QUOTES if quote != "USD"), "HUSD")


# What the venue sends. Numbers are bare, and many have an exponent: each is kept raw until it is text.


class Message(Struct, gc=False):
    """Any frame: a ping, data of the topic in `ch`, or the answer to a request."""

    ch: str | None = None
    ts: Millis | None = None
    tick: Raw = Raw()
    ping: Natural | None = None
    id: int | str | None = None
    subbed: str | None = None
    unsubbed: str | None = None
    rep: str | None = None
    data: Raw = Raw()
    status: str = ""
    err_code: str = field(name="err-code", default="")
    err_msg: str = field(name="err-msg", default="")


class Deal(Struct, gc=False):
    tradeId: Natural
    ts: Millis
    price: Raw
    amount: Raw
    direction: Literal["buy", "sell", ""]


class Deals(Struct, gc=False):
    data: list[Deal]


class Row(Struct, array_like=True, gc=False):
    price: Raw
    amount: Raw


class Book(Struct, gc=False):
    """A book, or what changed of it since `prevSeqNum`; a side without rows may be missing."""

    bids: list[Row] | None = None
    asks: list[Row] | None = None
    seqNum: Natural | None = None
    prevSeqNum: Natural | None = None
    version: Natural | None = None


class Ticker(Struct, gc=False):
    bid: Raw = Raw()
    bidSize: Raw = Raw()
    ask: Raw = Raw()
    askSize: Raw = Raw()
    close: Raw = Raw()
    amount: Raw = Raw()


class PastDeal(Struct, gc=False):
    ts: Millis
    price: Raw
    amount: Raw
    direction: Literal["buy", "sell", ""]
    trade_id: Natural = field(name="trade-id")


class PastDeals(Struct, gc=False):
    data: list[PastDeal]


class Answer(Struct):
    status: str
    ch: str = ""
    ts: Millis | None = None
    tick: Raw = Raw()
    data: Raw = Raw()
    err_code: str = field(name="err-code", default="")
    err_msg: str = field(name="err-msg", default="")


class Market(Struct, rename="kebab"):
    symbol: str
    base_currency: str
    quote_currency: str
    price_precision: Natural
    amount_precision: Natural
    state: str


_message = Decoder(Message)
_deals = Decoder(Deals)
_requested_deals = Decoder(list[Deal])
_book = Decoder(Book)
_ticker = Decoder(Ticker)
_answer = Decoder(Answer)
_past_deals = Decoder(list[PastDeals])
_markets = Decoder(list[Market])


def _levels(rows: list[Row] | None) -> list[Level]:
    return [Level(plain(str(row.price, "utf-8")), plain(str(row.amount, "utf-8"))) for row in rows or ()]


def _snapshot(book: Book, sequence: int | None, timestamp: int | None) -> Snapshot:
    return Snapshot(_levels(book.bids), _levels(book.asks), sequence, timestamp)


def _side(direction: Literal["buy", "sell", ""]) -> Side:
    return direction or "unknown"


def _about(topic: str) -> tuple[str, str]:
    """5. `market.btcusdt.trade.detail` is about btcusdt."""
    _, native, what = topic.split(".", 2) if topic.count(".") >= 2 else ("", "", topic)
    return native, what


def _micros(millis: int | None) -> int | None:
    return None if millis is None else millis * 1000


class Htx(ExchangeAdapter):
    venue = VENUE
    endpoints = {
        "/v1/common/symbols": ("instruments", None),
        "/market/history/trade": ("trades", "symbol"),
        "/market/depth": ("view", "symbol"),
    }

    # 2. Names are lower case and have no delimiter.

    @staticmethod
    def native(symbol: str) -> str:
        parts = symbols.spot(symbol)
        return f"{parts.base}{parts.quote}".lower()

    @staticmethod
    def canonical(native: str) -> str | None:
        return symbols.split(native, _QUOTES)

    # 1. Changes of books have an address of their own; a connection is of one channel.

    def connect(self) -> Effect:
        return Connect(_CHANGES if self.subscriptions.of("orderbooks") else VENUE.websocket)

    # 5. A frame names one topic, and its answer bears the id.

    def subscribe(self, channel: Channel, natives: list[str], request: str) -> Send:
        return self._request("sub", channel, natives, request)

    def unsubscribe(self, channel: Channel, natives: list[str], request: str) -> Send:
        return self._request("unsub", channel, natives, request)

    def _request(self, operation: str, channel: Channel, natives: list[str], request: str) -> Send:
        (native,) = natives
        what = f"mbp.{self.depth}" if channel == "orderbooks" else _TOPICS[channel]
        return Send(orjson.dumps({operation: f"market.{native}.{what}", "id": request}).decode())

    # 7. The book that changes continue is asked for on the same connection.

    def book_request(self, native: str) -> Send:
        self._requests += 1
        return self._request("req", "orderbooks", [native], str(self._requests))

    def parse(self, frame: bytes, say: Handler) -> None:
        # 3. Every frame is packed by itself.
        message = _message.decode(unzipped(frame))
        if message.ch is not None:
            self._tell_data(message.ch, message, say)
        elif message.ping is not None:
            # 4. Without its number in an answer the venue closes after 20 s.
            say.effect(Send(f'{{"pong":{message.ping}}}', cost=0))
        else:
            self._tell_answer(message, say)

    def _tell_data(self, topic: str, message: Message, say: Handler) -> None:
        native, what = _about(topic)
        when = _micros(message.ts)
        if what == "trade.detail":
            # 6. `direction` is the taker's; tradeId counts a market's trades; rows are in no promised order.
            for deal in sorted(_deals.decode(message.tick).data, key=attrgetter("tradeId")):
                price, amount = str(deal.price, "utf-8"), str(deal.amount, "utf-8")
                say.trade(native, deal.tradeId, price, amount, _side(deal.direction), deal.ts * 1000)
        elif what.startswith("mbp.refresh."):
            book = _book.decode(message.tick)
            say.view(native, _snapshot(book, book.seqNum, when))
        elif what.startswith("mbp."):
            self._tell_change(native, _book.decode(message.tick), when, say)
        elif what.startswith("depth."):
            # 6. A whole book each time: with every price (step0), or with prices put together.
            book = _book.decode(message.tick)
            tell = say.snapshot if what == "depth.step0" else say.view
            tell(native, _snapshot(book, book.version, when))
        elif what in ("ticker", "bbo", "detail"):
            self._tell_ticker(native, _ticker.decode(message.tick), when, say)
        elif not what.startswith("kline."):
            raise FrameError(f"data of no known topic: {topic}")

    # 7. A change covers what came after prevSeqNum, up to seqNum.

    @staticmethod
    def _tell_change(native: str, book: Book, when: int | None, say: Handler) -> None:
        if book.seqNum is None or book.prevSeqNum is None:
            raise FrameError("a change of a book without its sequence")
        bids, asks = _levels(book.bids), _levels(book.asks)
        say.change(native, Change(bids, asks, book.prevSeqNum + 1, book.seqNum, book.prevSeqNum, when))

    # 6. `amount` is the day's volume in the base asset; a part of these is in each of the three topics.

    @staticmethod
    def _tell_ticker(native: str, ticker: Ticker, when: int | None, say: Handler) -> None:
        prices = {"bid": text(ticker.bid), "bid_amount": text(ticker.bidSize)}
        prices |= {"ask": text(ticker.ask), "ask_amount": text(ticker.askSize)}
        say.ticker(native, when, prices | {"last": text(ticker.close), "volume_24h": text(ticker.amount)})

    def _tell_answer(self, message: Message, say: Handler) -> None:
        request = None if message.id is None else str(message.id)
        if message.status == "error":
            reason = f"{message.err_msg} ({message.err_code})"
            if message.err_code == _REFUSED:
                say.refused(reason, request=request)
            else:
                say.error(VenueError(reason))
        elif message.rep is not None:
            self._tell_requested(message.rep, message, say)
        elif message.subbed is not None:
            say.acked(request=request)
        elif message.unsubbed is None:
            raise FrameError("a message of no known kind")

    # 5, 7. What was asked for once: the base of changes; of other topics no base, and nothing new.

    @staticmethod
    def _tell_requested(topic: str, message: Message, say: Handler) -> None:
        native, what = _about(topic)
        if what.startswith("mbp."):
            book = _book.decode(message.data)
            if book.seqNum is None:
                raise FrameError("a book without its sequence")
            say.snapshot(native, _snapshot(book, book.seqNum, _micros(message.ts)))
        elif what.startswith("depth."):
            book = _book.decode(message.data)
            say.view(native, _snapshot(book, book.version, _micros(message.ts)))
        elif what == "trade.detail":
            for deal in _requested_deals.decode(message.data):
                price, amount = str(deal.price, "utf-8"), str(deal.amount, "utf-8")
                say.past_trade(native, deal.tradeId, price, amount, _side(deal.direction), deal.ts * 1000)
        elif not what.startswith("kline."):
            raise FrameError(f"an answer of no known kind: {topic}")

    # 8. Every answer comes in one envelope, whose status says whether it is one, and whose `ch` names the market.

    @staticmethod
    def _answered(body: bytes) -> Answer:
        answer = _answer.decode(body)
        if answer.status != "ok":
            raise FetchError(f"{answer.err_msg} ({answer.err_code or answer.status})")
        return answer

    # 8. The last two thousand orders with all their fills; there is no way to older ones.

    def trades_request(self, native: str, hole: Hole) -> Fetch:
        return Fetch(("trades", native), Request(f"{VENUE.rest}/market/history/trade?symbol={quote(native)}&size=2000"))

    @classmethod
    def instruments_request(cls) -> Fetch:
        return Fetch(("instruments",), Request(f"{VENUE.rest}/v1/common/symbols"))

    @classmethod
    def parse_instruments(cls, body: bytes) -> list[Instrument]:
        return [
            Instrument(
                symbol=f"{market.base_currency}/{market.quote_currency}".upper(),
                native=market.symbol,
                active=market.state == "online",
                state=market.state,
                price_step=plain(f"1e-{market.price_precision}"),
                amount_step=plain(f"1e-{market.amount_precision}"),
            )
            for market in _markets.decode(cls._answered(body).data)
        ]

    @classmethod
    def parse_answer(cls, key: tuple[str, ...], body: bytes, say: Handler) -> None:
        answer = cls._answered(body)
        native = _about(answer.ch)[0]
        match key:
            case ("trades", _):
                for deals in _past_deals.decode(answer.data):
                    for deal in deals.data:
                        price, amount = str(deal.price, "utf-8"), str(deal.amount, "utf-8")
                        say.past_trade(native, deal.trade_id, price, amount, _side(deal.direction), deal.ts * 1000)
            case ("view", _):
                book = _book.decode(answer.tick)
                say.view(native, _snapshot(book, book.version, _micros(answer.ts)))
            case _:
                raise FetchError(f"nothing is known about {key}")

    @classmethod
    def shape(cls, answer: Any) -> str | None:
        match answer:
            case {"tick": {"bids": _, "asks": _}}:
                return "view"
            case {"data": [{"data": [{"trade-id": _}, *_]}, *_]}:
                return "trades"
            case {"data": [{"symbol": _, "base-currency": _}, *_]}:
                return "instruments"
        return None
