"""The trades of the last minutes of one market, in the order of their times, and what they add up to.

To take one costs as little as can be. What a whole second adds up to is found when somebody asks, and kept until a late trade
changes it: who asks again and again pays for each trade once.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import chain
from struct import Struct
from typing import NamedTuple

MOST = 50_000
"""Trades that are kept, whatever the span."""

_RECORD = Struct("<qdd")  # 24 bytes a trade, where a tuple of three numbers takes 144
_SIZE = _RECORD.size
_NEVER = -(1 << 62)
_SECOND = 1_000_000
_MOST_BYTES = MOST * _SIZE

_pack, _unpack_from = _RECORD.pack, _RECORD.unpack_from


class Sums(NamedTuple):
    """Of trades: price * amount, amount, and price * microseconds until the next trade."""

    value: float = 0.0
    volume: float = 0.0
    area: float = 0.0


class TradeWindow:
    """Every trade whose time is at most `span` microseconds before the newest one, as (time, price, amount), oldest first.

    Numbers, not text: this is for computing with. Each trade is to be added once: nothing here tells a repeat, because none
    arrives (the collector sorts repeats out, and the master takes no batch twice).
    """

    __slots__ = ("_dropped", "_due", "_newest", "_records", "_seconds", "_span")

    def __init__(self, span: int) -> None:
        self._span = span
        self._records = bytearray()
        self._newest = 0
        self._due = 0
        self._dropped = _NEVER
        self._seconds: dict[int, Sums] = {}

    def add(self, time: int, price: float, amount: float) -> None:
        """A trade of this time (microseconds). A late one is put in its place; one of before the window costs nothing."""
        records = self._records
        if time >= self._newest:
            self._newest = time
            records.extend(_pack(time, price, amount))
        elif time >= self._newest - self._span:
            self._insert(time, price, amount)
        if time > self._due or len(records) > _MOST_BYTES:
            self._let_go()

    def _insert(self, time: int, price: float, amount: float) -> None:
        """What was known of its second is so no longer, nor of that of the trade before, which ends earlier now."""
        records = self._records
        index = bisect_right(range(len(records) // _SIZE), time, key=self._time)
        self._seconds.pop(time // _SECOND, None)
        if index:
            self._seconds.pop(self._time(index - 1) // _SECOND, None)
        records[index * _SIZE : index * _SIZE] = _pack(time, price, amount)

    def _time(self, index: int) -> int:
        time: int = _unpack_from(self._records, index * _SIZE)[0]
        return time

    def _price(self, index: int) -> float:
        price: float = _unpack_from(self._records, index * _SIZE)[1]
        return price

    def _index(self, time: int) -> int:
        """Of the first record that is not before this time."""
        return bisect_left(range(len(self._records) // _SIZE), time, key=self._time)

    def _slice(self, first: int, last: int | None = None) -> Iterator[tuple[int, float, float]]:
        until = None if last is None else last * _SIZE
        return _RECORD.iter_unpack(bytes(self._records[first * _SIZE : until]))

    def _let_go(self) -> None:
        """Of what has become too old (now and then: who looks is shown no more than the span), or too much."""
        records = self._records
        del records[: self._index(self._oldest) * _SIZE]
        self._due = self._newest + self._span // 16
        excess = len(records) - _MOST_BYTES
        if excess > 0:
            self._dropped = self._time(excess // _SIZE - 1)
            del records[:excess]
        first = self._time(0) // _SECOND  # the rest of it may be gone
        self._seconds = {second: sums for second, sums in self._seconds.items() if second > first}

    @property
    def _oldest(self) -> int:
        """The time before which nothing is shown."""
        return self._newest - self._span

    @property
    def truncated(self) -> bool:
        """Whether trades are missing that are young enough, because there were more than are kept."""
        return self._dropped >= self._oldest

    def since(self, time: int) -> Iterator[tuple[int, float, float]]:
        """Those of this time and later."""
        return self._slice(self._index(max(time, self._oldest)))

    def __iter__(self) -> Iterator[tuple[int, float, float]]:
        return self.since(0)

    def __len__(self) -> int:
        return len(self._records) // _SIZE - self._index(self._oldest)

    # What they add up to.

    def traded(self, since: int) -> tuple[float, float]:
        """(sum of price * amount, sum of amount) of the trades of this time (microseconds) and later."""
        sums = self._sums(max(since, self._oldest), len(self._records) // _SIZE, self._newest)
        return sums.value, sums.volume

    def mean_price(self, since: int, until: int) -> float:
        """Over this time (microseconds): each price until the next trade, the last until the end, and that of the trade before
        from the beginning on. Without one before, from the first trade on; where that leaves no time, the newest price. 0
        without any trade."""
        oldest, end = self._index(self._oldest), self._index(until + 1)
        count = len(self._records) // _SIZE
        if oldest == count:
            return 0.0
        first = max(self._index(since), oldest)
        begin = since if first > oldest else min(self._time(first), until)
        if begin >= until:
            return self._price(count - 1)
        area = self._sums(max(since, self._oldest), end, until).area
        if first > oldest:
            area += self._price(first - 1) * ((self._time(first) if first < end else until) - since)
        return area / (until - begin)

    def _sums(self, since: int, last: int, until: int) -> Sums:
        """Of those from this time on and before the index `last`; the price of the last of them ends at `until`."""
        first = self._index(since)
        if first >= last:
            return Sums()
        begin, end = -(-since // _SECOND), self._time(last - 1) // _SECOND
        if begin >= end:
            return self._added(first, last, until)
        whole, rest = self._index(begin * _SECOND), self._index(end * _SECOND)
        edges = (self._added(first, whole, self._time(whole)), self._added(rest, last, until))
        known = self._seconds
        seconds = (known.get(second) or self._second(second) for second in range(begin, end))
        return Sums(*map(sum, zip(*chain(edges, seconds), strict=True)))

    def _second(self, second: int) -> Sums:
        """Of a whole second, after which there is another trade."""
        first, last = self._index(second * _SECOND), self._index((second + 1) * _SECOND)
        sums = self._seconds[second] = self._added(first, last, self._time(last))
        return sums

    def _added(self, first: int, last: int, until: int) -> Sums:
        value = volume = area = held = 0.0
        start = 0
        for time, price, amount in self._slice(first, last):
            value += price * amount
            volume += amount
            area += held * (time - start)
            start, held = time, price
        return Sums(value, volume, area + held * (until - start))
