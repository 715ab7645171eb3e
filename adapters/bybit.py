"""Bybit v5 spot: books on the socket, numbered by update. Numbered rules follow the sections of the venue's fact sheet."""

import re
from typing import Any, Literal
from urllib.parse import quote

import orjson
from msgspec import Raw, Struct
from msgspec.json import Decoder

from adapters import symbols
from adapters.adapter import ExchangeAdapter
from adapters.book import BookRule, Change, Snapshot
from adapters.effects import Fetch, Request, Send
from adapters.errors import FetchError, FrameError, VenueError
from adapters.events import Channel, Side
from adapters.handler import Handler
from adapters.holes import Hole
from adapters.numbers import ZEROS, Millis, Natural
from adapters.sides import Level
from adapters.symbols import Instrument
from adapters.venue import History, Keepalive, Limits, Rate, Venue

VENUE = Venue(
    name="bybit",
    websocket="wss://stream.bybit.com/v5/public/spot",
    rest="https://api.bybit.com",
    documentation=(
        "https://bybit-exchange.github.io/docs/v5/websocket/public/orderbook",
        "https://bybit-exchange.github.io/docs/v5/market/instrument",
    ),
    limits=Limits(
        connects=Rate(500, 300.0),
        frames=Rate(10, 1.0),
        weight=Rate(600, 5.0),
        topics_per_connection=400,  # 21,000 characters of topics, of which a ticker has two
        topics_per_frame=5,  # 10 arguments on spot, likewise
        rest_statuses=frozenset({403, 429}),
    ),
    keepalive=Keepalive(ping=20.0, silence=30.0),
    book=BookRule(chain="range", source="socket"),
    depths=(200, 1000),  # at 200 the update ids were seen to rise by one; at 50, which is pushed more often, nobody looked
    per_connection={"trades": 100, "orderbooks": 50, "tickers": 100},
    history=History("last", rows=60),
    past_trades="the last 60 (recent-trade)",
    evidence=(
        "Update ids without holes are promised nowhere; all 1,091 recorded changes of depth 200 rose by one: a jump is a gap.",
        "At depth 1000 the same is assumed.",
        "A change with update id 1 is taken as the whole book of a restarted service, though only snapshots are said to be.",
        "Trade ids of spot rose by one in a short recording, while the venue promises no order: no gap is read from them.",
        "A ticker of spot has no best prices: they are the book of depth 1, and an event holds the one or the other.",
        "One bad topic is assumed to fail its whole frame: what the text names is rejected, the rest asked for again.",
        "A refusal that names no topic counts as passing: all of its frame is asked for again, ever more rarely.",
        "A topic that is subscribed already counts as accepted, whatever else the answer says.",
        "10 frames a second are our own bound; the venue publishes none for its public sockets.",
        "HTTP 403 is the answer to haste, and to addresses of some countries as well.",
    ),
)

_TOPICS: dict[Channel, tuple[str, ...]] = {
    "trades": ("publicTrade",),
    "orderbooks": ("orderbook.{depth}",),
    "tickers": ("tickers", "orderbook.1"),
}
_UNUSED = ("kline.", "orderbook.rpi.", "insurance.", "adlAlert.", "priceLimit.", "allLiquidation.")
_NAMED = re.compile(r"(publicTrade|tickers|orderbook\.\d+)\.([^\s,\]]+)")
_SIDES: dict[str, Side] = {"Buy": "buy", "Sell": "sell"}


# What the venue sends. Prices and amounts are quoted; times are milliseconds, and text in REST answers.


class Message(Struct, gc=False):
    """Any frame: data of a `topic`, or the answer to an `op`."""

    topic: str = ""
    type: Literal["snapshot", "delta"] | None = None
    ts: Millis | None = None
    cts: Millis | None = None
    data: Raw = Raw()
    success: bool | None = None
    ret_msg: str = ""
    req_id: str = ""
    op: str = ""


class Trade(Struct, gc=False):
    s: str
    i: str
    p: str
    v: str
    S: Literal["Buy", "Sell"]
    T: Millis


class Book(Struct, gc=False):
    s: str
    b: list[Level]
    a: list[Level]
    u: Natural
    ts: Millis | None = None
    cts: Millis | None = None


class Ticker(Struct, gc=False):
    symbol: str
    lastPrice: str = ""
    volume24h: str = ""
    bid1Price: str = ""
    bid1Size: str = ""
    ask1Price: str = ""
    ask1Size: str = ""


class Answer(Struct):
    retCode: int
    retMsg: str = ""
    result: Raw = Raw()


class PastTrade(Struct, gc=False):
    symbol: str
    execId: str
    price: str
    size: str
    side: Literal["Buy", "Sell"]
    time: Millis


class PastTrades(Struct):
    list: list[PastTrade]


class Tickers(Struct):
    list: list[Ticker]


class LotSize(Struct):
    basePrecision: str | None = None


class PriceFilter(Struct):
    tickSize: str


class Market(Struct):
    symbol: str
    baseCoin: str
    quoteCoin: str
    status: str
    lotSizeFilter: LotSize
    priceFilter: PriceFilter


class Markets(Struct):
    list: list[Market]


_message = Decoder(Message)
_trades = Decoder(list[Trade])
_book = Decoder(Book)
_ticker = Decoder(Ticker)
_tickers = Decoder(Tickers)
_answer = Decoder(Answer)
_past_trades = Decoder(PastTrades, strict=False)
_markets = Decoder(Markets)


def _micros(*millis: int | None) -> int | None:
    """The first time that is given, in microseconds."""
    return next((each * 1000 for each in millis if each is not None), None)


class Bybit(ExchangeAdapter):
    venue = VENUE
    endpoints = {
        "/v5/market/instruments-info": ("instruments", None),
        "/v5/market/recent-trade": ("trades", "symbol"),
        "/v5/market/orderbook": ("view", "symbol"),
        "/v5/market/tickers": ("tickers", None),
    }

    # 2. Names have no delimiter, and linear perpetuals are called as their spot market: the address tells them apart.

    @staticmethod
    def native(symbol: str) -> str:
        parts = symbols.spot(symbol)
        return parts.base + parts.quote

    @staticmethod
    def canonical(native: str) -> str | None:
        return None if "-" in native else symbols.split(native)

    # 4. The venue sends no pings, and closes an idle connection after ten minutes.

    def ping(self) -> Send:
        return Send('{"op":"ping"}')

    # 5. One frame names up to ten topics and is answered once, by its id.

    def subscribe(self, channel: Channel, natives: list[str], request: str) -> Send:
        return self._request("subscribe", channel, natives, request)

    def unsubscribe(self, channel: Channel, natives: list[str], request: str) -> Send:
        return self._request("unsubscribe", channel, natives, request)

    def _request(self, operation: str, channel: Channel, natives: list[str], request: str) -> Send:
        topics = [topic.format(depth=self.depth) for topic in _TOPICS[channel]]
        arguments = [f"{topic}.{native}" for native in natives for topic in topics]
        return Send(orjson.dumps({"req_id": request, "op": operation, "args": arguments}).decode())

    def parse(self, frame: bytes, say: Handler) -> None:
        message = _message.decode(frame)
        topic = message.topic
        if topic.startswith(_UNUSED):
            return
        if topic.startswith("orderbook."):
            self._tell_levels(_book.decode(message.data), message, say)
        elif topic.startswith("publicTrade."):
            # 6. `S` is the taker's side; these are live trades, although their type is always "snapshot".
            for trade in _trades.decode(message.data):
                say.trade(trade.s, trade.i, trade.p, trade.v, _SIDES[trade.S], trade.T * 1000)
        elif topic.startswith("tickers."):
            self._tell_ticker(_ticker.decode(message.data), _micros(message.ts), say)
        elif message.success is not None or message.op:
            self._tell_reply(message, say)
        else:
            raise FrameError(f"a message of no known kind: {topic}")

    # 7. A snapshot comes with the subscription and whenever the venue likes, and replaces the book; update ids rise by one.
    #    `cts` is the time of the matching engine, as is that of trades; books of 2023 have none.

    def _tell_levels(self, book: Book, message: Message, say: Handler) -> None:
        timestamp = _micros(message.cts, message.ts)
        if message.type is None:
            raise FrameError("a book that is neither snapshot nor delta")
        if message.topic.startswith("orderbook.1."):
            self._tell_best(book, timestamp, say)
        elif message.type == "snapshot" or book.u == 1:
            say.snapshot(book.s, Snapshot(book.b, book.a, book.u, timestamp))
        else:
            say.change(book.s, Change(book.b, book.a, None, book.u, None, timestamp))

    def _tell_best(self, book: Book, timestamp: int | None, say: Handler) -> None:
        """7. The book of depth 1 is sent whole; that of 2023 sent changes too, of which the level that stays is told."""
        prices: dict[str, str | None] = {}
        for side, levels in (("bid", book.b), ("ask", book.a)):
            best = next((level for level in levels if level.amount not in ZEROS), None)
            if best is not None:
                prices |= {side: best.price, f"{side}_amount": best.amount}
        say.ticker(book.s, timestamp, prices)

    @staticmethod
    def _tell_ticker(ticker: Ticker, timestamp: int | None, say: Handler) -> None:
        prices = {"bid": ticker.bid1Price, "bid_amount": ticker.bid1Size, "last": ticker.lastPrice}
        prices |= {"ask": ticker.ask1Price, "ask_amount": ticker.ask1Size, "volume_24h": ticker.volume24h}
        say.ticker(ticker.symbol, timestamp, prices)

    # 5. An acknowledgement never names its topics; a refusal names the bad ones inside its text, and may lack the id.

    def _tell_reply(self, reply: Message, say: Handler) -> None:
        request = reply.req_id or None
        if reply.success is False:
            self._tell_error(reply, request, say)
        elif reply.op == "subscribe":
            say.acked(request=request)
        elif reply.op not in ("unsubscribe", "ping", "pong"):
            raise FrameError(f"the answer to an unknown operation: {reply.op}")

    def _tell_error(self, reply: Message, request: str | None, say: Handler) -> None:
        named = _NAMED.findall(reply.ret_msg) if reply.op == "subscribe" else []
        for topic, native in named:
            channel: Channel = self._channel(topic)
            if "already subscribed" in reply.ret_msg:
                say.acked(channel=channel, native=native)
            else:
                say.refused(reply.ret_msg, channel=channel, native=native, request=request)
        if not named:
            say.error(VenueError(reply.ret_msg or "refused without a reason"))

    @staticmethod
    def _channel(topic: str) -> Channel:
        if topic == "publicTrade":
            return "trades"
        return "tickers" if topic in _TOPICS["tickers"] else "orderbooks"

    # 8. Every answer comes in one envelope, whose code says whether it is one. The list of spot markets is one page.

    # 8. The last sixty; there is no way to older ones.

    def trades_request(self, native: str, hole: Hole) -> Fetch:
        url = f"{VENUE.rest}/v5/market/recent-trade?category=spot&symbol={quote(native)}&limit=60"
        return Fetch(("trades", native), Request(url))

    @classmethod
    def instruments_request(cls) -> Fetch:
        return Fetch(("instruments",), Request(f"{VENUE.rest}/v5/market/instruments-info?category=spot&limit=1000"))

    @classmethod
    def parse_instruments(cls, body: bytes) -> list[Instrument]:
        return [
            Instrument(
                symbol=f"{market.baseCoin}/{market.quoteCoin}",
                native=market.symbol,
                active=market.status == "Trading",
                state=market.status,
                price_step=market.priceFilter.tickSize,
                amount_step=market.lotSizeFilter.basePrecision,
            )
            for market in _markets.decode(cls._result(body)).list
            if market.lotSizeFilter.basePrecision is not None  # which derivatives, whose names may be the same, lack
        ]

    @staticmethod
    def _result(body: bytes) -> Raw:
        answer = _answer.decode(body)
        if answer.retCode != 0:
            raise FetchError(f"{answer.retMsg} (code {answer.retCode})")
        return answer.result

    @classmethod
    def parse_answer(cls, key: tuple[str, ...], body: bytes, say: Handler) -> None:
        result = cls._result(body)
        match key:
            case ("trades", _):
                for each in _past_trades.decode(result).list:
                    say.past_trade(each.symbol, each.execId, each.price, each.size, _SIDES[each.side], each.time * 1000)
            case ("view", _):
                view = _book.decode(result)
                say.view(view.s, Snapshot(view.b, view.a, view.u, _micros(view.cts, view.ts)))
            case ("tickers",):
                for ticker in _tickers.decode(result).list:
                    cls._tell_ticker(ticker, None, say)
            case _:
                raise FetchError(f"nothing is known about {key}")

    @classmethod
    def shape(cls, answer: Any) -> str | None:
        match answer:
            case {"result": {"s": _, "b": _, "a": _}}:
                return "view"
            case {"result": {"list": [{"execId": _}, *_]}}:
                return "trades"
            case {"result": {"list": [{"symbol": _, "lastPrice": _}, *_]}}:
                return "tickers"
            case {"result": {"list": [{"baseCoin": _, "lotSizeFilter": _}, *_]}}:
                return "instruments"
        return None
