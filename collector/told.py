"""What the lines of a chunk have told together of one market: trades by number or by name, spans of time, a book. Pure."""

from collections import deque
from collections.abc import Collection, Hashable, Iterable
from heapq import heappop, heappush

from msgspec import Struct
from msgspec.structs import replace

from adapters.backfill import LastTrade
from adapters.events import Book, BookDelta, Gap, Levels, Trade
from adapters.subscriptions import Subscription

ORDERED_WITHIN = 1.0
"""Seconds for which trades behind a hole wait for the line that may bring what is missing, so that all go out in order."""
MAX_HELD = 10_000
REMEMBERED_FOR = 300_000_000
"""Microseconds for which trade ids are remembered: longer than any venue's silence, after which a stalled line is dead."""
REMEMBERED_IDS = (256, 20_000)
"""How many of them at least, and at most."""
SPANS = 64
"""Holes of one market that are remembered."""

Span = tuple[int, int]
"""From the first moment (or number) to the one after the last."""
FOREVER = 1 << 62


def both(ours: Iterable[Span], theirs: Collection[Span]) -> list[Span]:
    """What lies in both; each is in order and without overlaps."""
    shared = ((max(a, c), min(b, d)) for a, b in ours for c, d in theirs)
    return [span for span in shared if span[0] < span[1]]


def outside(ours: Iterable[Span], theirs: Iterable[Span]) -> list[Span]:
    """What is left of ours without theirs."""
    left = list(ours)
    for since, until in theirs:
        left = [part for a, b in left for part in ((a, min(b, since)), (max(a, until), b)) if part[0] < part[1]]
    return left


class Witness:
    """The spans of time for which one line vouches that it heard all of one market: from `since` on (None: not yet), without
    its holes. `lost` is where the one begins that has not ended yet."""

    def __init__(self) -> None:
        self.since: int | None = None
        self.lost: int | None = None
        self._holes: deque[Span] = deque()

    def missed(self, since: int, until: int) -> None:
        self.lost = None
        self._holes.append((since, until))
        if len(self._holes) > SPANS and self.since is not None:
            self.since = max(self.since, self._holes.popleft()[1])  # what is not remembered any more is not vouched for

    @property
    def holes(self) -> list[Span]:
        if self.since is None:
            return [(0, FOREVER)]
        ends = FOREVER if self.lost is None else self.lost
        seen = outside([(self.since, ends)], self._holes)
        return outside([(0, FOREVER)], seen)


class NamedTrades:
    """Trades of a market whose venue does not number them: known by their ids, as long as these are remembered."""

    def __init__(self, subscription: Subscription) -> None:
        about = (subscription.heard, subscription.latest)
        self._seen: dict[str, tuple[int, int | None]] = dict.fromkeys(subscription.seen, about)

    def is_new(self, trade: Trade) -> bool:
        seen = self._seen
        if trade.id in seen:
            return False
        seen[trade.id] = (trade.received, trade.timestamp)
        fewest, most = REMEMBERED_IDS
        while len(seen) > fewest:
            oldest = next(iter(seen))
            if len(seen) <= most and seen[oldest][0] > trade.received - REMEMBERED_FOR:
                break
            del seen[oldest]
        return True

    def around(self, since: int, until: int) -> tuple[LastTrade | None, tuple[str, int] | None]:
        """The last trade received before a hole, and id and venue's time of the first one after it."""
        known = [(time, name, received) for name, (received, time) in self._seen.items() if time is not None]
        before = max((each for each in known if each[2] <= since), default=None)
        after = min((each for each in known if each[2] >= until), default=None)
        last = None if before is None else LastTrade(before[1], before[0], before[2])
        return last, None if after is None else (after[1], after[0])


class Missing(Struct):
    """Numbers that no line has brought yet: those of `gap`. `after`: the venue's time of the trade before them."""

    gap: Gap
    after: int | None

    @property
    def first(self) -> int:
        return int(self.gap.first_missing or 0)

    @property
    def last(self) -> int:
        return int(self.gap.last_missing or 0)


class NumberedTrades:
    """Trades of a market that its venue counts: each number goes out once, and in order, as far as waiting a moment can help.

    `at`: the last number of each line. A line that is able to and has not come past a number may still bring it.
    """

    def __init__(self, subscription: Subscription) -> None:
        self._origin = subscription.origin
        self._upcoming = subscription.upcoming
        self._heard, self._latest = subscription.heard or None, subscription.latest
        self._late: deque[Span] = deque(((each, each + 1) for each in sorted(subscription.late)), maxlen=SPANS)
        self._open: list[Missing] = []
        self._held: dict[int, Trade] = {}
        self._order: list[int] = []
        self._held_at = 0.0
        self._reason = "sequence" if subscription.hole is None else subscription.hole_reason
        self._counts: dict[Hashable, int] = {}
        self._count = 0
        self.at: dict[Hashable, int] = {}

    @property
    def has_begun(self) -> bool:
        """Whether a number is known, so that those that follow show what is missing."""
        return self._upcoming is not None

    @property
    def is_waiting(self) -> bool:
        return bool(self._held or self._open)

    def joined(self, line: Hashable, upcoming: int | None) -> None:
        """A line is here, which has told all before `upcoming`."""
        self._counts[line] = self._count
        if upcoming is not None:
            self.at[line] = upcoming - 1

    def left(self, line: Hashable) -> None:
        self._counts.pop(line, None)
        self.at.pop(line, None)

    def trade(self, line: Hashable, trade: Trade, now: float) -> bool:
        """Whether it goes out now. One that waits comes out of `settled`."""
        number, upcoming = int(trade.id), self._upcoming
        if trade.source == "backfill":
            return self._is_untold(number)
        if self._counts.get(line) != self._count:
            return False  # of a count that has ended: inside the gap that told so
        self.at[line] = max(number, self.at.get(line, number))
        if upcoming is None:
            self._origin = number
        elif number > upcoming:
            self._hold(number, trade, now)
            return False
        elif number < upcoming:
            return self._is_untold(number) and self._before_all(number, trade)
        self._upcoming = number + 1
        self._heard, self._latest = trade.received, trade.timestamp
        return True

    def _hold(self, number: int, trade: Trade, now: float) -> None:
        if number not in self._held:
            self._held_at = self._held_at if self._held else now
            self._held[number] = trade
            heappush(self._order, number)

    def _before_all(self, number: int, trade: Trade) -> bool:
        """A line that lags behind begins before the first trade of another: what lies between is still to come."""
        if self._origin is not None and number < self._origin:
            if number + 1 < self._origin:
                self._miss(number + 1, self._origin - 1, trade, trade.received, trade.timestamp)
            self._origin = number
        return True

    def _is_untold(self, number: int) -> bool:
        """Whether a number below the next one was told by nobody; now it is."""
        if self._upcoming is None or self._origin is None or not self._origin <= number < self._upcoming:
            return number not in self._held
        for position, missing in enumerate(self._open):
            if missing.first <= number <= missing.last:
                gaps = self._parts(missing.gap, outside([(missing.first, missing.last + 1)], [(number, number + 1)]))
                self._open[position : position + 1] = [Missing(gap, missing.after) for gap in gaps]
                return True
        late = list(self._late)
        self._late = deque(outside(late, [(number, number + 1)]), maxlen=SPANS)
        return any(first <= number < end for first, end in late)

    @staticmethod
    def _parts(gap: Gap, spans: list[Span]) -> list[Gap]:
        return [replace(gap, first_missing=str(first), last_missing=str(end - 1)) for first, end in spans]

    def gap(self, gap: Gap) -> None:
        """A line misses numbers. Those behind the last one told show when the trade after them is settled."""
        first, last = int(gap.first_missing or 0), int(gap.last_missing or 0)
        self._reason = gap.reason
        if self._upcoming is None or self._origin is None:
            self._origin, self._upcoming = first, last + 1
            self._open.append(Missing(gap, None))
        elif first < self._origin:
            self._open += [Missing(each, None) for each in self._parts(gap, [(first, min(last + 1, self._origin))])]
            self._origin = first

    def renumbered(self, line: Hashable) -> list[Trade | Missing] | None:
        """The venue counts anew, as one line has seen: what is still to be told of the old count. None: another line has seen
        it before."""
        self._counts[line] = self._counts.get(line, self._count) + 1
        if self._counts[line] <= self._count:
            return None
        self._count = self._counts[line]
        rest = self.settled((), 0.0)
        self._origin = self._upcoming = None
        self._late.clear()
        self.at.clear()
        return rest

    def _miss(self, first: int, last: int, trade: Trade, since: int | None, after: int | None) -> None:
        about = (trade.exchange, trade.symbol, None, trade.received, "trades", self._reason, str(first), str(last))
        self._open.append(Missing(Gap(*about, since, trade.received), after))

    def settled(self, able: Collection[Hashable], now: float) -> list[Trade | Missing]:
        """What need not wait any longer: trades in order, and what none of the lines that are `able` to will bring."""
        out: list[Trade | Missing] = []
        while self._order:
            number = self._order[0]
            upcoming = number if self._upcoming is None else self._upcoming
            if number > upcoming:
                is_patient = now - self._held_at < ORDERED_WITHIN and len(self._held) < MAX_HELD
                if is_patient and self._may_come(number - 1, able):
                    break
                self._miss(upcoming, number - 1, self._held[number], self._heard, self._latest)
                out += self._given_up(able)
            heappop(self._order)
            trade = self._held.pop(number)
            out.append(trade)
            self._upcoming = number + 1
            self._heard, self._latest = trade.received, trade.timestamp
        return out + self._given_up(able)

    def _may_come(self, number: int, able: Collection[Hashable]) -> bool:
        return any(self.at.get(line, number) < number for line in able)

    def _given_up(self, able: Collection[Hashable]) -> list[Missing]:
        told = [each for each in self._open if not self._may_come(each.last, able)]
        if told:
            self._open = [each for each in self._open if self._may_come(each.last, able)]
            self._late.extend((each.first, each.last + 1) for each in told)
        return told


class ShownBook:
    """A book as its readers have it, who follow its changes: so that they can be led on to that of another line."""

    def __init__(self) -> None:
        self._sides: tuple[dict[float, str], dict[float, str]] | None = None
        self._sequence: int | None = None

    def begin(self, bids: Levels, asks: Levels, sequence: int | None) -> None:
        self._sides, self._sequence = (_by_price(bids), _by_price(asks)), sequence

    def end(self) -> None:
        """Readers were told a gap: they begin anew with the next whole book."""
        self._sides = None

    def follow(self, event: Book | BookDelta) -> None:
        """A change; or a book, which is whole where it begins anew, and else a view of what is known."""
        if isinstance(event, Book):
            if self._sides is None or event.sequence != self._sequence:
                self.begin(event.bids, event.asks, event.sequence)
            return
        self._sequence = event.sequence
        for side, levels in zip(self._sides or (), (event.bids, event.asks), strict=False):
            for price, amount in levels:
                if amount == "0":
                    side.pop(float(price), None)
                else:
                    side[float(price)] = price

    def turned_into(self, book: Book) -> BookDelta | Book:
        """The change that makes it another line's book, of which this is every known level."""
        sides, previous = self._sides, self._sequence
        self.begin(book.bids, book.asks, book.sequence)
        if sides is None or self._sides is None:
            return book
        pairs = zip(sides, self._sides, strict=True)
        gone = [[(text, "0") for price, text in old.items() if price not in new] for old, new in pairs]
        about = (book.exchange, book.symbol, book.timestamp, book.received)
        return BookDelta(*about, [*book.bids, *gone[0]], [*book.asks, *gone[1]], book.sequence, previous)


def _by_price(levels: Levels) -> dict[float, str]:
    return {float(price): price for price, _ in levels}
