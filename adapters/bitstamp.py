"""Bitstamp spot: book changes that only their times put in order. Numbered rules follow the sections of the fact sheet."""

from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import quote

import orjson
from msgspec import Meta, Raw, Struct, ValidationError
from msgspec.json import Decoder

from adapters import symbols
from adapters.adapter import ExchangeAdapter
from adapters.book import BookRule, Change, Snapshot
from adapters.effects import Fetch, Reconnect, Request, Send
from adapters.errors import FetchError, FrameError, VenueError
from adapters.events import Channel, Side
from adapters.handler import Handler
from adapters.holes import Hole
from adapters.numbers import Natural, plain, text
from adapters.sides import Level
from adapters.symbols import Instrument
from adapters.venue import History, Keepalive, Limits, Rate, Venue

_SECOND = 1_000_000
_MOST_OF_AN_HOUR = 3000 * _SECOND
_ALL = 1_000_000
"""A list of past trades has no limit; this many rows none will have."""

VENUE = Venue(
    name="bitstamp",
    websocket="wss://ws.bitstamp.net",
    rest="https://www.bitstamp.net",
    documentation=("https://www.bitstamp.net/websocket/v2/", "https://www.bitstamp.net/api/"),
    limits=Limits(
        connects=Rate(60, 60.0),
        frames=Rate(20, 1.0),
        weight=Rate(8000, 600.0),
        topics_per_connection=1000,  # 1,024: one more, and the connection is closed without a word
        topics_per_frame=1,
    ),
    keepalive=Keepalive(ping=20.0, silence=45.0),
    book=BookRule(chain="rising", source="rest", renewed=60.0),
    depths=(5000,),  # every level is sent; this is our own bound of a view
    per_connection={"trades": 100, "orderbooks": 25, "tickers": 100},
    lifetime=90 * 24 * 3600.0,
    history=History("last", rows=_ALL, reach=3600.0, unit=_SECOND),
    past_trades="the last day",
    evidence=(
        "Book changes have no sequence, so a change that is lost is not seen: each book is renewed about every minute.",
        "A snapshot without microtimestamp, as of 2019, counts as of the beginning of its second.",
        "How far REST lags behind the socket is not published: in a market at rest 5 s are taken to be enough.",
        "A crossed book is taken for an error, although the venue warns that a snapshot may be crossed for one frame.",
        "Trade ids rise across all markets of the venue: no gap is read from them.",
        "There is no ticker channel: best prices are those of the 100 best levels, and last price and day's volume are absent.",
        "An unknown market is acknowledged and stays silent: the instrument list decides what is rejected.",
        "Errors name no channel as a rule: the pair that was meant is asked for again, or struck by the instrument list.",
        "Limits of connecting and of frames are our own, since none are published; the REST limit is the older of two.",
        "Being over the REST limit may be told with status 400 as well, which is not taken for it.",
        "A trade that was fetched afterwards has a time of whole seconds: REST has no finer one.",
    ),
)

_NAMES: dict[Channel, str] = {"trades": "live_trades", "orderbooks": "diff_order_book", "tickers": "order_book"}
_CHANNELS: dict[str, Channel] = {name: channel for channel, name in _NAMES.items()}
_UNUSED = {
    *("bts:connection_established", "bts:heartbeat", "bts:unsubscription_succeeded"),
    *("order_created", "order_changed", "order_deleted", "funding_rate_saved"),
}
_QUOTES = ("USD", "EUR", "GBP", "USDT", "USDC", "RLUSD", "PAX", "BTC", "ETH")
_SIDES: tuple[Side, Side] = ("buy", "sell")

Seconds = Annotated[int, Meta(ge=0, lt=9 * 10**12)]
"""Bounded so that their microseconds fit 64 bits; perpetuals send milliseconds in their place, beside a microtimestamp."""


# What the venue sends. Numbers come bare and, more exactly, as text; times are text.


class Message(Struct, gc=False):
    event: str
    channel: str = ""
    data: Raw = Raw()


class Trade(Struct, gc=False):
    id: Natural
    price_str: str
    amount_str: str
    type: Literal[0, 1]
    microtimestamp: Natural


class Book(Struct, gc=False):
    """The best levels, or the whole of REST."""

    timestamp: Seconds
    bids: list[Level]
    asks: list[Level]
    microtimestamp: Natural | None = None

    @property
    def micros(self) -> int:
        return self.timestamp * _SECOND if self.microtimestamp is None else self.microtimestamp


class Difference(Struct, gc=False):
    """A side without a change may be left out."""

    microtimestamp: Natural
    bids: list[Level] = []
    asks: list[Level] = []


class Trouble(Struct):
    code: int | str | None = None
    message: str = ""


class PastTrade(Struct, gc=False):
    date: Seconds
    tid: str
    price: str
    amount: str
    type: Literal["0", "1"]


class Day(Struct, gc=False):
    timestamp: Seconds
    bid: str
    ask: str
    last: str
    volume: str


class Market(Struct):
    """As of /markets/, and as of the older /trading-pairs-info/, which has spot alone."""

    name: str
    base_decimals: Annotated[int, Meta(ge=0, le=40)]
    counter_decimals: Annotated[int, Meta(ge=0, le=40)]
    trading: str
    market_symbol: str = ""
    url_symbol: str = ""
    market_type: str = "SPOT"


class Fault(Struct):
    error: str = ""
    reason: Raw = Raw()
    code: str = ""


_message = Decoder(Message)
_trade = Decoder(Trade, strict=False)
_book = Decoder(Book, strict=False)
_difference = Decoder(Difference, strict=False)
_trouble = Decoder(Trouble)
_past_trades = Decoder(list[PastTrade], strict=False)
_day = Decoder(Day, strict=False)
_markets = Decoder(list[Market])
_fault = Decoder(Fault)

T = TypeVar("T")


def _answered(decoder: Decoder[T], body: bytes) -> T:
    """8. A REST answer; {"error"} or {"reason", "code"} stands in the place of any."""
    try:
        return decoder.decode(body)
    except ValidationError:
        fault = _fault.decode(body)
        reason = fault.error or text(fault.reason)
        if not reason:
            raise
        raise FetchError(f"{reason} (code {fault.code})" if fault.code else reason) from None


class Bitstamp(ExchangeAdapter):
    venue = VENUE
    endpoints = {
        "/api/v2/order_book/{}": ("book", None),
        "/api/v2/transactions/{}": ("trades", None),
        "/api/v2/ticker/{}": ("ticker", None),
        "/api/v2/markets": ("instruments", None),
        "/api/v2/trading-pairs-info": ("instruments", None),
    }

    # 2. Names are lower case without a delimiter, everywhere; btcusd-perp is a perpetual.

    @staticmethod
    def native(symbol: str) -> str:
        parts = symbols.spot(symbol)
        return (parts.base + parts.quote).lower()

    @staticmethod
    def canonical(native: str) -> str | None:
        return symbols.split(native, _QUOTES)

    # 4. The only ping in JSON; the venue's own are those of the protocol, every 54 s.

    def ping(self) -> Send:
        return Send('{"event":"bts:heartbeat"}')

    # 5. One frame names one channel, and so does its acknowledgement.

    def subscribe(self, channel: Channel, natives: list[str], request: str) -> Send:
        return self._request("bts:subscribe", channel, natives)

    def unsubscribe(self, channel: Channel, natives: list[str], request: str) -> Send:
        return self._request("bts:unsubscribe", channel, natives)

    def _request(self, event: str, channel: Channel, natives: list[str]) -> Send:
        (native,) = natives
        return Send(orjson.dumps({"event": event, "data": {"channel": f"{_NAMES[channel]}_{native}"}}).decode())

    def parse(self, frame: bytes, say: Handler) -> None:
        message = _message.decode(frame)
        event = message.event
        name, _, native = message.channel.rpartition("_")
        if event == "trade" and name == "live_trades":
            # 6. The text is exact where the number is not; type is the taker's side; one count of ids serves all markets.
            trade = _trade.decode(message.data)
            side = _SIDES[trade.type]
            say.trade(native, str(trade.id), trade.price_str, trade.amount_str, side, trade.microtimestamp)
        elif event == "data":
            self._tell_book(name, native, message.data, say)
        elif event == "bts:subscription_succeeded":
            if (channel := _CHANNELS.get(name)) is not None:
                say.acked(channel=channel, native=native)
        elif event == "bts:request_reconnect":
            # 3. The connection is closed within seconds.
            say.effect(Reconnect("the venue asks for a new connection", overlap=True))
        elif event == "bts:error":
            self._tell_error(_CHANNELS.get(name), native, _trouble.decode(message.data), say)
        elif event not in _UNUSED:
            raise FrameError(f"a message of no known kind: {event} {message.channel}")

    # 7. A change has the time of its end alone: what the snapshot holds already is told by it, and what is missing is not.

    def _tell_book(self, name: str, native: str, data: Raw, say: Handler) -> None:
        if name == "diff_order_book":
            change = _difference.decode(data)
            say.change(native, Change(change.bids, change.asks, None, change.microtimestamp, None, change.microtimestamp))
        elif name == "order_book":
            self._tell_best(native, _book.decode(data), say)
        elif name != "detail_order_book":
            raise FrameError(f"data of no known channel: {name}")

    def _tell_best(self, native: str, book: Book, say: Handler) -> None:
        """The 100 best levels: as a ticker where it is one that is wanted, else as the view that they are."""
        if self.subscriptions.find("tickers", native) is None:
            say.view(native, Snapshot(book.bids, book.asks, book.micros, book.micros))
            return
        prices: dict[str, str | None] = {}
        for bid in book.bids[:1]:
            prices |= {"bid": bid.price, "bid_amount": bid.amount}
        for ask in book.asks[:1]:
            prices |= {"ask": ask.price, "ask_amount": ask.amount}
        say.ticker(native, book.micros, prices)

    @staticmethod
    def _tell_error(channel: Channel | None, native: str, trouble: Trouble, say: Handler) -> None:
        reason = f"{trouble.message or 'an error without a word'} (code {trouble.code})"
        if channel is not None:
            say.refused(reason, channel=channel, native=native)
        else:
            say.error(VenueError(reason))

    # 7, 8. REST holds every level, and lags behind the socket by seconds.

    def book_request(self, native: str) -> Fetch:
        return Fetch(("book", native), Request(f"{VENUE.rest}/api/v2/order_book/{quote(native)}/"))

    # 8. All of the last hour or day, with times in seconds.

    def trades_request(self, native: str, hole: Hole) -> Fetch:
        span = "hour" if hole.until - hole.since < _MOST_OF_AN_HOUR else "day"
        return Fetch(("trades", native), Request(f"{VENUE.rest}/api/v2/transactions/{quote(native)}/?time={span}"))

    @classmethod
    def instruments_request(cls) -> Fetch:
        return Fetch(("instruments",), Request(f"{VENUE.rest}/api/v2/markets/"))

    @classmethod
    def parse_instruments(cls, body: bytes) -> list[Instrument]:
        return [
            Instrument(
                symbol=market.name,
                native=market.market_symbol or market.url_symbol,
                active=market.trading == "Enabled",
                state=market.trading,
                price_step=plain(f"1e-{market.counter_decimals}"),
                amount_step=plain(f"1e-{market.base_decimals}"),
            )
            for market in _answered(_markets, body)
            if market.market_type == "SPOT"
        ]

    @classmethod
    def parse_answer(cls, key: tuple[str, ...], body: bytes, say: Handler) -> None:
        match key:
            case ("book", native):
                book = _answered(_book, body)
                say.snapshot(native, Snapshot(book.bids, book.asks, book.micros, book.micros))
            case ("trades", native):
                for each in _answered(_past_trades, body):
                    side = _SIDES[int(each.type)]
                    say.past_trade(native, each.tid, each.price, each.amount, side, each.date * _SECOND)
            case ("ticker", native):
                day = _answered(_day, body)
                prices = {"bid": day.bid, "ask": day.ask, "last": day.last, "volume_24h": day.volume}
                say.ticker(native, day.timestamp * _SECOND, prices)
            case _:
                raise FetchError(f"nothing is known about {key}")

    @classmethod
    def shape(cls, answer: Any) -> str | None:
        match answer:
            case {"bids": _, "asks": _, "timestamp": _}:
                return "book"
            case [{"tid": _, "date": _}, *_]:
                return "trades"
            case {"last": _, "vwap": _}:
                return "ticker"
            case [{"name": _, "counter_decimals": _}, *_]:
                return "instruments"
        return None
