"""One order book, for all venues: its levels, and what proves it right.

A missed sequence, a checksum that does not fit, or a cross where the venue never crosses raises BookError. Sequences are
compared at each change, and checksums at each that has one. What other changes say is worked in, and the book proved, when
somebody reads it: where views are shown once a second and changes come ten times as often, most levels change several times
between two views.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from typing import Literal, Protocol

import orjson
from msgspec import Struct
from msgspec.structs import replace

from adapters.errors import BookError, FrameError, NumberError
from adapters.events import Levels
from adapters.numbers import ZEROS, is_plain

MOST_WAITING = 1000
"""Rows of one side that may wait until somebody reads it."""

_FAR = float("inf")
_MANY = 24
"""Rows among which some prices come more than once, so that it pays to look for the latest of each."""


class Row(Protocol):
    """One price level as a venue's file decodes it: prices and amounts are plain decimal text."""

    @property
    def price(self) -> str: ...
    @property
    def amount(self) -> str: ...


class Level(Struct, array_like=True, gc=False, frozen=True):
    """A level sent as `[price, amount, ...]`; what a venue adds behind is not kept."""

    price: str
    amount: str


Rows = Sequence[Row]


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


class BookSide:
    """Price levels of one side, keyed by price as float (negated for bids, so that smaller is better on both sides).

    `top` holds the best prices in order and `best` their rows, always at least as many as a view needs; the rest is only in the
    dict, so that a change far from the market costs one dict operation and a change near it one insertion into short lists.
    `token` is for a checksum to keep what it takes of this side until the next change: most changes are of one side. Rows that
    wait are in none of these until `settle`.
    """

    __slots__ = (
        *("_allowed", "_keep", "_open", "_reach", "_separator", "_sign", "_waiting"),
        *("best", "edge", "levels", "token", "top"),
    )

    def __init__(self, *, descending: bool, keep: int) -> None:
        self.levels: dict[float, Row] = {}
        self.top: list[float] = []
        self.best: list[Row] = []
        self.edge = _FAR
        self.token: str | None = None
        self._waiting: list[Row] = []
        self._reach = _FAR
        self._keep = keep
        self._sign, self._open, self._separator = (-1.0, "[-", ",-") if descending else (1.0, "[", ",")
        self._allowed = b"0123456789." + self._separator.encode()

    def _prices(self, rows: Rows) -> list[float]:
        if not rows:
            return []
        if len(rows) == 1:
            price = rows[0].price
            if not is_plain(price):
                raise FrameError(f"not a price: {price[:40]!r}")
            return [self._sign * float(price)]
        # One C pass reads all prices as JSON numbers, signs included: a quarter of the cost of float() on each. What JSON
        # would take and is no plain number (a sign, an exponent, two numbers, a word) is refused after it.
        text = self._separator.join([row.price for row in rows])
        try:
            prices: list[float] = orjson.loads(self._open + text + "]")
        except orjson.JSONDecodeError as error:
            raise FrameError(f"not a price: {error}") from error
        if text.encode().translate(None, self._allowed) or len(prices) != len(rows):
            raise FrameError(f"not a price among {text[:80]!r}")
        return prices

    def load(self, rows: Rows) -> None:
        self.levels = {price: row for price, row in zip(self._prices(rows), rows, strict=True) if row.amount not in ZEROS}
        self.token, self._waiting = None, []
        self._refill()

    def keep(self, rows: Rows) -> None:
        """Take changed rows; they count from `settle` on."""
        self._waiting += rows
        if len(self._waiting) > MOST_WAITING:
            self.settle()

    def settle(self) -> None:
        """Work in the rows that wait, of each price the latest. Raises FrameError."""
        if self._waiting:
            self.apply(self._waiting)
            self._waiting = []

    def apply(self, rows: Rows) -> None:
        """Work in changed rows; none waits. Raises FrameError."""
        if not rows:
            return
        priced: Iterable[tuple[float, Row]] = zip(self._prices(rows), rows, strict=True)
        if len(rows) >= _MANY:
            priced = dict(priced).items()
        levels, top, best, reach = self.levels, self.top, self.best, self._reach
        self.token = None
        for price, row in priced:
            if row.amount in ZEROS:
                if levels.pop(price, None) is not None and price <= reach:
                    place = bisect_left(top, price)
                    del top[place], best[place]
                continue
            if price <= reach:
                place = bisect_left(top, price)
                if price in levels:
                    best[place] = row
                else:
                    top.insert(place, price)
                    best.insert(place, row)
            levels[price] = row
        if len(top) < self._keep:
            if len(top) < len(levels):
                self._refill()
        elif len(top) > 4 * self._keep:
            del top[2 * self._keep :], best[2 * self._keep :]
            self._reach = top[-1]

    def _refill(self) -> None:
        self._line_up(nsmallest(2 * self._keep, self.levels))

    def _line_up(self, top: list[float]) -> None:
        """The best of all prices, in order, and perhaps all of them."""
        self.top, self.best = top, [self.levels[price] for price in top]
        self._reach = top[-1] if len(top) < len(self.levels) else _FAR

    def truncate(self, depth: int) -> list[Row]:
        """Drop what lies beyond `depth` levels, and return it. `depth` is at most what `top` keeps."""
        self.token = None
        if len(self.top) < len(self.levels):  # so many levels came at once that `top` no longer holds them all
            self._line_up(sorted(self.levels))
        beyond = self.top[depth:]
        del self.top[depth:], self.best[depth:]
        return [self.levels.pop(price) for price in beyond]

    def best_rows(self, depth: int) -> list[Row]:
        """The best `depth` rows, never beyond the edge of what a limited snapshot let us know."""
        return self.best[: min(depth, bisect_right(self.top, self.edge))]

    def leading(self, count: int) -> list[Row]:
        """The best `count` rows for a checksum: as the venue has them, and whether or not a view needs so many."""
        best = self.best
        if len(best) >= count or len(best) == len(self.levels):
            return best[:count]
        return [self.levels[price] for price in nsmallest(count, self.levels)]

    def within(self, rows: Rows) -> Rows:
        """The rows that are not beyond the edge of a limited snapshot."""
        if self.edge == _FAR:
            return rows
        return [row for price, row in zip(self._prices(rows), rows, strict=True) if price <= self.edge]

    def differing(self, before: "BookSide") -> list[Row]:
        """The rows that make this side out of an earlier state of it; an amount of "0" removes."""
        gone: list[Row] = [Level(row.price, "0") for price, row in before.levels.items() if price not in self.levels]
        return gone + [row for price, row in self.levels.items() if before.levels.get(price) != row or price > before.edge]

    def all_rows(self) -> list[Row]:
        return [self.levels[price] for price in sorted(self.levels) if price <= self.edge]


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
        keep = depth if rule.truncates else min(depth, shown)
        self._rule = rule
        self.depth = depth
        self.shown = shown
        self.bids = BookSide(descending=True, keep=keep)
        self.asks = BookSide(descending=False, keep=keep)
        self.sequence: int | None = None
        self._loaded = 0
        self._is_proven = True

    def load(self, snapshot: Snapshot) -> None:
        """Replace everything. Raises BookError where the snapshot contradicts itself."""
        self.bids.load(snapshot.bids)
        self.asks.load(snapshot.asks)
        if self._rule.limited:
            for side, rows in ((self.bids, snapshot.bids), (self.asks, snapshot.asks)):
                side.edge = max(side.levels, default=_FAR) if len(rows) >= self.depth else _FAR
        self.sequence, self._loaded = snapshot.sequence, snapshot.sequence or 0
        self._check(snapshot.checksum)

    def follow(self, change: Change) -> Change | None:
        """Take a change if it is the next one; returns what was taken, None for an old one. Raises BookError."""
        if self.sequence is not None and change.last is not None:
            following = self._following(change, self.sequence, change.last)
            if following is None:
                return None
            change = following
        bids, asks, rule = self.bids, self.asks, self._rule
        if change.checksum is None and not rule.truncates:
            bids.keep(change.bids)
            asks.keep(change.asks)
        else:
            bids.settle()
            bids.apply(change.bids)
            asks.settle()
            asks.apply(change.asks)
            # What falls out of the window is forgotten at once: its later changes are not told.
            if rule.truncates and (len(bids.levels) > self.depth or len(asks.levels) > self.depth):
                change = self._truncated(change)
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

    def _truncated(self, change: Change) -> Change:
        bids, asks = self.bids.truncate(self.depth), self.asks.truncate(self.depth)
        # What falls out of the window is a removal that the venue leaves to us; readers of the changes are told.
        gone_bids, gone_asks = [Level(row.price, "0") for row in bids], [Level(row.price, "0") for row in asks]
        return replace(change, bids=[*change.bids, *gone_bids], asks=[*change.asks, *gone_asks])

    def prove(self) -> None:
        """Work in what waits, and find the book right as it stands. Raises BookError, FrameError for what cannot be read."""
        if not self._is_proven:
            self.bids.settle()
            self.asks.settle()
            self._check(None)

    def _check(self, checksum: int | None) -> None:
        """Nothing waits. Raises BookError."""
        if self._rule.crossed == "error" and self._is_crossed:
            raise BookError("crossed")
        if checksum is not None and self._rule.checksum is not None and self._rule.checksum(self) != checksum:
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
        return pairs(self.bids.differing(before.bids)), pairs(self.asks.differing(before.asks))

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
        return any(side.edge < _FAR and bisect_right(side.top, side.edge) < self.shown for side in (self.bids, self.asks))
