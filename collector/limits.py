"""When something may be done (again): venue limits, and a breaker for a venue that refuses everything. Pure."""

from collections import deque

from adapters.venue import Rate

MARGIN = 0.9
"""The part of a venue's limit that is used: its clock and ours do not begin a window at the same moment."""


BEGUN_FOR = 0.1
"""Seconds after which one looks again whether what was begun has ended."""


class Window:
    """At most `rate.count` in any `rate.seconds`, whenever one looks. A larger single cost passes alone.

    `share` is the part of it that is ours; where that is less than one, one has the longer time that it takes. What takes a
    while to arrive (a handshake) is begun and ended: the venue counts it at some time between, and here it counts throughout.
    """

    def __init__(self, rate: Rate, share: float = 1.0) -> None:
        ours = rate.count * share * MARGIN
        self._most = max(1.0, ours)
        self._seconds = rate.seconds * max(1.0, 1.0 / ours)
        self._spent: deque[tuple[float, float]] = deque()
        self._sum = 0.0
        self._begun = 0
        self._blocked_until = 0.0

    def delay(self, now: float, cost: float = 1.0) -> float:
        """Seconds until `cost` may be spent; 0 for at once."""
        self._forget(now)
        wait = max(0.0, self._blocked_until - now)
        excess = self._sum + cost - self._most
        for at, spent in self._spent:
            if excess <= 0:
                break
            excess -= spent
            wait = max(wait, at + self._seconds - now)
        return max(wait, BEGUN_FOR) if excess > 0 and self._begun else wait

    def spend(self, now: float, cost: float = 1.0) -> None:
        self._spent.append((now, cost))
        self._sum += cost

    def begin(self) -> None:
        self._begun += 1
        self._sum += 1.0

    def end(self, now: float) -> None:
        """What was begun first or last: they cost the same."""
        self._begun -= 1
        self._spent.append((now, 1.0))

    def block(self, until: float) -> None:
        """The venue said when to come back."""
        self._blocked_until = max(self._blocked_until, until)

    def _forget(self, now: float) -> None:
        while self._spent and self._spent[0][0] <= now - self._seconds:
            self._sum -= self._spent.popleft()[1]


class Breaker:
    """Opens when everything a venue is asked fails: then one attempt at a time probes it, all others wait."""

    def __init__(self, *, threshold: int = 5, probe_every: float = 15.0) -> None:
        self._threshold = threshold
        self._probe_every = probe_every
        self._failures = 0
        self._next_probe = 0.0

    @property
    def is_open(self) -> bool:
        return self._failures >= self._threshold

    def delay(self, now: float) -> float:
        """Seconds until an attempt may be made; taking the turn of a probe when it is 0."""
        if not self.is_open:
            return 0.0
        if now >= self._next_probe:
            self._next_probe = now + self._probe_every
            return 0.0
        return self._next_probe - now

    def succeeded(self) -> None:
        self._failures = 0

    def failed(self, now: float) -> None:
        self._failures += 1
        if self._failures == self._threshold:
            self._next_probe = now + self._probe_every
