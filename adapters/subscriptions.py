"""What was asked of a venue, and what became of it: requested, acked, live, quiet, rejected."""

from collections import Counter
from collections.abc import Iterable, Iterator
from enum import StrEnum

from adapters.events import CHANNELS, Channel

QUIET_AFTER = 30.0
"""Seconds after its acknowledgement at which a subscription without data is called quiet: shown, not a fault."""

_REMEMBERED_IDS = 256
_REMEMBERED_REQUESTS = 256
_NEVER = float("inf")


class State(StrEnum):
    REQUESTED = "requested"
    ACKED = "acked"
    LIVE = "live"
    QUIET = "quiet"
    REJECTED = "rejected"


ANSWERED = frozenset({State.ACKED, State.LIVE, State.QUIET})
"""What is subscribed: data comes, or would come if there were any."""


class Subscription:
    """One channel of one market, and what is remembered of its data.

    `answered`: when it was last acknowledged, `heard`: when data last came, `hole`: since when data may be missing (all
    microseconds UTC; None while whole); `latest`: the venue's time of the last trade told. Where a venue numbers trades
    without holes, `origin`..`upcoming` are those of this session, the last one excluded, and `late` the ones reported missing
    that may still come; `seen`: the last trade ids, where it does not, and `parts` those that went out in another's row, `kept`
    of each at most; `began`: id and time of the first. `told`, `gaps`: events so far. `is_struck`: rejected by the venue's list
    of markets, and wanted as soon as that has it.
    """

    __slots__ = (
        *("answered", "attempts", "began", "changed", "channel", "due", "gaps", "heard", "hole", "hole_reason", "is_struck"),
        *("kept", "late", "latest", "native", "origin", "parts", "reason", "seen", "state", "symbol", "told", "upcoming"),
    )

    def __init__(self, channel: Channel, symbol: str, native: str) -> None:
        self.channel: Channel = channel
        self.symbol = symbol
        self.native = native
        self.state = State.REQUESTED
        self.reason = ""
        self.is_struck = False
        self.changed = 0.0
        self.due = _NEVER
        self.attempts = 0
        self.answered = 0
        self.heard = 0
        self.latest: int | None = None
        self.hole: int | None = None
        self.hole_reason = "disconnected"
        self.told = 0
        self.gaps = 0
        self.origin: int | None = None
        self.upcoming: int | None = None
        self.late: set[int] = set()
        self.seen: dict[str, None] = {}
        self.parts: dict[str, None] = {}
        self.kept = _REMEMBERED_IDS
        self.began: tuple[str, int] | None = None

    def reject(self, reason: str, now: float) -> None:
        self.state, self.reason, self.changed, self.due = State.REJECTED, reason, now, _NEVER

    @property
    def whole_until(self) -> int:
        """The last moment at which nothing was missing since the connection began to bring it."""
        return max(self.answered, self.heard)

    def has_told(self, identifier: str) -> bool:
        """Whether the trade of this id went out, as far as is remembered: all numbers of a session, else the last few ids."""
        if self.upcoming is None or self.origin is None or not identifier.isdecimal():
            return identifier in self.seen
        number = int(identifier)
        return self.origin <= number < self.upcoming and number not in self.late

    def is_new(self, identifier: str) -> bool:
        """Whether a trade id without an order of its own was not among the last few hundred."""
        seen = self.seen
        if identifier in seen:
            return False
        seen[identifier] = None
        if len(seen) > self.kept:
            del seen[next(iter(seen))]
        return True

    def merged(self, identifier: str) -> None:
        """The trade of this id went out within another's row."""
        self.parts[identifier] = None
        if len(self.parts) > self.kept:
            del self.parts[next(iter(self.parts))]

    @property
    def remembers(self) -> int:
        """How many ids, of `kept` at most."""
        return max(len(self.seen), len(self.parts))

    def forget_ids(self) -> None:
        """All but the last few hundred."""
        self.kept = _REMEMBERED_IDS
        for ids in (self.seen, self.parts):
            while len(ids) > self.kept:
                del ids[next(iter(ids))]


class Subscriptions:
    """All subscriptions of one connection, found by channel and native name, or by the request that asked for them."""

    def __init__(self, subscriptions: Iterable[Subscription]) -> None:
        self._all = {(subscription.channel, subscription.native): subscription for subscription in subscriptions}
        self._requests: dict[str, list[Subscription]] = {}

    def __iter__(self) -> Iterator[Subscription]:
        return iter(self._all.values())

    def __len__(self) -> int:
        return len(self._all)

    def find(self, channel: Channel, native: str) -> Subscription | None:
        return self._all.get((channel, native))

    def of(self, channel: Channel) -> dict[str, Subscription]:
        """Native name to subscription, for one channel."""
        return {native: subscription for (kind, native), subscription in self._all.items() if kind == channel}

    def wanted(self) -> list[Subscription]:
        return [subscription for subscription in self if subscription.state is not State.REJECTED]

    def requested(self, subscriptions: list[Subscription], request: str, now: float, due: float) -> None:
        """These were asked for under `request`; without an answer they are overdue at `due`."""
        self._requests[request] = subscriptions
        if len(self._requests) > _REMEMBERED_REQUESTS:  # those whose answers name markets are never taken out
            del self._requests[next(iter(self._requests))]
        for subscription in subscriptions:
            subscription.state, subscription.changed, subscription.due = State.REQUESTED, now, due
            subscription.attempts += 1

    def answered(self, channel: Channel | None, native: str | None, request: str | None) -> list[Subscription]:
        """The subscriptions that an acknowledgement or refusal is about: the one it names, else all of its request.

        Where it names a market but no channel, its request, if known, tells the channel.
        """
        if native is not None:
            if channel is None and request in self._requests:
                return [found for found in self._requests[request] if found.native == native]
            kinds = (channel,) if channel else CHANNELS
            return [found for kind in kinds if (found := self._all.get((kind, native))) is not None]
        if request is not None:
            return self._requests.pop(request, [])
        return []

    def acked(self, subscription: Subscription, now: float) -> None:
        if subscription.state is State.REQUESTED:
            subscription.state, subscription.changed = State.ACKED, now
        subscription.due, subscription.attempts = _NEVER, 0

    def overdue(self, now: float) -> list[Subscription]:
        """Requested, and neither acknowledged nor heard of in time."""
        return [sub for sub in self if sub.state is State.REQUESTED and sub.due <= now]

    def hush(self, now: float) -> list[Subscription]:
        """Those whose acknowledgement is long ago and that never said a word: they become quiet, and are returned."""
        hushed = [sub for sub in self if sub.state is State.ACKED and now - sub.changed >= QUIET_AFTER]
        for subscription in hushed:
            subscription.state, subscription.changed = State.QUIET, now
        return hushed

    def forget(self) -> None:
        """The connection is gone, and with it every request."""
        self._requests.clear()
        for subscription in self.wanted():
            subscription.state, subscription.due = State.REQUESTED, _NEVER

    def counts(self) -> Counter[State]:
        return Counter(subscription.state for subscription in self)
