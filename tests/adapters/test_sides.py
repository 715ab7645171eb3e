"""One side of a book, whole or a window, against a plain dict of Decimals."""

from collections.abc import Callable
from decimal import Decimal

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from adapters.book import pairs
from adapters.errors import FrameError
from adapters.sides import MOST_WAITING, BookSide, Level, Side, Window, differing
from tests.adapters.levels import Model, apply_to, long_rows, rows


class SideMachine(RuleBasedStateMachine):
    """A side beside the model of what it holds; `size`: how many levels it keeps in order at the least."""

    descending = False
    side: Side
    size: int
    model: Model

    def best(self) -> list[tuple[str, str]]:
        return [self.model[price] for price in sorted(self.model, reverse=self.descending)]

    @invariant()
    def it_holds_the_levels_of_the_model(self) -> None:
        assert pairs(self.side.all_rows()) == self.best()

    @invariant()
    def it_shows_the_best_levels_best_first(self) -> None:
        for depth in range(1, self.size + 1):
            assert pairs(self.side.best_rows(depth)) == self.best()[:depth]

    @invariant()
    def what_a_checksum_takes_is_not_bounded_by_what_a_view_needs(self) -> None:
        for count in (1, self.size, 5 * self.size + 24):
            assert pairs(self.side.leading(count)) == self.best()[:count]

    @invariant()
    def the_top_is_the_best_prices_in_order_and_long_enough(self) -> None:
        assert self.side.top == sorted(self.side.levels)[: len(self.side.top)]
        assert self.side.best == [self.side.levels[price] for price in self.side.top]
        assert len(self.side.top) >= min(self.size, len(self.side.levels))

    @invariant()
    def the_top_stays_short(self) -> None:
        assert len(self.side.top) <= 4 * self.size + 24


class WholeMachine(SideMachine):
    """Loads and changes of one side, of all that a venue may send: absent levels removed, a price twice, other spellings."""

    side: BookSide

    @initialize(keep=st.integers(1, 6))
    def begin(self, keep: int) -> None:
        self.side, self.size, self.model = BookSide(descending=self.descending, keep=keep), keep, {}

    @rule(rows=long_rows)
    def load(self, rows: list[Level]) -> None:
        self.side.load(rows)
        self.model = {}
        apply_to(self.model, [row for row in rows if Decimal(row.amount) != 0])

    @rule(rows=rows, more=rows)
    def change(self, rows: list[Level], more: list[Level]) -> None:
        for each in (rows, more):
            assert self.side.take(each) == ()
            apply_to(self.model, each)
        self.side.settle()

    @precondition(lambda self: self.model)
    @rule(count=st.integers(1, 20))
    def take_the_best(self, count: int) -> None:
        self.change([Level(price, "0") for price, _ in self.best()[:count]], [])


class WindowMachine(SideMachine):
    """The same of a window: what falls out at the end of a change is told, and gone for good."""

    side: Window

    @initialize(depth=st.integers(1, 6))
    def begin(self, depth: int) -> None:
        self.side, self.size, self.model = Window(descending=self.descending, depth=depth), depth, {}

    @rule(rows=long_rows)
    def load(self, rows: list[Level]) -> None:
        self.side.load(rows)
        self.model = {}
        self.take_into_the_model(rows)

    @rule(rows=rows)
    def change(self, rows: list[Level]) -> None:
        fallen = self.side.take(rows)
        assert pairs(fallen) == self.take_into_the_model(rows)

    def take_into_the_model(self, rows: list[Level]) -> list[tuple[str, str]]:
        """Returns what does not fit."""
        apply_to(self.model, rows)
        inside, outside = self.best()[: self.size], self.best()[self.size :]
        self.model = {Decimal(price): (price, amount) for price, amount in inside}
        return outside

    @invariant()
    def its_top_is_all_of_it(self) -> None:
        assert self.side.top == sorted(self.side.levels)


class WholeBidsMachine(WholeMachine):
    descending = True


class BidWindowMachine(WindowMachine):
    descending = True


TestAsksAgainstDecimals = WholeMachine.TestCase
TestBidsAgainstDecimals = WholeBidsMachine.TestCase
TestAsksInAWindow = WindowMachine.TestCase
TestBidsInAWindow = BidWindowMachine.TestCase


def whole(*, descending: bool = False, keep: int = 4) -> BookSide:
    return BookSide(descending=descending, keep=keep)


def window(*, descending: bool = False) -> Window:
    return Window(descending=descending, depth=4)


def holding(side: Side, *levels: tuple[str, str]) -> Side:
    side.load([Level(*level) for level in levels])
    return side


KINDS = pytest.mark.parametrize("kind", [whole, window])


@KINDS
@pytest.mark.parametrize(
    "change",
    [lambda side: side.take([Level("1", "5")]), lambda side: side.load([Level("1", "5")]), lambda side: side.load([])],
    ids=["take", "load", "load nothing"],
)
def test_what_a_checksum_kept_of_a_side_does_not_outlive_a_change(
    kind: Callable[..., Side], change: Callable[[Side], object]
) -> None:
    side = holding(kind(), ("1", "1"), ("2", "1"))
    side.token = "1121"
    change(side)
    side.settle()
    assert side.token is None


@KINDS
@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize(
    "price",
    [
        "",
        "x",
        "1,2",
        "null",
        "true",
        "[1]",
        '"1"',
        "-1",
        "--1",
        "+1",
        "1e5",
        "1_0",
        " 1",
        "1.2.3",
        "٣",
        "NaN",
        "inf",
        "1]",
        ".",
    ],
)
@pytest.mark.parametrize("others", [0, 1, 2])
def test_a_price_that_is_no_plain_number_is_refused(
    *, kind: Callable[..., Side], price: str, descending: bool, others: int
) -> None:
    side = holding(kind(descending=descending), ("5", "1"))
    rows = [Level("4", "1")] * others + [Level(price, "1")]

    def take() -> None:
        side.take(rows)
        side.settle()

    for way in (take, lambda: side.load(rows)):
        with pytest.raises(FrameError):
            way()


@KINDS
def test_what_makes_one_state_out_of_another(kind: Callable[..., Side]) -> None:
    before = holding(kind(), ("1", "1"), ("2", "1"), ("3", "1"))
    now = holding(kind(), ("2", "1"), ("3", "5"), ("4", "1"))
    assert pairs(differing(now, before)) == [("1", "0"), ("3", "5"), ("4", "1")]


def test_of_rows_that_cannot_be_read_none_is_applied() -> None:
    side = whole()
    holding(side, ("5", "1"))
    side.take([Level("4", "1"), Level("x", "1")])
    for _ in range(2):  # they wait still
        with pytest.raises(FrameError):
            side.settle()
        assert pairs(side.all_rows()) == [("5", "1")]


def test_a_side_emptied_beyond_what_it_kept_in_order_still_shows_all_that_is_left() -> None:
    side = holding(whole(keep=5), *((str(price), "1") for price in range(1, 12)))
    side.take([Level(str(price), "0") for price in range(1, 8)])
    side.settle()
    assert pairs(side.best_rows(5)) == [(str(price), "1") for price in range(8, 12)]


def test_levels_beyond_the_edge_of_a_limited_snapshot_are_not_shown() -> None:
    side = holding(whole(), ("1", "1"), ("2", "1"), ("3", "1"))
    side.edge = 2.0
    side.take([Level("9", "1")])
    side.settle()
    assert pairs(side.best_rows(4)) == [("1", "1"), ("2", "1")]
    assert pairs(side.all_rows()) == [("1", "1"), ("2", "1")]


def test_what_waits_to_be_read_is_bounded() -> None:
    side = holding(whole(), ("5", "1"))
    for number in range(3 * MOST_WAITING):
        side.take([Level(str(6 + number), "1")])
    assert len(side.levels) > 2 * MOST_WAITING
