"""What several lines tell together: each trade once and in order, holes only where nobody heard, a book that goes on."""

from hypothesis import given
from hypothesis import strategies as st

from adapters.backfill import LastTrade
from adapters.events import Book, BookDelta, Gap, Levels, Trade
from adapters.subscriptions import Subscription
from collector.told import (
    FOREVER,
    MAX_HELD,
    ORDERED_WITHIN,
    REMEMBERED_FOR,
    SPANS,
    NamedTrades,
    NumberedTrades,
    ShownBook,
    Witness,
    both,
    outside,
)
from tests.collector.making import AT, BTC, EXCHANGE, trade

TIMES = range(40)
spans = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)).map(lambda each: (min(each), max(each))), max_size=5)


def inside(found: list[tuple[int, int]]) -> set[int]:
    return {time for since, until in found for time in TIMES if since <= time < until}


def subscription() -> Subscription:
    return Subscription("trades", BTC, "BTC/USD")


def hole(first: int, last: int, reason: str = "sequence") -> Gap:
    return Gap(EXCHANGE, BTC, None, AT + last, "trades", reason, str(first), str(last), AT + first - 1, AT + last + 1)


class TestSpans:
    @given(spans, spans)
    def test_both(self, ours: list[tuple[int, int]], theirs: list[tuple[int, int]]) -> None:
        assert inside(both(ours, theirs)) == inside(ours) & inside(theirs)

    @given(spans, spans)
    def test_outside(self, ours: list[tuple[int, int]], theirs: list[tuple[int, int]]) -> None:
        assert inside(outside(ours, theirs)) == inside(ours) - inside(theirs)


class TestWitness:
    def test_it_vouches_for_nothing_before_it_was_there(self) -> None:
        assert Witness().holes == [(0, FOREVER)]

    def test_what_has_not_ended_is_no_proof(self) -> None:
        witness = Witness()
        witness.since = 5
        witness.missed(7, 8)
        witness.lost = 20
        assert witness.holes == [(0, 5), (7, 8), (20, FOREVER)]
        witness.missed(20, 30)
        assert witness.holes == [(0, 5), (7, 8), (20, 30)]

    def test_what_is_forgotten_is_not_vouched_for(self) -> None:
        witness = Witness()
        witness.since = 0
        for number in range(SPANS + 1):
            witness.missed(10 * number + 1, 10 * number + 2)
        assert witness.holes[0] == (0, 2)
        assert (11, 12) in witness.holes


class Play:
    """Two lines of one market, and what goes out; `able` are those that are connected."""

    def __init__(self) -> None:
        self.trades = NumberedTrades(subscription())
        self.out: list[int] = []
        self.gaps: list[tuple[int, int]] = []
        self.able = {"a", "b"}
        self.now = 0.0
        for line in self.able:
            self.trades.joined(line, None)

    def bring(self, line: str, number: int) -> None:
        if self.trades.trade(line, trade(number), self.now):
            self.out.append(number)
        self.settle()

    def settle(self) -> None:
        for each in self.trades.settled(self.able, self.now):
            if isinstance(each, Trade):
                self.out.append(int(each.id))
            else:
                self.gaps.append((each.first, each.last))


class TestNumberedTrades:
    def test_each_once(self) -> None:
        play = Play()
        for line, number in (("a", 1), ("b", 1), ("b", 2), ("b", 3), ("a", 2), ("a", 3), ("a", 4)):
            play.bring(line, number)
        assert (play.out, play.gaps) == ([1, 2, 3, 4], [])

    def test_what_one_misses_the_other_brings_in_order(self) -> None:
        play = Play()
        for line, number in (("b", 1), ("a", 1), ("a", 2), ("a", 5), ("a", 6), ("b", 2), ("b", 3), ("b", 4), ("b", 5)):
            play.bring(line, number)
        assert (play.out, play.gaps) == ([1, 2, 3, 4, 5, 6], [])

    def test_what_both_miss_is_told_once_and_before_what_follows(self) -> None:
        play = Play()
        for line, number in (("b", 1), ("a", 1), ("a", 4)):
            play.bring(line, number)
        assert (play.out, play.gaps) == ([1], [])
        play.bring("b", 4)
        assert (play.out, play.gaps) == ([1, 4], [(2, 3)])
        play.bring("a", 5)
        play.bring("b", 5)
        assert (play.out, play.gaps) == ([1, 4, 5], [(2, 3)])

    def test_a_line_that_is_lost_is_not_waited_for(self) -> None:
        play = Play()
        for line, number in (("b", 1), ("a", 1), ("a", 4)):
            play.bring(line, number)
        play.able.discard("b")
        play.settle()
        assert (play.out, play.gaps) == ([1, 4], [(2, 3)])

    def test_a_line_that_stands_still_is_waited_for_a_moment_and_may_still_bring_it(self) -> None:
        play = Play()
        for line, number in (("b", 1), ("a", 1), ("a", 4)):
            play.bring(line, number)
        play.now += ORDERED_WITHIN
        play.settle()
        assert (play.out, play.gaps) == ([1, 4], [])
        for number in (2, 3, 4):
            play.bring("b", number)
        assert (play.out, play.gaps) == ([1, 4, 2, 3], [])

    def test_a_part_that_comes_late_is_not_told(self) -> None:
        play = Play()
        for line, number in (("b", 1), ("a", 1), ("a", 6)):
            play.bring(line, number)
        play.now += ORDERED_WITHIN
        play.settle()
        play.bring("b", 3)
        play.bring("b", 6)
        assert (play.out, play.gaps) == ([1, 6, 3], [(2, 2), (4, 5)])

    def test_what_waits_has_a_bound(self) -> None:
        play = Play()
        play.bring("b", 1)
        for number in range(3, MAX_HELD + 4):
            play.bring("a", number)
        assert play.out[:2] == [1, 3]

    def test_a_hole_before_the_first_trade_is_told(self) -> None:
        play = Play()
        play.trades.gap(hole(1, 9, "collector restarted"))
        play.bring("a", 10)
        play.bring("b", 10)
        assert (play.out, play.gaps) == ([10], [(1, 9)])

    def test_a_line_that_lags_behind_begins_before_the_other(self) -> None:
        play = Play()
        for line, number in (("a", 5), ("b", 3), ("b", 4), ("b", 5)):
            play.bring(line, number)
        assert (play.out, play.gaps) == ([5, 3, 4], [])

    def test_what_fills_a_hole_goes_out_once(self) -> None:
        play = Play()
        play.able.discard("b")
        for number in (1, 4):
            play.bring("a", number)
        assert play.gaps == [(2, 3)]
        for number in (1, 2, 2, 3, 4):
            past = trade(number)
            past.source = "backfill"
            play.out += [number] * play.trades.trade("a", past, 0.0)
        assert play.out == [1, 4, 2, 3]

    def test_a_new_count_is_told_by_the_line_that_sees_it_first(self) -> None:
        play = Play()
        play.bring("a", 900)
        play.bring("b", 900)
        assert play.trades.renumbered("a") == []
        play.bring("a", 1)
        play.bring("b", 901)
        assert play.trades.renumbered("b") is None
        play.bring("b", 1)
        play.bring("b", 2)
        assert (play.out, play.gaps) == ([900, 1, 2], [])

    @given(st.data())
    def test_everything_goes_out_once_or_is_a_gap(self, data: st.DataObject) -> None:
        last = 30
        brings = {line: sorted(data.draw(st.sets(st.integers(1, last))) | {0, last + 1}) for line in "ab"}
        play, left = Play(), {line: list(brings[line]) for line in "ab"}
        for line in "ab":
            play.bring(line, left[line].pop(0))
        while any(left.values()):
            line = data.draw(st.sampled_from([each for each in "ab" if left[each]]))
            play.bring(line, left[line].pop(0))
        brought = set(brings["a"]) | set(brings["b"])
        assert play.out == sorted(brought)  # nobody stood still, so that all are in order
        told = [number for first, end in play.gaps for number in range(first, end + 1)]
        assert sorted(told) == sorted(set(range(last + 2)) - brought)


class TestNamedTrades:
    def test_each_once(self) -> None:
        trades = NamedTrades(subscription())
        assert [trades.is_new(trade(number)) for number in (5, 3, 5, 3, 4)] == [True, True, False, False, True]

    def test_what_the_only_line_told_before_is_known(self) -> None:
        before = subscription()
        before.is_new("5")
        assert not NamedTrades(before).is_new(trade(5))

    def test_ids_are_forgotten_only_when_no_line_can_bring_them_any_more(self) -> None:
        trades = NamedTrades(subscription())
        for number in range(1000):
            assert trades.is_new(trade(number))
        assert not trades.is_new(trade(0))
        late = trade(1000)
        late.received += REMEMBERED_FOR
        assert trades.is_new(late)
        assert trades.is_new(trade(0))

    def test_the_trades_around_a_hole(self) -> None:
        trades = NamedTrades(subscription())
        for number in (10, 20, 50, 60):
            trades.is_new(trade(number))
        assert trades.around(AT + 20, AT + 50) == (LastTrade("20", AT + 13, AT + 20), ("50", AT + 43))
        assert trades.around(AT + 60, AT + 70) == (LastTrade("60", AT + 53, AT + 60), None)


def book(bids: Levels, sequence: int | None) -> Book:
    return Book(EXCHANGE, BTC, AT, AT, bids, [], sequence)


class TestShownBook:
    def test_readers_are_led_from_one_book_to_the_other(self) -> None:
        shown = ShownBook()
        shown.follow(book([("9", "1"), ("8", "1")], None))
        shown.follow(BookDelta(EXCHANGE, BTC, AT, AT, [("9", "0"), ("7", "2")], [], None, None))
        change = shown.turned_into(book([("8", "3"), ("6", "1")], None))
        assert isinstance(change, BookDelta)
        assert sorted(change.bids) == [("6", "1"), ("7", "0"), ("8", "3")]

    def test_the_numbers_are_a_chain(self) -> None:
        shown = ShownBook()
        shown.follow(book([("9", "1")], 5))
        shown.follow(BookDelta(EXCHANGE, BTC, AT, AT, [("9", "2")], [], 6, 5))
        change = shown.turned_into(book([("9", "2")], 4))
        assert isinstance(change, BookDelta)
        assert (change.previous, change.sequence) == (6, 4)

    def test_after_a_gap_they_begin_anew(self) -> None:
        shown = ShownBook()
        shown.follow(book([("9", "1")], 5))
        shown.end()
        whole = book([("8", "1")], 7)
        assert shown.turned_into(whole) is whole

    def test_a_view_is_no_whole_book(self) -> None:
        shown = ShownBook()
        shown.follow(book([("9", "1"), ("8", "1")], 5))
        shown.follow(book([("9", "1")], 5))
        change = shown.turned_into(book([("7", "1")], 6))
        assert sorted(change.bids) == [("7", "1"), ("8", "0"), ("9", "0")]
