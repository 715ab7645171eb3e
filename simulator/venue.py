"""What a venue gives the simulator: facts as data, and its dialect.

A new venue is a module with a class that fits `Venue`, and a line in the registry. Payloads that are bytes leave as binary
frames (gzip, protobuf); an envelope of its own per connection lets `Feed.wrap` number frames or name channels by
connection; server-driven JSON pings belong in `upkeep`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, ClassVar, Protocol, Self

import orjson

from simulator.instruments import Listing

if TYPE_CHECKING:
    import re

    from simulator.connection import Connection
    from simulator.exchange import Exchange
    from simulator.market import Trade


@dataclass(frozen=True, slots=True)
class Facts:
    """The limits and deadlines of one venue. Durations are seconds (floats), everything else is a count; None: no such
    rule there. Tests override single facts or divide all durations by a time scale."""

    connects: int  # connection attempts of one address in `connect_window`
    connect_window: float
    topics: int  # subscriptions of one connection
    rest: int  # REST units of one address in `rest_window`
    rest_window: float
    messages: int = 1000  # client messages of one connection in `message_window`
    message_window: float = 1.0
    controls: bool = False  # whether WebSocket pings and pongs count as client messages
    operations: int = 1000  # subscribe and unsubscribe requests of one connection in `operation_window`
    operation_window: float = 1.0
    session: float | None = None  # life of a connection
    notice: float = 30.0  # a planned end is announced so long before
    ping: float | None = None  # the server pings so often ...
    pong: float | None = None  # ... and closes when no answer came for so long
    idle: float | None = None  # closes after so long without client traffic
    mute: float | None = None  # closes after so long without anything sent
    unused: float | None = None  # closes after so long without a subscription
    heartbeat: float | None = None
    token: float | None = None  # life of a connection token
    queue: int = 8 << 20  # bytes waiting for a slow reader before it is cut off

    def scaled(self, scale: float) -> Self:
        """The same facts in a time that runs `scale` times faster."""
        durations = [f.name for f in fields(self) if str(f.type).startswith("float") and getattr(self, f.name) is not None]
        return replace(self, **{name: getattr(self, name) / scale for name in durations})

    def changed(self, changes: Mapping[str, object]) -> Self:
        """The same facts with some replaced. ValueError names what is unknown or of the wrong kind."""
        known = {f.name: str(f.type) for f in fields(self)}
        for name, value in changes.items():
            if name not in known:
                raise ValueError(f"unknown fact {name!r}; known: {', '.join(known)}")
            allowed = {"int": (int,), "bool": (bool,), "float": (int, float)}.get(known[name], (int, float, type(None)))
            if not isinstance(value, allowed) or (isinstance(value, bool) and known[name] != "bool"):
                raise ValueError(f"fact {name!r} must be {known[name]}, not {value!r}")
        return replace(self, **changes)  # type: ignore[arg-type]  # each is checked above


@dataclass(frozen=True, slots=True)
class Call:
    """An HTTP request as a venue sees it. `base` is set when the client came by a path prefix: addresses given to it must
    then lead back here."""

    method: str
    host: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    address: str
    base: str = ""


@dataclass(slots=True)
class Answer:
    """An HTTP answer; `body` is the exact text."""

    body: str | bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"

    @classmethod
    def json(cls, value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Self:
        """An answer whose numbers need no care; others are written as text."""
        return cls(orjson.dumps(value), status, dict(headers or {}))


class RefusalError(Exception):
    """A request that a venue answers with an error: its text, its code where it has codes, the symbol at fault."""

    def __init__(self, text: str, code: int = 0, symbol: str | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.code = code
        self.symbol = symbol


class Venue(Protocol):
    """One exchange's dialect. Everything else is the Exchange's work."""

    name: ClassVar[str]
    hosts: ClassVar[tuple[str, ...]]
    listing: ClassVar[Listing]
    facts: ClassVar[Facts]
    blanks: ClassVar[float]
    """Share of order events that only move the sequence (see Market)."""
    checksum: ClassVar[re.Pattern[bytes] | None]
    """Finds the checksum number in a book message; None where the venue has none."""

    def __init__(self, exchange: Exchange) -> None: ...

    def trade_id(self, trade: Trade) -> int:
        """The id under which a trade is shown."""

    def refuse(self, call: Call) -> Answer | None:
        """The answer to a WebSocket handshake that is not let in: a wrong path. None lets it in."""

    def opened(self, connection: Connection, call: Call) -> None:
        """A connection is up: welcome frames, subscriptions named in the address."""

    def received(self, connection: Connection, message: str | bytes, now: float) -> None:
        """A client's message (text str, binary bytes)."""

    def upkeep(self, connection: Connection, now: float) -> None:
        """The venue's own keepalive frames; pings, deadlines and session ends are the Exchange's work."""

    def expire(self, connection: Connection, why: str, now: float) -> None:
        """A connection has come to an end, or broke a rule: session, pong, idle, mute, unused, maintenance,
        messages."""

    def farewell(self, connection: Connection, time: int) -> None:
        """Announce that a connection will end soon, where the venue does."""

    def rest(self, call: Call, now: float) -> Answer:
        """The answer to a REST call, limits included."""

    def unavailable(self, call: Call) -> Answer:
        """The venue's REST answer during maintenance."""
