"""One market's book as its readers know it, from whole books and changes of them: right, or absent."""

from heapq import nsmallest

from msgspec import Struct

from adapters.events import Book, BookDelta, Event, Gap, Levels

_FAR = float("inf")


class Side:
    """The levels of one side by price (negated for bids, so that smaller is better), as far as the book it began with reached.

    What lies beyond that `edge` is nowhere told in full, so that nothing of it is kept. A side that was empty has no edge.
    """

    __slots__ = ("_edge", "_sign", "levels")

    def __init__(self, levels: Levels, sign: float) -> None:
        self._sign = sign
        self.levels = {sign * float(level[0]): level for level in levels}
        self._edge = max(self.levels, default=_FAR)

    def apply(self, changes: Levels) -> None:
        levels, sign, edge = self.levels, self._sign, self._edge
        for level in changes:
            price = sign * float(level[0])
            if not price <= edge:
                continue
            if level[1] == "0":
                levels.pop(price, None)
            else:
                levels[price] = level

    def is_shown(self, view: Levels) -> bool:
        """Whether a view is exactly the best of these levels."""
        known, sign = self.levels, self._sign
        if not view:
            return not known
        prices = [sign * float(level[0]) for level in view]
        if any(known.get(price) != level for price, level in zip(prices, view, strict=True)):
            return False
        worst = prices[-1]
        return len([price for price in known if price <= worst]) == len(view)

    def best(self, depth: int) -> Levels:
        return [self.levels[price] for price in nsmallest(depth, self.levels)]


class Followed(Struct):
    """Both sides with all changes up to now, and what the last change said of itself."""

    bids: Side
    asks: Side
    newest: Book | BookDelta

    @classmethod
    def beginning(cls, book: Book) -> "Followed":
        return cls(Side(book.bids, -1.0), Side(book.asks, 1.0), book)


class LiveBook:
    """What Book and BookDelta events in their order make of one market's book.

    Where no changes are told each Book is all there is. Where they are, a Book may be every known level or a view of them, and
    nothing in it tells which: one that shows just what is known here changes nothing, any other begins the book anew, as far as
    it reaches.
    """

    __slots__ = ("_book", "_changed", "_followed", "is_recovering")

    def __init__(self) -> None:
        self.is_recovering = False
        """A hole was told or seen, and no book since that could be trusted."""
        self._book: Book | None = None
        self._followed: Followed | None = None
        self._changed = 0

    def whole(self, book: Book) -> None:
        """A Book was told. Raises ValueError for a price that is no number."""
        for side in (book.bids, book.asks):
            if side and not 0 <= float(side[0][0]) < _FAR:
                raise ValueError(f"not a price: {side[0][0][:40]!r}")
        if book.received < self._changed:
            return  # a view that a collector in distress held back, from before changes that are known
        followed = self._followed
        if followed is None:
            self._book = book
        elif followed.bids.is_shown(book.bids) and followed.asks.is_shown(book.asks):
            followed.newest = book
        else:
            self._book, self._followed = book, None
        self.is_recovering = False

    def change(self, delta: BookDelta) -> None:
        """A BookDelta was told. One that does not follow what is known makes the book absent. Raises as `whole` does, and may
        have applied a part then."""
        self._changed = delta.received
        followed = self._followed
        if followed is None:
            if self._book is None:
                self.is_recovering = True
                return
            followed = self._followed = Followed.beginning(self._book)
        if delta.previous is not None and delta.previous != followed.newest.sequence:
            self.lose()
            return
        followed.bids.apply(delta.bids)
        followed.asks.apply(delta.asks)
        followed.newest = delta

    def lose(self) -> None:
        """Something of it is missing: it is absent until the next whole book."""
        self._book = self._followed = None
        self.is_recovering = True

    @property
    def newest(self) -> Book | BookDelta | None:
        """The last event that made it what it is; None while it is absent. Its levels may be only what changed."""
        return self._book if self._followed is None else self._followed.newest

    @property
    def is_known(self) -> bool:
        """Whether anything was ever told of it, if only that something is missing."""
        return self._book is not None or self.is_recovering or self._followed is not None

    @property
    def is_followed(self) -> bool:
        """Whether it is made of changes since the last whole book."""
        return self._followed is not None

    @property
    def levels(self) -> int:
        """Levels of both sides."""
        if self._followed is not None:
            return len(self._followed.bids.levels) + len(self._followed.asks.levels)
        return 0 if self._book is None else len(self._book.bids) + len(self._book.asks)

    def view(self, depth: int) -> tuple[Levels, Levels]:
        """The best bids and asks, at most `depth` of each; none while it is absent."""
        if self._followed is not None:
            return self._followed.bids.best(depth), self._followed.asks.best(depth)
        return ([], []) if self._book is None else (self._book.bids[:depth], self._book.asks[:depth])


def doubted(gap: Gap) -> tuple[str | None, str | None] | None:
    """Symbol and exchange (None: any) of the books that something is missing of: one, those of an exchange, or any where nobody
    knows whose events are gone; None where it is about no book."""
    if gap.channel == "orderbooks":
        return gap.symbol, gap.exchange
    return (None, None) if gap.exchange == "" and gap.channel in ("delivery", "journal") else None


def is_in_doubt(book: Event, gap: Event) -> bool:
    """Whether this gap, told after the book, may be of its changes."""
    scope = doubted(gap) if isinstance(gap, Gap) else None
    return scope is not None and scope[0] in (None, book.symbol) and scope[1] in (None, book.exchange)
