"""A book is right or absent: against a plain dict of Decimals, and against a true market behind a faulty line."""

from collections.abc import Callable
from decimal import Decimal
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from adapters.book import MOST_WAITING, BookRule, BookSide, Change, Level, OrderBook, Snapshot, pairs
from adapters.errors import BookError, FrameError, NumberError

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

    @rule(rows=rows, more=rows)
    def change(self, rows: list[Level], more: list[Level]) -> None:
        for each in (rows, more):
            self.side.keep(each)
            apply_to(self.model, each)
        self.side.settle()

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
    def what_a_checksum_takes_is_not_bounded_by_what_a_view_needs(self) -> None:
        for count in (1, self.keep, 5 * self.keep + 24):
            assert pairs(self.side.leading(count)) == self.best()[:count]

    @invariant()
    def the_top_is_the_best_prices_in_order_and_long_enough(self) -> None:
        assert self.side.top == sorted(self.side.levels)[: len(self.side.top)]
        assert self.side.best == [self.side.levels[price] for price in self.side.top]
        assert len(self.side.top) >= min(self.keep, len(self.side.levels))

    @invariant()
    def the_top_stays_short(self) -> None:
        assert len(self.side.top) <= 4 * self.keep + 24


class BidsMachine(SideMachine):
    descending = True


TestAsksAgainstDecimals = SideMachine.TestCase
TestBidsAgainstDecimals = BidsMachine.TestCase


def side_of(*levels: tuple[str, str], descending: bool = False, keep: int = 4) -> BookSide:
    side = BookSide(descending=descending, keep=keep)
    side.load([Level(*level) for level in levels])
    return side


@pytest.mark.parametrize(
    "change",
    [lambda side: side.keep([Level("1", "5")]), lambda side: side.truncate(1), lambda side: side.load([Level("1", "5")])],
    ids=["keep", "truncate", "load"],
)
def test_what_a_checksum_kept_of_a_side_does_not_outlive_a_change(change: Callable[[BookSide], object]) -> None:
    side = side_of(("1", "1"), ("2", "1"))
    side.token = "1121"
    change(side)
    side.settle()
    assert side.token is None


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


def test_what_waits_to_be_read_is_bounded() -> None:
    side = side_of(("5", "1"))
    for number in range(3 * MOST_WAITING):
        side.keep([Level(str(6 + number), "1")])
    assert len(side.levels) > 2 * MOST_WAITING


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
    return crc32(repr([pairs(side.best_rows(book.shown)) for side in (book.bids, book.asks)]).encode())


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
        assert book.view()[0][0] == ("99", "3")

    def test_a_checksum_that_does_not_fit_is_an_error(self) -> None:
        with pytest.raises(BookError, match="checksum"):
            book_of(CHECKED).follow(change(bids=[("99", "3")], check=1))

    def test_a_checksum_is_of_all_that_was_said_before(self) -> None:
        book = book_of(BookRule(chain=None, source="socket", checksum=checksum))
        book.follow(change(bids=[("99", "3")]))
        book.follow(change(bids=[("98", "0")]))
        with pytest.raises(BookError, match="checksum"):
            book.follow(change(check=checksum(book_of(CHECKED))))

    @pytest.mark.parametrize("read", [OrderBook.view, OrderBook.whole, OrderBook.is_shallow, OrderBook.prove])
    def test_what_cannot_be_read_is_an_error_whoever_reads(self, read: Callable[[OrderBook], object]) -> None:
        book = book_of(RANGE)
        book.follow(change(11, 11, bids=[("x", "3")]))
        for _ in range(2):  # and stays one
            with pytest.raises(FrameError):
                read(book)

    def test_a_snapshot_is_checked_as_well(self) -> None:
        with pytest.raises(BookError, match="checksum"):
            book_of(CHECKED, snapshot(None, check=1))

    @pytest.mark.parametrize("bid", ["101", "101.5", "1000"])
    def test_a_cross_is_an_error(self, bid: str) -> None:
        book = book_of(RANGE)
        book.follow(change(11, 11, bids=[(bid, "1")]))
        with pytest.raises(BookError, match="crossed"):
            book.view()

    def test_a_cross_in_the_middle_of_a_change_is_none(self) -> None:
        book = book_of(RANGE)
        book.follow(change(11, 12, bids=[("101", "1")], asks=[("101", "0")]))
        assert (book.view()[0][0], book.view()[1][0]) == (("101", "1"), ("102", "1"))

    def test_a_cross_is_lawful_where_the_venue_says_so(self) -> None:
        book = book_of(BookRule("range", "rest", crossed="right"))
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
        book = OrderBook(BookRule(None, "socket", truncates=True, crossed="right"), depth, depth)
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
