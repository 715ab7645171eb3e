"""Books that follow their changes: right as far as they are shown, or absent."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from adapters.events import Book, BookDelta, Levels
from master.live.books import LiveBook
from tests.master.making import NOON

ABOUT = ("kraken", "BTC/USD", None)


def book(bids: Levels, asks: Levels, sequence: int | None = None, received: int = NOON) -> Book:
    return Book(*ABOUT, received, bids, asks, sequence)


def delta(
    bids: Levels, asks: Levels, sequence: int | None = None, previous: int | None = None, received: int = NOON
) -> BookDelta:
    return BookDelta(*ABOUT, received, bids, asks, sequence, previous)


BIDS: Levels = [("100.0", "1"), ("99.5", "2"), ("99.0", "3")]
ASKS: Levels = [("100.5", "4"), ("101.0", "5"), ("101.5", "6")]


class TestByHand:
    @pytest.fixture
    def live(self) -> LiveBook:
        live = LiveBook()
        live.whole(book(BIDS, ASKS, 10))
        return live

    def test_views_alone(self) -> None:
        live = LiveBook()
        assert (live.view(5), live.newest, live.is_recovering) == (([], []), None, False)
        live.whole(book(BIDS, ASKS))
        assert live.view(2) == (BIDS[:2], ASKS[:2])
        live.whole(book(BIDS[1:], ASKS))
        assert live.view(5) == (BIDS[1:], ASKS)
        assert live.levels == 5

    def test_changes(self, live: LiveBook) -> None:
        live.change(delta([("100.0", "0"), ("99.7", "7")], [("100.5", "9")], 12, 10))
        assert live.view(2) == ([("99.7", "7"), ("99.5", "2")], [("100.5", "9"), ("101.0", "5")])
        live.change(delta([("100.2", "1.50")], [], 13, 12, NOON + 1))
        assert live.view(1) == ([("100.2", "1.50")], [("100.5", "9")])
        assert live.newest is not None
        assert (live.newest.sequence, live.newest.received) == (13, NOON + 1)

    def test_one_that_does_not_follow_makes_it_absent(self, live: LiveBook) -> None:
        live.change(delta([("99.7", "7")], [], 12, 11))
        assert live.is_recovering
        assert live.newest is None
        live.change(delta([("99.7", "7")], [], 13, 12))
        assert live.view(5) == ([], [])
        live.whole(book(BIDS, ASKS, 13))
        live.change(delta([("99.7", "7")], [], 14, 13))
        assert not live.is_recovering
        assert live.view(2)[0] == [("100.0", "1"), ("99.7", "7")]

    def test_what_lies_beyond_the_book_it_began_with_is_not_shown(self, live: LiveBook) -> None:
        """There may be more of it that nobody told."""
        live.change(delta([("98.0", "7")], [("102.0", "8")]))
        assert live.view(9) == (BIDS, ASKS)

    def test_a_side_that_was_empty_is_known_to_its_end(self) -> None:
        live = LiveBook()
        live.whole(book([], ASKS))
        live.change(delta([("98.0", "7")], []))
        assert live.view(9) == ([("98.0", "7")], ASKS)

    def test_a_view_of_what_is_known_changes_nothing(self, live: LiveBook) -> None:
        live.change(delta([("100.0", "8")], [], 11, 10))
        live.whole(book([("100.0", "8"), ("99.5", "2")], ASKS[:2], 11))
        assert live.view(9) == ([("100.0", "8"), *BIDS[1:]], ASKS)

    @pytest.mark.parametrize(
        "bids",
        [[("100.0", "7")], [("99.5", "2")], [*BIDS, ("98.0", "9")], []],
        ids=["another amount", "one less", "one more", "none"],
    )
    def test_any_other_begins_it_anew(self, live: LiveBook, bids: Levels) -> None:
        """Where nothing is numbered, nothing else tells that the collector was another one meanwhile."""
        live.change(delta([], [("100.5", "8")]))
        live.whole(book(bids, [("100.5", "8")]))
        assert live.view(9) == (bids, [("100.5", "8")])

    def test_a_view_that_was_held_back_is_not_put_over_newer_changes(self, live: LiveBook) -> None:
        live.change(delta([("100.0", "8")], [], 11, 10, NOON + 5))
        live.whole(book(BIDS, ASKS, 10, NOON + 4))
        assert live.view(1)[0] == [("100.0", "8")]
        live.lose()
        live.whole(book(BIDS, ASKS, 10, NOON + 4))
        assert live.is_recovering

    def test_changes_without_a_book(self) -> None:
        """As after a restart of the master: what it is a change of is not known."""
        live = LiveBook()
        live.change(delta([("99.7", "7")], []))
        assert live.is_recovering
        assert live.view(9) == ([], [])

    @pytest.mark.parametrize("price", ["", "one", "nan", "-1", "1e999"])
    def test_a_price_that_is_none(self, price: str) -> None:
        with pytest.raises(ValueError, match=r"price|float"):
            LiveBook().whole(book([(price, "1")], []))


PRICES = st.integers(1, 12).map(lambda number: f"{number}.5")
CHANGES = st.lists(st.tuples(PRICES, st.sampled_from(["0", "0", "1", "2"])), max_size=4)


def best(side: dict[str, str], *, descending: bool) -> Levels:
    return sorted(side.items(), key=lambda level: float(level[0]), reverse=descending)


class Following(RuleBasedStateMachine):
    """A collector with a book of its own tells changes, views of it, and holes; and events are lost on the way. Whatever is
    shown is a beginning of what the collector has."""

    depth = 3
    is_numbered = True

    def __init__(self) -> None:
        super().__init__()
        self.sides: tuple[dict[str, str], dict[str, str]] = ({}, {})
        self.sequence = 1
        self.clock = NOON
        self.live = LiveBook()

    @property
    def _number(self) -> int | None:
        return self.sequence if self.is_numbered else None

    def _levels(self) -> tuple[Levels, Levels]:
        return best(self.sides[0], descending=True), best(self.sides[1], descending=False)

    def _change(self, bids: Levels, asks: Levels) -> BookDelta:
        previous, self.clock = self._number, self.clock + 1
        self.sequence += 1
        for side, changes in zip(self.sides, (bids, asks), strict=True):
            for price, amount in changes:
                if amount == "0":
                    side.pop(price, None)
                else:
                    side[price] = amount
        return delta(bids, asks, self._number, previous, self.clock)

    @rule(bids=CHANGES, asks=CHANGES)
    def changes(self, bids: Levels, asks: Levels) -> None:
        self.live.change(self._change(bids, asks))

    @rule()
    def shows(self) -> None:
        bids, asks = self._levels()
        self.live.whole(book(bids[: self.depth], asks[: self.depth], self._number, self.clock))
        shown = self.live.view(self.depth)
        assert shown == (bids[: self.depth], asks[: self.depth])
        assert not self.live.is_recovering

    @rule()
    def begins_anew(self) -> None:
        bids, asks = self._levels()
        self.live.whole(book(bids, asks, self._number, self.clock))
        assert self.live.view(self.depth) == (bids[: self.depth], asks[: self.depth])

    @rule(bids=CHANGES, asks=CHANGES)
    def tells_a_hole(self, bids: Levels, asks: Levels) -> None:
        self._change(bids, asks)
        self.live.lose()
        assert self.live.view(1) == ([], [])

    @precondition(lambda self: self.is_numbered)
    @rule(bids=CHANGES, asks=CHANGES)
    def loses_a_change_that_numbers_show(self, bids: Levels, asks: Levels) -> None:
        self._change(bids, asks)
        self.live.change(self._change([], []))
        assert self.live.newest is None

    @precondition(lambda self: self.live.newest is not None)
    @rule()
    def holds_a_view_back(self) -> None:
        view = book(*self._levels(), self._number, self.clock)
        self.live.change(self._change([("6.5", "3")], []))
        self.live.whole(view)

    @invariant()
    def is_right_or_absent(self) -> None:
        bids, asks = self.live.view(100)
        true_bids, true_asks = self._levels()
        assert bids == true_bids[: len(bids)]
        assert asks == true_asks[: len(asks)]


class Unnumbered(Following):
    is_numbered = False


TestFollowing = Following.TestCase
TestUnnumbered = Unnumbered.TestCase


@given(st.lists(st.tuples(CHANGES, CHANGES), min_size=1, max_size=20))
def test_with_every_level_to_begin_with_nothing_is_hidden(changes: list[tuple[Levels, Levels]]) -> None:
    """A book that reaches to the ends of the market is known to them, whatever changes."""
    ends: list[Levels] = [[("20.5", "1"), ("0.1", "1")], [("0.1", "1"), ("20.5", "1")]]
    sides = (dict(ends[0]), dict(ends[1]))
    live = LiveBook()
    live.whole(book(ends[0], ends[1]))
    for bids, asks in changes:
        live.change(delta(bids, asks))
        for side, told in zip(sides, (bids, asks), strict=True):
            side.update(told)
    expected = [{price: amount for price, amount in side.items() if amount != "0"} for side in sides]
    assert live.view(100) == (best(expected[0], descending=True), best(expected[1], descending=False))
