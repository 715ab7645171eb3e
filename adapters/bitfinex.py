"""Bitfinex v2 spot: numbered messages, channels known by number, bare numbers, books that a checksum proves.

Numbered rules follow the sections of the venue's fact sheet.
"""

from itertools import zip_longest
from typing import Any, Literal, TypeVar
from urllib.parse import quote
from zlib import crc32

import orjson
from msgspec import Raw, Struct, ValidationError
from msgspec.json import Decoder

from adapters.adapter import ExchangeAdapter
from adapters.book import BookRule, Change, OrderBook, Snapshot
from adapters.effects import Effect, Fetch, Reconnect, Request, Send
from adapters.errors import FetchError, FrameError, VenueError
from adapters.events import Channel
from adapters.handler import Handler
from adapters.holes import Hole
from adapters.numbers import Millis, Natural, is_plain, plain, text
from adapters.sides import Side
from adapters.symbols import Instrument, cut, spot
from adapters.venue import History, Keepalive, Limits, Rate, Venue

CHECKED_LEVELS = 25


def checksum(book: OrderBook) -> int:
    """7. Signed CRC32 of the 25 best bids and asks in turn: price and amount as sent, sign included, with colons between."""
    levels = zip_longest(_best(book.bids), _best(book.asks))
    crc = crc32(":".join(token for pair in levels for token in pair if token is not None).encode())
    return crc - 2**32 if crc >= 2**31 else crc


def _best(side: Side) -> list[str]:
    rows: list[Any] = side.leading(CHECKED_LEVELS)
    return [row.tokens for row in rows]


VENUE = Venue(
    name="bitfinex",
    websocket="wss://api-pub.bitfinex.com/ws/2",
    rest="https://api-pub.bitfinex.com",
    documentation=(
        "https://docs.bitfinex.com/docs/ws-general",
        "https://docs.bitfinex.com/reference/ws-public-books",
        "https://docs.bitfinex.com/docs/ws-websocket-checksum",
    ),
    limits=Limits(
        connects=Rate(20, 60.0),
        frames=Rate(10, 1.0),
        weight=Rate(90, 60.0),
        topics_per_connection=25,
        topics_per_frame=1,
    ),
    keepalive=Keepalive(ping=20.0, silence=40.0),  # heartbeats come each 15 s, but only where something is subscribed
    # A book may be crossed for a single frame, between an insertion and the removal that follows it.
    book=BookRule(chain=None, source="socket", checksum=checksum, crossed="passing"),
    depths=(25, 100, 250),
    per_connection={"trades": 25, "orderbooks": 25, "tickers": 25},
    greets=True,
    numbers_messages=True,
    history=History("up", rows=10_000, reach=float("inf")),
    past_trades="any, by time (trades/hist)",
    evidence=(
        "One page of the documentation allows 25 channels a connection, another 30; the wire took 36.",
        "10 frames a second are our own bound; the venue publishes none.",
        "A missing number puts all books of the connection in doubt, one by one; others drop the connection.",
        "Prices have five significant digits, so that a level of a book is the venue's own sum of what lies nearby.",
        "Sizes of a ticker are sums over 25 levels and not those of the best prices: they are not told.",
        "Trade ids are rising for all markets together: no gap is read from them.",
        "Currency codes are translated as by ccxt and not by the venue's own map: a code that it renames later needs an entry.",
        "Refusals for too many channels or too many requests (10305, 11010) are passing: asked for again.",
        "What is listed is trading: the list of pairs has no state.",
        "During a maintenance (20060 to 20061) books are shown as they were last known.",
    ),
)

_NAMES: dict[Channel, str] = {"trades": "trades", "orderbooks": "book", "tickers": "ticker"}
_CHANNELS = {name: channel for channel, name in _NAMES.items()}

_TIMESTAMP, _SEQUENCE, _CHECKSUM = 32768, 65536, 131072
_FLAGS = _TIMESTAMP | _SEQUENCE | _CHECKSUM

_RESTART, _MAINTENANCE, _MAINTENANCE_OVER = 20051, 20060, 20061
_DUPLICATE = 10301
_PASSING = {10305, 11010}

_ASSETS = {
    **{"UST": "USDT", "UDC": "USDC", "EUT": "EURT", "EUS": "EURS", "TSD": "TUSD", "TERRAUST": "USTC", "XCH": "XCHF"},
    **{"DSH": "DASH", "IOT": "IOTA", "QTM": "QTUM", "ALG": "ALGO", "AMP": "AMPL", "ATO": "ATOM", "DAT": "DATA"},
    **{"BCHN": "BCH", "BCHABC": "XEC", "MNA": "MANA", "RBT": "RBTC", "STJ": "STORJ", "SNG": "SNGLS", "YYW": "YOYOW"},
    **{"WAX": "WAXP", "LUNA": "LUNC", "LUNA2": "LUNA", "EDO": "PNT", "VSY": "VSYS", "ZBT": "ZB", "IDX": "ID"},
    **{"IQX": "IQ", "PAS": "PASS", "QSH": "QASH"},
}
_CODES = {asset: code for code, asset in _ASSETS.items()}


class CheckedLevel(Struct, gc=False, frozen=True):
    """A price level, and its part of the checksum: price and amount as sent."""

    price: str
    amount: str
    tokens: str


# What the venue sends: arrays of bare numbers, of a channel; and objects, about the connection and its channels.


class Frame(Struct, array_like=True, gc=False):
    """`[channel, payload, ...]` or `[channel, word, payload, ...]`, and behind them what the flags add."""

    channel: Natural
    first: Raw
    second: Raw = Raw()
    third: Raw = Raw()
    fourth: Raw = Raw()


class Row(Struct, array_like=True, gc=False):
    price: Raw
    count: int
    amount: Raw


class Deal(Struct, array_like=True, gc=False):
    id: Natural
    time: Millis
    amount: Raw
    price: Raw


class Ticker(Struct, array_like=True, gc=False):
    bid: Raw
    bid_size: Raw
    ask: Raw
    ask_size: Raw
    change: Raw
    change_relative: Raw
    last: Raw
    volume: Raw


class Platform(Struct):
    status: int


class Event(Struct):
    event: str
    channel: str = ""
    chanId: int | None = None
    symbol: str = ""
    prec: str = ""
    subId: str | None = None
    status: str = ""
    flags: int = 0
    code: int | None = None
    msg: str = ""
    platform: Platform | None = None


_frame = Decoder(Frame)
_event = Decoder(Event)
_row = Decoder(Row)
_rows = Decoder(list[Row])
_deal = Decoder(Deal)
_deals = Decoder(list[Deal])
_ticker = Decoder(Ticker)
_checksum = Decoder(int)
_natural = Decoder(Natural)
_millis = Decoder(Millis)
_names = Decoder(list[list[str]])

T = TypeVar("T")


def _answered(decoder: Decoder[T], body: bytes) -> T:
    """A REST answer; an array or an object that tells an error stands in the place of any."""
    try:
        return decoder.decode(body)
    except ValidationError:
        match orjson.loads(body):
            case ["error", code, str(reason), *_]:
                raise FetchError(f"{reason} (code {code})") from None
            case {"error": str(reason)}:
                raise FetchError(reason) from None
        raise


def _sides(rows: list[Row]) -> tuple[list[CheckedLevel], list[CheckedLevel]]:
    """7. Bids, and asks, whose amounts are negative; a count of 0 removes the level, and the amount is then but a side."""
    bids: list[CheckedLevel] = []
    asks: list[CheckedLevel] = []
    for row in rows:
        price, amount = str(row.price, "utf-8"), str(row.amount, "utf-8")
        side, size = (asks, amount[1:]) if amount[:1] == "-" else (bids, amount)
        tokens = f"{price}:{amount}"
        if not (is_plain(price) and is_plain(size)):
            price, size = plain(price), plain(size)
        side.append(CheckedLevel(price, size if row.count else "0", tokens))
    return bids, asks


class Opened(Struct):
    """What a channel's number stands for; `channel` is None where it is none of ours."""

    channel: Channel | None
    native: str
    is_begun: bool = False
    """Whether its snapshot came, or was missed: lists of rows that follow are changes."""


class Bitfinex(ExchangeAdapter):
    venue = VENUE
    endpoints = {
        "/v2/conf/pub:list:pair:exchange": ("instruments", None),
        "/v2/trades/{}/hist": ("trades", None),
        "/v2/book/{}/P0": ("view", None),
    }

    # Of the connection; a recording may begin in its middle.
    _next: int | None = None
    _flags = _FLAGS
    _opened: dict[int, Opened] = {}
    _executed: frozenset[int] = frozenset()

    def connect(self) -> Effect:
        self._next, self._flags = 1, _FLAGS
        self._opened, self._executed = {}, frozenset()
        return super().connect()

    # 2. `t` and the pair, with a colon unless both codes have three letters; many codes are the venue's own.

    @staticmethod
    def native(symbol: str) -> str:
        parts = spot(symbol)
        base, quote = _CODES.get(parts.base, parts.base), _CODES.get(parts.quote, parts.quote)
        native = f"t{base}{quote}" if len(base) == len(quote) == 3 else f"t{base}:{quote}"
        # AMP is how the venue calls AMPL: what has another meaning there keeps its own name, which the venue refuses.
        return native if Bitfinex.canonical(native) == symbol else symbol

    @staticmethod
    def canonical(native: str) -> str | None:
        pair = native.removeprefix("t")
        name = cut(pair, ":") if ":" in pair else f"{pair[:3]}/{pair[3:]}" if len(pair) == 6 else None
        codes = name.split("/") if name else []
        if not codes or any(code.endswith("F0") for code in codes):  # the parts of a perpetual
            return None
        return "/".join(_ASSETS.get(code, code) for code in codes)

    # 4. A connection without a subscription is kept by the client's own ping.

    def ping(self) -> Send:
        return Send('{"event":"ping"}')

    # 5. One frame for each channel; its number is told by the acknowledgement.

    def subscribe(self, channel: Channel, natives: list[str], request: str) -> Send:
        (native,) = natives
        frame = {"event": "subscribe", "channel": _NAMES[channel], "symbol": native, "subId": request}
        if channel == "orderbooks":
            frame |= {"prec": "P0", "freq": "F0", "len": str(self.depth)}
        return Send(orjson.dumps(frame).decode())

    def unsubscribe(self, channel: Channel, natives: list[str], request: str) -> Send | None:
        for number, opened in reversed(self._opened.items()):  # the end of an older number may not be confirmed yet
            if opened.channel == channel and opened.native in natives:
                return Send(orjson.dumps({"event": "unsubscribe", "chanId": number}).decode())
        return None

    def parse(self, frame: bytes, say: Handler) -> None:
        if frame.startswith(b"{"):
            self._tell_event(_event.decode(frame), say)
            return
        message = _frame.decode(frame)
        word, payload = "", bytes(message.first)
        if payload.startswith(b'"'):
            word, payload = payload.decode().strip('"'), bytes(message.second)
        if word in ("", "hb"):
            number, timestamp = self._marks(message.second, message.third)
        else:
            number, timestamp = self._marks(message.third, message.fourth)
        if number is not None and self._is_old(number, say):
            return
        if word != "hb":
            self._tell_data(message.channel, word, payload, timestamp, say)
        if number is not None:
            self._next = number + 1  # only now: what could not be read was missed, and the next message will show it

    def _marks(self, first: Raw, second: Raw) -> tuple[int | None, int | None]:
        """3, 6. The number of a message, then its time in microseconds, as far as the flags ask for them."""
        number = None
        if self._flags & _SEQUENCE:
            number, first = (_natural.decode(first) if first else None), second
        timestamp = _millis.decode(first) * 1000 if first and self._flags & _TIMESTAMP else None
        return number, timestamp

    # 7. Array messages of a connection are numbered from 1, heartbeats and checksums among them.

    def _is_old(self, number: int, say: Handler) -> bool:
        """Whether a message came before; a jump ahead is told, and going back is not to be trusted."""
        if self._next is None or number == self._next:
            return False
        if number > self._next:
            say.missed(self._next, number - 1)
            self._next = number
            for opened in self._opened.values():
                opened.is_begun = True  # what was missed may have been its snapshot
            return False
        if number < self._next - 1:
            say.effect(Reconnect(f"message {number} after {self._next - 1}"))
        return True

    def _tell_data(self, number: int, word: str, payload: bytes, timestamp: int | None, say: Handler) -> None:
        opened = self._opened.get(number)
        if opened is None:
            self._opened = {**self._opened, number: Opened(None, "")}  # said once
            say.error(FrameError(f"data of a channel that was not opened: {number}"))
        elif opened.channel == "orderbooks":
            self._tell_book(opened, word, payload, timestamp, say)
        elif opened.channel == "trades":
            self._tell_trades(opened.native, word, payload, say)
        elif opened.channel == "tickers":
            self._tell_ticker(opened.native, _ticker.decode(payload), timestamp, say)

    # 7. The first list of rows on a channel is the book, any later one changes; a checksum is about all that came before.

    def _tell_book(self, opened: Opened, word: str, payload: bytes, timestamp: int | None, say: Handler) -> None:
        if word == "cs":
            say.change(opened.native, Change([], [], None, None, None, timestamp, _checksum.decode(payload)))
        elif not payload.startswith((b"[[", b"[]")):
            say.change(opened.native, Change(*_sides([_row.decode(payload)]), timestamp=timestamp))
        elif opened.is_begun:
            say.change(opened.native, Change(*_sides(_rows.decode(payload)), timestamp=timestamp))
        else:
            say.snapshot(opened.native, Snapshot(*_sides(_rows.decode(payload)), timestamp=timestamp))
            opened.is_begun = True

    # 6. A list holds the last trades before the subscription. Each later one is told at once (te), and once more when it is
    #    booked (tu), which makes up for a te that never came. A positive amount was bought by the taker.

    def _tell_trades(self, native: str, word: str, payload: bytes, say: Handler) -> None:
        if not word:
            for deal in _deals.decode(payload):
                self._tell_deal(native, deal, say, is_past=True)
        elif word == "te":
            deal = _deal.decode(payload)
            self._tell_deal(native, deal, say)
            self._executed |= {deal.id}
        elif word == "tu":
            deal = _deal.decode(payload)
            self._tell_deal(native, deal, say, is_past=deal.id in self._executed)
            self._executed -= {deal.id}
        else:
            raise FrameError(f"trades of no known kind: {word}")

    @staticmethod
    def _tell_deal(native: str, deal: Deal, say: Handler, *, is_past: bool = False) -> None:
        tell = say.past_trade if is_past else say.trade
        price, amount = str(deal.price, "utf-8"), str(deal.amount, "utf-8")
        side: Literal["buy", "sell"] = "sell" if amount[:1] == "-" else "buy"
        tell(native, str(deal.id), price, amount.removeprefix("-"), side, deal.time * 1000)

    def _tell_ticker(self, native: str, ticker: Ticker, timestamp: int | None, say: Handler) -> None:
        prices = {"bid": text(ticker.bid), "ask": text(ticker.ask), "last": text(ticker.last)}
        say.ticker(native, timestamp, prices | {"volume_24h": text(ticker.volume)})

    def _tell_event(self, event: Event, say: Handler) -> None:
        match event.event:
            case "subscribed":
                self._open(event, say)
            case "unsubscribed":
                self._opened = {number: opened for number, opened in self._opened.items() if number != event.chanId}
            case "error":
                self._tell_error(event, say)
            case "info":
                self._tell_info(event, say)
            case "conf":
                self._flags = event.flags
                if event.status != "OK" or event.flags & _FLAGS != _FLAGS:
                    say.effect(Reconnect(f"the venue does not take the flags {_FLAGS}"))
            case "pong":
                pass
            case _:
                raise FrameError(f"an event of no known kind: {event.event}")

    # 5. A number is the connection's own. Books of single orders (R0), funding, candles and status are none of ours.

    def _open(self, event: Event, say: Handler) -> None:
        if event.chanId is None:
            raise FrameError("a channel without a number")
        channel = _CHANNELS.get(event.channel)
        if event.symbol.startswith("f") or (channel == "orderbooks" and event.prec.startswith("R")):
            channel = None
        known = self._opened.get(event.chanId)
        if known is None or (known.channel, known.native) != (channel, event.symbol):
            is_begun = known is not None or event.code == _DUPLICATE
            self._opened = {**self._opened, event.chanId: Opened(channel, event.symbol, is_begun)}
        if channel is not None:
            say.acked(channel=channel, native=event.symbol, request=event.subId)

    def _tell_error(self, event: Event, say: Handler) -> None:
        reason = f"{event.msg} (code {event.code})"
        channel = _CHANNELS.get(event.channel)
        if event.code == _DUPLICATE and event.chanId is not None:
            self._open(event, say)
        elif event.code in _PASSING or event.code == _DUPLICATE:
            say.error(VenueError(reason))
        else:
            say.refused(reason, channel=channel, native=event.symbol or None, request=event.subId)

    # 3, 10. The greeting tells the state of the platform; after it come the flags, before anything is subscribed.

    def _tell_info(self, event: Event, say: Handler) -> None:
        if event.code == _RESTART:
            say.effect(Reconnect("the venue restarts", after=5.0))
        elif event.code == _MAINTENANCE_OVER:
            say.effect(Reconnect("the venue's maintenance is over", after=5.0))
        elif event.code is not None or event.platform is None:
            if event.code == _MAINTENANCE:
                say.paused()
            say.error(VenueError(event.msg or f"the venue's notice {event.code}"))
        elif event.platform.status != 1:
            say.error(VenueError("the venue is in maintenance"))
            say.effect(Reconnect("the venue is in maintenance", after=30.0))
        else:
            say.effect(Send(orjson.dumps({"event": "conf", "flags": _FLAGS}).decode()))
            say.welcomed()

    # 8. The list of pairs has neither states nor steps: prices have five significant digits, amounts eight decimals.

    # 8. By time, upwards; sort=1 means the oldest first. The call has a budget of its own, of 15 a minute.

    def trades_request(self, native: str, hole: Hole) -> Fetch:
        span = f"start={hole.since // 1000}&end={hole.until // 1000}"
        url = f"{VENUE.rest}/v2/trades/{quote(native, safe=':')}/hist?limit=10000&sort=1&{span}"
        return Fetch(("trades", native), Request(url), weight=6)

    @classmethod
    def instruments_request(cls) -> Fetch:
        return Fetch(("instruments",), Request(f"{VENUE.rest}/v2/conf/pub:list:pair:exchange"))

    @classmethod
    def parse_instruments(cls, body: bytes) -> list[Instrument]:
        return [
            Instrument(symbol=symbol, native=f"t{pair}", active=True, state="listed", amount_step="0.00000001")
            for pairs in _answered(_names, body)
            for pair in pairs
            if (symbol := cls.canonical(f"t{pair}")) is not None
        ]

    @classmethod
    def parse_answer(cls, key: tuple[str, ...], body: bytes, say: Handler) -> None:
        match key:
            case ("trades", native):
                for deal in _answered(_deals, body):
                    cls._tell_deal(native, deal, say, is_past=True)
            case ("view", native):
                say.view(native, Snapshot(*_sides(_answered(_rows, body))))
            case _:
                raise FetchError(f"nothing is known about {key}")

    @classmethod
    def shape(cls, answer: Any) -> str | None:
        match answer:
            case [[str(), *_], *_]:
                return "instruments"
            case [[_, _, _], *_]:
                return "view"
            case [[_, _, _, _], *_]:
                return "trades"
        return None
