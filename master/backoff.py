"""Pauses between attempts. Pure."""

from random import Random


class Backoff:
    """Pauses between attempts: full jitter below a limit that doubles, and begins anew only after a stable time."""

    def __init__(self, random: Random, *, base: float = 0.5, cap: float = 60.0, stable: float = 60.0) -> None:
        self._random = random
        self._base = base
        self._cap = cap
        self._stable = stable
        self.failures = 0

    def after_failure(self, lasted: float) -> float:
        """Seconds to wait, after something that held for `lasted` seconds has ended."""
        self.failures = 1 if lasted >= self._stable else self.failures + 1
        return self._random.uniform(0.0, min(self._cap, self._base * 2.0 ** min(self.failures, 30)))
