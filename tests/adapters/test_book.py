"""A book is right or absent: sequences, checksums, crosses, windows and the edge of what is known."""

from collections.abc import Callable
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.book import BookRule, Change, OrderBook, Snapshot, pairs
from adapters.errors import BookError, FrameError, NumberError
from adapters.sides import Level
from tests.adapters.levels import Model, apply_to, rows


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
