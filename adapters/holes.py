"""Holes among the trades of one market: what is missing, how far the search for it has come, and what it brought."""

from abc import ABC, abstractmethod
from typing import NamedTuple

from msgspec.structs import replace

from adapters.events import Gap, Side
from adapters.subscriptions import Subscription
from adapters.venue import History

SETTLED_AFTER = 1.0
"""Seconds after a hole before its trades are asked for: lists lag behind the stream."""
SILENT_AFTER = 5.0
"""The same where nothing was traded since, so that no live trade proves a list to be up to date."""


MOMENT = 1000
"""Microseconds within which trades have one time where their venue writes milliseconds."""


class Row(NamedTuple):
    """A past trade out of a list."""

    number: int | str
    price: str
    amount: str
    side: Side
    timestamp: int


class Part(NamedTuple):
    """What was filled of a hole: numbers, where there are any, and times as in a Gap."""

    first: int | None
    last: int | None
    since: int | None
    until: int | None


class Hole(ABC):
    """`first`..`last` (where the venue numbers trades) and `since`..`until` (the venue's time, microseconds; both included) are
    what is to be asked for next; `edge` is the id at which the last page ended, None where a search begins."""

    def __init__(self, gap: Gap, since: int, now: float) -> None:
        self.gap = gap
        self.found = now
        self.pages = 0
        self.first: int | None = None
        self.last: int | None = None
        self.since = self.until = self.beginning = since
        self.edge: int | str | None = None

    @property
    def due(self) -> float:
        """When it may be asked for at the earliest."""
        return self.found + SETTLED_AFTER

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing any more, as where it came late."""
        return False

    def begin(self, latest: int | None) -> None:
        """A search begins at the edges of what is missing. `latest`: the venue's time of the last live trade."""
        self.edge = None
        self.since, self.until = self.beginning, max(self.gap.until or 0, latest or 0)

    def put_back(self, held: list[Row]) -> list[Row]:
        """What an earlier search brought and nobody was told yet, as far as the next one will not bring it again."""
        return held

    @abstractmethod
    def take(self, rows: list[Row], history: History) -> list[Row]:
        """Those of a page, oldest first, that were missing."""

    @abstractmethod
    def goes_on(self, rows: list[Row], history: History) -> bool:
        """Move on behind a page; whether there is more to ask for."""

    @abstractmethod
    def is_done(self, history: History) -> bool:
        """Whether a search that ended need not be repeated."""

    @abstractmethod
    def parts(self, history: History, received: int) -> list[Part]:
        """What was filled; `received` is the time of the last answer."""


class NumberedHole(Hole):
    """A range of numbers. `missing`: what nobody has told yet, rising."""

    def __init__(self, gap: Gap, first: int, last: int, since: int, now: float) -> None:
        super().__init__(gap, since, now)
        self.missing = [(first, last)]
        self._bounds = (first, last)
        self._got: list[Part] = []

    def begin(self, latest: int | None) -> None:
        super().begin(latest)
        self.first, self.last = self.missing[0][0], self.missing[-1][1]

    def take(self, rows: list[Row], history: History) -> list[Row]:
        return [row for row in rows if self.came(int(row.number), row.timestamp)]

    def came(self, number: int, timestamp: int | None) -> bool:
        """Whether the trade of this number was missing; it is no more."""
        for position, (first, last) in enumerate(self.missing):
            if first <= number <= last:
                left = ((first, number - 1), (number + 1, last))
                self.missing[position : position + 1] = [each for each in left if each[0] <= each[1]]
                self._note(number, timestamp)
                return True
        return False

    def _note(self, number: int, timestamp: int | None) -> None:
        if self._got and self._got[-1].last == number - 1:
            self._got[-1] = self._got[-1]._replace(last=number, until=timestamp)
        else:
            self._got.append(Part(number, number, timestamp, timestamp))

    def goes_on(self, rows: list[Row], history: History) -> bool:
        if not rows or not self.missing or history.order == "last":
            return False
        low, high = int(rows[0].number), int(rows[-1].number)
        if history.order == "up":
            moved = high >= (self.first or 0)
            self.first, self.since, self.edge = high + 1, rows[-1].timestamp, high
            return moved and high < self.missing[-1][1]
        moved = low <= (self.last or 0)
        self.last, self.until, self.edge = low - 1, rows[0].timestamp, low
        return moved and low > self.missing[0][0]

    @property
    def is_whole(self) -> bool:
        return not self.missing

    def is_done(self, history: History) -> bool:
        return not self.missing

    def parts(self, history: History, received: int) -> list[Part]:
        """Ranges that are whole; one at an edge of the hole has its time there."""
        whole: list[Part] = []
        for part in sorted(self._got, key=lambda part: part.first or 0):
            if whole and whole[-1].last == (part.first or 0) - 1:
                whole[-1] = whole[-1]._replace(last=part.last, until=part.until)
            else:
                whole.append(part)
        if whole and whole[0].first == self._bounds[0]:
            whole[0] = whole[0]._replace(since=self.gap.since)
        if whole and whole[-1].last == self._bounds[1]:
            whole[-1] = whole[-1]._replace(until=self.gap.until)
        return [part._replace(until=max(part.since or 0, part.until or 0) or None) for part in whole]  # of two clocks


class TimedHole(Hole):
    """A span of the venue's time. A list has no holes: what lies between its first row and its last is all there.

    `after`: the id of the last trade before it. `end`: id and time of the first trade behind it; None where that is the
    next live one, so that any later time will do.
    """

    def __init__(
        self, gap: Gap, since: int, after: str, end: tuple[str, int] | None, subscription: Subscription, now: float
    ) -> None:
        super().__init__(gap, since, now)
        self._after = after
        self._end = end
        self._subscription = subscription
        self._told = subscription.told
        self.begin(None)

    def widen(self, gap: Gap, now: float) -> None:
        """Another hole followed before this one was asked for: one span, the whole of which will be looked through."""
        self.gap, self.found, self._told = replace(self.gap, until=gap.until), now, self._subscription.told

    @property
    def _was_traded_since(self) -> bool:
        return self._subscription.told > self._told or self._end is not None

    @property
    def due(self) -> float:
        return self.found + (SETTLED_AFTER if self._was_traded_since else SILENT_AFTER)

    def begin(self, latest: int | None) -> None:
        super().begin(latest)
        if self._end is not None:
            self.until = self._end[1]
        self._upper = self.until
        self._wanted = (latest or 0) if self._end is None and self._subscription.told > self._told else 0
        self._lowest: int | None = None
        self._saw_after = False
        self._highest = 0
        self._was_short = False

    def put_back(self, held: list[Row]) -> list[Row]:
        """Nothing: only a list itself knows the order of trades of one moment."""
        for row in held:
            self._subscription.seen.pop(str(row.number), None)
        return []

    def take(self, rows: list[Row], history: History) -> list[Row]:
        since = _floor(self.beginning, history)
        inside = [row for row in rows if since <= row.timestamp <= self._upper]
        ids = [str(row.number) for row in inside]
        if self._end is not None and self._end[0] in ids:
            inside = inside[: ids.index(self._end[0])]
        if self._after in ids:
            self._saw_after = True
            inside = inside[ids.index(self._after) + 1 :]
        elif self.gap.reason == "collector restarted":  # of the same moment an earlier process may have told any
            inside = [row for row in inside if row.timestamp > since]
        merged, is_new = self._subscription.parts, self._subscription.is_new
        return [row for row in inside if str(row.number) not in merged and is_new(str(row.number))]

    def goes_on(self, rows: list[Row], history: History) -> bool:
        self._was_short = len(rows) < history.rows
        if not rows:
            return False
        low, high, edge = rows[0].timestamp, rows[-1].timestamp, self.edge
        self._lowest = low if self._lowest is None else min(self._lowest, low)
        self._highest = max(self._highest, high)
        if history.order == "up":
            moved = high > self.since or rows[-1].number != edge
            self.since, self.edge = max(self.since, high), rows[-1].number
            is_behind = high >= self._upper
        else:
            moved = low < self.until or rows[0].number != edge
            self.until, self.edge = min(self.until, low), rows[0].number
            is_behind = low < _floor(self.beginning, history)
        return moved and not is_behind and not self._was_short and history.order != "last"

    def is_done(self, history: History) -> bool:
        """A list that does not show the last live trade yet lags behind, and says nothing about the end of the hole."""
        return self._highest >= _floor(self._wanted, history)

    def parts(self, history: History, received: int) -> list[Part]:
        begins, ends = self.gap.since, self.gap.until
        is_kept = self.beginning >= received - history.reach * 1_000_000
        if history.order == "up":
            since = begins if is_kept else received - round(history.reach * 1_000_000)
            until = ends if self._was_short or self._highest >= self._upper else self._highest
        else:
            is_older = self._saw_after or (self._lowest is not None and self._lowest < _floor(self.beginning, history))
            since = begins if is_older or (self._was_short and is_kept) else self._behind_lowest(history)
            until = ends if self.is_done(history) else self._highest
        if since is None or (until is not None and until <= since):
            return []
        return [Part(None, None, since, until)]

    def _behind_lowest(self, history: History) -> int | None:
        """Where what is listed is whole: of the moment of its first row there may have been more."""
        return None if self._lowest is None else self._lowest + max(history.unit, MOMENT)


def _floor(time: int, history: History) -> int:
    """The moment as the venue's lists write it."""
    return time // history.unit * history.unit
