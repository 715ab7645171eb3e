"""The trades of the last minutes of one market, in the order of their times."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from struct import Struct

MOST = 50_000
"""Trades that are kept, whatever the span."""

_RECORD = Struct("<qdd")  # 24 bytes a trade, where a tuple of three numbers takes 144
_SIZE = _RECORD.size
_NEVER = -(1 << 62)
_MOST_BYTES = MOST * _SIZE

_pack, _unpack_from = _RECORD.pack, _RECORD.unpack_from


class TradeWindow:
    """Every trade whose time is at most `span` microseconds before the newest one, as (time, price, amount), oldest first.

    Numbers, not text: this is for computing with. Each trade is to be added once: nothing here tells a repeat, because none
    arrives (the collector sorts repeats out, and the master takes no batch twice).
    """

    __slots__ = ("_dropped", "_due", "_newest", "_records", "_span")

    def __init__(self, span: int) -> None:
        self._span = span
        self._records = bytearray()
        self._newest = 0
        self._due = 0
        self._dropped = _NEVER

    def add(self, time: int, price: float, amount: float) -> None:
        """A trade of this time (microseconds). A late one is put in its place; one of before the window costs nothing."""
        records = self._records
        if time >= self._newest:
            self._newest = time
            records.extend(_pack(time, price, amount))
        elif time >= self._newest - self._span:
            place = bisect_right(range(len(records) // _SIZE), time, key=self._time) * _SIZE
            records[place:place] = _pack(time, price, amount)
        if time > self._due or len(records) > _MOST_BYTES:
            self._let_go()

    def _time(self, index: int) -> int:
        time: int = _unpack_from(self._records, index * _SIZE)[0]
        return time

    def _place(self, time: int) -> int:
        """Where in the records the first one is that is not before this time."""
        return bisect_left(range(len(self._records) // _SIZE), time, key=self._time) * _SIZE

    def _let_go(self) -> None:
        """Of what has become too old (now and then: who looks is shown no more than the span), or too much."""
        records = self._records
        del records[: self._place(self._newest - self._span)]
        self._due = self._newest + self._span // 16
        excess = len(records) - _MOST_BYTES
        if excess > 0:
            self._dropped = self._time(excess // _SIZE - 1)
            del records[:excess]

    @property
    def truncated(self) -> bool:
        """Whether trades are missing that are young enough, because there were more than are kept."""
        return self._dropped >= self._newest - self._span

    def since(self, time: int) -> Iterator[tuple[int, float, float]]:
        """Those of this time and later."""
        records = bytes(self._records[self._place(max(time, self._newest - self._span)) :])
        return _RECORD.iter_unpack(records)

    def __iter__(self) -> Iterator[tuple[int, float, float]]:
        return self.since(0)

    def __len__(self) -> int:
        return (len(self._records) - self._place(self._newest - self._span)) // _SIZE
