"""Gate spot: a book's snapshot and its changes on one topic. Numbered rules follow the sections of the venue's fact sheet."""

from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import quote

import orjson
from msgspec import Meta, Raw, Struct, ValidationError
from msgspec.json import Decoder

from adapters import symbols
from adapters.adapter import ExchangeAdapter
from adapters.book import BookRule, Change, Snapshot
from adapters.effects import Connect, Effect, Fetch, Reconnect, Request, Send
from adapters.errors import FetchError, FrameError, NumberError, VenueError
from adapters.events import Channel
from adapters.handler import Handler
from adapters.holes import Hole
from adapters.numbers import Millis, Natural, plain
from adapters.sides import Level
from adapters.symbols import Instrument
from adapters.venue import History, Keepalive, Limits, Rate, Venue

VENUE = Venue(
    name="gateio",
    websocket="wss://api.gateio.ws/ws/v4/",  # not without its last slash
    rest="https://api.gateio.ws",
    documentation=(
        "https://www.gate.com/docs/developers/apiv4/ws/en/",
        "https://www.gate.com/docs/developers/apiv4/en/#spot",
    ),
    limits=Limits(
        connects=Rate(60, 60.0),
        frames=Rate(50, 1.0),
        weight=Rate(200, 10.0),  # of each endpoint
        topics_per_connection=200,
        topics_per_frame=1,  # a book needs a frame of its own, and one bad pair would fail all others of its frame
    ),
    keepalive=Keepalive(ping=10.0, silence=25.0),
    book=BookRule(chain="range", source="socket", truncates=True),
    depths=(50, 400),
    per_connection={"trades": 100, "orderbooks": 50, "tickers": 100},
    history=History("down", rows=1000, reach=30 * 86_400.0),
    past_trades="30 days, by time",
    evidence=(
        "Pace of connects and frames, and topics a connection, are our own bounds: the venue publishes 300 connections only.",
        "Frames must bear the time within 60 s: each connection begins with the time over REST, whether it is enforced or not.",
        "Whether id_market counts a market's trades without holes is not certain: trades go by id, and no gap is read from it.",
        "Tickers are spot.tickers, with best prices, last and volume; the amounts are in spot.book_ticker, which is read only.",
        "Since 2026-08-31 books of USD and USDC may be one, and currency_pair nominal: pairs are told as the venue names them.",
        "Markets where one side alone may trade (buyable, sellable) count as trading, since they have books.",
        "Levels beyond the 50 or 400 that a book was subscribed at are dropped: that the venue removes them is not documented.",
        "order_book_update is read, after a full push or a book of REST, and not subscribed: the cache of REST lags behind.",
        "Messages of the first API (method and params instead of channel and event) are not read: its addresses are gone.",
    ),
)

_NAMES: dict[Channel, str] = {"trades": "spot.trades", "orderbooks": "spot.obu", "tickers": "spot.tickers"}
_CHANNELS = {name: channel for channel, name in _NAMES.items()}
_DATA = {*_CHANNELS, "spot.order_book_update", "spot.order_book", "spot.book_ticker"}
_UNUSED = {"spot.pong", "spot.candlesticks", "spot.trades_v2"}
_SERVER_FAULT = 3
_DUPLICATE = "Alert sub "


Seconds = Annotated[int, Meta(ge=0, lt=10**11)]


# What the venue sends. Prices and amounts are quoted; keys that are not named here are passed over.


class Deal(Struct, gc=False):
    id: Natural
    currency_pair: str
    side: Literal["buy", "sell"]
    price: str
    amount: str
    create_time_ms: str


class Update(Struct, gc=False):
    """A book of spot.obu or spot.order_book_update: whole (`full`), or what changed from update `U` to `u`."""

    s: str
    t: Millis
    u: Natural
    U: Natural | None = None
    full: bool = False
    b: list[Level] | None = None
    a: list[Level] | None = None


class Best(Struct, gc=False):
    s: str
    t: Millis
    b: str
    B: str
    a: str
    A: str


class View(Struct, gc=False):
    s: str
    t: Millis
    lastUpdateId: Natural
    bids: list[Level]
    asks: list[Level]


class Day(Struct, gc=False):
    currency_pair: str
    last: str = ""
    highest_bid: str = ""
    lowest_ask: str = ""
    base_volume: str = ""


class Deals(Struct, tag_field="channel", tag="spot.trades", gc=False):
    result: Deal | list[Deal]


class Books(Struct, tag_field="channel", tag="spot.obu", gc=False):
    result: Update


class Updates(Struct, tag_field="channel", tag="spot.order_book_update", gc=False):
    result: Update


class Views(Struct, tag_field="channel", tag="spot.order_book", gc=False):
    result: View


class Bests(Struct, tag_field="channel", tag="spot.book_ticker", gc=False):
    result: Best


class Tickers(Struct, tag_field="channel", tag="spot.tickers", gc=False):
    result: Day
    time: Seconds
    time_ms: Millis | None = None


class Fault(Struct):
    code: int | None = None
    message: str = ""

    def __str__(self) -> str:
        return f"{self.message} (code {self.code})"


class Reply(Struct):
    """The answer to a request, or as much of another message as tells what it is."""

    channel: str = ""
    event: str = ""
    id: int | str | None = None
    payload: list[str] | None = None
    error: Fault | None = None
    result: Raw = Raw()


class Notice(Struct):
    type: str = ""
    msg: str = ""


class Problem(Struct):
    label: str = ""
    message: str = ""


class Time(Struct):
    server_time: Millis


class Book(Struct, gc=False):
    asks: list[Level]
    bids: list[Level]
    id: Natural | None = None
    current: Millis | None = None


class PastDeal(Struct, gc=False):
    id: Natural | str
    side: Literal["buy", "sell"]
    price: str
    amount: str
    create_time_ms: str
    currency_pair: str = ""


class Market(Struct):
    id: str
    base: str
    quote: str
    precision: Natural
    amount_precision: Natural
    trade_status: str


_message = Decoder(Deals | Books | Updates | Views | Bests | Tickers)
_reply = Decoder(Reply)
_notice = Decoder(Notice)
_problem = Decoder(Problem)
_time = Decoder(Time)
_book = Decoder(Book)
_past_deals = Decoder(list[PastDeal])
_days = Decoder(list[Day])
_markets = Decoder(list[Market])


T = TypeVar("T")


def _answered(decoder: Decoder[T], body: bytes) -> T:
    """8. A REST answer has no envelope; {"label", "message"} stands in the place of any."""
    try:
        return decoder.decode(body)
    except ValidationError:
        problem = _problem.decode(body)
        if not problem.label:
            raise
        raise FetchError(f"{problem.message} ({problem.label})") from None


def _micros(millis: str) -> int:
    """6. `1606292218213.4578`, milliseconds with a fraction (finer digits are cut), to microseconds."""
    whole, _, fraction = millis.partition(".")
    if not millis.isascii() or not (whole + fraction).isdecimal() or not 0 < len(whole) <= 14:
        raise NumberError(f"not a time: {millis[:40]!r}")
    return int(whole + fraction[:3].ljust(3, "0"))


def _pair(topic: str) -> str:
    """7. `ob.BTC_USDT.50` is about BTC_USDT."""
    return topic.removeprefix("ob.").rpartition(".")[0]


class Gateio(ExchangeAdapter):
    venue = VENUE
    endpoints = {
        "/api/v4/spot/time": ("time", None),
        "/api/v4/spot/currency_pairs": ("instruments", None),
        "/api/v4/spot/order_book": ("book", "currency_pair"),
        "/api/v4/spot/trades": ("trades", "currency_pair"),
        "/api/v4/spot/tickers": ("tickers", None),
    }

    # 2. Upper case alone is known, so that a name is taken as it is written.

    @staticmethod
    def native(symbol: str) -> str:
        parts = symbols.spot(symbol)
        return f"{parts.base}_{parts.quote}"

    @staticmethod
    def canonical(native: str) -> str | None:
        return symbols.cut(native, "_")

    # 5. Every frame bears the time, in seconds, and an adapter has no clock: the last thing received is its time. A first
    #    answer is therefore fetched before there is a connection.

    def connect(self) -> Effect:
        return Fetch(("time",), Request(f"{VENUE.rest}/api/v4/spot/time"))

    def _frame(self, **fields: Any) -> Send:
        return Send(orjson.dumps({"time": self.live.received // 1_000_000, **fields}).decode())

    # 4. Without it the venue gives a quiet connection up after a minute, and a new one after half of that.

    def ping(self) -> Send:
        return self._frame(channel="spot.ping")

    def subscribe(self, channel: Channel, natives: list[str], request: str) -> Send:
        return self._request("subscribe", channel, natives, request)

    def unsubscribe(self, channel: Channel, natives: list[str], request: str) -> Send:
        return self._request("unsubscribe", channel, natives, request)

    def _request(self, event: str, channel: Channel, natives: list[str], request: str) -> Send:
        payload = [f"ob.{native}.{self.depth}" for native in natives] if channel == "orderbooks" else natives
        return self._frame(id=int(request), channel=_NAMES[channel], event=event, payload=payload)

    def parse(self, frame: bytes, say: Handler) -> None:
        try:
            message = _message.decode(frame)
        except ValidationError:
            reply = _reply.decode(frame)
            if reply.event == "update" and reply.channel in _DATA:
                raise
            self._tell_reply(reply, say)
            return
        if isinstance(message, Books):
            self._tell_update(_pair(message.result.s), message.result, say)
        elif isinstance(message, Deals):
            for deal in message.result if isinstance(message.result, list) else [message.result]:
                # 6. `side` is the taker's; `id` counts the trades of all markets together.
                when = _micros(deal.create_time_ms)
                say.trade(deal.currency_pair, str(deal.id), deal.price, deal.amount, deal.side, when)
        else:
            self._tell_other_data(message, say)

    def _tell_other_data(self, message: Tickers | Updates | Views | Bests, say: Handler) -> None:
        if isinstance(message, Tickers):
            millis = message.time * 1000 if message.time_ms is None else message.time_ms
            self._tell_day(message.result, millis * 1000, say)
        elif isinstance(message, Updates):
            self._tell_update(message.result.s, message.result, say)
        elif isinstance(message, Bests):
            # 6. An empty text stands for an empty side, and a time of 0 for none.
            best = message.result
            prices = {"bid": best.b, "bid_amount": best.B, "ask": best.a, "ask_amount": best.A}
            say.ticker(best.s, best.t * 1000 or None, prices)
        else:
            view = message.result
            say.view(view.s, Snapshot(view.bids, view.asks, view.lastUpdateId, view.t * 1000))

    @staticmethod
    def _tell_day(day: Day, timestamp: int | None, say: Handler) -> None:
        prices = {"bid": day.highest_bid, "ask": day.lowest_ask, "last": day.last, "volume_24h": day.base_volume}
        say.ticker(day.currency_pair, timestamp, prices)

    # 7. A whole book comes with each subscription, and again whenever the venue likes; then a change begins at the update
    #    after the last one. One without rows only moves the number on.

    @staticmethod
    def _tell_update(native: str, update: Update, say: Handler) -> None:
        bids, asks = update.b or [], update.a or []
        if update.full:
            say.snapshot(native, Snapshot(bids, asks, update.u, update.t * 1000))
        elif update.U is not None:
            say.change(native, Change(bids, asks, update.U, update.u, None, update.t * 1000))
        else:
            raise FrameError("a book that is neither whole nor says where its change begins")

    def _tell_reply(self, reply: Reply, say: Handler) -> None:
        if reply.event == "subscribe":
            self._tell_answer(reply, say)
        elif reply.event == "unsubscribe" or (reply.channel in _UNUSED and reply.error is None):
            return
        elif reply.error is not None:
            say.error(VenueError(str(reply.error)))
        elif reply.channel == "spot.system":
            # 3. The connection will be closed soon.
            notice = _notice.decode(reply.result)
            say.effect(Reconnect(notice.msg or "the venue announces an upgrade", overlap=True))
        else:
            raise FrameError("a message of no known kind")

    # 5. A frame is answered once, by its id and with its payload; older answers have neither. A refusal that speaks of a
    #    duplicate means that the topic goes on; one for the server's own fault is passing.

    def _tell_answer(self, reply: Reply, say: Handler) -> None:
        channel = _CHANNELS.get(reply.channel)
        request = None if reply.id is None else str(reply.id)
        native = reply.payload[0] if reply.payload and channel is not None else None
        if native is not None and channel == "orderbooks":
            native = _pair(native)
        if reply.error is None or reply.error.message.startswith(_DUPLICATE):
            say.acked(channel=channel, native=native, request=request)
        elif reply.error.code == _SERVER_FAULT:
            say.error(VenueError(str(reply.error)))
        else:
            say.refused(str(reply.error), channel=channel, native=native, request=request)

    # 8. Back from a time, in seconds; both ends are included.

    def trades_request(self, native: str, hole: Hole) -> Fetch:
        span = f"from={hole.since // 1_000_000}&to={hole.until // 1_000_000}"
        url = f"{VENUE.rest}/api/v4/spot/trades?currency_pair={quote(native)}&limit=1000&{span}"
        return Fetch(("trades", native), Request(url))

    @classmethod
    def instruments_request(cls) -> Fetch:
        return Fetch(("instruments",), Request(f"{VENUE.rest}/api/v4/spot/currency_pairs"))

    @classmethod
    def parse_instruments(cls, body: bytes) -> list[Instrument]:
        return [
            Instrument(
                symbol=f"{market.base}/{market.quote}",
                native=market.id,
                active=market.trade_status != "untradable",
                state=market.trade_status,
                price_step=plain(f"1e-{market.precision}"),
                amount_step=plain(f"1e-{market.amount_precision}"),
            )
            for market in _answered(_markets, body)
        ]

    # 7, 8. A book of REST bears the number of its last update only where it was asked for.

    @classmethod
    def parse_answer(cls, key: tuple[str, ...], body: bytes, say: Handler) -> None:
        match key:
            case ("time",):
                _answered(_time, body)
                say.effect(Connect(VENUE.websocket))
            case ("book", native):
                book = _answered(_book, body)
                timestamp = book.current * 1000 if book.current is not None else None
                tell = say.snapshot if book.id is not None else say.view
                tell(native, Snapshot(book.bids, book.asks, book.id, timestamp))
            case ("trades", native):
                for deal in _answered(_past_deals, body):
                    name, when = native or deal.currency_pair, _micros(deal.create_time_ms)
                    say.past_trade(name, str(deal.id), deal.price, deal.amount, deal.side, when)
            case ("tickers",):
                for day in _answered(_days, body):
                    cls._tell_day(day, None, say)
            case _:
                raise FetchError(f"nothing is known about {key}")

    @classmethod
    def shape(cls, answer: Any) -> str | None:
        match answer:
            case {"server_time": _}:
                return "time"
            case {"asks": _, "bids": _}:
                return "book"
            case [{"create_time_ms": _, "price": _}, *_]:
                return "trades"
            case [{"currency_pair": _, "last": _, "base_volume": _}, *_]:
                return "tickers"
            case [{"trade_status": _, "base": _}, *_]:
                return "instruments"
        return None
