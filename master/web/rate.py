"""How often an address may ask: a bucket of requests for each, which fills again. Pure: told the time."""

from collections import OrderedDict

from msgspec import Struct

from master.guard import origin_of

BURST_SECONDS = 2.0
"""A full bucket holds what comes back in so many seconds."""
MOST_ADDRESSES = 10_000


class _Bucket(Struct):
    left: float
    at: float


class Rate:
    """Remembers the addresses that asked last, at most so many; one that was forgotten has a full bucket again."""

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._size = max(1.0, per_second * BURST_SECONDS)
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, address: str, now: float) -> float:
        """Seconds until this address may ask again; 0 where this request is one of those that it may have."""
        origin = origin_of(address)
        bucket = self._buckets.setdefault(origin, _Bucket(self._size, now))
        self._buckets.move_to_end(origin)
        if len(self._buckets) > MOST_ADDRESSES:
            self._buckets.popitem(last=False)
        bucket.left = min(self._size, bucket.left + (now - bucket.at) * self._per_second)
        bucket.at = now
        if bucket.left < 1.0:
            return (1.0 - bucket.left) / self._per_second
        bucket.left -= 1.0
        return 0.0
