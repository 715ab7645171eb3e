"""The rows that tools for tardis.dev's files read: who replays them by its rules has our book after each of our events."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.events import Book, BookDelta, Gap, Levels
from master.history.tardis import DAY, Row, changes, level_rows, quote_rows
from tests.master.making import NOON

ABOUT = ("kraken", "BTC/USD")
Told = Book | BookDelta | Gap
Sides = tuple[dict[float, str], dict[float, str]]


def book(at: int, bids: Levels, asks: Levels, sequence: int | None = None) -> Book:
    return Book(*ABOUT, at - 5, at, bids, asks, sequence)


def change(at: int, bids: Levels, asks: Levels, sequence: int | None = None, previous: int | None = None) -> BookDelta:
    return BookDelta(*ABOUT, None, at, bids, asks, sequence, previous)


def gap(at: int, since: int | None = None) -> Gap:
    return Gap(*ABOUT, None, at, "orderbooks", "checksum", since=since)


def levels_of(events: Iterable[Told], start: int = 0) -> list[Row]:
    return list(level_rows(ABOUT, changes(events, start)))


def replayed(rows: Sequence[Row]) -> Sides:
    """By the published rules: nothing before the first snapshot counts, one that follows a change begins anew, 0 removes."""
    sides: Sides = ({}, {})
    was_snapshot, has_begun = False, False
    for *_, is_snapshot, side, price, amount in rows:
        has_begun = has_begun or is_snapshot == "true"
        if is_snapshot == "true" and not was_snapshot:
            sides = ({}, {})
        was_snapshot = is_snapshot == "true"
        of_side = sides[side == "ask"]
        if float(str(amount)) == 0:
            of_side.pop(float(str(price)), None)
        elif has_begun:
            of_side[float(str(price))] = str(amount)
    return sides


class TestViews:
    def test_a_view_is_told_by_what_is_different(self) -> None:
        first = book(NOON, [("100.0", "1.50"), ("99", "2")], [("101", "3")])
        second = book(NOON + 1, [("100.5", "4"), ("100.0", "1.50")], [("101", "2.5")])
        assert levels_of([first, second]) == [
            (*ABOUT, NOON - 5, NOON, "true", "bid", "100.0", "1.50"),
            (*ABOUT, NOON - 5, NOON, "true", "bid", "99", "2"),
            (*ABOUT, NOON - 5, NOON, "true", "ask", "101", "3"),
            (*ABOUT, NOON - 4, NOON + 1, "false", "bid", "100.5", "4"),
            (*ABOUT, NOON - 4, NOON + 1, "false", "bid", "99", "0"),
            (*ABOUT, NOON - 4, NOON + 1, "false", "ask", "101", "2.5"),
        ]

    def test_a_view_of_the_same_book_is_no_row(self) -> None:
        assert len(levels_of([book(NOON, [("1", "1")], []), book(NOON + 1, [("1", "1")], [])])) == 1


class TestChanges:
    def test_a_venue_time_that_is_missing_is_ours(self) -> None:
        rows = levels_of([book(NOON, [("1", "1")], []), change(NOON + 7, [("1", "2")], [])])
        assert rows[-1] == (*ABOUT, NOON + 7, NOON + 7, "false", "bid", "1", "2")

    def test_views_in_between_are_not_told(self) -> None:
        base: Told = book(NOON, [("3", "1"), ("2", "1"), ("1", "1")], [], 10)
        told = levels_of([base, change(NOON + 1, [("3", "0")], [], 11, 10), book(NOON + 2, [("2", "1")], [], 11)])
        assert len(told) == 4

    def test_views_without_numbers_are_not_told_either_while_they_agree(self) -> None:
        base: Told = book(NOON, [("3", "1"), ("2", "1"), ("1", "1")], [("4", "1")])
        events: list[Told] = [base, change(NOON + 1, [("3", "0")], []), book(NOON + 2, [("2", "1")], [("4", "1")])]
        assert len(levels_of(events)) == 5
        anew = book(NOON + 3, [("2", "9")], [("4", "1")])
        assert replayed(levels_of([*events, anew])) == ({2.0: "9"}, {4.0: "1"})

    def test_a_book_of_another_number_begins_anew(self) -> None:
        events: list[Told] = [book(NOON, [("3", "1"), ("2", "1")], [], 10), change(NOON + 1, [("3", "0")], [], 11, 10)]
        assert replayed(levels_of([*events, book(NOON + 2, [("9", "1")], [], 20)])) == ({9.0: "1"}, {})

    def test_a_view_that_was_held_back_does_not_undo_newer_changes(self) -> None:
        events: list[Told] = [book(NOON, [("3", "1"), ("2", "1")], [], 10), change(NOON + 1, [("3", "0")], [], 12, 10)]
        assert replayed(levels_of([*events, book(NOON + 2, [("3", "1")], [], 11)])) == ({2.0: "1"}, {})


class TestAbsence:
    def test_a_book_in_doubt_is_taken_away_when_it_was_last_right_and_comes_back_whole(self) -> None:
        events: list[Told] = [
            book(NOON, [("1", "1")], [("2", "1")]),
            gap(NOON + 100, NOON + 10),
            book(NOON + 100, [("1", "1")], []),
        ]
        assert [row[3:] for row in levels_of(events)[2:]] == [
            (NOON + 10, "false", "bid", "1", "0"),
            (NOON + 10, "false", "ask", "2", "0"),
            (NOON + 100, "false", "bid", "1", "1"),
        ]

    def test_changes_of_a_book_that_is_absent_are_not_told(self) -> None:
        events: list[Told] = [
            change(NOON, [("1", "1")], []),
            book(NOON + 1, [("2", "1")], []),
            gap(NOON + 2),
            change(NOON + 3, [("1", "1")], []),
        ]
        assert replayed(levels_of(events)) == ({}, {})

    def test_a_change_that_does_not_follow_takes_the_book_away(self) -> None:
        events: list[Told] = [book(NOON, [("1", "1")], [], 10), change(NOON + 1, [("2", "1")], [], 13, 12)]
        assert replayed(levels_of(events)) == ({}, {})

    def test_a_gap_of_an_unknown_beginning_counts_when_it_was_told(self) -> None:
        assert levels_of([book(NOON, [("1", "1")], []), gap(NOON + 9)])[-1][3] == NOON + 9


class TestFiles:
    MIDNIGHT = NOON // DAY * DAY + DAY

    def test_a_day_begins_with_the_whole_book(self) -> None:
        events: list[Told] = [book(NOON, [("1", "1")], [("2", "2")]), change(self.MIDNIGHT + 50, [("1", "3")], [])]
        assert [row[2:] for row in levels_of(events)[2:]] == [
            (self.MIDNIGHT, self.MIDNIGHT, "true", "bid", "1", "1"),
            (self.MIDNIGHT, self.MIDNIGHT, "true", "ask", "2", "2"),
            (self.MIDNIGHT + 50, self.MIDNIGHT + 50, "false", "bid", "1", "3"),
        ]

    def test_what_is_before_the_beginning_is_known_and_not_told(self) -> None:
        events: list[Told] = [
            book(NOON, [("1", "1")], []),
            change(NOON + 10, [("2", "2")], []),
            change(NOON + 30, [("1", "0")], []),
        ]
        assert [row[3:] for row in levels_of(events, NOON + 20)] == [
            (NOON + 20, "true", "bid", "1", "1"),
            (NOON + 20, "true", "bid", "2", "2"),
            (NOON + 30, "false", "bid", "1", "0"),
        ]

    def test_a_book_that_was_lost_the_day_before_is_not_there_the_next(self) -> None:
        events: list[Told] = [
            book(NOON, [("1", "1")], []),
            gap(self.MIDNIGHT + 9, NOON + 1),
            book(self.MIDNIGHT + 9, [("2", "1")], []),
        ]
        assert [row[3:] for row in levels_of(events)[1:]] == [
            (NOON + 1, "false", "bid", "1", "0"),
            (self.MIDNIGHT + 9, "true", "bid", "2", "1"),
        ]

    def test_local_time_never_goes_back_so_that_sorting_keeps_the_order(self) -> None:
        events: list[Told] = [
            book(NOON, [("1", "1")], []),
            change(NOON + 9, [("1", "2")], []),
            change(NOON + 8, [("1", "3")], []),
        ]
        assert [row[3] for row in levels_of(events)] == [NOON, NOON + 9, NOON + 9]


class TestQuotes:
    def test_the_best_prices_whenever_they_change(self) -> None:
        events: list[Told] = [
            book(NOON, [("10", "1"), ("9", "2")], [("11", "3")]),
            change(NOON + 1, [("9", "5")], []),
            change(NOON + 2, [("10", "0")], []),
            change(NOON + 3, [], [("11", "0")]),
            gap(NOON + 4),
        ]
        assert [row[3:] for row in quote_rows(ABOUT, changes(events, 0))] == [
            (NOON, "3", "11", "10", "1"),
            (NOON + 2, "3", "11", "9", "5"),
            (NOON + 3, None, None, "9", "5"),
            (NOON + 4, None, None, None, None),
        ]


prices, amounts = st.sampled_from(["1", "2", "2.5", "3.00", "4", "5"]), st.sampled_from(["1", "0.50", "7"])
sides = st.dictionaries(prices, amounts, max_size=5)
removable = st.dictionaries(prices, st.one_of(amounts, st.just("0")), max_size=3)
stories = st.lists(st.one_of(st.tuples(sides, sides), st.tuples(removable, removable, st.none()), st.none()), max_size=25)


def best_first(side: dict[str, str], *, falling: bool) -> Levels:
    return sorted(side.items(), key=lambda level: float(level[0]), reverse=falling)


def is_sorted(times: Sequence[object]) -> bool:
    return all(int(str(one)) <= int(str(other)) for one, other in pairwise(times))


@pytest.mark.parametrize("is_numbered", [True, False])
class TestReplay:
    @given(story=stories, start=st.integers(0, 26), step=st.sampled_from([1, DAY // 5]))
    def test_a_reader_has_our_book_after_each_event(
        self, is_numbered: bool, story: list[tuple[dict[str, str], ...] | None], start: int, step: int
    ) -> None:
        """Books, changes after one, views of what they made, gaps: read from any moment on."""
        ours: Sides | None = None
        events: list[Told] = []
        number = 0
        for place, told in enumerate(story):
            at = NOON + place * step
            if told is None:
                ours = None
                events.append(gap(at))
            elif len(told) == 2:
                number += 10
                ours = ({float(price): amount for price, amount in told[0].items()}, {float(p): a for p, a in told[1].items()})
                sequence = number if is_numbered else None
                if not is_numbered:  # without a number only a gap can tell that a whole book is no view
                    events.append(gap(at))
                events.append(book(at, best_first(told[0], falling=True), best_first(told[1], falling=False), sequence))
            elif ours is not None:
                previous, number = number, number + 1
                for side, changed in zip(ours, told, strict=False):
                    for price, amount in (changed or {}).items():
                        side[float(price)] = amount
                        if amount == "0":
                            del side[float(price)]
                bids, asks = (list((changed or {}).items()) for changed in told[:2])
                numbers = (number, previous) if is_numbered else (None, None)
                events.append(change(at, bids, asks, *numbers))
            rows = levels_of(events, NOON + start * step)
            assert is_sorted([row[3] for row in rows])
            if place >= start:
                assert replayed(rows) == (ours or ({}, {}))
