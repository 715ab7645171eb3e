"""Bitrue spot: packed frames, books that always come whole. Numbered rules follow the sections of the venue's fact sheet."""

import re
from operator import attrgetter
from typing import Any, Literal, TypeVar
from urllib.parse import quote

import orjson
from msgspec import Raw, Struct, ValidationError
from msgspec.json import Decoder

from adapters import symbols
from adapters.adapter import ExchangeAdapter
from adapters.book import BookRule, Snapshot
from adapters.compression import unzipped
from adapters.effects import Connect, Effect, Fetch, Request, Send
from adapters.errors import FetchError, FrameError, VenueError
from adapters.events import Channel, Side
from adapters.handler import Handler
from adapters.holes import Hole
from adapters.numbers import Millis, Natural, plain, text, unquoted
from adapters.sides import Level
from adapters.symbols import Instrument
from adapters.venue import History, Keepalive, Limits, Rate, Venue

VENUE = Venue(
    name="bitrue",
    websocket="wss://ws.bitrue.com/kline-api/ws",
    rest="https://openapi.bitrue.com",
    documentation=(
        "https://github.com/Bitrue-exchange/Spot-official-api-docs#market-data-streams-websocket",
        "https://github.com/Bitrue-exchange/bitrue-official-api-docs/blob/master/websocket-api.zh-CN.md",
    ),
    limits=Limits(
        connects=Rate(300, 300.0),
        frames=Rate(10, 1.0),
        weight=Rate(1200, 60.0),
        topics_per_connection=100,
        topics_per_frame=1,
    ),
    keepalive=Keepalive(ping=None, silence=90.0),
    book=BookRule(chain=None, source="socket", renewed=60.0),
    depths=(40,),
    per_connection={"trades": 100, "orderbooks": 50, "tickers": 100},
    lifetime=24 * 3600.0,
    history=History("last", rows=1000),
    past_trades="the last 1000; any, by time or id, without sides (aggTrades)",
    evidence=(
        "Trades and tickers come from an address that the documentation dropped in 2022; they were seen there in mid-2026.",
        "Books come from the documented address; the older one has them as well, and serves where channels share a connection.",
        "Connects are what another client keeps to; 10 frames a second are ours, since the venue publishes neither.",
        "100 topics a connection and a life of 24 h are published for the venue's other sockets only.",
        "Pings come every 15 s by the documentation of 2022, every 3 minutes by that of 2021: 90 s of silence are too long.",
        "A side of a trade is taken as the taker's, as it is documented for the venue's futures.",
        "Trade ids rose by one in every documented list, which is promised nowhere: no gap is read from them.",
        "The trades of a frame that were told before are passed over by their ids.",
        "Books have no sequence and no checksum: a lost one is replaced by the next, and a book that stands still for about a "
        "minute is subscribed anew.",
        "About 40 levels a side were seen on the older address; how many the documented one sends is not published.",
        "Tickers have the last price and the day's volume; best prices are in books only.",
        "How a subscription is refused is not documented: any status but ok is taken as that; an unknown market is silent.",
        "The REST weight is that of older documentation; 25000 a minute are reported since.",
        "isBuyerMaker of aggTrades is reported to be wrong: those have no side.",
        "Trade ids of REST are taken for those of the socket, which no source says; aggTrades has no sides and fills no hole.",
    ),
)

_BOOKS = "wss://ws.bitrue.com/market/ws"
_NAMES: dict[Channel, str] = {"trades": "trade_ticker", "orderbooks": "depth_step0", "tickers": "ticker"}
_WHOLE = "simple_depth_step0"
_CHANNELS: dict[str, Channel] = {name: channel for channel, name in _NAMES.items()} | {_WHOLE: "orderbooks"}
_TOPIC = re.compile(r"market_(.+?)_(trade_ticker|ticker|simple_depth_step0|depth_step\d|kline_\w+)")
_PING = re.compile(rb'"?\d{1,19}"?')
_SIDES: dict[str, Side] = {"BUY": "buy", "SELL": "sell"}


# What the venue sends. Numbers are bare or quoted, up to 32 decimals long: each is kept raw until it is text.


class Deal(Struct, gc=False):
    id: Natural
    price: Raw
    vol: Raw
    side: Literal["BUY", "SELL"]
    ts: Millis


class Row(Struct, array_like=True, gc=False):
    price: Raw
    amount: Raw


class Tick(Struct, gc=False):
    """Trades, a book, or the day of a market; candles have the keys of a day."""

    data: list[Deal] | None = None
    buys: list[Row] | None = None
    asks: list[Row] | None = None
    close: Raw = Raw()
    vol: Raw = Raw()


class Message(Struct, gc=False):
    channel: str = ""
    ts: Millis | None = None
    tick: Tick | None = None
    ping: Raw = Raw()
    event_rep: str = ""
    status: str = ""
    data: list[Deal] | None = None


class Fault(Struct):
    code: int
    msg: str


class Depth(Struct, gc=False):
    bids: list[Level]
    asks: list[Level]


class RestTrade(Struct, gc=False):
    id: Natural
    price: str
    qty: str
    time: Millis
    isBuyerMaker: bool | None = None
    isBuyer: bool | None = None


class RestAggregate(Struct, gc=False):
    a: Natural
    p: str
    q: str
    T: Millis


class Filter(Struct):
    filterType: str
    tickSize: str | None = None
    stepSize: str | None = None
    priceScale: Natural | None = None
    volumeScale: Natural | None = None


class Market(Struct):
    symbol: str
    status: str
    baseAsset: str
    quoteAsset: str
    filters: list[Filter]


class ExchangeInfo(Struct):
    symbols: list[Market]


_message = Decoder(Message)
_fault = Decoder(Fault)
_depth = Decoder(Depth)
_rest_trades = Decoder(list[RestTrade])
_rest_aggregates = Decoder(list[RestAggregate])
_exchange_info = Decoder(ExchangeInfo)

T = TypeVar("T")


def _answered(decoder: Decoder[T], body: bytes) -> T:
    """8. A REST answer; {"code", "msg"} stands in the place of any."""
    try:
        return decoder.decode(body)
    except ValidationError:
        fault = _fault.decode(body)
        raise FetchError(f"{fault.msg} (code {fault.code})") from None


def _levels(rows: list[Row] | None) -> list[Level]:
    if rows is None:
        raise FrameError("a book without a side")
    return [Level(unquoted(row.price), unquoted(row.amount)) for row in rows]


def _about(topic: str) -> tuple[str, str]:
    """5. `market_btcusdt_trade_ticker` is about btcusdt."""
    about = _TOPIC.fullmatch(topic)
    if about is None:
        raise FrameError(f"a message of no known channel: {topic[:80]}")
    return about[1], about[2]


class Bitrue(ExchangeAdapter):
    venue = VENUE
    endpoints = {
        "/api/v1/exchangeInfo": ("instruments", None),
        "/api/v1/depth": ("view", "symbol"),
        "/api/v1/trades": ("trades", "symbol"),
        "/api/v1/historicalTrades": ("trades", "symbol"),
        "/api/v1/aggTrades": ("aggregates", "symbol"),
    }

    # 2. Names have no delimiter; they are lower case on the socket and upper case in REST. e_btcusdt is a future.

    @staticmethod
    def native(symbol: str) -> str:
        parts = symbols.spot(symbol)
        return f"{parts.base}{parts.quote}".lower()

    @staticmethod
    def canonical(native: str) -> str | None:
        return None if "_" in native else symbols.split(native)

    # 1. Two families of addresses: the documented one has books only, at full precision; the older one has everything.

    @property
    def _has_books_alone(self) -> bool:
        return all(each.channel == "orderbooks" for each in self.subscriptions)

    def connect(self) -> Effect:
        return Connect(_BOOKS if self._has_books_alone else VENUE.websocket)

    # 5. A frame names one channel of one market; its answer repeats the channel and bears no id.

    def subscribe(self, channel: Channel, natives: list[str], request: str) -> Send:
        return self._request("sub", channel, natives)

    def unsubscribe(self, channel: Channel, natives: list[str], request: str) -> Send:
        return self._request("unsub", channel, natives)

    def _request(self, event: str, channel: Channel, natives: list[str]) -> Send:
        (native,) = natives
        name = _WHOLE if self._has_books_alone else _NAMES[channel]
        parameters = {"cb_id": native, "channel": f"market_{native}_{name}"}
        return Send(orjson.dumps({"event": event, "params": parameters}).decode())

    def parse(self, frame: bytes, say: Handler) -> None:
        # 3. Every frame is packed by itself; some heartbeats may be text.
        message = _message.decode(unzipped(frame))
        if message.tick is not None:
            self._tell_tick(message, message.tick, say)
        elif message.ping:
            self._tell_ping(bytes(message.ping), say)
        elif message.event_rep:
            self._tell_reply(message, say)
        else:
            raise FrameError("a message of no known kind")

    # 4. The value of a ping comes back as it is, quoted or not.

    @staticmethod
    def _tell_ping(value: bytes, say: Handler) -> None:
        if not _PING.fullmatch(value):
            raise FrameError(f"a ping of no known form: {value[:40]!r}")
        say.effect(Send(f'{{"pong":{value.decode()}}}'))

    def _tell_reply(self, message: Message, say: Handler) -> None:
        native, name = _about(message.channel)
        if message.event_rep == "subed" and name in _CHANNELS:
            if message.status == "ok":
                say.acked(channel=_CHANNELS[name], native=native)
            else:
                say.refused(f"answered with status {message.status!r}", channel=_CHANNELS[name], native=native)
        elif message.status != "ok":
            say.error(VenueError(f"{message.event_rep} of {message.channel}: status {message.status!r}"))
        elif message.data is not None:
            for deal in self._in_order(message.data):
                say.past_trade(
                    native, str(deal.id), unquoted(deal.price), unquoted(deal.vol), _SIDES[deal.side], deal.ts * 1000
                )

    # 6. Rows come newest first. `vol` is the amount in the base asset; `amount`, which is not read, is the value in the quote.

    @staticmethod
    def _in_order(deals: list[Deal]) -> list[Deal]:
        return sorted(deals, key=attrgetter("id"))

    def _tell_tick(self, message: Message, tick: Tick, say: Handler) -> None:
        when = message.ts * 1000 if message.ts else None
        # A book that was asked for once has no channel at all.
        native, name = _about(message.channel) if message.channel or tick.buys is None else ("", "depth")
        if name.startswith("kline_"):
            return
        if name in ("simple_depth_step0", "depth_step0"):
            # 7. Every book is whole, and replaces the one before; far-away levels are as good as others.
            say.snapshot(native, Snapshot(_levels(tick.buys), _levels(tick.asks), None, when))
        elif name.startswith("depth"):
            say.view(native, Snapshot(_levels(tick.buys), _levels(tick.asks), None, when))
        elif tick.data is not None:
            for deal in self._in_order(tick.data):
                say.trade(native, str(deal.id), unquoted(deal.price), unquoted(deal.vol), _SIDES[deal.side], deal.ts * 1000)
        elif tick.close:
            # The channel of trades has the day of its market now and then.
            day = {"last": tick.close, "volume_24h": tick.vol}
            say.ticker(native, when, {name: unquoted(token) for name, token in day.items() if text(token)})
        else:
            raise FrameError("neither trades nor a day")

    # 2, 8. REST, in the form of Binance.

    # 8. The last thousand. aggTrades goes further back, and says nothing true of sides.

    def trades_request(self, native: str, hole: Hole) -> Fetch:
        return Fetch(("trades", native), Request(f"{VENUE.rest}/api/v1/trades?symbol={quote(native.upper())}&limit=1000"))

    @classmethod
    def instruments_request(cls) -> Fetch:
        return Fetch(("instruments",), Request(f"{VENUE.rest}/api/v1/exchangeInfo"))

    @classmethod
    def parse_instruments(cls, body: bytes) -> list[Instrument]:
        return [
            Instrument(
                symbol=f"{market.baseAsset}/{market.quoteAsset}".upper(),
                native=market.symbol.lower(),
                active=market.status == "TRADING",
                state=market.status,
                price_step=next((step for each in market.filters if (step := _step(each.tickSize, each.priceScale))), None),
                amount_step=next((step for each in market.filters if (step := _step(each.stepSize, each.volumeScale))), None),
            )
            for market in _answered(_exchange_info, body).symbols
        ]

    @classmethod
    def parse_answer(cls, key: tuple[str, ...], body: bytes, say: Handler) -> None:
        match key:
            case ("view", name):
                depth = _answered(_depth, body)
                say.view(name.lower(), Snapshot(depth.bids, depth.asks))
            case ("trades", name):
                for row in _answered(_rest_trades, body):
                    say.past_trade(name.lower(), str(row.id), row.price, row.qty, _side(row), row.time * 1000)
            case ("aggregates", name):
                for each in _answered(_rest_aggregates, body):
                    say.past_trade(name.lower(), str(each.a), each.p, each.q, "unknown", each.T * 1000)
            case _:
                raise FetchError(f"nothing is known about {key}")

    @classmethod
    def shape(cls, answer: Any) -> str | None:
        match answer:
            case {"bids": _, "asks": _}:
                return "view"
            case [{"id": _, "price": _, "qty": _}, *_]:
                return "trades"
            case [{"a": _, "p": _, "q": _}, *_]:
                return "aggregates"
            case {"symbols": _}:
                return "instruments"
        return None


def _step(size: str | None, scale: int | None) -> str | None:
    return size or (None if scale is None else plain(f"1e-{scale}"))


def _side(row: RestTrade) -> Side:
    """8. Two forms were seen: one says whether the buyer was the maker, one whether the trade was a buy."""
    if row.isBuyerMaker is not None:
        return "sell" if row.isBuyerMaker else "buy"
    return "unknown" if row.isBuyer is None else "buy" if row.isBuyer else "sell"
