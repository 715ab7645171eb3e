"""What a venue brings to the conformance suite: how it writes what is true of a market, and reads what is asked of it."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from random import Random
from typing import Any, ClassVar, Literal

import orjson

from adapters import registry
from adapters.adapter import ExchangeAdapter
from adapters.events import Channel
from tests.adapters.market import Deal, Market, Move

BEGAN = 1_700_000_000_000_000
"""When a world begins, in microseconds UTC."""
SYMBOLS = ("BTC/USDT", "ETH/USDT")
UNKNOWN = "NOPE/USDT"
"""A pair that the made-up exchange does not have."""

Message = Any
"""A JSON value, with number tokens of its own as orjson.Fragment where they matter; text goes out as it is."""


def named(channels: dict[str, Channel], channel: Channel) -> str:
    """The venue's name of a channel."""
    return next(name for name, each in channels.items() if each == channel)


@dataclass(frozen=True)
class Asked:
    """What one frame of a client asks for."""

    operation: Literal["subscribe", "unsubscribe", "other"]
    channel: Channel = "trades"
    natives: tuple[str, ...] = ()
    request: str = ""


class Dialect(ABC):
    """How one venue writes what is true of its markets: an independent witness of its adapter. One for each connection's world.

    `proves_books`: a frame that is lost, doubled or out of order never goes unnoticed in a book. `counts_trades`: nor among
    trades. `on_socket`: a book's snapshot comes with its subscription.
    """

    name: ClassVar[str]
    proves_books: ClassVar[bool] = True
    counts_trades: ClassVar[bool] = False
    on_socket: ClassVar[bool] = False
    loose: ClassVar[bool] = True

    def __init__(self, random: Random) -> None:
        self.random = random
        self.markets = {
            native: Market(native, symbol, random, self.loose) for symbol in SYMBOLS for native in [self.native(symbol)]
        }
        self.subscribed: set[tuple[Channel, str]] = set()
        self.held: dict[str, list[Move]] = {native: [] for native in self.markets}
        self.micros = BEGAN

    @property
    def millis(self) -> int:
        return self.micros // 1000

    # What a dialect brings.

    @property
    @abstractmethod
    def adapter(self) -> type[ExchangeAdapter]: ...

    @abstractmethod
    def native(self, symbol: str) -> str: ...

    @abstractmethod
    def read(self, frame: Any) -> Asked:
        """What a decoded frame of the client asks for."""

    @abstractmethod
    def acks(self, asked: Asked) -> list[Message]:
        """The venue's answers to a subscription, refusals of unknown markets among them."""

    def ended(self, asked: Asked) -> list[Message]:
        """The venue's answer to the end of a subscription."""
        return []

    @abstractmethod
    def trades(self, market: Market, deals: list[Deal]) -> list[Message]: ...

    @abstractmethod
    def change(self, market: Market, move: Move) -> Message: ...

    @abstractmethod
    def ticker(self, market: Market) -> Message: ...

    def snapshot(self, market: Market) -> Message | None:
        """The book, where it comes on the socket."""
        return None

    @abstractmethod
    def others(self) -> list[Message]:
        """Frames of every other kind that may come at any time."""

    def answer(self, path: str, native: str) -> Message:
        """The REST answer at a path, where the adapter asks for any."""
        raise LookupError(f"{self.name} has nothing at {path}")

    def past(self, market: Market, deals: list[Deal]) -> Message:
        """The REST answer with these trades, oldest first, where holes can be filled."""
        raise LookupError(f"{self.name} gives no past trades")

    @abstractmethod
    def answers(self) -> dict[tuple[str, ...], Message]:
        """One answer of each kind that the adapter reads, instruments among them, by the key of its Fetch."""

    @abstractmethod
    def problems(self) -> list[Message]:
        """How the venue's REST says that it will not."""

    def trade_number(self, identifier: str) -> int:
        return int(identifier)

    # What most share.

    def opened(self) -> list[Message]:
        """A new connection: what belongs to the old one is forgotten; the greeting."""
        self.subscribed.clear()
        for held in self.held.values():
            held.clear()
        return []

    def packed(self, message: Message) -> bytes:
        """A frame as it leaves the venue."""
        return self.coded(message.encode() if isinstance(message, str) else orjson.dumps(message))

    def coded(self, data: bytes) -> bytes:
        """As it goes over the wire."""
        return data

    def decoded(self, frame: bytes) -> bytes:
        return frame

    def stands(self, cut: bytes) -> bool:
        """Whether what is left of a frame is a message in itself, and its cut cannot be seen."""
        return False

    def hear(self, frame: str | bytes) -> list[Message]:
        """What the venue says to a frame of the client."""
        try:
            asked = self.read(orjson.loads(frame))
        except orjson.JSONDecodeError:
            asked = self.read(frame)
        known = [native for native in asked.natives if native in self.markets]
        if asked.operation == "unsubscribe":
            self.subscribed -= {(asked.channel, native) for native in known}
            return self.ended(asked)
        if asked.operation != "subscribe":
            return self.pong(asked)
        replies = self.acks(asked)
        for native in known:
            self.subscribed.add((asked.channel, native))
            if asked.channel == "orderbooks" and (snapshot := self.snapshot(self.markets[native])) is not None:
                self.held[native].clear()
                replies.append(snapshot)
        return replies

    def pong(self, asked: Asked) -> list[Message]:
        return []


class Registered(Dialect):
    """The dialect of a venue that has an adapter in the registry."""

    @property
    def adapter(self) -> type[ExchangeAdapter]:
        return registry.adapter(self.name)
