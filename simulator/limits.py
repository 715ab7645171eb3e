"""How venues count: pure windows, no clock of their own. Times are seconds of any one monotonic clock."""

from collections import deque


class FixedWindow:
    """`limit` units per window that starts with its first use: Binance weight per minute, OKX calls per 2 seconds."""

    __slots__ = ("_ends", "limit", "period", "used")

    def __init__(self, limit: int, period: float) -> None:
        self.limit = limit
        self.period = period
        self.used = 0
        self._ends = 0.0

    def take(self, now: float, cost: int = 1) -> bool:
        """Count `cost` units; False when the window cannot hold them. What is refused is not counted."""
        if now >= self._ends:
            self._ends = now + self.period
            self.used = 0
        if self.used + cost > self.limit:
            return False
        self.used += cost
        return True

    def resets_in(self, now: float) -> float:
        """Seconds until the window is empty again."""
        return max(0.0, self._ends - now) if self.used else 0.0


class RollingWindow:
    """`limit` events within any `period` seconds: connection attempts, client messages."""

    __slots__ = ("_times", "limit", "period")

    def __init__(self, limit: int, period: float) -> None:
        self.limit = limit
        self.period = period
        self._times: deque[float] = deque(maxlen=limit)

    def take(self, now: float, cost: int = 1) -> bool:
        """Count `cost` events; False when they do not fit. What is refused is not counted."""
        times = self._times
        while times and times[0] <= now - self.period:
            times.popleft()
        if len(times) + cost > self.limit:
            return False
        times.extend([now] * cost)
        return True

    def resets_in(self, now: float) -> float:
        """Seconds until one more event fits."""
        return max(0.0, self._times[0] + self.period - now) if len(self._times) >= self.limit else 0.0


class Bucket:
    """A counter that drains: `limit` calls at once, `rate` more per second. Kraken's public REST."""

    __slots__ = ("_at", "_level", "limit", "rate")

    def __init__(self, limit: float, rate: float) -> None:
        self.limit = limit
        self.rate = rate
        self._level = 0.0
        self._at = 0.0

    def take(self, now: float, cost: float = 1.0) -> bool:
        """Pour `cost` in; False when it would run over."""
        self._level = max(0.0, self._level - (now - self._at) * self.rate)
        self._at = now
        if self._level + cost > self.limit:
            return False
        self._level += cost
        return True
