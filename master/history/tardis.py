"""The tables that tools for tardis.dev's CSV files read, and how our events become their rows. Pure.

A row is what a line of the file says: integers are microseconds UTC, prices and amounts the venue's own text.
"""

from collections.abc import Iterable, Iterator

from msgspec import Struct

from adapters.events import Book, BookDelta, Gap, Levels

DAY = 86_400_000_000

_ABOUT = ("exchange", "symbol", "timestamp", "local_timestamp")
_DEAL = ("id", "side", "price", "amount")
_TOP = ("ask_amount", "ask_price", "bid_price", "bid_amount")
COLUMNS = {
    "trades": (*_ABOUT, *_DEAL),
    "incremental_book_L2": (*_ABOUT, "is_snapshot", "side", "price", "amount"),
    "book_ticker": (*_ABOUT, *_TOP),
    "quotes": (*_ABOUT, *_TOP),
    "liquidations": (*_ABOUT, *_DEAL),
}
LOCAL_TIMESTAMP = 3
EXCHANGES = {
    "binanceus": "binance-us",
    "cryptocom": "crypto-com",
    "gateio": "gate-io",
    "htx": "huobi",
    "okx": "okex",
}
"""Under what other name tardis.dev has an exchange; nautilus_trader refuses names that are not of its list."""

Row = tuple[str | int | None, ...]
_Side = dict[float, tuple[str, str]]


class Change(Struct, gc=False):
    """What a reader of a book is told at one moment: levels set, or removed (amount "0")."""

    timestamp: int
    local: int
    bids: Levels
    asks: Levels
    is_snapshot: bool = False


class Replay:
    """One book as its events tell it, and what makes a reader's book the same after each of them.

    A book that begins anew, and a view that shows another book than the one before it, are told by what is different. A book in
    doubt is taken away, level by level, from the moment on at which it was last known to be right.

    A file has one snapshot, at its beginning. What comes after a gap could be told as another, but hftbacktest 2.4.4 keeps no
    more levels of a later snapshot than the first had; levels taken away and set again are right for every reader.
    """

    def __init__(self) -> None:
        self.is_known = False
        self._sides: tuple[_Side, _Side] = ({}, {})
        self._best: list[float | None] = [None, None]
        self._sequence: int | None = None
        self._follows_changes = False
        self._local = 0
        self._has_begun = False

    def take(self, event: Book | BookDelta | Gap) -> Change | None:
        """In the order in which the master took them. `local` never goes back, so that rows stay in this order."""
        if isinstance(event, Gap):
            return self._lose(event.since or event.received) if self.is_known else None
        if isinstance(event, Book):
            return self._book(event)
        if not self.is_known:
            return None
        if event.previous is not None and event.previous != self._sequence:
            return self._lose(event.received)
        self._follows_changes, self._sequence = True, event.sequence
        return self._told(event.timestamp, event.received, event.bids, event.asks)

    def begin(self, at: int) -> Change:
        """All of the book as it is, for a reader who begins at this moment; where it is absent, that comes with the next."""
        bids, asks = (list(side.values()) for side in self._sides)
        self._local, self._has_begun = max(self._local, at), bool(bids or asks)
        return Change(at, self._local, bids, asks, is_snapshot=True)

    def top(self) -> tuple[tuple[str, str] | None, tuple[str, str] | None]:
        """(price, amount) of the best bid and ask."""
        bid, ask = (None if best is None else side[best] for side, best in zip(self._sides, self._best, strict=True))
        return bid, ask

    def _book(self, book: Book) -> Change | None:
        if self._follows_changes and self._is_view(book):
            return None
        self.is_known, self._follows_changes, self._sequence = True, False, book.sequence
        bids, asks = (_differences(*pair) for pair in zip(self._sides, (book.bids, book.asks), strict=True))
        return self._told(book.timestamp, book.received, bids, asks)

    def _is_view(self, book: Book) -> bool:
        """Whether it says nothing new to who follows the changes; also one that was held back while the master was away."""
        if book.sequence is not None and self._sequence is not None:
            return book.sequence <= self._sequence
        return all(self._agrees(index, levels) for index, levels in enumerate((book.bids, book.asks)))

    def _agrees(self, index: int, levels: Levels) -> bool:
        side = self._sides[index]
        best = sorted(side, reverse=index == 0)[: len(levels)]
        return [side[price] for price in best] == levels

    def _lose(self, at: int) -> Change | None:
        bids, asks = ([(price, "0") for price, _ in side.values()] for side in self._sides)
        self.is_known = self._follows_changes = False
        return self._told(at, at, bids, asks)

    def _told(self, timestamp: int | None, received: int, bids: Levels, asks: Levels) -> Change | None:
        if not bids and not asks:
            return None
        self._local = max(self._local, received)
        is_snapshot, self._has_begun = not self._has_begun, True
        for index, levels in enumerate((bids, asks)):
            self._apply(index, levels)
        return Change(self._local if timestamp is None else timestamp, self._local, bids, asks, is_snapshot)

    def _apply(self, index: int, levels: Levels) -> None:
        side, best, better = self._sides[index], self._best[index], (max, min)[index]
        for level in levels:
            price = float(level[0])
            if level[1] != "0":
                side[price] = level
                best = price if best is None else better(best, price)
            elif side.pop(price, None) is not None and price == best:
                best = None
        self._best[index] = better(side, default=None) if best is None else best


def _differences(known: _Side, levels: Levels) -> Levels:
    """The changes that make of the levels known these."""
    told = {float(price): (price, amount) for price, amount in levels}
    changed = [level for price, level in told.items() if known.get(price) != level]
    return [*changed, *((level[0], "0") for price, level in known.items() if price not in told)]


def changes(events: Iterable[Book | BookDelta | Gap], start: int) -> Iterator[tuple[Replay, Change]]:
    """What readers are told from `start` on, and the book then. Each day begins with a snapshot of what is known."""
    replay, day = Replay(), -1
    for event in events:
        at = (event.since or event.received) if isinstance(event, Gap) else event.received
        if at >= start and at // DAY > day:
            day = at // DAY
            yield replay, replay.begin(max(start, day * DAY))
        change = replay.take(event)
        if change is not None and change.local >= start:
            yield replay, change


def level_rows(about: tuple[str, str], told: Iterable[tuple[Replay, Change]]) -> Iterator[Row]:
    """`incremental_book_L2` of one exchange and symbol."""
    for _, change in told:
        head = (*about, change.timestamp, change.local, "true" if change.is_snapshot else "false")
        for side, levels in (("bid", change.bids), ("ask", change.asks)):
            for price, amount in levels:
                yield (*head, side, price, amount)


def quote_rows(about: tuple[str, str], told: Iterable[tuple[Replay, Change]]) -> Iterator[Row]:
    """`quotes` of one exchange and symbol: the best prices of its book whenever they change; empty where it is absent."""
    shown: tuple[object, object] = (None, None)
    for replay, change in told:
        top = replay.top()
        if top != shown or (change.is_snapshot and any(top)):
            shown = top
            bid, ask = (best or (None, None) for best in top)
            yield (*about, change.timestamp, change.local, ask[1], ask[0], bid[0], bid[1])
