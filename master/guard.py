"""Patience with those who have not logged in: pauses after failed logins, and how many may wait at once. Pure: told the time.

An address that fails too often pauses, ever longer. Behind one address there may be a whole fleet and one collector with an old
key: where a login was right lately, a pause is short and failures are forgiven quickly, and every right login forgives all.
"""

from collections import Counter, OrderedDict
from ipaddress import IPv6Address, ip_address

from msgspec import Struct

BURST = 20
"""Failed logins that an address has free."""
FORGIVEN = 0.5
FORGIVEN_WHERE_TRUSTED = 10.0
"""Of these, how many a second come back."""
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
TRUSTED_FOR = 600.0
"""Seconds after a right login, or the end of its session."""
FORGOTTEN_AFTER = 600.0
MOST_ADDRESSES = 10_000
MOST_WAITING = 512
MOST_WAITING_OF_ONE = 128
"""Connections that have not logged in yet. A fleet that finds no room comes again within a second, and leaves some to all."""


class _Record(Struct):
    at: float
    free: float = BURST
    pause: float = 0.0
    until: float = 0.0
    trusted_until: float = 0.0


class Guard:
    """Remembers addresses, at most so many."""

    def __init__(self) -> None:
        self._records: OrderedDict[str, _Record] = OrderedDict()
        self._waiting: Counter[str] = Counter()

    # Failed logins.

    def pause(self, address: str, now: float) -> float:
        """Seconds until this address may try to log in; 0 for at once."""
        record = self._records.get(origin_of(address))
        return max(0.0, record.until - now) if record else 0.0

    def failed(self, address: str, now: float) -> float:
        """Seconds of the pause that this failure begins; 0 where it is one of the free ones."""
        record = self._record(address, now)
        is_trusted = now < record.trusted_until
        rate = FORGIVEN_WHERE_TRUSTED if is_trusted else FORGIVEN
        record.free = max(0.0, min(BURST, record.free + (now - record.at) * rate) - 1.0)
        record.at = now
        if record.free >= 1.0 or now < record.until:
            return 0.0
        record.pause = FIRST_PAUSE if is_trusted else min(LONGEST_PAUSE, max(FIRST_PAUSE, record.pause * 2.0))
        record.until = now + record.pause
        return record.pause

    def trust(self, address: str, now: float) -> None:
        """Somebody there has shown a key: all is forgiven."""
        self._remember(origin_of(address), _Record(now, trusted_until=now + TRUSTED_FOR))

    def _record(self, address: str, now: float) -> _Record:
        origin = origin_of(address)
        record = self._records.get(origin)
        if record is None or (now - record.at > FORGOTTEN_AFTER and now >= record.trusted_until):
            record = _Record(now)
        self._remember(origin, record)
        return record

    def _remember(self, origin: str, record: _Record) -> None:
        self._records[origin] = record
        self._records.move_to_end(origin)
        if len(self._records) > MOST_ADDRESSES:
            self._records.popitem(last=False)

    # Those who wait.

    def enter(self, address: str) -> bool:
        """Whether one more may wait; it `leave`s when it has logged in or gone."""
        origin = origin_of(address)
        if self._waiting.total() >= MOST_WAITING or self._waiting[origin] >= MOST_WAITING_OF_ONE:
            return False
        self._waiting[origin] += 1
        return True

    def leave(self, address: str) -> None:
        origin = origin_of(address)
        self._waiting[origin] -= 1
        if self._waiting[origin] <= 0:
            del self._waiting[origin]


def origin_of(address: str) -> str:
    """Who has one IPv6 address has its whole /64."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    return str(parsed.ipv4_mapped) if parsed.ipv4_mapped else parsed.exploded[:19]
