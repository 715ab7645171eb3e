"""A book is right or absent: against a plain dict of Decimals, and against a true market behind a faulty line."""

import itertools
from collections.abc import Callable
from decimal import Decimal
from random import Random
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from adapters.book import (
    ANSWER_WITHIN,
    MAX_BUFFERED,
    SLOWEST_RETRY,
    STABLE_AFTER,
    BookRule,
    BookSide,
    BookState,
    BookSync,
    Change,
    Level,
    OrderBook,
    Snapshot,
    pairs,
)
from adapters.errors import BookError, FrameError, NumberError
from tests.adapters.market import SHOWN, Market, Move, window_move

# One side against a dict of Decimals -------------------------------------------------------------------------------------


def spellings(ticks: int) -> list[str]:
    """The ways in which venues write a price of so many hundredths."""
    short = f"{ticks / 100:.2f}".rstrip("0").rstrip(".")
    return [f"{ticks / 100:.2f}", f"{ticks / 100:.8f}", short]


prices = st.integers(1, 40).flatmap(lambda ticks: st.sampled_from(spellings(ticks)))
amounts = st.sampled_from(["0", "0.0", "0.00000000", "1", "0.10", "0.1", "2.50000000"])
levels = st.builds(Level, prices, amounts)
rows = st.lists(levels, max_size=12)
long_rows = st.lists(levels, max_size=60)

Model = dict[Decimal, tuple[str, str]]


def apply_to(model: Model, changed: list[Level]) -> None:
    for row in changed:
        if Decimal(row.amount) == 0:
            model.pop(Decimal(row.price), None)
        else:
            model[Decimal(row.price)] = (row.price, row.amount)


class SideMachine(RuleBasedStateMachine):
    """Loads and changes of one side, of all that a venue may send: absent levels removed, a price twice, other spellings."""

    descending = False

    @initialize(keep=st.integers(1, 6))
    def begin(self, keep: int) -> None:
        self.keep = keep
        self.side = BookSide(descending=self.descending, keep=keep)
        self.model: Model = {}

    @rule(rows=long_rows)
    def load(self, rows: list[Level]) -> None:
        self.side.load(rows)
        self.model = {}
        apply_to(self.model, [row for row in rows if Decimal(row.amount) != 0])

    @rule(rows=rows)
    def change(self, rows: list[Level]) -> None:
        self.side.apply(rows)
        apply_to(self.model, rows)

    @precondition(lambda self: self.model)
    @rule(count=st.integers(1, 20))
    def take_the_best(self, count: int) -> None:
        gone = [Level(price, "0") for price, _ in self.best()[:count]]
        self.side.apply(gone)
        apply_to(self.model, gone)

    @rule(depth=st.integers(1, 6))
    def truncate(self, depth: int) -> None:
        depth = min(depth, self.keep)
        beyond = self.side.truncate(depth)
        assert [(row.price, row.amount) for row in beyond] == self.best()[depth:]
        self.model = {Decimal(price): (price, amount) for price, amount in self.best()[:depth]}

    def best(self) -> list[tuple[str, str]]:
        return [self.model[price] for price in sorted(self.model, reverse=self.descending)]

    @invariant()
    def it_holds_the_levels_of_the_model(self) -> None:
        assert pairs(self.side.all_rows()) == self.best()

    @invariant()
    def it_shows_the_best_levels_best_first(self) -> None:
        for depth in range(1, self.keep + 1):
            assert pairs(self.side.best_rows(depth)) == self.best()[:depth]

    @invariant()
    def the_top_is_the_best_prices_in_order_and_long_enough(self) -> None:
        assert self.side.top == sorted(self.side.levels)[: len(self.side.top)]
        assert len(self.side.top) >= min(self.keep, len(self.side.levels))

    @invariant()
    def the_top_stays_short(self) -> None:
        assert len(self.side.top) <= 4 * self.keep + 12


class BidsMachine(SideMachine):
    descending = True


TestAsksAgainstDecimals = SideMachine.TestCase
TestBidsAgainstDecimals = BidsMachine.TestCase


def side_of(*levels: tuple[str, str], descending: bool = False, keep: int = 4) -> BookSide:
    side = BookSide(descending=descending, keep=keep)
    side.load([Level(*level) for level in levels])
    return side


def test_a_side_emptied_beyond_what_it_kept_in_order_still_shows_all_that_is_left() -> None:
    side = side_of(*((str(price), "1") for price in range(1, 12)), keep=5)
    side.apply([Level(str(price), "0") for price in range(1, 8)])
    assert pairs(side.best_rows(5)) == [(str(price), "1") for price in range(8, 12)]


def test_levels_beyond_the_edge_of_a_limited_snapshot_are_not_shown() -> None:
    side = side_of(("1", "1"), ("2", "1"), ("3", "1"))
    side.edge = 2.0
    side.apply([Level("9", "1")])
    assert pairs(side.best_rows(4)) == [("1", "1"), ("2", "1")]
    assert pairs(side.all_rows()) == [("1", "1"), ("2", "1")]


@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize(
    "price", ["", "x", "1,2", "null", "true", "[1]", '"1"', "-1", "--1", "1e5", " 1", "1.2.3", "٣", "NaN", "1]"]
)
def test_a_price_that_is_no_plain_number_is_refused_and_nothing_of_its_rows_applied(*, price: str, descending: bool) -> None:
    side = side_of(("5", "1"), descending=descending)
    with pytest.raises(FrameError):
        side.apply([Level("4", "1"), Level(price, "1")])
    assert pairs(side.all_rows()) == [("5", "1")]
    with pytest.raises(FrameError):
        side.load([Level(price, "1")])


@pytest.mark.parametrize("amount", ["", "x", "-1", "1e5", "1,2", "٣", "null", " 1"])
def test_an_amount_that_is_no_plain_number_is_not_shown(amount: str) -> None:
    with pytest.raises(NumberError):
        pairs([Level("1", amount)])


def test_an_amount_of_nothing_is_told_as_exactly_zero() -> None:
    assert pairs([Level("1", "0.00000000"), Level("2", "0.10")]) == [("1", "0"), ("2", "0.10")]


# A book, sequences and checksums -----------------------------------------------------------------------------------------

RANGE = BookRule(chain="range", source="rest")
PREVIOUS = BookRule(chain="previous", source="socket")


def checksum(book: OrderBook) -> int:
    return crc32(repr(book.view()).encode())


CHECKED = BookRule(chain=None, source="socket", checksum=checksum, truncates=True)


def change(
    first: int | None = None,
    last: int | None = None,
    previous: int | None = None,
    *,
    bids: list[tuple[str, str]] | None = None,
    asks: list[tuple[str, str]] | None = None,
    check: int | None = None,
) -> Change:
    return Change([Level(*row) for row in bids or []], [Level(*row) for row in asks or []], first, last, previous, None, check)


def snapshot(
    sequence: int | None = 10,
    bids: tuple[tuple[str, str], ...] = (("99", "1"), ("98", "1")),
    asks: tuple[tuple[str, str], ...] = (("101", "1"), ("102", "1")),
    check: int | None = None,
) -> Snapshot:
    return Snapshot([Level(*row) for row in bids], [Level(*row) for row in asks], sequence, None, check)


def book_of(rule: BookRule, taken: Snapshot | None = None, depth: int = 10) -> OrderBook:
    book = OrderBook(rule, depth, depth)
    book.load(taken or snapshot())
    return book


class TestRange:
    """`chain="range"`: a change covers first..last and must begin at or before the next update."""

    def test_the_next_change_is_applied(self) -> None:
        book = book_of(RANGE)
        assert book.follow(change(11, 13, bids=[("99.5", "2")])) is not None
        assert book.sequence == 13
        assert book.view()[0][0] == ("99.5", "2")

    def test_a_change_that_straddles_the_snapshot_is_applied(self) -> None:
        book = book_of(RANGE)
        assert book.follow(change(8, 12, bids=[("99", "7")])) is not None
        assert book.view()[0][0] == ("99", "7")

    def test_an_old_change_is_passed_over(self) -> None:
        book = book_of(RANGE)
        assert book.follow(change(8, 10, bids=[("99", "7")])) is None
        assert book.view()[0][0] == ("99", "1")

    def test_a_hole_is_an_error_that_names_what_is_missing(self) -> None:
        with pytest.raises(BookError) as caught:
            book_of(RANGE).follow(change(13, 14))
        assert (caught.value.reason, caught.value.first_missing, caught.value.last_missing) == ("sequence", "11", "12")

    def test_of_a_straddling_change_only_rows_newer_than_the_snapshot_count_where_rows_have_sequences(self) -> None:
        taken = {"99": 9, "98": 12}
        rule = BookRule("range", "rest", newer=lambda rows, sequence: [row for row in rows if taken[row.price] > sequence])
        book = book_of(rule)
        book.follow(change(9, 12, bids=[("99", "7"), ("98", "8")]))
        assert book.view()[0] == [("99", "1"), ("98", "8")]
        book.follow(change(13, 13, bids=[("99", "9")]))
        assert book.view()[0][0] == ("99", "9"), "past the alignment every row counts"


class TestPrevious:
    """`chain="previous"`: a change names the one before."""

    def test_the_next_change_is_applied(self) -> None:
        book = book_of(PREVIOUS)
        book.follow(change(last=15, previous=10, asks=[("101", "0")]))
        assert (book.sequence, book.view()[1]) == (15, [("102", "1")])

    def test_numbers_may_begin_anew_where_the_link_holds(self) -> None:
        book = book_of(PREVIOUS)
        book.follow(change(last=3, previous=10))
        book.follow(change(last=4, previous=3))
        assert book.sequence == 4

    def test_a_repeat_is_passed_over(self) -> None:
        book = book_of(PREVIOUS)
        again = change(last=15, previous=10, bids=[("99", "5")])
        assert book.follow(again) is not None
        assert book.follow(again) is None

    def test_a_change_without_news_keeps_the_link(self) -> None:
        book = book_of(PREVIOUS)
        assert book.follow(change(last=10, previous=10)) is not None
        assert book.sequence == 10

    def test_a_broken_link_is_an_error_that_names_both_ends(self) -> None:
        with pytest.raises(BookError) as caught:
            book_of(PREVIOUS).follow(change(last=20, previous=15))
        assert (caught.value.reason, caught.value.first_missing, caught.value.last_missing) == ("sequence", "10", "15")


class TestChecks:
    def test_a_checksum_that_fits_is_silent(self) -> None:
        book = book_of(CHECKED)
        copy = book_of(CHECKED)
        copy.follow(change(bids=[("99", "3")]))
        assert book.follow(change(bids=[("99", "3")], check=checksum(copy))) is not None

    def test_a_checksum_that_does_not_fit_is_an_error(self) -> None:
        with pytest.raises(BookError, match="checksum"):
            book_of(CHECKED).follow(change(bids=[("99", "3")], check=1))

    def test_a_snapshot_is_checked_as_well(self) -> None:
        with pytest.raises(BookError, match="checksum"):
            book_of(CHECKED, snapshot(None, check=1))

    @pytest.mark.parametrize("bid", ["101", "101.5", "1000"])
    def test_a_cross_is_an_error(self, bid: str) -> None:
        with pytest.raises(BookError, match="crossed"):
            book_of(RANGE).follow(change(11, 11, bids=[(bid, "1")]))

    def test_a_cross_in_the_middle_of_a_change_is_none(self) -> None:
        book = book_of(RANGE)
        book.follow(change(11, 12, bids=[("101", "1")], asks=[("101", "0")]))
        assert (book.view()[0][0], book.view()[1][0]) == (("101", "1"), ("102", "1"))

    def test_a_cross_is_lawful_where_the_venue_says_so(self) -> None:
        book = book_of(BookRule("range", "rest", crossed_is_error=False))
        assert book.follow(change(11, 11, bids=[("103", "1")])) is not None

    def test_an_empty_side_is_no_cross(self) -> None:
        book = book_of(RANGE)
        book.follow(change(11, 12, asks=[("101", "0"), ("102", "0")]))
        assert book.view() == ([("99", "1"), ("98", "1")], [])


class TestWindow:
    """Venues that show a fixed depth leave out the removal of what falls out of it."""

    def test_what_falls_out_is_dropped_and_told_as_a_removal(self) -> None:
        book = book_of(CHECKED, depth=2)
        applied = book.follow(change(bids=[("99.5", "1")]))
        assert applied is not None
        assert pairs(applied.bids) == [("99.5", "1"), ("98", "0")]
        book.follow(change(bids=[("99.5", "0")]))
        assert book.view()[0] == [("99", "1")], "98 is gone for good: the venue will tell what takes its place"

    def test_more_than_a_whole_window_may_come_at_once(self) -> None:
        book = book_of(CHECKED, depth=2)
        book.follow(change(bids=[(f"99.{n:02}", "1") for n in range(1, 30)]))
        assert book.view()[0] == [("99.29", "1"), ("99.28", "1")]
        assert len(book.bids.levels) == 2

    @given(st.lists(st.tuples(rows, rows), max_size=20), st.integers(1, 5))
    def test_readers_of_the_applied_changes_hold_the_same_window(
        self, moves: list[tuple[list[Level], list[Level]]], depth: int
    ) -> None:
        book = OrderBook(BookRule(None, "socket", truncates=True, crossed_is_error=False), depth, depth)
        reader: tuple[Model, Model] = ({}, {})
        for bids, asks in moves:
            applied = book.follow(Change(bids, asks))
            assert applied is not None
            for model, told in zip(reader, (applied.bids, applied.asks), strict=True):
                apply_to(model, [Level(*pair) for pair in pairs(told)])
        whole = book.whole()
        assert [reader[0][price] for price in sorted(reader[0], reverse=True)] == whole[0]
        assert [reader[1][price] for price in sorted(reader[1])] == whole[1]
        assert len(whole[0]) <= depth


class TestLimited:
    """A snapshot with fewer levels than the market: beyond its last price the book is unknown."""

    RULE = BookRule("range", "rest", limited=True)

    def book(self, depth: int = 2, shown: int = 2) -> OrderBook:
        book = OrderBook(self.RULE, depth, shown)
        book.load(snapshot())
        return book

    def test_only_levels_inside_the_window_are_shown(self) -> None:
        book = self.book()
        book.follow(change(11, 11, bids=[("97", "5")], asks=[("103", "5"), ("101", "0")]))
        assert book.view() == ([("99", "1"), ("98", "1")], [("102", "1")])
        assert book.whole() == book.view()

    def test_a_view_that_lacks_levels_is_shallow(self) -> None:
        book = self.book()
        assert not book.is_shallow()
        book.follow(change(11, 11, asks=[("103", "5"), ("101", "0")]))
        assert book.is_shallow()

    def test_a_snapshot_below_its_limit_is_the_whole_market(self) -> None:
        book = self.book(depth=3, shown=3)
        book.follow(change(11, 11, bids=[("97", "5")]))
        assert book.view()[0] == [("99", "1"), ("98", "1"), ("97", "5")]
        assert not book.is_shallow()


# The synchroniser --------------------------------------------------------------------------------------------------------


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
            end(sync, STABLE_AFTER)
            sync.asked(STABLE_AFTER)
            assert sync.due < STABLE_AFTER + ANSWER_WITHIN + 2.0, "a stable book forgets the attempts before"

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

    def _change(self, move: Move) -> Change:
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
        changes = [self._change(self.market.move())]
        if fault == "drop":
            changes = []
        elif fault == "repeat":
            changes *= self.random.choice((2, 3))
        elif fault == "swap":
            changes.insert(0, self._change(self.market.move()))
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
        except (BookError, FrameError):
            self.sync.fail(self.now, change)
        self.check()

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
        if self.sync.state is BookState.SYNCED and self.sync.book.is_shallow():
            self.sync.refresh(self.now)
        if self.now >= self.sync.due:
            self._ask()
        self.check()

    def check(self) -> None:
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
    honest = line._change
    line._change = lambda move: mutate(honest(move))  # type: ignore[method-assign]
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
