"""Quote volume (price x amount) of the last hour, a second at a time, for any window of it. Pure."""

from array import array

SLOTS = 3601
"""An hour of whole seconds, and the one that is under way."""
SECOND = 1_000_000
"""Microseconds."""


class Ring:
    """One market: a slot for each second of the hour that ends with its newest trade, used again as time passes."""

    __slots__ = ("_begin", "_current", "_end", "_newest", "_slots")

    def __init__(self) -> None:
        self._slots = _empty()
        self._newest = 0
        self._begin, self._end = 0, SECOND  # of the newest second
        self._current = 0.0  # of the newest second, which goes into its slot when it is over or looked at

    def add(self, time: int, volume: float) -> None:
        """Volume of a trade of this time (microseconds). A late one lands in its slot, one of before the hour nowhere."""
        if self._begin <= time < self._end:
            self._current += volume
            return
        second = time // SECOND
        if second > self._newest:
            self._turn(second)
            self._current = volume
        elif second > self._newest - SLOTS:
            self._slots[second % SLOTS] += volume

    def _turn(self, newest: int) -> None:
        """Time has passed: what the slots up to `newest` held is over an hour old."""
        self._slots[self._newest % SLOTS] = self._current
        if newest - self._newest < SLOTS:
            for second in range(self._newest + 1, newest):
                self._slots[second % SLOTS] = 0.0
        else:
            self._slots = _empty()
        self._newest = newest
        self._begin = newest * SECOND
        self._end = self._begin + SECOND

    def window(self, now: int, seconds: int) -> float:
        """The volume of so many whole seconds (at most an hour) before that of `now` (microseconds), and of that one."""
        second = now // SECOND
        end = min(second, self._newest) + 1
        start = max(second - seconds, self._newest - SLOTS + 1)
        if start >= end:
            return 0.0
        self._slots[self._newest % SLOTS] = self._current
        first, last = start % SLOTS, (end - 1) % SLOTS
        if first <= last:
            return sum(self._slots[first : last + 1])
        return sum(self._slots[first:]) + sum(self._slots[: last + 1])


def _empty() -> "array[float]":
    return array("d", bytes(8 * SLOTS))


class Volumes:
    """All markets. A trade counts once, since the lake and what is heard of it are free of repeats (docs/wire.md)."""

    def __init__(self) -> None:
        self._rings: dict[tuple[str, str], Ring] = {}

    def ring(self, exchange: str, symbol: str) -> Ring:
        """That of this market, which begins to be one."""
        return self._rings.setdefault((exchange, symbol), Ring())

    def window(self, exchange: str, symbol: str, now: int, seconds: int) -> float:
        """Quote volume in the `seconds` (1 to 3600) whole seconds before that of `now` (microseconds UTC), and in that one; 0
        for a market without trades."""
        ring = self._rings.get((exchange, symbol))
        return 0.0 if ring is None else ring.window(now, seconds)
