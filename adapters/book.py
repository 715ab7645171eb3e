"""One order book, for all venues: its levels, and what proves it right.

A missed sequence, a checksum that does not fit, or a cross where the venue never crosses raises BookError. Sequences are
compared at each change, and checksums at each that has one. What other changes say is worked in, and the book proved, when
somebody reads it: where views are shown once a second and changes come ten times as often, most levels change several times
between two views.
"""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from adapters.errors import BookError, NumberError
from adapters.events import Levels
from adapters.numbers import ZEROS, is_plain
from adapters.sides import FAR, BookSide, Rows, Side, Window, differing, removal


@dataclass(frozen=True, slots=True)
class BookRule:
    """How a venue's books hold together.

    chain: "range" where a change covers the updates first..last and must begin at or before the next one wanted;
    "previous" where it names the sequence it follows; "rising" where sequences (as times do) only rise, so that old changes
    are known, and lost ones are not; None where there is none. source: whence a snapshot comes ("rest" too where a frame of
    its own asks for it). checksum: computed over the sides after each change that has one, and compared with the venue's.
    truncates: the venue shows the subscribed depth and sends no removal for what falls out. limited: a snapshot may hold fewer
    levels than the book. renewed: seconds after which a book is fetched again while it is right, where nothing would show that
    a change was lost. crossed: what a best bid at or above the best ask means: an "error", where the venue's market never shows
    it; "passing" between two frames, so that a view waits for the second; "right", as in a call auction.
    """

    chain: Literal["range", "previous", "rising"] | None
    source: Literal["rest", "socket"]
    checksum: Callable[["OrderBook"], int] | None = None
    truncates: bool = False
    limited: bool = False
    renewed: float | None = None
    crossed: Literal["error", "passing", "right"] = "error"
    newer: Callable[[Rows, int], Rows] | None = None
    """Where each row has a sequence of its own: the rows that are newer than a snapshot's sequence."""


@dataclass(frozen=True, slots=True)
class BookOptions:
    """What is shown of a book: `depth` levels a side every `interval` seconds (0: at each change), or each change too."""

    depth: int = 20
    interval: float = 1.0
    mode: Literal["views", "deltas"] = "views"


def _side(rule: BookRule, depth: int, shown: int, *, descending: bool) -> Side:
    if rule.truncates:
        return Window(descending=descending, depth=depth)
    return BookSide(descending=descending, keep=min(depth, shown))


def pairs(rows: Rows) -> Levels:
    """Rows as the (price, amount) pairs of an event; an amount of nothing is exactly "0". Raises NumberError."""
    levels = [(row.price, row.amount) for row in rows]
    for index, (price, amount) in enumerate(levels):
        if amount in ZEROS:
            levels[index] = (price, "0")
        elif not is_plain(amount):
            raise NumberError(f"not an amount: {amount[:40]!r}")
    return levels


class Snapshot(Struct, gc=False):
    """A whole book as its venue sent it: what changes are applied to."""

    bids: Rows
    asks: Rows
    sequence: int | None = None
    timestamp: int | None = None
    checksum: int | None = None


class Change(Struct, gc=False):
    """Changed levels as the venue sent them, covering its updates `first`..`last` or following `previous`."""

    bids: Rows
    asks: Rows
    first: int | None = None
    last: int | None = None
    previous: int | None = None
    timestamp: int | None = None
    checksum: int | None = None


class OrderBook:
    """Both sides of one market and the sequence they stand at. `depth`: levels kept a side; `shown`: levels of a view.

    Whatever reads it proves it first, and may raise BookError and FrameError for any change since it was last read.
    """

    __slots__ = ("_is_proven", "_loaded", "_rule", "asks", "bids", "depth", "sequence", "shown")

    def __init__(self, rule: BookRule, depth: int, shown: int) -> None:
        self._rule = rule
        self.depth = depth
        self.shown = shown
        self.bids, self.asks = (_side(rule, depth, shown, descending=descending) for descending in (True, False))
        self.sequence: int | None = None
        self._loaded = 0
        self._is_proven = True

    def load(self, snapshot: Snapshot) -> None:
        """Replace everything. Raises BookError where the snapshot contradicts itself."""
        self.bids.load(snapshot.bids)
        self.asks.load(snapshot.asks)
        if self._rule.limited:
            for side, rows in ((self.bids, snapshot.bids), (self.asks, snapshot.asks)):
                side.edge = max(side.levels, default=FAR) if len(rows) >= self.depth else FAR
        self.sequence, self._loaded = snapshot.sequence, snapshot.sequence or 0
        self._check(snapshot.checksum)

    def follow(self, change: Change) -> Change | None:
        """Take a change if it is the next one; returns what was taken, None for an old one. Raises BookError."""
        if self.sequence is not None and change.last is not None:
            following = self._following(change, self.sequence, change.last)
            if following is None:
                return None
            change = following
        fallen_bids, fallen_asks = self.bids.take(change.bids), self.asks.take(change.asks)
        if fallen_bids or fallen_asks:  # a removal that the venue leaves to us; readers of the changes are told
            bids, asks = [*change.bids, *map(removal, fallen_bids)], [*change.asks, *map(removal, fallen_asks)]
            change = replace(change, bids=bids, asks=asks)
        self.sequence, self._is_proven = change.last, False
        if change.checksum is not None:
            self._check(change.checksum)
        return change

    def _following(self, change: Change, sequence: int, last: int) -> Change | None:
        """What of a change is news to a book that stands at `sequence`; None: nothing. Raises BookError for a hole."""
        match self._rule.chain:
            case "range":
                first = last if change.first is None else change.first
                if last <= sequence:
                    return None
                if first > sequence + 1:
                    raise BookError("sequence", str(sequence + 1), str(first - 1))
                if first <= sequence and self._rule.newer is not None:
                    newer = self._rule.newer
                    return replace(change, bids=newer(change.bids, sequence), asks=newer(change.asks, sequence))
            case "previous" if change.previous != sequence:
                if last == sequence:
                    return None
                raise BookError("sequence", str(sequence), str(change.previous))
            case "rising" if last <= sequence:
                if self._loaded < last < sequence:  # neither in the snapshot nor said before: out of its turn
                    raise BookError("sequence")
                return None
        return change

    def prove(self) -> None:
        """Work in what waits, and find the book right as it stands. Raises BookError, FrameError for what cannot be read."""
        if not self._is_proven:
            self._check(None)

    def _check(self, checksum: int | None) -> None:
        rule = self._rule
        self.bids.settle()
        self.asks.settle()
        if rule.crossed == "error" and self._is_crossed:
            raise BookError("crossed")
        if checksum is not None and rule.checksum is not None and rule.checksum(self) != checksum:
            raise BookError("checksum")
        self._is_proven = True

    def view(self) -> tuple[Levels, Levels]:
        """The best levels of both sides, at most `shown`."""
        self.prove()
        return pairs(self.bids.best_rows(self.shown)), pairs(self.asks.best_rows(self.shown))

    def whole(self) -> tuple[Levels, Levels]:
        """Every level that is known to be right."""
        self.prove()
        return pairs(self.bids.all_rows()), pairs(self.asks.all_rows())

    def differing(self, before: "OrderBook") -> tuple[Levels, Levels]:
        """What readers of the changes are told of a book that took the place of another, which they had been told."""
        self.prove()
        return pairs(differing(self.bids, before.bids)), pairs(differing(self.asks, before.asks))

    def told(self, change: Change) -> tuple[Levels, Levels]:
        """What readers of the changes are told of one: those of the levels that they know."""
        self.prove()
        return pairs(self.bids.within(change.bids)), pairs(self.asks.within(change.asks))

    @property
    def _is_crossed(self) -> bool:
        bids, asks = self.bids.top, self.asks.top
        return bool(bids and asks) and -bids[0] >= asks[0]

    @property
    def is_passing(self) -> bool:
        """Whether it is between two frames that only together are a book to be shown."""
        self.prove()
        return self._rule.crossed == "passing" and self._is_crossed

    def is_shallow(self) -> bool:
        """Whether the market has moved so near to the edge of a limited snapshot that a view lacks levels."""
        self.prove()
        return any(side.edge < FAR and bisect_right(side.top, side.edge) < self.shown for side in (self.bids, self.asks))
