"""A venue whose frames spell out what its adapter tells: what the shared rooms make of it is tested without any dialect."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import count
from typing import Any, ClassVar

import msgspec
import orjson

from adapters.adapter import ExchangeAdapter
from adapters.book import BookOptions, BookRule, Change, Snapshot
from adapters.book_sync import BookState
from adapters.effects import Answer, Fetch, Request, Send
from adapters.errors import AdapterError, FetchError, FrameError
from adapters.events import Channel
from adapters.handler import Handler
from adapters.live import Output
from adapters.sides import Level
from adapters.subscriptions import State, Subscription
from adapters.symbols import Instrument, split, spot
from adapters.venue import Keepalive, Limits, Rate, Venue
from tests.adapters.driving import of

VENUE = Venue(
    name="puppet",
    websocket="wss://puppet.example/ws",
    rest="https://puppet.example",
    documentation=(),
    limits=Limits(Rate(100, 1.0), Rate(2, 1.0), Rate(100, 1.0), topics_per_connection=100, topics_per_frame=2),
    keepalive=Keepalive(ping=None, silence=30.0),
    book=BookRule(chain="range", source="rest"),
    depths=(10, 100),
    per_connection={"trades": 10, "orderbooks": 10, "tickers": 10},
)

Wanted = tuple[Channel, str]
Call = tuple[str, dict[str, Any]]

EPOCH = 1_700_000_000_000_000
"""When tests begin, in microseconds UTC."""


_calls = msgspec.json.Decoder(list[Call])


def _levels(rows: list[list[str]]) -> list[Level]:
    return [Level(*row) for row in rows]


class Puppet(ExchangeAdapter):
    venue = VENUE
    endpoints: ClassVar = {"/book": ("book", "market")}

    @staticmethod
    def native(symbol: str) -> str:
        parts = spot(symbol)
        return parts.base + parts.quote

    @staticmethod
    def canonical(native: str) -> str | None:
        return split(native)

    def subscribe(self, channel: Channel, natives: list[str], request: str) -> Send:
        return Send(orjson.dumps(["subscribe", channel, natives, request]).decode())

    def unsubscribe(self, channel: Channel, natives: list[str], request: str) -> Send:
        return Send(orjson.dumps(["unsubscribe", channel, natives, request]).decode())

    def ping(self) -> Send:
        return Send("ping")

    def parse(self, frame: bytes, say: Handler) -> None:
        for name, said in _calls.decode(frame):
            if name == "broken":
                raise FrameError("the rest cannot be read")
            _tell(name, said, say)

    def book_request(self, native: str) -> Fetch | Send:
        return Fetch(("book", native), Request(f"{VENUE.rest}/book?market={native}"))

    @classmethod
    def parse_answer(cls, key: tuple[str, ...], body: bytes, say: Handler) -> None:
        answer = orjson.loads(body)
        if "error" in answer:
            raise FetchError(answer["error"])
        _tell("snapshot", {"native": key[1]} | answer, say)

    @classmethod
    def shape(cls, answer: Any) -> str | None:
        return "book" if isinstance(answer, dict) else None

    @classmethod
    def instruments_request(cls) -> Fetch:
        return Fetch(("instruments",), Request(f"{VENUE.rest}/markets"))

    @classmethod
    def parse_instruments(cls, body: bytes) -> list[Instrument]:
        return [Instrument(**row) for row in orjson.loads(body)]


def _tell(name: str, said: dict[str, Any], say: Handler) -> None:
    if name in ("snapshot", "view", "change"):
        native = said.pop("native")
        bids, asks = _levels(said.pop("bids", [])), _levels(said.pop("asks", []))
        getattr(say, name)(native, (Change if name == "change" else Snapshot)(bids, asks, **said))
    else:
        getattr(say, name)(**said)


def puppet(**facts: Any) -> type[Puppet]:
    """A Puppet of other facts."""
    return type("Puppet", (Puppet,), {"venue": replace(VENUE, **facts)})


# What a frame may say -----------------------------------------------------------------------------------------------------

_ids = count(1)


def trade(number: int | str | None = None, market: str = "BTCUSDT", **other: Any) -> Call:
    said = {"price": "100.5", "amount": "0.25", "side": "buy", "timestamp": EPOCH}
    return "trade", {"native": market, "number": next(_ids) if number is None else number} | said | other


def ticker(market: str = "BTCUSDT", **fields: Any) -> Call:
    return "ticker", {"native": market, "timestamp": EPOCH, "fields": fields or {"last": "100.5"}}


def snapshot(sequence: int | None = 10, market: str = "BTCUSDT", **other: Any) -> Call:
    said: dict[str, Any] = {"bids": [["99", "1"], ["98", "1"]], "asks": [["101", "1"], ["102", "1"]]}
    return "snapshot", {"native": market, "sequence": sequence} | said | other


def change(first: int | None, last: int | None = None, market: str = "BTCUSDT", **other: Any) -> Call:
    return "change", {"native": market, "first": first, "last": last if last is not None else first} | other


def acked(request: str | None = None, **about: Any) -> Call:
    return "acked", {"request": request} | about


def refused(reason: str, **about: Any) -> Call:
    return "refused", {"reason": reason} | about


# A session with one ------------------------------------------------------------------------------------------------------


class Session:
    """One adapter, its clock and its line."""

    def __init__(self, *wanted: Wanted, adapter: type[Puppet] = Puppet, **options: Any) -> None:
        instruments = options.pop("instruments", None)
        resume, aliases = options.pop("resume", None), options.pop("aliases", None)
        shown = BookOptions(**({"depth": 10, "interval": 0.0} | options))
        self.adapter = adapter(wanted, shown, instruments, resume, aliases)
        self.now = 1000.0
        self.received = EPOCH

    def open(self) -> list[Output]:
        return self.adapter.start(self.now) + self.adapter.connected(self.now)

    def open_and_ack(self) -> list[Output]:
        outputs = self.open()
        return outputs + self.say(*(acked(request) for _, _, _, request in asked(outputs, "subscribe")))

    def say(self, *calls: Call, seconds: float = 0.001) -> list[Output]:
        """One frame, `seconds` after what was before."""
        self.now += seconds
        self.received += round(seconds * 1_000_000)
        return self.adapter.receive(orjson.dumps(calls), self.received)

    def answer(self, call: Call, market: str = "BTCUSDT") -> list[Output]:
        body = orjson.dumps({name: value for name, value in call[1].items() if name != "native"})
        return self.adapter.fetched(("book", market), Answer(200, body, self.received), self.now)

    def fail(self, market: str = "BTCUSDT") -> list[Output]:
        return self.adapter.fetched(("book", market), FetchError("HTTP 500"), self.now)

    def wait(self, seconds: float, step: float = 0.1) -> list[Output]:
        """Nothing but time."""
        outputs: list[Output] = []
        end = self.now + seconds
        while self.now < end:
            self.now = min(self.now + step, end)
            self.received = EPOCH + round((self.now - 1000.0) * 1_000_000)
            outputs += self.adapter.tick(self.now)
        return outputs

    def lose(self, reason: str = "") -> list[Output]:
        return self.adapter.lost(1006, reason, self.now)

    def reopen(self, seconds: float = 5.0) -> list[Output]:
        self.now += seconds
        self.received += round(seconds * 1_000_000)
        return self.open_and_ack()

    def sync(self, *calls: Call, market: str = "BTCUSDT") -> list[Output]:
        """Bring a book in step from a REST answer."""
        return self.say(change(10, market=market), *calls) + self.answer(snapshot(10), market)

    def state(self, channel: Channel = "trades", market: str = "BTCUSDT") -> State:
        return self.subscription(channel, market).state

    def subscription(self, channel: Channel = "trades", market: str = "BTCUSDT") -> Subscription:
        found = self.adapter.subscriptions.find(channel, market)
        assert found is not None
        return found

    def book_state(self, market: str = "BTCUSDT") -> BookState:
        return self.adapter.live.books[market].state


def errors(outputs: Iterable[Output]) -> list[AdapterError]:
    return of(outputs, AdapterError)


def asked(outputs: Iterable[Output], operation: str) -> list[tuple[str, str, list[str], str]]:
    """(operation, channel, natives, request) of each Send of a kind."""
    frames = [orjson.loads(send.frame) for send in of(outputs, Send) if send.frame != "ping"]
    return [tuple(frame) for frame in frames if frame[0] == operation]
