"""A book in step with its venue, or absent: buffers, refreshes and retries; and a true market behind a faulty line."""

import itertools
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.book import BookRule, Change, OrderBook, Snapshot
from adapters.book_sync import ANSWER_WITHIN, MAX_BUFFERED, REST_LAG, SLOWEST_RETRY, STABLE_AFTER, BookState, BookSync
from adapters.errors import BookError, FrameError
from adapters.sides import Level
from tests.adapters.market import SHOWN, Market, Move, window_move
from tests.adapters.test_book import CHECKED, PREVIOUS, RANGE, change, snapshot


def sync_of(rule: BookRule, *, synced: bool = False) -> BookSync:
    sync = BookSync("BTC/USDT", "BTCUSDT", rule, 10, 10)
    if synced:
        sync.first_change(0.0)
        sync.asked(0.0)
        assert sync.snapshot(snapshot(), 0.0)
    return sync


def shown(sync: BookSync) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    assert sync.state is BookState.SYNCED
    return sync.book.view()


class TestBuffer:
    """A snapshot that comes over REST is older or newer than the changes that arrive meanwhile."""

    def test_changes_are_kept_for_the_snapshot_and_bridge_it(self) -> None:
        sync = sync_of(RANGE)
        for number in range(9, 14):
            assert sync.change(change(number, number, bids=[("99", str(number))])) is None
        assert sync.snapshot(snapshot(10), 0.0)
        assert sync.book.sequence == 13
        assert shown(sync)[0][0] == ("99", "13")

    def test_a_snapshot_older_than_the_first_change_is_stale(self) -> None:
        sync = sync_of(RANGE)
        sync.change(change(12, 12))
        with pytest.raises(BookError, match="stale snapshot"):
            sync.snapshot(snapshot(10), 0.0)
        assert sync.state is BookState.WAITING

    def test_a_hole_among_the_kept_changes_is_found(self) -> None:
        sync = sync_of(RANGE)
        sync.change(change(11, 11))
        sync.change(change(13, 13))
        with pytest.raises(BookError, match="stale snapshot"):
            sync.snapshot(snapshot(10), 0.0)

    def test_the_oldest_changes_make_way_and_the_hole_is_found(self) -> None:
        sync = sync_of(RANGE)
        for number in range(11, 11 + MAX_BUFFERED + 1):
            sync.change(change(number, number))
        with pytest.raises(BookError, match="stale snapshot"):
            sync.snapshot(snapshot(10), 0.0)
        assert sync.snapshot(snapshot(11), 0.0)
        assert sync.book.sequence == 10 + MAX_BUFFERED + 1

    def test_the_change_that_told_of_a_hole_is_kept(self) -> None:
        sync = sync_of(RANGE, synced=True)
        late = change(13, 13, bids=[("99", "13")])
        with pytest.raises(BookError):
            sync.change(late)
        sync.fail(1.0, late)
        assert sync.snapshot(snapshot(12), 1.0)
        assert shown(sync)[0][0] == ("99", "13")

    def test_a_hole_while_recovering_is_found_when_the_snapshot_comes(self) -> None:
        sync = sync_of(RANGE, synced=True)
        sync.fail(1.0, change(13, 13))
        sync.change(change(15, 15))
        with pytest.raises(BookError, match="stale snapshot"):
            sync.snapshot(snapshot(12), 1.0)

    def test_nothing_is_kept_where_the_snapshot_comes_on_the_socket(self) -> None:
        sync = sync_of(PREVIOUS)
        sync.change(change(last=9, previous=8))
        assert sync.snapshot(snapshot(10), 0.0)
        assert sync.book.sequence == 10


class TestRefresh:
    """A limited book asks for a fresh snapshot while the old one is still right: it never shows a hole."""

    def test_the_book_stays_shown_and_goes_on_from_the_fresh_snapshot(self) -> None:
        sync = sync_of(RANGE, synced=True)
        sync.refresh(5.0)
        assert sync.due == 5.0
        sync.asked(5.0)
        sync.change(change(11, 11, bids=[("99", "11")]))
        assert shown(sync)[0][0] == ("99", "11")
        assert sync.snapshot(snapshot(10, bids=(("99", "1"), ("90", "4"))), 6.0)
        assert sync.book.sequence == 11
        assert shown(sync)[0] == [("99", "11"), ("90", "4")]

    @pytest.mark.parametrize(
        "answer",
        [
            pytest.param(snapshot(8), id="too old for the changes since"),
            pytest.param(snapshot(11, bids=(("150", "1"),)), id="crossed"),
            pytest.param(snapshot(11, bids=(("x", "1"),)), id="malformed"),
        ],
    )
    def test_an_answer_that_will_not_do_is_asked_for_again_and_harms_nothing(self, answer: Snapshot) -> None:
        sync = sync_of(RANGE, synced=True)
        sync.change(change(11, 11, bids=[("99", "11")]))
        sync.refresh(5.0)
        sync.asked(5.0)
        sync.change(change(12, 12))
        assert not sync.snapshot(answer, 6.0)
        assert shown(sync)[0][0] == ("99", "11")
        assert 6.0 < sync.due < 6.0 + SLOWEST_RETRY

    def test_an_answer_older_than_the_book_never_turns_it_back(self) -> None:
        sync = sync_of(RANGE, synced=True)
        sync.change(change(11, 11, bids=[("99", "11")]))
        sync.refresh(5.0)
        sync.asked(5.0)
        assert not sync.snapshot(snapshot(9), 6.0)
        assert sync.book.sequence == 11
        sync.change(change(12, 12))
        assert sync.state is BookState.SYNCED

    def test_it_is_asked_for_once(self) -> None:
        sync = sync_of(RANGE, synced=True)
        sync.refresh(5.0)
        sync.asked(5.0)
        due = sync.due
        sync.refresh(6.0)
        assert sync.due == due


def attempts_in(sync: BookSync, seconds: int, begin: float = 0.0) -> list[float]:
    """When a book that never comes right is asked for, as seen by a clock that ticks ten times a second."""
    times = []
    for tick in range(seconds * 10):
        now = begin + tick / 10
        if now >= sync.due:
            sync.asked(now)
            times.append(now)
            if len(times) % 3:
                sync.retry(now)  # two of three attempts are refused at once, the third is never answered
    return times


RISING = BookRule(chain="rising", source="rest", renewed=60.0)


class TestRising:
    """Where sequences only rise, nothing but care keeps a change from being lost between a snapshot and what was kept."""

    def test_what_the_snapshot_holds_is_told_by_its_sequence(self) -> None:
        sync = sync_of(RISING)
        for number in (8, 10, 40):
            sync.change(change(last=number, bids=[("99", str(number))]))
        assert sync.snapshot(snapshot(10), 0.0)
        assert (sync.book.sequence, shown(sync)[0][0]) == (40, ("99", "40"))
        assert sync.change(change(last=40)) is None
        assert sync.change(change(last=90)) is not None

    def test_a_change_out_of_its_turn_is_a_doubt_and_one_said_before_is_not(self) -> None:
        sync = sync_of(RISING)
        sync.change(change(last=8))
        sync.snapshot(snapshot(10), 0.0)
        assert sync.change(change(last=9)) is None, "in the snapshot"
        for number in (20, 30):
            sync.change(change(last=number))
        assert sync.change(change(last=30)) is None, "twice"
        with pytest.raises(BookError, match="sequence"):
            sync.change(change(last=25))

    def test_a_snapshot_that_has_not_caught_up_is_asked_for_again_and_what_was_kept_is_not_forgotten(self) -> None:
        sync = sync_of(RISING)
        sync.change(change(last=20, bids=[("99", "20")]))
        sync.asked(0.0)
        assert not sync.snapshot(snapshot(19), 0.0)
        assert (sync.state, sync.due < 2.0) == (BookState.WAITING, True)
        sync.change(change(last=30, bids=[("99", "30")]))
        assert sync.snapshot(snapshot(25), 1.0)
        assert shown(sync)[0][0] == ("99", "30")

    def test_the_oldest_changes_make_way_and_the_snapshot_must_have_come_past_them(self) -> None:
        sync = sync_of(RISING)
        for number in range(11, 11 + MAX_BUFFERED + 1):
            sync.change(change(last=number))
        assert not sync.snapshot(snapshot(11), 0.0)
        assert sync.snapshot(snapshot(12), 0.0)

    @pytest.mark.parametrize("begin", [BookSync.lost, BookSync.fail, BookSync.restart])
    def test_without_a_change_the_venue_must_have_had_the_time_to_catch_up(
        self, begin: Callable[[BookSync, float], None]
    ) -> None:
        sync = sync_of(RISING)
        sync.change(change(last=8))
        begin(sync, 100.0)
        assert not sync.snapshot(snapshot(10), 99.0 + REST_LAG)
        assert sync.snapshot(snapshot(10), 100.0 + REST_LAG)

    def test_it_is_renewed_and_shown_meanwhile(self) -> None:
        sync = sync_of(RISING)
        sync.change(change(last=9))
        assert sync.snapshot(snapshot(10), 0.0)
        assert 30.0 <= sync.due <= 90.0
        sync.asked(sync.due)
        sync.change(change(last=20, asks=[("101", "7")]))
        assert not sync.snapshot(snapshot(15), sync.due), "what was lost in between would be missing"
        assert shown(sync)[1][0] == ("101", "7")
        assert sync.snapshot(snapshot(20, bids=(("99", "5"),)), sync.due)
        assert (sync.book.sequence, shown(sync)[0]) == (20, [("99", "5")])

    def test_renewing_for_weeks_makes_no_retry_slower(self) -> None:
        sync = sync_of(RISING)
        sync.change(change(last=9))
        sync.snapshot(snapshot(10), 0.0)
        for number in range(11, 1000):
            sync.asked(sync.due)
            sync.change(change(last=number))
            assert not sync.snapshot(snapshot(number - 1), sync.due)
            sync.asked(sync.due)
            assert sync.snapshot(snapshot(number), sync.due)
        now = sync.due
        sync.fail(now)
        assert sync.due == now


class TestRetries:
    def test_attempts_never_end_and_never_come_in_a_storm(self) -> None:
        sync = sync_of(RANGE, synced=True)
        sync.fail(100.0)
        times = attempts_in(sync, 2 * 3600, 100.0)
        pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
        assert times[0] == 100.0, "the first attempt is made at once"
        assert max(pauses) <= ANSWER_WITHIN + 1.5 * SLOWEST_RETRY + 0.2
        assert all(pause > SLOWEST_RETRY / 3 for pause in pauses[10:])
        assert sum(time < 160.0 for time in times) <= 10

    def test_a_book_may_fail_for_weeks(self) -> None:
        sync = sync_of(RANGE, synced=True)
        sync.fail(0.0)
        for day in range(20_000):
            now = 90.0 * day
            sync.asked(now)
            sync.retry(now)
            assert now < sync.due <= now + 1.5 * SLOWEST_RETRY

    def test_books_do_not_retry_together(self) -> None:
        pauses = set()
        for number in range(20):
            sync = BookSync("X", f"MARKET{number}", RANGE, 10, 10)
            sync.asked(0.0)
            sync.retry(0.0)
            pauses.add(round(sync.due, 3))
        assert len(pauses) > 15

    def test_attempts_survive_the_connection(self) -> None:
        sync = sync_of(RANGE)
        sync.asked(0.0)
        first = sync.due
        for _ in range(3):
            sync.lost(1.0)
            sync.asked(0.0)
        assert sync.due > first

    def test_a_book_that_held_begins_anew(self) -> None:
        for end in (BookSync.fail, BookSync.lost):
            sync = sync_of(RANGE)
            for _ in range(8):
                sync.asked(0.0)
            sync.snapshot(snapshot(), 0.0)
            later = STABLE_AFTER
            end(sync, later)
            sync.asked(later)
            assert sync.due < later + ANSWER_WITHIN + 2.0, "a stable book forgets the attempts before"

    def test_a_book_that_did_not_hold_goes_on_where_it_was(self) -> None:
        sync = sync_of(RANGE)
        for _ in range(8):
            sync.asked(0.0)
        sync.snapshot(snapshot(), 0.0)
        sync.fail(STABLE_AFTER - 1)
        assert sync.due > STABLE_AFTER + SLOWEST_RETRY / 3

    def test_a_lost_connection_knows_nothing(self) -> None:
        sync = sync_of(RANGE, synced=True)
        sync.lost(1.0)
        assert (sync.state, sync.dirty, sync.due) == (BookState.WAITING, False, float("inf"))
        assert sync.first_change(2.0), "the next connection asks anew"


# A true market behind a faulty line --------------------------------------------------------------------------------------


class Line:
    """Changes of a market on their way to a BookSync, with faults; snapshots come late, and are as old as their asking."""

    def __init__(self, rule: BookRule, seed: int) -> None:
        self.rule = rule
        self.random = Random(seed)
        self.market = Market("BTCUSDT", "BTC/USDT", self.random, loose=rule.checksum is None)
        self.sync = BookSync("BTC/USDT", "BTCUSDT", rule, SHOWN, SHOWN)
        self.now = 0.0
        self.coming: list[tuple[float, Snapshot]] = []
        self.told = self._window()
        if rule.source == "socket":
            self.coming.append((0.1, self._snapshot()))

    def _window(self) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        return self.market.best(SHOWN)

    def _levels(self, rows: list[tuple[int, int]]) -> list[Level]:
        return [Level(self.market.price(price), self.market.amount(lots)) for price, lots in rows]

    def _checksum(self) -> int | None:
        if self.rule.checksum is None:
            return None
        truth = OrderBook(self.rule, SHOWN, SHOWN)
        bids, asks = self.market.best(SHOWN)
        truth.load(Snapshot(self._levels(bids), self._levels(asks)))
        return self.rule.checksum(truth)

    def _snapshot(self) -> Snapshot:
        bids, asks = self.market.best(SHOWN if self.rule.limited or self.rule.truncates else 1000)
        sequence = self.market.sequence if self.rule.chain else None
        return Snapshot(self._levels(bids), self._levels(asks), sequence, None, self._checksum())

    def told_change(self, move: Move) -> Change:
        bids, asks = move.bids, move.asks
        if self.rule.truncates:
            before, self.told = self.told, self._window()
            bids, asks = window_move(before, self.told)
        sequences: tuple[int | None, int | None, int | None] = (None, None, None)
        if self.rule.chain == "range":
            sequences = (move.first, move.last, None)
        elif self.rule.chain == "previous":
            sequences = (None, move.last, move.previous)
        return Change(self._levels(bids), self._levels(asks), *sequences, None, self._checksum())

    def step(self, fault: str) -> None:
        changes = [self.told_change(self.market.move())]
        if fault == "drop":
            changes = []
        elif fault == "repeat":
            changes *= self.random.choice((2, 3))
        elif fault == "swap":
            changes.insert(0, self.told_change(self.market.move()))
        elif fault == "malform":
            changes[0] = Change([Level("x", "1")], [], changes[0].first, changes[0].last, changes[0].previous)
        for each in changes:
            self._receive(each)
        self.now += 0.2
        self._answer()

    def _receive(self, change: Change) -> None:
        try:
            if self.sync.change(change) is None and self.sync.state is BookState.WAITING and self.sync.first_change(self.now):
                self._ask()
            if self.random.random() < 0.5:  # else what it says waits for a later reader
                self._read()
        except (BookError, FrameError):
            self.sync.fail(self.now, change)

    def _ask(self) -> None:
        self.sync.asked(self.now)
        if self.random.random() < 0.9:
            self.coming.append((self.now + self.random.choice((0.0, 0.3, 1.5)), self._snapshot()))

    def _answer(self) -> None:
        for when, answer in [each for each in self.coming if each[0] <= self.now]:
            self.coming.remove((when, answer))
            # On the socket it comes in line with the changes.
            told = self._snapshot() if self.rule.source == "socket" else answer
            try:
                self.sync.snapshot(told, self.now)
            except (BookError, FrameError):
                self.sync.fail(self.now)
        try:
            self._read()
        except (BookError, FrameError):
            self.sync.fail(self.now)
        if self.sync.state is BookState.SYNCED and self.sync.book.is_shallow():
            self.sync.refresh(self.now)
        if self.now >= self.sync.due:
            self._ask()

    def _read(self) -> None:
        """What is shown was true at the sequence it is shown with: the whole depth, or a limited snapshot's window."""
        if self.sync.state is BookState.SYNCED:
            sequence = self.sync.book.sequence
            assert self.market.was(self.sync.book.view(), sequence, complete=not self.rule.limited)


RULES = {
    "range over REST": RANGE,
    "range over REST, limited": BookRule(chain="range", source="rest", limited=True),
    "previous on the socket": PREVIOUS,
    "checksum on the socket, truncated": CHECKED,
}
every_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())

faults = st.lists(st.sampled_from(["", "", "", "", "drop", "repeat", "swap", "malform"]), min_size=5, max_size=60)


@every_rule
@given(seed=st.integers(0, 10_000), faults=faults)
def test_whatever_the_line_does_a_book_is_right_or_absent_and_comes_back(rule: BookRule, seed: int, faults: list[str]) -> None:
    line = Line(rule, seed)
    for fault in faults:
        line.step(fault)
    for _ in range(2000):  # the line is whole again: some minutes must do, pauses and all
        line.step("")
        if line.sync.state is BookState.SYNCED:
            break
    assert line.sync.state is BookState.SYNCED
    assert line.market.is_now(line.sync.book.view())


@every_rule
def test_without_a_fault_a_book_is_shown_at_every_step(rule: BookRule) -> None:
    line = Line(rule, 1)
    for step in range(300):
        line.step("")
        if step > 20:
            assert line.sync.state is BookState.SYNCED


def plant(rule: BookRule, mutate: Callable[[Change], Change]) -> Line:
    """A line on which one kind of damage is done to every change, unnoticed by any sequence."""
    line = Line(rule, 3)
    honest = line.told_change
    line.told_change = lambda move: mutate(honest(move))  # type: ignore[method-assign]
    return line


def steps(line: Line, count: int) -> None:
    for _ in range(count):
        line.step("")


def test_the_measure_sees_a_wrong_book() -> None:
    """Of the tests above: a damage that no sequence shows must be found by the comparison with the truth."""
    line = plant(RANGE, lambda change: Change([], change.asks, change.first, change.last))
    with pytest.raises(AssertionError):
        steps(line, 100)


def test_a_checksum_finds_what_no_sequence_shows() -> None:
    line = plant(CHECKED, lambda change: Change([], change.asks, None, None, None, None, change.checksum))
    steps(line, 100)
    assert line.sync.due < float("inf"), "the book is asked for"
