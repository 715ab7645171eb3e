"""The trades of the last minutes of one market, in the order of their times."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator

MOST = 50_000
"""Trades that are kept, whatever the span."""
COMPACT_FROM = 1024
"""Places left free at the front before they are given back."""


class TradeWindow:
    """Every trade whose time is at most `span` microseconds before the newest one, as (time, price, amount), oldest first.

    Numbers, not text: this is for computing with. Each trade is to be added once: nothing here tells a repeat, because none
    arrives (the collector sorts repeats out, and the master takes no batch twice).
    """

    __slots__ = ("_amounts", "_dropped", "_prices", "_span", "_start", "_times")

    def __init__(self, span: int) -> None:
        self._span = span
        self._times = array("q")
        self._prices = array("d")
        self._amounts = array("d")
        self._start = 0  # what stands before it has left, and makes room later
        self._dropped = -1

    def add(self, time: int, price: float, amount: float) -> None:
        """A trade of this time (microseconds). A late one is put in its place; one of before the window costs nothing."""
        times = self._times
        if times and time < times[-1]:
            if time < times[-1] - self._span:
                return
            place = bisect_right(times, time, self._start)
            times.insert(place, time)
            self._prices.insert(place, price)
            self._amounts.insert(place, amount)
        else:
            times.append(time)
            self._prices.append(price)
            self._amounts.append(amount)
        if times[self._start] < time - self._span or len(times) - self._start > MOST:
            self._leave()

    def _leave(self) -> None:
        """Let go of what has become too old, or too much."""
        times = self._times
        start = bisect_left(times, times[-1] - self._span, self._start)
        if len(times) - start > MOST:
            start = len(times) - MOST
            self._dropped = times[start - 1]
        self._start = start
        if start >= COMPACT_FROM and 2 * start >= len(times):
            for column in (times, self._prices, self._amounts):
                del column[:start]
            self._start = 0

    @property
    def truncated(self) -> bool:
        """Whether trades are missing that are young enough, because there were more than are kept."""
        return bool(self._times) and self._dropped >= self._times[-1] - self._span

    def since(self, time: int) -> Iterator[tuple[int, float, float]]:
        """Those of this time and later."""
        start = bisect_left(self._times, time, self._start)
        return zip(self._times[start:], self._prices[start:], self._amounts[start:], strict=True)

    def __iter__(self) -> Iterator[tuple[int, float, float]]:
        return self.since(0)

    def __len__(self) -> int:
        return len(self._times) - self._start
