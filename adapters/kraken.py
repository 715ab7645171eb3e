"""Kraken spot: bare numbers, books that a checksum proves. Numbered rules follow the sections of the venue's fact sheet."""

import re
from typing import Any, Literal
from urllib.parse import quote
from zlib import crc32

import msgspec
import orjson
from msgspec import Raw, Struct, ValidationError
from msgspec.json import Decoder

from adapters import symbols
from adapters.adapter import ExchangeAdapter
from adapters.book import BookRule, Change, OrderBook, Snapshot
from adapters.effects import Effect, Fetch, Reconnect, Request, Send
from adapters.errors import FetchError, VenueError
from adapters.events import Channel
from adapters.handler import Handler
from adapters.holes import Hole
from adapters.numbers import Natural, micros, micros_of_seconds, plain, text
from adapters.sides import Level, Side
from adapters.symbols import Instrument
from adapters.venue import History, Keepalive, Limits, Rate, Venue


def checksum(book: OrderBook) -> int:
    """7. CRC32 of the digits of the ten best asks, then of the ten best bids: price and amount in turn, nothing between."""
    return crc32((_digits(book.asks) + _digits(book.bids)).encode())


def _digits(side: Side) -> str:
    if side.token is None:
        rows: list[Any] = side.leading(10)
        side.token = "".join([row.digits for row in rows])
    return side.token


VENUE = Venue(
    name="kraken",
    websocket="wss://ws.kraken.com/v2",
    rest="https://api.kraken.com",
    documentation=(
        "https://docs.kraken.com/api/docs/websocket-v2/book",
        "https://docs.kraken.com/api/docs/guides/spot-ws-book-v2",
        "https://docs.kraken.com/api/docs/rest-api/get-tradable-asset-pairs",
    ),
    limits=Limits(
        connects=Rate(150, 600.0),
        frames=Rate(20, 1.0),
        weight=Rate(1, 1.0),
        topics_per_connection=1000,
        topics_per_frame=100,
    ),
    keepalive=Keepalive(ping=10.0, silence=25.0),  # heartbeats come each second, but only while something is subscribed
    book=BookRule(chain=None, source="socket", checksum=checksum, truncates=True),
    depths=(10, 25, 100, 500, 1000),
    per_connection={"trades": 100, "orderbooks": 50, "tickers": 200},
    numbers_trades=True,
    history=History("up", rows=1000),
    past_trades="any, by time (Trades)",
    evidence=(
        "The venue's message limit is dynamic and unpublished: 20 frames a second is what other clients keep to.",
        "How many symbols a connection may hold is not published; 1000 is our own bound.",
        "Trade ids count a pair's trades without holes, so a jump is reported as a gap.",
        "The checksum takes the digits as sent; a number with an exponent was never seen, and would be written out first.",
        "A crossed book was reported to pass its checksum: a cross counts as an error of its own.",
        "Whether subscriptions outlive a maintenance is not known: the connection is made anew when it ends.",
        "Refusals that speak of rates or of the service are passing, whatever they name: the pair is asked for again.",
        "A listed pair counts as active in any state: those short of online pass, and what cannot be had is refused by name.",
        "Ticker sizes lag behind the book, since the bbo trigger promises changes of the best prices only.",
    ),
)

_NAMES: dict[Channel, str] = {"trades": "trade", "orderbooks": "book", "tickers": "ticker"}
_CHANNELS = {name: channel for channel, name in _NAMES.items()}
_UNUSED = {"ohlc", "level3", "instrument"}
_PASSING = ("Exceeded msg rate", "EAPI:Rate limit", "EGeneral:Too many requests", "EService:")

_OLD_NAMES = {"XBT": "BTC", "XDG": "DOGE"}
_REST_NAMES = {name: old for old, name in _OLD_NAMES.items()}
_OLD_PAIR = re.compile(r"X?([A-Z]{3,4})(?:Z([A-Z]{3})|X(XBT|ETH))")
_QUOTES = ("USD", "EUR", "GBP", "CAD", "AUD", "CHF", "JPY", "AED", "USDT", "USDC", "DAI", "PYUSD", "XBT", "ETH")


# What the venue sends. Its numbers are bare and padded to the pair's precision, and stay the text that they are.


class Row(Struct, gc=False):
    """A level of a book: the text of its numbers once `_read` has seen it, and what the checksum takes of it."""

    price: Any
    amount: Any = msgspec.field(name="qty")
    digits: str = ""


class Book(Struct, gc=False):
    symbol: str
    bids: list[Row]
    asks: list[Row]
    checksum: Natural
    timestamp: str | None = None


class Trade(Struct, gc=False):
    symbol: str
    side: Literal["buy", "sell"]
    price: Raw
    qty: Raw
    trade_id: Natural
    timestamp: str


class Ticker(Struct, gc=False):
    symbol: str
    bid: Raw = Raw()
    bid_qty: Raw = Raw()
    ask: Raw = Raw()
    ask_qty: Raw = Raw()
    last: Raw = Raw()
    volume: Raw = Raw()
    timestamp: str | None = None


class System(Struct):
    system: str


class Books(Struct, tag_field="channel", tag="book", gc=False):
    type: Literal["snapshot", "update"]
    data: list[Book]


class Trades(Struct, tag_field="channel", tag="trade", gc=False):
    type: Literal["snapshot", "update"]
    data: list[Trade]


class Tickers(Struct, tag_field="channel", tag="ticker", gc=False):
    data: list[Ticker]


class Heartbeat(Struct, tag_field="channel", tag="heartbeat", gc=False):
    pass


class Status(Struct, tag_field="channel", tag="status"):
    data: list[System]


class Accepted(Struct):
    channel: str = ""
    symbol: str | None = None
    depth: int | None = None


class Reply(Struct):
    """The answer to a request, or as much of another message as tells what it is."""

    channel: str | None = None
    method: str | None = None
    success: bool = False
    result: Accepted | None = None
    error: str = ""
    symbol: str | None = None
    req_id: int | None = None
    trouble: str = msgspec.field(name="Error", default="")


class Answer(Struct):
    error: list[str]
    result: Raw = Raw()


class Pair(Struct):
    pair_decimals: int
    lot_decimals: int
    wsname: str | None = None
    tick_size: str | None = None
    status: str = "online"


class Depth(Struct):
    asks: list[Level]
    bids: list[Level]


class PastTrade(Struct, array_like=True, gc=False):
    price: str
    volume: str
    time: Raw
    side: Literal["b", "s"]
    order_type: str
    miscellaneous: str
    trade_id: Natural


_message = Decoder(Books | Trades | Tickers | Heartbeat | Status, float_hook=str)
_reply = Decoder(Reply)
_answer = Decoder(Answer)
_pairs = Decoder(dict[str, Pair])
_depths = Decoder(dict[str, Depth])
_members = Decoder(dict[str, Raw])
_past_trades = Decoder(list[PastTrade])


def _read(rows: list[Row]) -> None:
    """Note what a checksum takes of each: the digits of price and amount, without leading zeros. Raises NumberError."""
    for row in rows:
        try:
            row.digits = digits = (row.price.lstrip("0.") + row.amount.lstrip("0.")).replace(".", "")
        except AttributeError:  # a number without a fraction is no text yet
            digits = ""
        if not digits.isdecimal():  # nor is an exponent or a sign plain
            row.price, row.amount = plain(str(row.price)), plain(str(row.amount))
            row.digits = (row.price.lstrip("0.") + row.amount.lstrip("0.")).replace(".", "")


class Kraken(ExchangeAdapter):
    venue = VENUE
    endpoints = {
        "/0/public/AssetPairs": ("instruments", None),
        "/0/public/Trades": ("trades", "pair"),
        "/0/public/Depth": ("view", "pair"),
    }
    _in_maintenance = False

    # 2. On WebSocket v2 a name is the canonical symbol. REST and v1 say XBT and XDG, and REST cuts old pairs its own way.

    @staticmethod
    def native(symbol: str) -> str:
        symbols.spot(symbol)
        return symbol

    @staticmethod
    def canonical(native: str) -> str | None:
        name: str | None = native
        if old := _OLD_PAIR.fullmatch(native) if len(native) == 8 else None:
            name = f"{old[1]}/{old[2] or old[3]}"
        elif "/" not in native:
            name = symbols.split(native, _QUOTES)
        return "/".join(_OLD_NAMES.get(asset, asset) for asset in name.split("/")) if name else None

    def connect(self) -> Effect:
        self._in_maintenance = False
        return super().connect()

    # 4. The venue answers pings; a ping is what keeps a connection without a subscription alive.

    def ping(self) -> Send:
        return Send('{"method":"ping"}')

    # 5. One frame names many symbols; each is answered by itself. A book is asked for, and given up, at its depth.

    def subscribe(self, channel: Channel, natives: list[str], request: str) -> Send:
        return self._request("subscribe", channel, natives, request)

    def unsubscribe(self, channel: Channel, natives: list[str], request: str) -> Send:
        return self._request("unsubscribe", channel, natives, request)

    def _request(self, method: str, channel: Channel, natives: list[str], request: str) -> Send:
        parameters: dict[str, Any] = {"channel": _NAMES[channel], "symbol": natives}
        if channel == "orderbooks":
            parameters["depth"] = self.depth
        elif channel == "tickers":
            parameters["event_trigger"] = "bbo"
        if method == "subscribe":
            parameters["snapshot"] = channel != "trades"
        return Send(orjson.dumps({"method": method, "params": parameters, "req_id": int(request)}).decode())

    def parse(self, frame: bytes, say: Handler) -> None:
        try:
            message = _message.decode(frame)
        except ValidationError:
            reply = _reply.decode(frame)
            if reply.channel in _UNUSED:
                return
            if reply.method is None and not reply.trouble:
                raise
            self._tell_reply(reply, say)
            return
        if isinstance(message, Books):
            for book in message.data:
                self._tell_book(book, message.type == "snapshot", say)
        elif isinstance(message, Trades):
            self._tell_trades(message, say)
        elif isinstance(message, Tickers):
            for ticker in message.data:
                self._tell_ticker(ticker, say)
        elif isinstance(message, Status):
            for state in message.data:
                self._tell_system(state.system, say)

    # 7. There is no sequence: the checksum, over the book after the change, is what finds a loss.

    def _tell_book(self, book: Book, is_whole: bool, say: Handler) -> None:
        bids, asks = book.bids, book.asks
        _read(bids)
        _read(asks)
        timestamp = micros(book.timestamp) if book.timestamp else None
        if is_whole:
            say.snapshot(book.symbol, Snapshot(bids, asks, None, timestamp, book.checksum))
        else:
            say.change(book.symbol, Change(bids, asks, None, None, None, timestamp, book.checksum))

    # 6. `side` is the taker's; a frame holds all trades of an order; a snapshot holds the last 50, which are not news.

    def _tell_trades(self, message: Trades, say: Handler) -> None:
        tell = say.trade if message.type == "update" else say.past_trade
        for trade in message.data:
            price, amount = str(trade.price, "utf-8"), str(trade.qty, "utf-8")
            tell(trade.symbol, trade.trade_id, price, amount, trade.side, micros(trade.timestamp))

    def _tell_ticker(self, ticker: Ticker, say: Handler) -> None:
        prices = {"bid": text(ticker.bid), "bid_amount": text(ticker.bid_qty)}
        prices |= {"ask": text(ticker.ask), "ask_amount": text(ticker.ask_qty)}
        prices |= {"last": text(ticker.last), "volume_24h": text(ticker.volume)}
        say.ticker(ticker.symbol, micros(ticker.timestamp) if ticker.timestamp else None, prices)

    # 3, 10. The state of trading comes on open and at each change; in a maintenance nothing but heartbeats may come.

    def _tell_system(self, system: str, say: Handler) -> None:
        if system != "online":
            if system == "maintenance":
                self._in_maintenance = True
                say.paused()
            say.error(VenueError(f"the venue's system is in state {system}"))
        elif self._in_maintenance:
            self._in_maintenance = False
            say.effect(Reconnect("the venue's maintenance is over", after=5.0))

    def _tell_reply(self, reply: Reply, say: Handler) -> None:
        request = None if reply.req_id is None else str(reply.req_id)
        trouble = reply.error or reply.trouble
        if reply.method == "subscribe" and reply.success:
            accepted = reply.result
            if accepted is not None and (channel := _CHANNELS.get(accepted.channel)) is not None:
                say.acked(channel=channel, native=accepted.symbol, request=request, depth=accepted.depth)
        elif trouble.startswith(_PASSING):
            say.error(VenueError(trouble))
        elif trouble == "Already subscribed":
            say.acked(native=reply.symbol, request=request)
        elif reply.method == "subscribe":
            say.refused(trouble or "refused without a reason", native=reply.symbol, request=request)
        elif trouble and reply.method != "unsubscribe":
            say.error(VenueError(trouble))

    # 8. REST answers under a key of its own, whatever the pair was called in the request; errors come in the body.

    # 8. By time, upwards, in nanoseconds and without that moment itself. REST names are the old ones.

    def trades_request(self, native: str, hole: Hole) -> Fetch:
        pair = "".join(_REST_NAMES.get(asset, asset) for asset in native.split("/"))
        url = f"{VENUE.rest}/0/public/Trades?pair={quote(pair)}&since={(hole.since - 1) * 1000}&count=1000"
        return Fetch(("trades", native), Request(url))

    @classmethod
    def instruments_request(cls) -> Fetch:
        return Fetch(("instruments",), Request(f"{VENUE.rest}/0/public/AssetPairs"))

    @classmethod
    def parse_instruments(cls, body: bytes) -> list[Instrument]:
        return [
            Instrument(
                symbol=symbol,
                native=symbol,
                active=pair.status != "delisted",
                state=pair.status,
                price_step=pair.tick_size or plain(f"1e-{pair.pair_decimals}"),
                amount_step=plain(f"1e-{pair.lot_decimals}"),
            )
            for pair in _pairs.decode(cls._result(body)).values()
            if pair.wsname is not None and (symbol := cls.canonical(pair.wsname)) is not None
        ]

    @staticmethod
    def _result(body: bytes) -> Raw:
        answer = _answer.decode(body)
        if answer.error:
            raise FetchError("; ".join(answer.error))
        return answer.result

    @classmethod
    def parse_answer(cls, key: tuple[str, ...], body: bytes, say: Handler) -> None:
        result = cls._result(body)
        match key:
            case ("trades", native):
                for name, rows in _members.decode(result).items():
                    if name != "last":
                        cls._tell_past_trades(native or name, rows, say)
            case ("view", native):
                for name, depth in _depths.decode(result).items():
                    say.view(native or name, Snapshot(depth.bids, depth.asks))
            case _:
                raise FetchError(f"nothing is known about {key}")

    @staticmethod
    def _tell_past_trades(native: str, rows: Raw, say: Handler) -> None:
        for row in _past_trades.decode(rows):
            when = micros_of_seconds(str(row.time, "utf-8"))
            say.past_trade(native, row.trade_id, row.price, row.volume, "buy" if row.side == "b" else "sell", when)

    @classmethod
    def shape(cls, answer: Any) -> str | None:
        match answer:
            case {"result": {"last": str()}}:
                return "trades"
            case {"result": dict(result)}:
                match next(iter(result.values()), None):
                    case {"asks": _, "bids": _}:
                        return "view"
                    case {"altname": _, "base": _}:
                        return "instruments"
        return None
