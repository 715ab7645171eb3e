"""Coinbase spot, on two feeds: trades of the Exchange, books and tickers of Advanced Trade, which numbers all messages.

Numbered rules follow the sections of the venue's fact sheet.
"""

import re
from operator import attrgetter
from typing import Any, Literal, TypeVar
from urllib.parse import quote

import orjson
from msgspec import Raw, Struct, ValidationError, field
from msgspec.json import Decoder

from adapters import symbols
from adapters.adapter import ExchangeAdapter
from adapters.book import BookRule, Change, Snapshot
from adapters.effects import Connect, Effect, Fetch, Reconnect, Request, Send
from adapters.errors import FetchError, FrameError, VenueError
from adapters.events import Channel, Side
from adapters.handler import Handler
from adapters.holes import Hole
from adapters.numbers import Natural, micros
from adapters.sides import Level, Row
from adapters.symbols import Instrument
from adapters.venue import History, Keepalive, Limits, Rate, Venue

VENUE = Venue(
    name="coinbase",
    websocket="wss://advanced-trade-ws.coinbase.com",
    rest="https://api.coinbase.com/api/v3/brokerage",
    documentation=(
        "https://docs.cdp.coinbase.com/exchange/websocket-feed/channels",
        "https://docs.cdp.coinbase.com/coinbase-app/advanced-trade-apis/websocket/websocket-channels",
        "https://docs.cdp.coinbase.com/api-reference/advanced-trade-api/rest-api/products/list-public-products",
    ),
    limits=Limits(
        connects=Rate(4, 1.0),  # 8 a second and address, of connections and of messages: each connection begins with a message
        frames=Rate(4, 1.0),
        weight=Rate(10, 1.0),
        topics_per_connection=100,
        topics_per_frame=50,
    ),
    keepalive=Keepalive(ping=25.0, silence=60.0),  # quiet channels are closed after 60 to 90 s
    book=BookRule(chain=None, source="socket"),
    depths=(5000,),  # every level is sent; this is our own bound of a view
    per_connection={"trades": 50, "orderbooks": 10, "tickers": 50},
    numbers_messages=True,
    numbers_trades=True,
    history=History("down", rows=1000),
    past_trades="all, by trade id, from the Exchange",
    evidence=(
        "Trades are those of the Exchange feed, books and tickers those of Advanced Trade, which needs no key for a full book.",
        "`side` is the maker's on both feeds (recorded trades prove it); many clients take it for the taker's.",
        "Trade ids count a product's trades without holes on both feeds, so a jump is reported as a gap.",
        "A market in USDC that is the book of its USD market under another name is rejected: data names the USD market.",
        "An invalid product refuses its whole frame: the named one is rejected, the rest asked for again.",
        "How Advanced Trade refuses a product is not known: its errors name none, and the instrument list decides.",
        "Limits of Advanced Trade contradict each other in two documents: the smaller, 8 a second and address, is kept to.",
        "Products a connection and a frame are our own bounds, since none are published; full books may be several MB each.",
        "The ping is a subscription to heartbeats, which the venue answers with the whole set, whether it is new or not.",
        "The heartbeat's last_trade_id is not read: a lost trade shows at the next one.",
        "The time of a book is that of its message: a snapshot's own times may be those of 1970.",
        "Whether a book may be crossed in an auction is not known: a cross is taken for an error.",
    ),
)

EXCHANGE = "wss://ws-feed.exchange.coinbase.com"

_NAMES: dict[Channel, str] = {"trades": "matches", "orderbooks": "level2", "tickers": "ticker"}
_CHANNELS: dict[str, Channel] = {name: channel for channel, name in _NAMES.items()} | {"market_trades": "trades"}
_UNUSED = {
    *("heartbeat", "status", "received", "open", "done", "change", "activate", "auction", "rfq_match"),
    *("heartbeats", "candles", "user", "futures_balance_summary"),
}
_INVALID = re.compile(r"(\S+) is not a valid product")
_EXCHANGE_REST = "https://api.exchange.coinbase.com"
_NUMBER = attrgetter("trade_id")
_TAKERS: dict[str, Side] = {"buy": "sell", "sell": "buy", "BUY": "sell", "SELL": "buy"}


# What the venue sends. Prices and amounts are quoted; times are RFC 3339 with any number of digits.


class Message(Struct, gc=False):
    """As much of a frame as tells what it is: `channel` in Advanced Trade, `type` in the Exchange feed and in any error."""

    type: str = ""
    channel: str = ""
    timestamp: str = ""
    sequence_num: Natural | None = None
    events: Raw = Raw()
    message: str = ""
    reason: str = ""


class Deal(Struct, gc=False):
    """A trade of either feed, or of either REST, where the Exchange's does not name its product."""

    trade_id: Natural
    price: str
    size: str
    side: Literal["buy", "sell", "BUY", "SELL"]
    time: str
    product_id: str = ""


class Deals(Struct, gc=False):
    """An event of market_trades, or the REST answer with an Advanced Trade product's last trades."""

    trades: list[Deal]
    type: str = ""


class Changed(Struct, gc=False, frozen=True):
    side: Literal["bid", "offer"]
    price: str = field(name="price_level")
    amount: str = field(name="new_quantity")


class Book(Struct, gc=False):
    type: Literal["snapshot", "update"]
    product_id: str
    updates: list[Changed]


class Ticker(Struct, gc=False):
    product_id: str
    price: str = ""
    volume_24_h: str = ""
    best_bid: str = ""
    best_bid_quantity: str = ""
    best_ask: str = ""
    best_ask_quantity: str = ""


class Tickers(Struct, gc=False):
    tickers: list[Ticker]


class Subscribed(Struct):
    subscriptions: dict[str, list[str]]


class ExchangeChange(Struct, array_like=True, gc=False, frozen=True):
    side: Literal["buy", "sell"]
    price: str
    amount: str


class ExchangeUpdate(Struct, gc=False):
    product_id: str
    changes: list[ExchangeChange]
    time: str


class ExchangeBook(Struct, gc=False):
    """A snapshot of level2, or the REST answer, which does not name its product."""

    bids: list[Level]
    asks: list[Level]
    product_id: str = ""
    sequence: Natural | None = None
    time: str = ""


class ExchangeTicker(Struct, gc=False):
    product_id: str
    time: str = ""
    price: str = ""
    volume_24h: str = ""
    best_bid: str = ""
    best_bid_size: str = ""
    best_ask: str = ""
    best_ask_size: str = ""


class ExchangeChannel(Struct):
    name: str
    product_ids: list[str] = []


class ExchangeSubscribed(Struct):
    channels: list[ExchangeChannel]


class Priced(Struct, gc=False, frozen=True):
    price: str
    amount: str = field(name="size")


class PriceBook(Struct, gc=False):
    product_id: str
    bids: list[Priced]
    asks: list[Priced]
    time: str


class PriceBooks(Struct):
    pricebook: PriceBook


class Market(Struct):
    product_id: str
    base_currency_id: str
    quote_currency_id: str
    product_type: str
    status: str
    price_increment: str
    base_increment: str
    trading_disabled: bool = False
    is_disabled: bool = False
    alias: str = ""


class Products(Struct):
    products: list[Market]


class Problem(Struct):
    message: str = ""


class Fault(Struct):
    message: str = ""
    error: str = ""
    errors: list[Problem] = []


_message = Decoder(Message)
_deal = Decoder(Deal, strict=False)
_deals = Decoder(list[Deals], strict=False)
_books = Decoder(list[Book])
_tickers = Decoder(list[Tickers])
_subscribed = Decoder(list[Subscribed])
_exchange_update = Decoder(ExchangeUpdate)
_exchange_book = Decoder(ExchangeBook)
_exchange_ticker = Decoder(ExchangeTicker)
_exchange_subscribed = Decoder(ExchangeSubscribed)
_exchange_trades = Decoder(list[Deal], strict=False)
_last_trades = Decoder(Deals, strict=False)
_price_books = Decoder(PriceBooks)
_products = Decoder(Products)
_fault = Decoder(Fault)

T = TypeVar("T")


def _answered(decoder: Decoder[T], body: bytes) -> T:
    """8. A REST answer; an object with a message stands in the place of any."""
    try:
        return decoder.decode(body)
    except ValidationError:
        fault = _fault.decode(body)
        reason = "; ".join(filter(None, (fault.error, fault.message, *(each.message for each in fault.errors))))
        if not reason:
            raise
        raise FetchError(reason) from None


def _time(text: str) -> int | None:
    """10. The time of the year 1 stands for none."""
    return None if not text or text.startswith("0001-") else micros(text)


class Coinbase(ExchangeAdapter):
    venue = VENUE
    endpoints = {
        "/market/products": ("instruments", None),
        "/market/products/{}/ticker": ("market_trades", None),
        "/market/product_book": ("pricebook", "product_id"),
        "/products/{}/trades": ("trades", None),
        "/products/{}/book": ("view", None),
    }
    _next: int | None = None
    """The number of the next message; None before a connection was asked for, as where frames are read for themselves."""

    # 2. BTC-USD is spot; a third part makes a future of it.

    @staticmethod
    def native(symbol: str) -> str:
        parts = symbols.spot(symbol)
        return f"{parts.base}-{parts.quote}"

    @staticmethod
    def canonical(native: str) -> str | None:
        return symbols.cut(native, "-")

    # 1, 3. A connection carries one channel, which decides the feed; the first subscription must come within 5 s.

    def connect(self) -> Effect:
        self._next = 0
        return Connect(EXCHANGE if self._is_of_trades else VENUE.websocket)

    @property
    def _is_of_trades(self) -> bool:
        return {each.channel for each in self.subscriptions} == {"trades"}

    # 4. There is no ping. Heartbeats come once a second, for the connection or, on the Exchange feed, for each product asked.

    def ping(self) -> Send | None:
        wanted = self.subscriptions.wanted()
        if not wanted:
            return None
        if self._is_of_trades:
            return self._exchange_request("subscribe", "heartbeat", [wanted[0].native])
        return Send('{"type":"subscribe","channel":"heartbeats"}')

    # 5. One frame names many products. The answer is the full set of the connection, and may come after the first data.

    def subscribe(self, channel: Channel, natives: list[str], request: str) -> Send:
        return self._request("subscribe", channel, natives)

    def unsubscribe(self, channel: Channel, natives: list[str], request: str) -> Send:
        return self._request("unsubscribe", channel, natives)

    def _request(self, operation: str, channel: Channel, natives: list[str]) -> Send:
        if channel == "trades":
            return self._exchange_request(operation, _NAMES[channel], natives)
        return Send(orjson.dumps({"type": operation, "product_ids": natives, "channel": _NAMES[channel]}).decode())

    @staticmethod
    def _exchange_request(operation: str, channel: str, natives: list[str]) -> Send:
        return Send(orjson.dumps({"type": operation, "product_ids": natives, "channels": [channel]}).decode())

    def parse(self, frame: bytes, say: Handler) -> None:
        message = _message.decode(frame)
        if not message.channel:
            self._tell_exchange(message, frame, say)
        elif not self._is_old(message.sequence_num, say):
            self._tell_advanced(message, say)
            if self._next is not None and message.sequence_num is not None:
                self._next = message.sequence_num + 1  # only now: what could not be read was missed, and the next will show it

    # 7. All messages of an Advanced Trade connection are counted from 0, whatever their channel.

    def _is_old(self, number: int | None, say: Handler) -> bool:
        """Whether a message came before; a jump ahead is told, and going back is not to be trusted."""
        if self._next is None or number is None:
            return False
        if number > self._next:
            say.missed(self._next, number - 1)
            self._next = number
        elif number < self._next - 1:
            say.effect(Reconnect(f"message {number} after {self._next - 1}"))
        return number < self._next

    def _tell_advanced(self, message: Message, say: Handler) -> None:
        channel = message.channel
        if channel == "l2_data":
            timestamp = _time(message.timestamp)
            for book in _books.decode(message.events):
                self._tell_book(book, timestamp, say)
        elif channel == "market_trades":
            # 6. The newest comes first as a rule; a snapshot holds the last 100, which are not news.
            for deals in _deals.decode(message.events):
                tell = say.past_trade if deals.type == "snapshot" else say.trade
                for deal in sorted(deals.trades, key=_NUMBER):
                    tell(deal.product_id, deal.trade_id, deal.price, deal.size, _TAKERS[deal.side], micros(deal.time))
        elif channel in ("ticker", "ticker_batch"):
            timestamp = _time(message.timestamp)
            for ticker in [each for event in _tickers.decode(message.events) for each in event.tickers]:
                self._tell_ticker(ticker, timestamp, say)
        elif channel == "subscriptions":
            for event in _subscribed.decode(message.events):
                self._tell_subscribed(event.subscriptions, say)
        elif channel not in _UNUSED:
            raise FrameError(f"data of no known channel: {channel}")

    def _tell_book(self, book: Book, timestamp: int | None, say: Handler) -> None:
        bids: list[Row] = [row for row in book.updates if row.side == "bid"]
        asks: list[Row] = [row for row in book.updates if row.side == "offer"]
        if book.type == "snapshot":
            say.snapshot(book.product_id, Snapshot(bids, asks, None, timestamp))
        else:
            say.change(book.product_id, Change(bids, asks, None, None, None, timestamp))

    def _tell_ticker(self, ticker: Ticker, timestamp: int | None, say: Handler) -> None:
        prices = {"bid": ticker.best_bid, "bid_amount": ticker.best_bid_quantity}
        prices |= {"ask": ticker.best_ask, "ask_amount": ticker.best_ask_quantity}
        say.ticker(ticker.product_id, timestamp, prices | {"last": ticker.price, "volume_24h": ticker.volume_24_h})

    @staticmethod
    def _tell_subscribed(products: dict[str, list[str]], say: Handler) -> None:
        for name, natives in products.items():
            if (channel := _CHANNELS.get(name)) is not None:
                for native in natives:
                    say.acked(channel=channel, native=native)

    def _tell_exchange(self, message: Message, frame: bytes, say: Handler) -> None:
        kind = message.type
        if kind in ("match", "last_match"):
            # 6. `side` is the maker's, so that the taker did the opposite; the trade of a subscription is an old one.
            deal = _deal.decode(frame)
            tell = say.trade if kind == "match" else say.past_trade
            tell(deal.product_id, deal.trade_id, deal.price, deal.size, _TAKERS[deal.side], micros(deal.time))
        elif kind == "ticker":
            self._tell_exchange_ticker(_exchange_ticker.decode(frame), say)
        elif kind == "snapshot":
            book = _exchange_book.decode(frame)
            say.snapshot(book.product_id, Snapshot(book.bids, book.asks, None, _time(book.time)))
        elif kind == "l2update":
            self._tell_exchange_update(_exchange_update.decode(frame), say)
        elif kind == "subscriptions":
            channels = _exchange_subscribed.decode(frame).channels
            self._tell_subscribed({each.name: each.product_ids for each in channels}, say)
        elif kind == "error":
            self._tell_error(message, say)
        elif kind not in _UNUSED:
            raise FrameError(f"a message of no known kind: {kind}")

    def _tell_exchange_ticker(self, ticker: ExchangeTicker, say: Handler) -> None:
        prices = {"bid": ticker.best_bid, "bid_amount": ticker.best_bid_size}
        prices |= {"ask": ticker.best_ask, "ask_amount": ticker.best_ask_size}
        prices |= {"last": ticker.price, "volume_24h": ticker.volume_24h}
        say.ticker(ticker.product_id, _time(ticker.time), prices)

    def _tell_exchange_update(self, update: ExchangeUpdate, say: Handler) -> None:
        bids: list[Row] = [row for row in update.changes if row.side == "buy"]
        asks: list[Row] = [row for row in update.changes if row.side == "sell"]
        say.change(update.product_id, Change(bids, asks, None, None, None, _time(update.time)))

    @staticmethod
    def _tell_error(message: Message, say: Handler) -> None:
        # 5. Only an invalid product is named, inside the text; a connection has one channel, so that no other is meant.
        reason = ": ".join(filter(None, (message.message, message.reason))) or "an error without a word"
        if invalid := _INVALID.search(reason):
            say.refused(reason, native=invalid[1])
        else:
            say.error(VenueError(reason))

    # 8. An alias is the book of another product: its data would come under that name.

    # 8. Back from an id, at the Exchange; `after` means older, and excludes the id itself.

    def trades_request(self, native: str, hole: Hole) -> Fetch:
        after = (hole.last or 0) + 1
        return Fetch(("trades", native), Request(f"{_EXCHANGE_REST}/products/{quote(native)}/trades?limit=1000&after={after}"))

    @classmethod
    def instruments_request(cls) -> Fetch:
        return Fetch(("instruments",), Request(f"{VENUE.rest}/market/products?product_type=SPOT"))

    @classmethod
    def parse_instruments(cls, body: bytes) -> list[Instrument]:
        return [
            Instrument(
                symbol=f"{market.base_currency_id}/{market.quote_currency_id}",
                native=market.product_id,
                active=market.status == "online" and not (market.trading_disabled or market.is_disabled or market.alias),
                state=cls._state(market),
                price_step=market.price_increment,
                amount_step=market.base_increment,
            )
            for market in _answered(_products, body).products
            if market.product_type == "SPOT"
        ]

    @staticmethod
    def _state(market: Market) -> str:
        if market.alias:
            return f"another name of {market.alias}"
        return "trading disabled" if market.trading_disabled or market.is_disabled else market.status

    @classmethod
    def parse_answer(cls, key: tuple[str, ...], body: bytes, say: Handler) -> None:
        match key:
            case ("trades", native):
                cls._tell_past_trades(native, _answered(_exchange_trades, body), say)
            case ("market_trades", native):
                cls._tell_past_trades(native, _answered(_last_trades, body).trades, say)
            case ("view", native):
                book = _answered(_exchange_book, body)
                say.view(native, Snapshot(book.bids, book.asks, book.sequence, _time(book.time)))
            case ("pricebook", _):
                priced = _answered(_price_books, body).pricebook
                say.view(priced.product_id, Snapshot(priced.bids, priced.asks, None, _time(priced.time)))
            case _:
                raise FetchError(f"nothing is known about {key}")

    @staticmethod
    def _tell_past_trades(native: str, deals: list[Deal], say: Handler) -> None:
        for deal in deals:
            side = _TAKERS[deal.side]
            say.past_trade(deal.product_id or native, deal.trade_id, deal.price, deal.size, side, micros(deal.time))

    @classmethod
    def shape(cls, answer: Any) -> str | None:
        match answer:
            case {"products": _}:
                return "instruments"
            case {"trades": [{"trade_id": _}, *_]}:
                return "market_trades"
            case {"pricebook": _}:
                return "pricebook"
            case [{"trade_id": _, "side": _}, *_]:
                return "trades"
            case {"bids": _, "asks": _, "sequence": _}:
                return "view"
        return None
