"""One side of a book: a `BookSide` of any number of levels, or a `Window` of the few that its venue shows.

Both key a level by its price as float (negated for bids, so that smaller is better on both sides), hold the best prices in
order in `top` and their rows beside it in `best`, and keep in `token` what a checksum takes of the side until its next change:
most changes are of one side.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from heapq import nsmallest
from typing import Protocol

import orjson
from msgspec import Struct

from adapters.errors import FrameError
from adapters.numbers import ZEROS, is_plain

FAR = float("inf")

MOST_WAITING = 2000
"""Rows of one side that may wait until somebody reads it: the more wait, the more of them are outdone by later ones of their
price. (With 1000 a 24-level frame of a saturated feed costs a tenth more, with 4000 no less.)"""

_PLAIN = "0123456789."
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


class BookSide:
    """All levels of a side. `top` and `best` hold at least as many of the best as a view needs; the rest is only in the dict,
    so that a change far from the market costs one dict operation and a change near it one insertion into short lists. Rows
    that wait are in none of these until `settle`.
    """

    __slots__ = (
        *("_allowed", "_keep", "_open", "_reach", "_separator", "_sign", "_waiting"),
        *("best", "edge", "levels", "token", "top"),
    )

    def __init__(self, *, descending: bool, keep: int) -> None:
        self.levels: dict[float, Row] = {}
        self.top: list[float] = []
        self.best: list[Row] = []
        self.edge = FAR
        self.token: str | None = None
        self._waiting: list[Row] = []
        self._reach = FAR
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

    def take(self, rows: Rows) -> Rows:
        """Take changed rows, which count from `settle` on; none falls out."""
        self._waiting += rows
        if len(self._waiting) > MOST_WAITING:
            self.settle()
        return ()

    def settle(self) -> None:
        """Work in the rows that wait, of each price the latest. Raises FrameError, and they wait still."""
        rows = self._waiting
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
        self._waiting = []

    def _refill(self) -> None:
        self.top = top = nsmallest(2 * self._keep, self.levels)
        self.best = [self.levels[price] for price in top]
        self._reach = top[-1] if len(top) < len(self.levels) else FAR

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
        if self.edge == FAR:
            return rows
        return [row for price, row in zip(self._prices(rows), rows, strict=True) if price <= self.edge]

    def all_rows(self) -> list[Row]:
        return [self.levels[price] for price in sorted(self.levels) if price <= self.edge]


class Window:
    """The best `depth` levels of a side, all in order: that of a venue which shows no more, and sends no removal for what falls
    out. Nothing waits here: later changes say nothing of what has fallen out."""

    __slots__ = ("_depth", "_sign", "best", "token", "top")

    edge = FAR

    def __init__(self, *, descending: bool, depth: int) -> None:
        self.top: list[float] = []
        self.best: list[Row] = []
        self.token: str | None = None
        self._depth = depth
        self._sign = -1.0 if descending else 1.0

    @property
    def levels(self) -> dict[float, Row]:
        return dict(zip(self.top, self.best, strict=True))

    def load(self, rows: Rows) -> None:
        self.top, self.best, self.token = [], [], None
        self.take(rows)

    def settle(self) -> None:
        """Nothing ever waits."""

    def take(self, rows: Rows) -> Rows:
        """Work in changed rows; returns those that fall out. Raises FrameError, and is worth nothing after it."""
        if not rows:
            return ()
        top, best, sign = self.top, self.best, self._sign
        self.token = None
        for row in rows:
            text = row.price
            try:
                price = sign * float(text)
            except ValueError as error:
                raise FrameError(f"not a price: {text[:40]!r}") from error
            place = bisect_left(top, price)
            is_known = place < len(top) and top[place] == price
            # float() takes a sign, an exponent, an underscore, a word and digits of other scripts too.
            if not (is_known and best[place].price == text) and text.strip(_PLAIN):
                raise FrameError(f"not a price: {text[:40]!r}")
            if is_known:
                if row.amount in ZEROS:
                    del top[place], best[place]
                else:
                    best[place] = row
            elif row.amount not in ZEROS:
                top.insert(place, price)
                best.insert(place, row)
        if len(top) <= self._depth:
            return ()
        fallen = best[self._depth :]
        del top[self._depth :], best[self._depth :]
        return fallen

    def best_rows(self, depth: int) -> list[Row]:
        """The best `depth` rows."""
        best = self.best
        return best if len(best) <= depth else best[:depth]

    leading = best_rows

    def within(self, rows: Rows) -> Rows:
        return rows

    def all_rows(self) -> list[Row]:
        return self.best


Side = BookSide | Window


def removal(row: Row) -> Level:
    """What tells that a level is gone."""
    return Level(row.price, "0")


def differing(side: Side, before: Side) -> list[Row]:
    """The rows that make a side out of an earlier state of it; an amount of "0" removes."""
    now, earlier = side.levels, before.levels
    gone: list[Row] = [removal(row) for price, row in earlier.items() if price not in now]
    return gone + [row for price, row in now.items() if earlier.get(price) != row or price > before.edge]
