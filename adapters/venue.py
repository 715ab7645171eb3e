"""The facts of one venue, as data: where it is, what it allows, how it keeps a connection alive, what its books promise."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from adapters.book import BookRule
from adapters.errors import SymbolError
from adapters.events import Channel


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `count` (messages, attempts, weight) in any `seconds`."""

    count: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Limits:
    """What the venue allows: connects and REST weight per address, the rest per connection."""

    connects: Rate
    frames: Rate
    weight: Rate
    topics_per_connection: int
    topics_per_frame: int
    requests: Rate | None = None
    """A longer budget of frames, where there is one beside that of bursts."""
    rest_statuses: frozenset[int] = frozenset({418, 429})
    """HTTP statuses that mean: stop asking for a while (Retry-After says how long)."""


@dataclass(frozen=True, slots=True)
class Keepalive:
    """Seconds. `ping`: how often the client speaks up (None: protocol pings of the server are enough); `silence`: a connection
    on which nothing at all was heard for so long is dead."""

    ping: float | None
    silence: float


@dataclass(frozen=True, slots=True)
class History:
    """How its REST gives past trades. A list has no holes: what lies between its first row and its last is all there."""

    order: Literal["up", "down", "last"]
    """From a trade or a time on to newer ones, back from one to older ones, or the newest alone."""
    rows: int
    """The most rows of one answer; fewer mean that the list ends there."""
    reach: float = 0.0
    """Seconds for which the venue keeps every trade, so that a list that ends proves that there was none."""
    unit: int = 1
    """Microseconds in one unit of its times, where they are coarser than those of live trades."""


@dataclass(frozen=True, slots=True)
class Venue:
    name: str
    websocket: str
    rest: str
    documentation: tuple[str, ...]
    limits: Limits
    keepalive: Keepalive
    book: BookRule
    depths: tuple[int, ...]
    """Depths that can be asked for, rising; a book is kept at the smallest that holds the configured view."""
    per_connection: Mapping[Channel, int]
    """How many pairs share a connection where the configuration does not say."""
    greets: bool = False
    """Whether the venue sends a welcome before which it takes no subscription."""
    asked_after: float = 0.0
    """Seconds after a connection opens before which the venue takes no request."""
    acks: bool = True
    """Whether it acknowledges subscriptions; where it does not, its instrument list decides."""
    ack_within: float = 10.0
    """Seconds until a subscription without an answer is asked for again."""
    numbers_messages: bool = False
    """Whether all messages of a connection are numbered, so that `parse` sees a missing one and says `missed`."""
    lifetime: float | None = None
    """Seconds after which the venue ends a session, however healthy."""
    numbers_trades: bool = False
    """Whether a market's trades are counted without holes; `parse` gives their ids as int then, and a jump is a gap."""
    history: History | None = None
    """Where a hole among trades is filled from; None: it stays."""
    past_trades: str = "none known"
    """How far back its REST gives trades, in words: what a hole can be filled from."""
    evidence: tuple[str, ...] = field(default=())
    """What is not certain about this venue, or was decided against a source, one sentence each."""

    def depth_for(self, view: int) -> int:
        """The smallest depth the venue offers that holds `view` levels. Raises SymbolError above its maximum."""
        for depth in self.depths:
            if depth >= view:
                return depth
        raise SymbolError(f"{self.name} keeps at most {self.depths[-1]} levels a side, {view} were asked for")
