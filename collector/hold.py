"""The batches of one stream that are on disk, and of those the ones that are in memory too because they are sent next."""

from collections import deque
from typing import Protocol

from msgspec import Struct

from master.protocol import WINDOW, Batch

KEPT_IN_MEMORY = 2 * WINDOW
"""Batches of a stream, from the oldest, whose bytes stay in memory: more are never on their way at once."""


class Entry(Struct, gc=False):
    """One batch. `segment`, `offset`: where its record stands, once it is written (0: nowhere); `batch`: its bytes, while they
    are in memory; `is_gone`: let go of."""

    seq: int
    count: int
    size: int
    segment: int = 0
    offset: int = 0
    batch: Batch | None = None
    is_gone: bool = False


class Disk(Protocol):
    """What a hold asks of the spool it belongs to."""

    def append(self, hold: "SpoolHold", entry: Entry) -> None:
        """Write it; `was_written` follows."""

    def read(self, hold: "SpoolHold", entries: list[Entry]) -> None:
        """Bring these into memory again; `was_read` follows."""

    def let_go(self, entry: Entry) -> None:
        """Nobody wants it any more."""


class SpoolHold:
    """Implements Hold (master/protocol.py) for one stream of a spool."""

    def __init__(self, disk: Disk, stream: bytes, newest: int = 0) -> None:
        self.stream = stream
        self.newest = newest
        self.ready = newest
        self.events = 0
        self.bytes = 0
        self._disk = disk
        self._entries: deque[Entry] = deque()
        self._is_reading = False

    @property
    def oldest(self) -> int:
        return self._entries[0].seq if self._entries else self.newest + 1

    def put(self, batch: Batch) -> None:
        entry = Entry(batch.seq, batch.count, batch.size, batch=batch)
        self.keep(entry)
        self._disk.append(self, entry)

    def keep(self, entry: Entry) -> None:
        self._entries.append(entry)
        self.newest = entry.seq
        self.events += entry.count
        self.bytes += entry.size

    def get(self, seq: int) -> Batch | None:
        start = seq - self.oldest
        entry = self._entries[start]
        if entry.batch is None and not self._is_reading:
            self._is_reading = True
            window = [self._entries[index] for index in range(start, min(len(self._entries), start + WINDOW))]
            self._disk.read(self, [each for each in window if each.batch is None and each.segment])
        return entry.batch

    def was_read(self) -> None:
        self._is_reading = False

    def was_written(self, entry: Entry) -> None:
        self.ready = entry.seq
        if entry.seq - self.oldest >= KEPT_IN_MEMORY:
            entry.batch = None

    def release(self, through: int) -> list[Entry]:
        released = []
        while self._entries and self._entries[0].seq <= through:
            released.append(self._let_go(self._entries.popleft()))
        return released

    def withdraw(self) -> list[tuple[bytes, int]]:
        """Take back what was not written, and so never sent: its bodies and counts of events, in order."""
        taken = []
        while self._entries and self._entries[-1].seq > self.ready:
            entry = self._let_go(self._entries.pop())
            assert entry.batch is not None  # only what is written leaves the memory
            taken.append((bytes(entry.batch.body), entry.count))
        self.newest = self.ready
        return taken[::-1]

    def _let_go(self, entry: Entry) -> Entry:
        entry.is_gone = True
        self.events -= entry.count
        self.bytes -= entry.size
        self._disk.let_go(entry)
        return entry
