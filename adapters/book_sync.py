"""Keeps an order book in step with its venue: WAITING for a first snapshot, SYNCED, or RECOVERING from a doubt.

A book is right or absent. It is shown only while SYNCED; one in doubt is asked for again alone, while its neighbours flow on.
"""

from collections import deque
from enum import StrEnum
from zlib import crc32

from adapters.book import BookRule, Change, OrderBook, Snapshot
from adapters.errors import BookError, FrameError

MAX_BUFFERED = 10_000
"""Changes kept while a snapshot is on its way; at 100 ms a change that is a quarter of an hour."""
ANSWER_WITHIN = 10.0
"""Seconds after which a snapshot that was asked for is asked for again."""
REFRESHED_EVERY = 5.0
"""Seconds between snapshots of a book that is right, but lacks levels: a thin market may lack them always."""
SLOWEST_RETRY = 60.0
"""Seconds between attempts at a book that does not come right: a slow ceiling, never an end."""
REST_LAG = 5.0
"""Seconds within which a venue's REST shows what its socket said, where nothing in a snapshot tells."""
STABLE_AFTER = 5.0
"""Seconds for which a book must hold for the attempts before to be forgotten: single faults are mended at once, while a book
that never holds is asked for ever more rarely."""

_FAR = float("inf")


class BookState(StrEnum):
    WAITING = "waiting"
    SYNCED = "synced"
    RECOVERING = "recovering"


_SYNCED = BookState.SYNCED


class BookSync:
    """Keeps one OrderBook in step with its venue: buffers changes while a snapshot is on its way, and says when to ask for one.

    `due` is the monotonic time at which a snapshot is to be asked for. Attempts survive a reconnect, so that a book that never
    holds is asked for ever more rarely, and never given up.
    """

    __slots__ = (
        *("_attempts", "_buffer", "_rule", "_shown", "_since", "_spread", "_synced_at"),
        *("book", "depth", "dirty", "due", "is_asked_for", "native", "next_view", "received", "state", "symbol", "timestamp"),
    )

    def __init__(self, symbol: str, native: str, rule: BookRule, depth: int, shown: int) -> None:
        self.symbol = symbol
        self.native = native
        self.state = BookState.WAITING
        self.book = OrderBook(rule, depth, shown)
        self.timestamp: int | None = None
        self.received = 0
        self.dirty = False
        self.next_view = 0.0
        self.due = _FAR
        self._rule = rule
        self.depth = depth
        self._shown = shown
        self._buffer: deque[Change] | None = self._new_buffer()
        self._since = 0.0
        self.is_asked_for = False
        self._attempts = 0
        self._synced_at = 0.0
        self._spread = 0.5 + crc32(native.encode()) / 2**32

    @property
    def whole_until(self) -> int:
        """When the last change of a book that is right was received; 0: it is not."""
        return self.received if self.state is _SYNCED else 0

    def _new_buffer(self) -> deque[Change] | None:
        return deque(maxlen=MAX_BUFFERED) if self._rule.source == "rest" else None

    def restart(self, now: float) -> None:
        """What was kept for the snapshot is worth nothing, or may have a hole: begin to keep changes anew."""
        self._buffer, self._since = self._new_buffer(), now

    def change(self, change: Change) -> Change | None:
        """Take a change, or keep it for the snapshot; returns what the book took. Raises BookError."""
        if self._buffer is not None:
            self._buffer.append(change)
        if self.state is not _SYNCED:
            return None
        applied = self.book.follow(change)
        if applied is not None:
            self.dirty = True
        return applied

    def snapshot(self, snapshot: Snapshot, now: float) -> bool:
        """Take a snapshot and what was buffered since; returns whether the book is now SYNCED on it. Raises BookError."""
        if self._rule.chain == "rising" and not self._is_joined(snapshot, now):
            self.retry(now)
            return False
        book = OrderBook(self._rule, self.depth, self._shown)
        try:
            book.load(snapshot)
            for change in self._buffer or ():
                book.follow(change)
            book.prove()
        except (BookError, FrameError) as error:
            if self._is_refreshed():
                self.retry(now)  # the book that is shown is as right as before
                return False
            if isinstance(error, BookError) and error.reason == "sequence":
                raise BookError("stale snapshot") from error
            raise
        if self._is_refreshed():
            if (book.sequence or 0) < (self.book.sequence or 0):
                self.retry(now)  # an answer out of the venue's cache must not turn the book back
                return False
            self._attempts = max(0, self._attempts - 1)  # a refresh that succeeds is no sign of trouble
        if self.state is not _SYNCED:
            self.next_view = 0.0
        self.book, self.state, self._synced_at = book, BookState.SYNCED, now
        self.due = now + self._rule.renewed * self._spread if self._rule.renewed else _FAR
        self._buffer = None
        self.dirty = True
        return True

    def _is_joined(self, snapshot: Snapshot, now: float) -> bool:
        """Where no number shows a hole: whether every change younger than a snapshot is in the buffer. The snapshot must have
        reached the first of them; in a market at rest, the venue must have had the time to show what came before."""
        if not self._buffer:
            return now - self._since >= REST_LAG
        return (snapshot.sequence or 0) >= (self._buffer[0].last or 0)

    def _is_refreshed(self) -> bool:
        return self.state is BookState.SYNCED and self._rule.source == "rest"

    def first_change(self, now: float) -> bool:
        """Changes arrive, so that this is the moment to ask for the snapshot they continue: whether nobody has asked yet."""
        if self._rule.source == "rest" and not self.is_asked_for:
            self.due = now
            return True
        return False

    def fail(self, now: float, change: Change | None = None) -> None:
        """The book is in doubt: nothing more is shown, and it is due again (at once, unless that did not help before)."""
        self._forgive(now)
        self.state, self.dirty = BookState.RECOVERING, False
        self.restart(now)
        if self._buffer is not None and change is not None:
            self._buffer.append(change)
        self.retry(now)

    def _forgive(self, now: float) -> None:
        if self.state is BookState.SYNCED and now - self._synced_at >= STABLE_AFTER:
            self._attempts = 0

    def refresh(self, now: float) -> None:
        """A fresh snapshot is due, as soon as another is allowed; the book that is shown stays right meanwhile."""
        if self._buffer is None and self._rule.source == "rest":
            self._buffer, self.due = self._new_buffer(), max(now, self._synced_at + REFRESHED_EVERY)

    def asked(self, now: float) -> None:
        """A snapshot was asked for; without one in time it is due again."""
        if self._buffer is None:  # of a book that is right: what changes meanwhile is applied, and kept for the snapshot too
            self._forgive(now)
            self.restart(now)
        self.is_asked_for = True
        self._attempts += 1
        self.due = now + ANSWER_WITHIN + self._pause()

    def retry(self, now: float) -> None:
        """The attempt failed: due again after a pause that doubles, spread by name so that books do not retry together."""
        self.due = now + self._pause()

    def _pause(self) -> float:
        return min(2.0 ** min(self._attempts - 1, 30), SLOWEST_RETRY) * self._spread if self._attempts else 0.0

    def expect_by(self, due: float) -> None:
        """A snapshot should come unasked (with the subscription), or will be needed, by then."""
        self.due = due

    def lost(self, now: float) -> None:
        """The connection is gone: nothing is known until a new snapshot."""
        self._forgive(now)
        self.state, self.dirty, self.due, self.is_asked_for = BookState.WAITING, False, _FAR, False
        self.restart(now)
