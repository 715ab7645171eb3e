"""MEXC spot: protobuf frames, REST under each book. Numbered rules follow the sections of the venue's fact sheet."""

import re
from collections.abc import Iterable
from typing import Any, TypeVar
from urllib.parse import quote

import orjson
from google.protobuf.message import DecodeError
from msgspec import Struct, ValidationError
from msgspec.json import Decoder

from adapters import symbols
from adapters.adapter import ExchangeAdapter
from adapters.book import BookRule, Change, Snapshot
from adapters.effects import Fetch, Request, Send
from adapters.errors import FetchError, NumberError, UnreadableError
from adapters.events import Channel, Side
from adapters.handler import Handler
from adapters.mexc_pb2 import (
    PublicAggreBookTicker,
    PublicAggreDealsItem,
    PublicAggreDepths,
    PublicDepthsItem,
    PublicLimitDepths,
    PublicMiniTicker,
    PushDataV3ApiWrapper,
)
from adapters.numbers import ZEROS, Millis, Natural, plain
from adapters.sides import Level
from adapters.symbols import Instrument
from adapters.venue import Keepalive, Limits, Rate, Venue

VENUE = Venue(
    name="mexc",
    websocket="wss://wbs-api.mexc.com/ws",
    rest="https://api.mexc.com",
    documentation=(
        "https://www.mexc.com/api-docs/spot-v3/websocket-market-streams",
        "https://github.com/mexcdevelop/websocket-proto",
    ),
    limits=Limits(
        connects=Rate(5, 1.0),
        frames=Rate(100, 1.0),
        weight=Rate(500, 10.0),
        topics_per_connection=30,
        topics_per_frame=30,
    ),
    keepalive=Keepalive(ping=20.0, silence=60.0),
    book=BookRule(chain="range", source="rest", limited=True),
    depths=(1000, 5000),
    per_connection={"trades": 30, "orderbooks": 30, "tickers": 30},
    lifetime=24 * 3600.0,
    past_trades="any, by time (aggTrades), without ids",
    evidence=(
        "Connects are held to 5 a second, which is ours: the venue publishes no number.",
        "tradeType is taken as the taker's side, as all clients do; the venue says buy or sell only.",
        "Trade ids are opaque and not consecutive: no gap is read from them.",
        "Frames from before 2026-06 have no trade ids: there the time, numbers, side and place in the frame stand for one.",
        "A body that is not known, or none at all, is passed over: the venue's definitions grow.",
        "Tickers are the best prices of aggre.bookTicker; last price and volume are in miniTicker, which is only read.",
        "The list of all mini tickers is taken to be field 1 of its message, as in the other lists; it was never recorded.",
        "The weight limit holds for each endpoint apart, and is kept here for all together.",
        "Whether a refusal for haste exists besides the disconnect is not known; a request that is refused is not repeated.",
    ),
)

_STREAMS: dict[Channel, str] = {
    "trades": "spot@public.aggre.deals.v3.api.pb@100ms",
    "orderbooks": "spot@public.aggre.depth.v3.api.pb@100ms",
    "tickers": "spot@public.aggre.bookTicker.v3.api.pb@100ms",
}
_CHANNELS = {stream: channel for channel, stream in _STREAMS.items()}
_TOPIC = re.compile(r"spot@[^\s,\]]+")
_SIDES: dict[int, Side] = {1: "buy", 2: "sell"}
_ONLINE = {"1", "ENABLED"}


# What the venue sends as JSON: answers to requests, and REST. Data frames are defined in mexc.proto.


class Reply(Struct):
    code: int
    msg: str
    id: int | None = None


class Depth(Struct, gc=False):
    lastUpdateId: Natural
    bids: list[Level]
    asks: list[Level]
    timestamp: Millis | None = None


class RestTrade(Struct, gc=False):
    price: str
    qty: str
    time: Millis
    isBuyerMaker: bool
    id: str | int | None = None


class RestAggregate(Struct, gc=False):
    p: str
    q: str
    T: Millis
    m: bool


class Market(Struct):
    symbol: str
    status: str
    baseAsset: str
    quoteAsset: str
    baseAssetPrecision: int
    quotePrecision: int
    baseSizePrecision: str


class ExchangeInfo(Struct):
    symbols: list[Market]


_reply = Decoder(Reply)
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
        fault = _reply.decode(body)
        raise FetchError(f"{fault.msg} (code {fault.code})") from None


def _micros(millis: int) -> int | None:
    """6. A time that is absent is 0."""
    if not 0 <= millis < 10**14:
        raise NumberError(f"not a time: {millis}")
    return millis * 1000 or None


def _version(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise NumberError(f"not a version: {text[:40]!r}")
    return int(text)


def _levels(rows: Iterable[PublicDepthsItem]) -> list[Level]:
    return [Level(row.price, row.quantity) for row in rows]


def _in_place_of_id(*parts: object) -> str:
    """6. What stands for a trade without an id."""
    return "-".join(map(str, parts))


def _about(topic: str) -> tuple[Channel | None, str]:
    """5. The channel of a topic, where it is one of ours, and its market: a part behind the name and the speed, if any."""
    stream, _, native = topic.rpartition("@")
    if stream in _CHANNELS:
        return _CHANNELS[stream], native
    return None, next((part for part in topic.split("@")[2:] if not part.endswith("ms")), "")


class Mexc(ExchangeAdapter):
    venue = VENUE
    endpoints = {
        "/api/v3/depth": ("book", "symbol"),
        "/api/v3/trades": ("trades", "symbol"),
        "/api/v3/aggTrades": ("aggregates", "symbol"),
        "/api/v3/exchangeInfo": ("instruments", None),
    }

    # 2. Names are upper case and have no delimiter.

    @staticmethod
    def native(symbol: str) -> str:
        parts = symbols.spot(symbol)
        return parts.base + parts.quote

    @staticmethod
    def canonical(native: str) -> str | None:
        return symbols.split(native)

    # 3, 4. A connection without traffic is cut after 60 s; this is answered, and counts as traffic.

    def ping(self) -> Send:
        return Send('{"method":"PING"}')

    # 5. One frame names many topics, at most 30 of them a connection.

    def subscribe(self, channel: Channel, natives: list[str], request: str) -> Send:
        return self._request("SUBSCRIPTION", channel, natives, request)

    def unsubscribe(self, channel: Channel, natives: list[str], request: str) -> Send:
        return self._request("UNSUBSCRIPTION", channel, natives, request)

    def _request(self, method: str, channel: Channel, natives: list[str], request: str) -> Send:
        topics = [f"{_STREAMS[channel]}@{native}" for native in natives]
        return Send(orjson.dumps({"method": method, "params": topics, "id": int(request)}).decode())

    # 3. Control replies are text, data are protobuf, in which no frame begins with a brace.

    def parse(self, frame: bytes, say: Handler) -> None:
        if frame.startswith(b"{"):
            self._tell_reply(_reply.decode(frame), say)
            return
        try:
            push = PushDataV3ApiWrapper.FromString(frame)
        except DecodeError as error:
            raise UnreadableError(f"{error} in {frame[:80]!r}") from error
        if not push.channel:
            raise UnreadableError("a message without a channel")
        self._tell_data(push, push.symbol or _about(push.channel)[1], say)

    def _tell_data(self, push: PushDataV3ApiWrapper, native: str, say: Handler) -> None:
        sent = _micros(push.sendTime)
        match push.WhichOneof("body"):
            case "publicAggreDeals" | "publicDeals" as body:
                self._tell_deals(native, getattr(push, body).deals, say)
            case "publicAggreDepths":
                self._tell_change(native, push.publicAggreDepths, sent, say)
            case "publicAggreBookTicker" | "publicBookTicker" as body:
                self._tell_best(native, getattr(push, body), sent, say)
            case "publicBookTickerBatch":
                for best in push.publicBookTickerBatch.items:
                    self._tell_best(native, best, sent, say)
            case "publicLimitDepths":
                say.view(native, self._snapshot(push.publicLimitDepths, sent))
            case "publicIncreaseDepths":
                book = self._snapshot(push.publicIncreaseDepths, sent)
                say.change(native, Change(book.bids, book.asks, None, book.sequence, None, sent))
            case "publicMiniTicker":
                self._tell_day(push.publicMiniTicker, sent, say)
            case "publicMiniTickers":
                for day in push.publicMiniTickers.items:
                    self._tell_day(day, sent, say)

    # 6. A frame holds several trades; 1 is a taker who bought, 2 one who sold.

    def _tell_deals(self, native: str, deals: Iterable[PublicAggreDealsItem], say: Handler) -> None:
        for position, deal in enumerate(deals):
            side = _SIDES.get(deal.tradeType)
            if side is None:
                raise UnreadableError(f"a trade that is neither bought nor sold: {deal.tradeType}")
            number = deal.tradeId or _in_place_of_id(deal.time, deal.price, deal.quantity, side, position)
            say.trade(native, number, deal.price, deal.quantity, side, _micros(deal.time))

    # 7. A change covers the versions from fromVersion to toVersion, and the next one begins behind it; amounts are absolute.

    def _tell_change(self, native: str, depths: PublicAggreDepths, sent: int | None, say: Handler) -> None:
        first, last = _version(depths.fromVersion), _version(depths.toVersion)
        say.change(native, Change(_levels(depths.bids), _levels(depths.asks), first, last, None, sent))

    def _snapshot(self, depths: PublicLimitDepths, sent: int | None) -> Snapshot:
        return Snapshot(_levels(depths.bids), _levels(depths.asks), _version(depths.version), sent)

    def _tell_best(self, native: str, best: PublicAggreBookTicker, sent: int | None, say: Handler) -> None:
        bid = {"bid": best.bidPrice, "bid_amount": best.bidQuantity}
        say.ticker(native, sent, bid | {"ask": best.askPrice, "ask_amount": best.askQuantity})

    def _tell_day(self, day: PublicMiniTicker, sent: int | None, say: Handler) -> None:
        say.ticker(day.symbol, sent, {"last": day.price, "volume_24h": day.quantity})

    # 5. The text of a reply repeats the topics that were accepted. Any other text is a refusal, though its code is 0 as well;
    #    `id` may be 0 whatever was asked.

    def _tell_reply(self, reply: Reply, say: Handler) -> None:
        text = reply.msg.strip()
        if text == "PONG":
            return
        if reply.code == 0 and all(map(_TOPIC.fullmatch, text.split(","))):
            for channel, native in map(_about, text.split(",")):
                if channel is not None:
                    say.acked(channel=channel, native=native)
            return
        reason = f"{text} (code {reply.code})"
        refused = [(channel, native) for channel, native in map(_about, _TOPIC.findall(text)) if channel is not None]
        for channel, native in refused:
            say.refused(reason, channel=channel, native=native)
        if not refused:
            say.refused(reason, request=str(reply.id) if reply.id else None)

    # 7, 8. REST, in the form of Binance; ids of trades are null.

    def book_request(self, native: str) -> Fetch:
        return Fetch(("book", native), Request(f"{VENUE.rest}/api/v3/depth?symbol={quote(native)}&limit={self.depth}"))

    @classmethod
    def instruments_request(cls) -> Fetch:
        return Fetch(("instruments",), Request(f"{VENUE.rest}/api/v3/exchangeInfo"), weight=10)

    @classmethod
    def parse_instruments(cls, body: bytes) -> list[Instrument]:
        return [
            Instrument(
                symbol=f"{market.baseAsset}/{market.quoteAsset}",
                native=market.symbol,
                active=market.status in _ONLINE,
                state=market.status,
                price_step=plain(f"1e-{market.quotePrecision}"),
                amount_step=cls._lot(market),
            )
            for market in _answered(_exchange_info, body).symbols
        ]

    @staticmethod
    def _lot(market: Market) -> str:
        lot = market.baseSizePrecision
        return plain(f"1e-{market.baseAssetPrecision}") if lot in ZEROS else lot

    @classmethod
    def parse_answer(cls, key: tuple[str, ...], body: bytes, say: Handler) -> None:
        match key:
            case ("book", native):
                book = _answered(_depth, body)
                timestamp = book.timestamp * 1000 if book.timestamp is not None else None
                say.snapshot(native, Snapshot(book.bids, book.asks, book.lastUpdateId, timestamp))
            case ("trades", native):
                trades = _answered(_rest_trades, body)
                for position, row in enumerate(trades):
                    side: Side = "sell" if row.isBuyerMaker else "buy"
                    number = row.id or _in_place_of_id(row.time, row.price, row.qty, side, position)
                    say.past_trade(native, str(number), row.price, row.qty, side, row.time * 1000)
            case ("aggregates", native):
                aggregates = _answered(_rest_aggregates, body)
                for position, each in enumerate(aggregates):
                    side = "sell" if each.m else "buy"
                    number = _in_place_of_id(each.T, each.p, each.q, side, position)
                    say.past_trade(native, number, each.p, each.q, side, each.T * 1000)
            case _:
                raise FetchError(f"nothing is known about {key}")

    @classmethod
    def shape(cls, answer: Any) -> str | None:
        match answer:
            case {"lastUpdateId": _}:
                return "book"
            case [{"isBuyerMaker": _}, *_]:
                return "trades"
            case [{"p": _, "q": _, "m": _}, *_]:
                return "aggregates"
            case {"symbols": _}:
                return "instruments"
        return None
