"""Binance spot: REST snapshot and U/u changes. Numbered rules follow the sections of the venue's fact sheet."""

from typing import Any, TypeVar
from urllib.parse import quote

import orjson
from msgspec import UNSET, Raw, Struct, UnsetType, ValidationError
from msgspec.json import Decoder

from adapters.adapter import ExchangeAdapter
from adapters.book import BookRule, Change, Snapshot
from adapters.effects import Fetch, Reconnect, Request, Send
from adapters.errors import FetchError, FrameError
from adapters.events import Channel, Side
from adapters.handler import Handler
from adapters.holes import Hole
from adapters.numbers import Millis, Natural
from adapters.sides import Level
from adapters.symbols import QUOTES, Instrument, split, spot
from adapters.venue import History, Keepalive, Limits, Rate, Venue

VENUE = Venue(
    name="binance",
    websocket="wss://stream.binance.com:9443/stream",
    rest="https://api.binance.com",
    documentation=(
        "https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams",
        "https://developers.binance.com/docs/binance-spot-api-docs/rest-api/market-data-endpoints",
    ),
    limits=Limits(
        connects=Rate(300, 300.0),
        frames=Rate(4, 1.0),  # 5 a second, of which pongs take a share
        weight=Rate(6000, 60.0),
        topics_per_connection=1024,
        topics_per_frame=200,
    ),
    keepalive=Keepalive(ping=None, silence=90.0),  # the server pings every 20 s, and data may be rare on quiet pairs
    book=BookRule(chain="range", source="rest", limited=True),
    depths=(1000, 5000),  # less is known to go stale at its edge within seconds
    per_connection={"trades": 50, "orderbooks": 20, "tickers": 100},
    lifetime=24 * 3600.0,
    numbers_trades=True,
    history=History("up", rows=1000),
    past_trades="any, by trade id (historicalTrades)",
    evidence=(
        "Trade ids rise by one a market: every trade of a 2024-08 recording does; a jump is reported as a gap.",
        "Tickers are the 1 s @ticker stream, which has best prices, last price and volume; bookTicker is read, not subscribed.",
        "An unknown symbol is acknowledged and stays silent: the instrument list decides what is rejected.",
        "How CANCEL_ONLY markets behave in streams is not known; they count as not trading.",
    ),
)

_STREAMS: dict[Channel, str] = {"trades": "@trade", "orderbooks": "@depth@100ms", "tickers": "@ticker"}
_WEIGHTS = {1000: 50, 5000: 250}
_QUOTES = tuple(quote for quote in QUOTES if quote != "USD")  # which only its BUSD, TUSD and the like end with
_UNUSED = {"kline", "avgPrice", "blockTrade", "referencePrice"}


# What the venue sends. Prices and amounts are quoted; times are milliseconds; keys that are not named here are passed over.


class Trade(Struct, tag_field="e", tag="trade", gc=False):
    s: str
    t: Natural
    p: str
    q: str
    T: Millis
    m: bool


class AggTrade(Struct, tag_field="e", tag="aggTrade", gc=False):
    s: str
    a: Natural
    p: str
    q: str
    T: Millis
    m: bool


class Depth(Struct, tag_field="e", tag="depthUpdate", gc=False):
    s: str
    E: Millis
    U: Natural
    u: Natural
    b: list[Level]
    a: list[Level]


class DayTicker(Struct, tag_field="e", tag="24hrTicker", gc=False):
    s: str
    E: Millis
    c: str
    v: str
    b: str
    B: str
    a: str
    A: str


class MiniTicker(Struct, tag_field="e", tag="24hrMiniTicker", gc=False):
    s: str
    E: Millis
    c: str
    v: str


class Shutdown(Struct, tag_field="e", tag="serverShutdown", gc=False):
    E: Millis


Event = Trade | Depth | DayTicker | AggTrade | MiniTicker | Shutdown


class BookTicker(Struct, gc=False):
    s: str
    b: str
    B: str
    a: str
    A: str
    T: Millis | None = None


class DepthView(Struct, gc=False):
    """The payload of depth5/10/20, and the answer of REST depth."""

    lastUpdateId: Natural
    bids: list[Level]
    asks: list[Level]


class Wrapped(Struct, gc=False):
    data: Event


class Envelope(Struct):
    stream: str = ""
    data: Raw = Raw()


class Fault(Struct):
    code: int | str | None = None
    msg: str = ""


class Probe(Struct):
    """As much of a message as tells what it is."""

    e: str | None = None
    A: str | None = None
    lastUpdateId: int | None = None
    result: Raw | UnsetType = UNSET
    error: Fault | None = None
    code: int | str | None = None
    msg: str = ""
    id: int | str | None = None


class RestTrade(Struct, gc=False):
    id: Natural
    price: str
    qty: str
    time: Millis
    isBuyerMaker: bool


class RestAggregate(Struct, gc=False):
    a: Natural
    p: str
    q: str
    T: Millis
    m: bool


class Filter(Struct):
    filterType: str
    tickSize: str | None = None
    stepSize: str | None = None


class Market(Struct):
    symbol: str
    status: str
    baseAsset: str
    quoteAsset: str
    filters: list[Filter]


class ExchangeInfo(Struct):
    symbols: list[Market]


_wrapped = Decoder(Wrapped)
_envelope = Decoder(Envelope)
_items = Decoder(list[Raw])
_probe = Decoder(Probe)
_fault = Decoder(Fault)
_event = Decoder(Event)
_book_ticker = Decoder(BookTicker)
_depth_view = Decoder(DepthView)
_rest_trades = Decoder(list[RestTrade])
_rest_aggregates = Decoder(list[RestAggregate])
_exchange_info = Decoder(ExchangeInfo)


T = TypeVar("T")


def _answered(decoder: Decoder[T], body: bytes) -> T:
    """A REST answer; {"code", "msg"} stands in the place of any."""
    try:
        return decoder.decode(body)
    except ValidationError:
        fault = _fault.decode(body)
        if fault.code is None:
            raise
        raise FetchError(f"{fault.msg} (code {fault.code})") from None


class Binance(ExchangeAdapter):
    venue = VENUE
    endpoints = {
        "/api/v3/depth": ("book", "symbol"),
        "/api/v3/trades": ("trades", "symbol"),
        "/api/v3/historicalTrades": ("trades", "symbol"),
        "/api/v3/aggTrades": ("aggregates", "symbol"),
        "/api/v3/exchangeInfo": ("instruments", None),
    }

    # 2. Names are upper case in messages and REST, lower case in stream names, and have no delimiter.

    @staticmethod
    def native(symbol: str) -> str:
        parts = spot(symbol)
        return parts.base + parts.quote

    @staticmethod
    def canonical(native: str) -> str | None:
        return split(native, _QUOTES)

    # 5. One frame names many streams and is answered once, by its id. An unknown symbol is acknowledged too, and silent.

    def subscribe(self, channel: Channel, natives: list[str], request: str) -> Send:
        return self._request("SUBSCRIBE", channel, natives, request)

    def unsubscribe(self, channel: Channel, natives: list[str], request: str) -> Send:
        return self._request("UNSUBSCRIBE", channel, natives, request)

    def _request(self, method: str, channel: Channel, natives: list[str], request: str) -> Send:
        streams = [native.lower() + _STREAMS[channel] for native in natives]
        return Send(orjson.dumps({"method": method, "params": streams, "id": int(request)}).decode())

    def parse(self, frame: bytes, say: Handler) -> None:
        try:
            event = _wrapped.decode(frame).data
        except ValidationError:
            self._parse_other(frame, say)
            return
        if isinstance(event, Trade):
            # 6. T is the time of the trade; m says that the buyer was the maker, so the taker sold; t rises by one a market.
            say.trade(event.s, event.t, event.p, event.q, "sell" if event.m else "buy", event.T * 1000)
        else:
            self._tell(event, say)

    def _tell(self, event: Event, say: Handler) -> None:
        if isinstance(event, Trade):
            say.trade(event.s, event.t, event.p, event.q, "sell" if event.m else "buy", event.T * 1000)
        elif isinstance(event, Depth):
            # 7. The change covers the updates U..u; amounts are absolute, zero removes.
            say.change(event.s, Change(event.b, event.a, event.U, event.u, None, event.E * 1000))
        elif isinstance(event, DayTicker):
            prices = {"bid": event.b, "bid_amount": event.B, "ask": event.a, "ask_amount": event.A}
            say.ticker(event.s, event.E * 1000, prices | {"last": event.c, "volume_24h": event.v})
        elif isinstance(event, AggTrade):
            # One row for each taker order and price, numbered apart from the trades that it holds.
            say.trade(event.s, str(event.a), event.p, event.q, "sell" if event.m else "buy", event.T * 1000)
        elif isinstance(event, MiniTicker):
            say.ticker(event.s, event.E * 1000, {"last": event.c, "volume_24h": event.v})
        else:
            # 4. A close is near, without a fixed lead.
            say.effect(Reconnect("the venue announces a shutdown", overlap=True))

    def _parse_other(self, frame: bytes, say: Handler) -> None:
        """Whatever is no wrapped event: answers to requests, payloads without an event name, unwrapped and listed events."""
        envelope = Envelope() if frame.startswith(b"[") else _envelope.decode(frame)
        payload = bytes(envelope.data) or frame
        for item in _items.decode(payload) if payload.startswith(b"[") else [payload]:
            probe = _probe.decode(item)
            if probe.e in _UNUSED:
                continue
            if probe.e is not None:
                self._tell(_event.decode(item), say)
            elif probe.lastUpdateId is not None:
                view = _depth_view.decode(item)
                say.view(envelope.stream.partition("@")[0].upper(), Snapshot(view.bids, view.asks, view.lastUpdateId))
            elif probe.A is not None:
                best = _book_ticker.decode(item)
                prices = {"bid": best.b, "bid_amount": best.B, "ask": best.a, "ask_amount": best.A}
                say.ticker(best.s, best.T * 1000 if best.T else None, prices)
            else:
                self._parse_answer_to_request(probe, say)

    def _parse_answer_to_request(self, probe: Probe, say: Handler) -> None:
        # 5. {"result": null, "id": n}, or {"error": {"code", "msg"}, "id": n}; the documentation also prints the error flat.
        request = None if probe.id is None else str(probe.id)
        fault = probe.error or (Fault(probe.code, probe.msg) if probe.code is not None else None)
        if fault is not None:
            say.refused(f"{fault.msg} (code {fault.code})", request=request)
        elif probe.result is not UNSET:
            say.acked(request=request)
        else:
            raise FrameError("a message of no known kind")

    # 7. A snapshot's `limit` is the window within which the book is known, and sets its weight.

    def book_request(self, native: str) -> Fetch:
        url = f"{VENUE.rest}/api/v3/depth?symbol={quote(native)}&limit={self.depth}"
        return Fetch(("book", native), Request(url), weight=_WEIGHTS[self.depth])

    # 8. By trade id, upwards.

    def trades_request(self, native: str, hole: Hole) -> Fetch:
        url = f"{VENUE.rest}/api/v3/historicalTrades?symbol={quote(native)}&fromId={hole.first}&limit=1000"
        return Fetch(("trades", native), Request(url), weight=25)

    @classmethod
    def instruments_request(cls) -> Fetch:
        return Fetch(("instruments",), Request(f"{VENUE.rest}/api/v3/exchangeInfo?showPermissionSets=false"), weight=20)

    @classmethod
    def parse_instruments(cls, body: bytes) -> list[Instrument]:
        return [
            Instrument(
                symbol=f"{market.baseAsset}/{market.quoteAsset}",
                native=market.symbol,
                active=market.status == "TRADING",
                state=market.status,
                price_step=next((each.tickSize for each in market.filters if each.tickSize), None),
                amount_step=next((each.stepSize for each in market.filters if each.filterType == "LOT_SIZE"), None),
            )
            for market in _answered(_exchange_info, body).symbols
        ]

    @classmethod
    def parse_answer(cls, key: tuple[str, ...], body: bytes, say: Handler) -> None:
        match key:
            case ("book", native):
                view = _answered(_depth_view, body)
                say.snapshot(native, Snapshot(view.bids, view.asks, view.lastUpdateId))
            case ("trades", native):
                for row in _answered(_rest_trades, body):
                    side: Side = "sell" if row.isBuyerMaker else "buy"
                    say.past_trade(native, row.id, row.price, row.qty, side, row.time * 1000)
            case ("aggregates", native):
                for each in _answered(_rest_aggregates, body):
                    say.past_trade(native, str(each.a), each.p, each.q, "sell" if each.m else "buy", each.T * 1000)
            case _:
                raise FetchError(f"nothing is known about {key}")

    @classmethod
    def shape(cls, answer: Any) -> str | None:
        match answer:
            case {"lastUpdateId": _}:
                return "book"
            case [{"isBuyerMaker": _}, *_]:
                return "trades"
            case [{"a": _, "p": _, "m": _}, *_]:
                return "aggregates"
            case {"symbols": _}:
                return "instruments"
        return None
