"""Holes among trades are filled from what the venue's REST still has.

The venue is asked for what is missing, page by page and behind everything more urgent. What lies inside a hole and was not told
goes out as a Trade of source "backfill", and after it a Gap of reason "backfilled" names what is filled. Where the venue counts
a market's trades a hole is a range of numbers; elsewhere it is a span of the venue's time, and repeats are known by their ids.

Nothing is endless here: a hole has so many pages and attempts, a market so many holes. What cannot be had stays a gap.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from zlib import crc32

from msgspec import Struct
from msgspec.structs import replace

from adapters.effects import Fetch, Priority
from adapters.events import Gap, Trade
from adapters.holes import Hole, NumberedHole, Row, TimedHole
from adapters.subscriptions import Subscription
from adapters.venue import Venue

ATTEMPTS = 6
SLOWEST_RETRY = 60.0
"""Seconds between two attempts, which double from two."""
PAGES = 50
"""Answers of the venue for one hole."""
HOLES = 32
"""Holes of one market that wait. One with more is in no state to be filled."""
REMEMBERED_IDS = 20_000
"""Trade ids kept while a hole by time is open. Past them a repeat could not be told from a missing trade."""


class LastTrade(Struct, frozen=True):
    """The last trade of a market that an earlier process told. Times in microseconds UTC; `timestamp` is the venue's."""

    id: str
    timestamp: int | None
    received: int


class Resume(Struct, frozen=True):
    """Where an earlier process ended: when it was last heard of, and the last trade of each symbol, as far as it is known.

    Without its last trade a market's absence is a gap that stays: nobody could say which of its trades were told before.
    """

    since: int | None = None
    trades: Mapping[str, LastTrade] = {}


class _Search:
    """The holes of one market, the first of which is being filled."""

    def __init__(self, subscription: Subscription) -> None:
        self.subscription = subscription
        self.holes: deque[Hole] = deque()
        self.held: list[Row] = []
        self.due = 0.0
        self.attempts = 0
        self.received = 0
        self.is_asked = False

    def awaits(self, hole: Hole) -> bool:
        """Whether nothing was asked for this hole yet."""
        return hole.pages == 0 and self.attempts == 0 and not (self.is_asked and hole is self.holes[0])


class Backfill:
    """`request`: the venue's question for a hole, None where it has no answer. `put`: where trades and gaps go."""

    def __init__(
        self,
        venue: Venue,
        subscriptions: Mapping[str, Subscription],
        request: Callable[[str, Hole], Fetch | None],
        put: Callable[[Trade | Gap], None],
    ) -> None:
        self.told = 0
        self.given_up = 0
        self._name = venue.name
        self._history = venue.history
        self._is_numbered = venue.numbers_trades
        self._subscriptions = subscriptions
        self._request = request
        self._put = put
        self._searches: dict[str, _Search] = {}

    # Holes ----------------------------------------------------------------------------------------------------------

    def found(
        self,
        subscription: Subscription,
        gap: Gap,
        now: float,
        *,
        last: LastTrade | None = None,
        end: tuple[str, int] | None = None,
    ) -> None:
        """A hole was told. `last`: the trade before it, where that is not the last one told. `end`: id and time of the trade
        behind it, where that is not the next one."""
        if gap.reason == "renumbered":
            self._searches.pop(subscription.native, None)  # what was missing of the old count cannot be told from the new
        if self._history is None or not self._is_fillable(subscription, gap):
            return
        search = self._searches.setdefault(subscription.native, _Search(subscription))
        since = (last.timestamp or last.received) if last else (subscription.latest or gap.since or 0)
        newest = search.holes[-1] if search.holes else None
        if self._is_numbered:
            hole: Hole = NumberedHole(gap, int(gap.first_missing or 0), int(gap.last_missing or 0), since, now)
        elif isinstance(newest, TimedHole) and search.awaits(newest) and end is None:
            newest.widen(gap, now)
            return
        else:
            after = last.id if last else next(reversed(subscription.seen), "")
            hole = TimedHole(gap, since, after, end, subscription, now)
            subscription.kept = REMEMBERED_IDS
        if len(search.holes) >= HOLES:
            self.given_up += 1
        else:
            search.holes.append(hole)

    def _is_fillable(self, subscription: Subscription, gap: Gap) -> bool:
        """Whether its beginning is known by a trade that was told: by number, or at least that none was told before."""
        if gap.reason == "renumbered" or gap.until is None:
            return False
        if self._is_numbered:
            return gap.first_missing is not None
        return gap.since is not None and (subscription.latest is not None or gap.reason != "collector restarted")

    def came(self, subscription: Subscription, number: int, timestamp: int | None) -> None:
        """A trade that was reported missing came late, on the live path."""
        search = self._searches.get(subscription.native)
        for hole in search.holes if search else ():
            if isinstance(hole, NumberedHole) and hole.came(number, timestamp):
                return

    # Asking ---------------------------------------------------------------------------------------------------------

    def due(self, now: float) -> Iterator[Fetch]:
        """What is to be asked now: one page for each market at a time."""
        for native, search in list(self._searches.items()):
            if not search.is_asked and now >= max(search.due, search.holes[0].due):
                yield from self._ask(native, search, now)

    def _ask(self, native: str, search: _Search, now: float) -> Iterator[Fetch]:
        hole = search.holes[0]
        if hole.edge is None and not hole.is_whole:
            search.held = hole.put_back(search.held)
            hole.begin(search.subscription.latest)
        can_ask = not hole.is_whole and hole.pages < PAGES and search.subscription.remembers < REMEMBERED_IDS
        fetch = self._request(native, hole) if can_ask else None
        if fetch is None:
            self._close(native, search)
        else:
            search.is_asked = True
            yield replace(fetch, key=("backfill", native), priority=Priority.BACKFILL)

    def answered(self, native: str, rows: list[Row], received: int, now: float) -> Iterator[Fetch]:
        """A page came: what was missing is told, in order as soon as that is certain, and the next page asked for."""
        search, history = self._searches.get(native), self._history
        if search is None or history is None or not search.is_asked:
            return
        search.is_asked, search.received, hole = False, received, search.holes[0]
        hole.pages += 1
        rows = self._risen(rows)
        search.held[:0] = hole.take(rows, history)  # before what earlier pages of a list downwards brought
        if history.order == "up":
            self._tell(search)
        if hole.goes_on(rows, history):
            yield from self._ask(native, search, now)
        elif hole.is_done(history):
            self._close(native, search)
        else:
            hole.edge = None  # a list that lags behind: a new search, from the edges of what is missing
            self._retry(native, search, now)

    def failed(self, native: str, now: float) -> None:
        """There is no answer."""
        search = self._searches.get(native)
        if search is None:
            return
        search.is_asked = False
        self._retry(native, search, now)

    def _retry(self, native: str, search: _Search, now: float) -> None:
        """Again after a pause, which differs from market to market."""
        search.attempts += 1
        spread = 1.0 + crc32(native.encode()) % 1000 / 2000
        search.due = now + min(2.0**search.attempts, SLOWEST_RETRY) * spread
        if search.attempts == ATTEMPTS:
            self._close(native, search)

    def lost(self) -> None:
        """The connection is gone, and with it what was asked: it will be asked on the next."""
        for search in self._searches.values():
            search.is_asked = False

    # Telling --------------------------------------------------------------------------------------------------------

    def _risen(self, rows: list[Row]) -> list[Row]:
        """Oldest first, whichever way the list is written."""
        if self._is_numbered:
            return sorted(rows, key=lambda row: int(row.number))
        if rows and rows[0].timestamp > rows[-1].timestamp:
            rows = rows[::-1]
        return sorted(rows, key=lambda row: row.timestamp)

    def _tell(self, search: _Search) -> None:
        """The trades that are held."""
        rows, search.held = search.held, []
        if self._is_numbered:
            rows = self._risen(rows)
        subscription = search.subscription
        for number, price, amount, side, timestamp in rows:
            if self._is_numbered:
                subscription.late.discard(int(number))
            about = (self._name, subscription.symbol, timestamp, search.received, str(number))
            self._put(Trade(*about, price, amount, side, "backfill"))
        self.told += len(rows)

    def _close(self, native: str, search: _Search) -> None:
        """The first hole is as full as it will be; what is said of it comes after its trades."""
        hole, history = search.holes.popleft(), self._history
        assert history is not None
        self._tell(search)
        parts = hole.parts(history, search.received) if search.received else []
        for first, last, since, until in parts:
            numbers = {"first_missing": str(first), "last_missing": str(last)} if first is not None else {}
            about = replace(hole.gap, received=search.received, reason="backfilled", first_missing=None, last_missing=None)
            self._put(replace(about, since=since, until=until, **numbers))
        self.given_up += [(part.since, part.until) for part in parts] != [(hole.gap.since, hole.gap.until)]
        search.attempts, search.received, search.due = 0, 0, 0.0
        if not search.holes:
            del self._searches[native]
            search.subscription.forget_ids()
