"""Driving an adapter: frames in, outputs out, in the order in which they come."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import orjson

from adapters.adapter import ExchangeAdapter
from adapters.book import BookOptions
from adapters.book_sync import BookSync
from adapters.decode import RawHandler, Symbols
from adapters.effects import Answer, Send
from adapters.errors import FetchError
from adapters.events import Channel
from adapters.live import Output
from adapters.symbols import Instrument

T = TypeVar("T")

RECEIVED = 1_700_000_000_000_000

VIEWS = BookOptions(depth=5, interval=0.0)
"""A view after every change."""
DELTAS = BookOptions(depth=5, interval=0.0, mode="deltas")


def every_channel(*symbols: str) -> list[tuple[Channel, str]]:
    channels: tuple[Channel, ...] = ("trades", "orderbooks", "tickers")
    return [(channel, symbol) for channel in channels for symbol in symbols]


def frame(message: object) -> bytes:
    return message if isinstance(message, bytes) else orjson.dumps(message)


def of(outputs: Iterable[Output], kind: type[T]) -> list[T]:
    return [output for output in outputs if isinstance(output, kind)]


def sent(outputs: Iterable[Output]) -> list[Any]:
    """The JSON frames that are sent, decoded."""
    return [orjson.loads(send.frame) for send in of(outputs, Send) if send.frame != "ping"]


class Driver:
    """An adapter on an open connection, and a clock."""

    def __init__(
        self,
        adapter_class: type[ExchangeAdapter],
        wanted: Iterable[tuple[Channel, str]],
        options: BookOptions = VIEWS,
        instruments: Mapping[str, Instrument] | None = None,
    ) -> None:
        self.adapter = adapter_class(wanted, options, instruments)
        self.now = 0.0
        self.began = self.adapter.start(self.now)
        self.connected = self.adapter.connected(self.now)

    def book(self, native: str) -> BookSync:
        return self.adapter.live.books[native]

    def hear(self, *messages: object) -> list[Output]:
        """The venue sends these frames."""
        return [output for message in messages for output in self.adapter.receive(frame(message), RECEIVED)]

    def answer(self, key: tuple[str, ...], body: object) -> list[Output]:
        """The venue answers a Fetch."""
        return self.adapter.fetched(key, Answer(200, frame(body), RECEIVED), self.now)

    def fail(self, key: tuple[str, ...], reason: str) -> list[Output]:
        return self.adapter.fetched(key, FetchError(reason), self.now)

    def wait(self, seconds: float) -> list[Output]:
        """Time passes, a second at a time."""
        outputs: list[Output] = []
        until = self.now + seconds
        while self.now < until:
            self.now = min(self.now + 1.0, until)
            outputs += self.adapter.tick(self.now)
        return outputs

    def reconnect(self) -> list[Output]:
        outputs = self.adapter.lost(1006, "", self.now)
        outputs += self.adapter.start(self.now)
        return outputs + self.adapter.connected(self.now)


def raw(adapter_class: type[ExchangeAdapter], message: object) -> RawHandler:
    """What one frame itself says."""
    say = RawHandler(adapter_class.venue.name, Symbols(adapter_class, {}))
    adapter_class([]).parse(frame(message), say)
    return say


def raw_answer(adapter_class: type[ExchangeAdapter], key: tuple[str, ...], body: object) -> RawHandler:
    """What one REST answer itself says."""
    say = RawHandler(adapter_class.venue.name, Symbols(adapter_class, {}))
    adapter_class.parse_answer(key, frame(body), say)
    return say
