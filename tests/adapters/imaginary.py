"""A venue that does not exist, with what the registered ones lack: compressed frames whose messages the connection numbers,
channels known by a number that the acknowledgement gives, pings to be answered with their value, bare numbers with exponents,
and times in seconds. It proves that the contract carries such a venue, and shows how.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import orjson
from msgspec import Raw, Struct
from msgspec.json import Decoder

from adapters.adapter import ExchangeAdapter
from adapters.book import BookRule, Change, Snapshot
from adapters.compression import unzipped
from adapters.effects import Effect, Fetch, Reconnect, Request, Send
from adapters.errors import FetchError, FrameError
from adapters.events import Channel
from adapters.handler import Handler
from adapters.numbers import Natural, micros_of_seconds, plain
from adapters.sides import Level
from adapters.symbols import Instrument, cut, spot
from adapters.venue import Keepalive, Limits, Rate, Venue

VENUE = Venue(
    name="imaginary",
    websocket="wss://stream.imaginary.example/v1",
    rest="https://api.imaginary.example",
    documentation=(),
    limits=Limits(Rate(10, 1.0), Rate(10, 1.0), Rate(10, 1.0), topics_per_connection=100, topics_per_frame=10),
    keepalive=Keepalive(ping=None, silence=30.0),
    book=BookRule(chain=None, source="socket"),
    depths=(1000,),
    numbers_messages=True,
    per_connection={"trades": 50, "orderbooks": 20, "tickers": 50},
    evidence=("Repeats of the last message are passed over; numbers that go further back are a broken connection.",),
)

_TOPICS: dict[Channel, str] = {"trades": "deals", "orderbooks": "book", "tickers": "best"}
_CHANNELS = {topic: channel for channel, topic in _TOPICS.items()}


class Row(Struct, array_like=True, gc=False):
    price: Raw
    amount: Raw


class Sides(Struct, gc=False):
    b: list[Row]
    a: list[Row]


class Deal(Struct, array_like=True, gc=False):
    identifier: str
    price: Raw
    amount: Raw
    side: Literal["b", "s"]
    at: Raw


class Best(Struct, gc=False):
    bid: Row
    ask: Row
    last: Raw


class Message(Struct, gc=False):
    """Any frame: one of its parts is there."""

    n: Natural
    t: Raw = Raw()
    on: int | None = None
    deals: list[Deal] | None = None
    book: Sides | None = None
    diff: Sides | None = None
    best: Best | None = None
    ping: Raw = Raw()
    request: str | None = None
    what: str = ""
    market: str | None = None
    channel: int | None = None
    refused: str | None = None
    ended: list[int] | None = None


class Market(Struct):
    id: str
    base: str
    quote: str
    open: bool
    tick: Raw
    lot: Raw


class Answer(Struct):
    problem: str | None = None
    deals: list[Deal] = []
    markets: list[Market] = []


_message = Decoder(Message)
_answer = Decoder(Answer)


def _number(token: Raw) -> str:
    return plain(str(token, "utf-8"))


def _time(token: Raw) -> int:
    return micros_of_seconds(str(token, "utf-8"))


def _levels(rows: list[Row]) -> list[Level]:
    return [Level(_number(row.price), _number(row.amount)) for row in rows]


class Imaginary(ExchangeAdapter):
    venue = VENUE
    endpoints: ClassVar = {"/v1/markets": ("instruments", None), "/v1/deals": ("trades", "market")}

    # Of the connection; a recording may begin in its middle.
    _next: int | None = None
    _open: Mapping[int, tuple[Channel, str]] = {}

    @staticmethod
    def native(symbol: str) -> str:
        parts = spot(symbol)
        return f"{parts.base}_{parts.quote}"

    @staticmethod
    def canonical(native: str) -> str | None:
        return cut(native, "_")

    def connect(self) -> Effect:
        self._next, self._open = 1, {}
        return super().connect()

    def subscribe(self, channel: Channel, natives: list[str], request: str) -> Send:
        return Send(orjson.dumps({"do": "open", "what": _TOPICS[channel], "markets": natives, "request": request}))

    def unsubscribe(self, channel: Channel, natives: list[str], request: str) -> Send | None:
        numbers = [number for number, about in self._open.items() if about[0] == channel and about[1] in natives]
        if not numbers:
            return None
        self._open = {number: about for number, about in self._open.items() if number not in numbers}
        return Send(orjson.dumps({"do": "close", "channels": numbers, "request": request}))

    def parse(self, frame: bytes, say: Handler) -> None:
        message = _message.decode(unzipped(frame))
        if self._is_old(message.n, say):
            return
        self._tell(message, say)
        self._next = message.n + 1  # only now: what could not be read was missed, and the next message will show it

    def _tell(self, message: Message, say: Handler) -> None:
        if message.on is not None:
            self._tell_data(message, say)
        elif message.ping:
            say.effect(Send(b'{"pong":' + bytes(message.ping) + b"}"))
        elif message.refused is not None:
            channel = _CHANNELS.get(message.what)
            say.refused(message.refused, channel=channel, native=message.market, request=message.request)
        elif message.channel is not None and message.market is not None and message.what in _CHANNELS:
            channel = _CHANNELS[message.what]
            self._open = {**self._open, message.channel: (channel, message.market)}
            say.acked(channel=channel, native=message.market, request=message.request)
        elif message.ended is None:
            raise FrameError("a message of no known kind")

    def _is_old(self, number: int, say: Handler) -> bool:
        """Whether a message came before; a jump ahead is told, and going back is not to be trusted."""
        if self._next is not None and number > self._next:
            say.missed(self._next, number - 1)
            self._next = number
        elif self._next is not None and number < self._next - 1:
            say.effect(Reconnect(f"message {number} after {self._next - 1}"))
        return self._next is not None and number < self._next

    def _tell_data(self, message: Message, say: Handler) -> None:
        about = self._open.get(message.on or 0)
        if about is None:
            raise FrameError(f"data of a channel that was not opened: {message.on}")
        channel, native = about
        if message.deals is not None and channel == "trades":
            for deal in message.deals:
                side: Literal["buy", "sell"] = "buy" if deal.side == "b" else "sell"
                say.trade(native, deal.identifier, _number(deal.price), _number(deal.amount), side, _time(deal.at))
        elif message.book is not None and channel == "orderbooks":
            bids, asks = _levels(message.book.b), _levels(message.book.a)
            say.snapshot(native, Snapshot(bids, asks, None, _time(message.t)))
        elif message.diff is not None and channel == "orderbooks":
            bids, asks = _levels(message.diff.b), _levels(message.diff.a)
            say.change(native, Change(bids, asks, None, None, None, _time(message.t)))
        elif message.best is not None and channel == "tickers":
            best = message.best
            prices = {"bid": _number(best.bid.price), "bid_amount": _number(best.bid.amount)}
            prices |= {"ask": _number(best.ask.price), "ask_amount": _number(best.ask.amount), "last": _number(best.last)}
            say.ticker(native, _time(message.t), prices)
        else:
            raise FrameError("data of another channel")

    @classmethod
    def instruments_request(cls) -> Fetch:
        return Fetch(("instruments",), Request(f"{VENUE.rest}/v1/markets"))

    @classmethod
    def parse_instruments(cls, body: bytes) -> list[Instrument]:
        return [
            Instrument(
                symbol=f"{market.base}/{market.quote}",
                native=market.id,
                active=market.open,
                state="open" if market.open else "closed",
                price_step=_number(market.tick),
                amount_step=_number(market.lot),
            )
            for market in cls._read(body).markets
        ]

    @staticmethod
    def _read(body: bytes) -> Answer:
        answer = _answer.decode(body)
        if answer.problem is not None:
            raise FetchError(answer.problem)
        return answer

    @classmethod
    def parse_answer(cls, key: tuple[str, ...], body: bytes, say: Handler) -> None:
        if key[0] != "trades":
            raise FetchError(f"nothing is known about {key}")
        for deal in cls._read(body).deals:
            side: Literal["buy", "sell"] = "buy" if deal.side == "b" else "sell"
            say.past_trade(key[1], deal.identifier, _number(deal.price), _number(deal.amount), side, _time(deal.at))

    @classmethod
    def shape(cls, answer: Any) -> str | None:
        match answer:
            case {"markets": _}:
                return "instruments"
            case {"deals": _}:
                return "trades"
        return None
