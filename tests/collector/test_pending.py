"""When events cannot go out: views are conflated, trades dropped and told, books begin anew; and all of it is counted."""

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from adapters.events import Book, BookDelta, Candle, Event, Funding, Gap, Liquidation, OpenInterest, Ticker, Trade
from collector.pending import Pending, Pressure
from tests.collector.making import AT, BTC, ETH, EXCHANGE, book, delta, liquidation, ticker, trade

NONE, SOME, FULL = Pressure.NONE, Pressure.SOME, Pressure.FULL


def nobody(symbol: str) -> None:
    raise AssertionError(f"{symbol} need not be put again")


def put(pending: Pending, *events: Event) -> None:
    for event in events:
        pending.put(event, nobody)


class TestWithoutPressure:
    def test_everything_goes_out_in_order(self) -> None:
        pending = Pending()
        told: list[Event] = [trade(1), book(2), ticker(3), delta(4), ticker(5)]
        put(pending, *told)
        assert pending.take() == told
        assert pending.take() == []
        assert not pending.counts


class TestSomePressure:
    def test_of_views_only_the_latest_of_each_market_is_kept(self) -> None:
        pending = Pending()
        pending.set_pressure(SOME)
        put(pending, book(1), ticker(2), book(3), book(4, ETH), ticker(5), book(6))
        assert pending.take() == []
        pending.set_pressure(NONE)
        assert pending.take() == [book(6), ticker(5), book(4, ETH)]
        assert pending.counts == {"conflated books": 2, "conflated tickers": 1}

    def test_open_interest_is_a_view_too(self) -> None:
        pending = Pending()
        pending.set_pressure(SOME)
        put(pending, *(OpenInterest(EXCHANGE, BTC, None, AT, str(number)) for number in range(3)))
        pending.set_pressure(NONE)
        assert pending.take() == [OpenInterest(EXCHANGE, BTC, None, AT, "2")]
        assert pending.counts == {"conflated open interest": 2}

    def test_everything_else_goes_out(self) -> None:
        pending = Pending()
        pending.set_pressure(SOME)
        rest: list[Event] = [
            trade(1),
            delta(2),
            liquidation(3),
            Funding(EXCHANGE, BTC, None, AT, "0.1"),
            Candle(EXCHANGE, BTC, None, AT, "1m", AT, "1", "1", "1", "1", "1", None, closed=True),
            Gap(EXCHANGE, BTC, None, AT, "trades", "sequence"),
        ]
        put(pending, *rest)
        assert pending.take() == rest
        assert not pending.counts

    def test_a_book_goes_out_before_the_change_that_follows_it(self) -> None:
        pending = Pending()
        pending.set_pressure(SOME)
        put(pending, book(1), book(2, ETH), delta(3), book(4), delta(5))
        assert pending.take() == [book(1), delta(3), book(4), delta(5)]
        pending.set_pressure(NONE)
        assert pending.take() == [book(2, ETH)]

    @pytest.mark.parametrize("symbol", [BTC, None])
    def test_no_book_goes_out_behind_the_gap_that_it_was_before(self, symbol: str | None) -> None:
        pending = Pending()
        pending.set_pressure(SOME)
        gap = Gap(EXCHANGE, symbol, None, AT, "orderbooks", "sequence")
        put(pending, book(1), ticker(2), gap)
        pending.set_pressure(NONE)
        assert pending.take() == [gap, ticker(2)]
        assert pending.counts == {"conflated books": 1}


class TestFullPressure:
    def test_trades_are_told_as_one_gap_with_their_ids_and_times(self) -> None:
        pending = Pending()
        pending.set_pressure(FULL)
        put(pending, *(trade(number) for number in range(11, 15)))
        assert pending.take() == []
        pending.set_pressure(SOME)
        assert pending.take() == [
            Gap(EXCHANGE, BTC, None, AT + 14, "trades", "overflow: 4 trades dropped", "11", "14", AT + 11, AT + 14)
        ]
        assert pending.counts == {"dropped trades": 4}

    def test_a_gap_for_each_market_and_channel(self) -> None:
        pending = Pending()
        pending.set_pressure(FULL)
        put(pending, trade(1), trade(2, ETH), liquidation(3), trade(4), trade(5, BTC, "okx"))
        pending.set_pressure(NONE)
        assert [
            (gap.exchange, gap.symbol, gap.channel, gap.first_missing, gap.last_missing) for gap in gaps(pending.take())
        ] == [
            (EXCHANGE, BTC, "trades", "1", "4"),
            (EXCHANGE, ETH, "trades", "2", "2"),
            (EXCHANGE, BTC, "liquidations", "L3", "L3"),
            ("okx", BTC, "trades", "5", "5"),
        ]

    def test_the_next_pressure_has_its_own(self) -> None:
        pending = Pending()
        for number in (1, 2):
            pending.set_pressure(FULL)
            put(pending, trade(number))
            pending.set_pressure(NONE)
        assert [(gap.first_missing, gap.last_missing) for gap in gaps(pending.take())] == [("1", "1"), ("2", "2")]

    def test_a_gap_stands_before_what_follows_it(self) -> None:
        pending = Pending()
        put(pending, trade(1))
        pending.set_pressure(FULL)
        put(pending, trade(2))
        pending.set_pressure(NONE)
        put(pending, trade(3))
        assert [type(event) for event in pending.take()] == [Trade, Gap, Trade]

    def test_gaps_of_the_venue_are_never_dropped(self) -> None:
        pending = Pending()
        pending.set_pressure(FULL)
        gap = Gap(EXCHANGE, BTC, None, AT, "trades", "sequence", "1", "2")
        put(pending, gap)
        assert pending.take() == [gap]

    def test_views_go_on_being_conflated(self) -> None:
        pending = Pending()
        pending.set_pressure(FULL)
        put(pending, book(1), book(2))
        pending.set_pressure(NONE)
        assert pending.take() == [book(2)]

    def test_a_book_whose_changes_were_dropped_begins_anew_and_not_before_the_pressure_is_gone(self) -> None:
        pending = Pending()
        republished: list[str] = []
        pending.set_pressure(FULL)
        for event in (delta(1), delta(2)):
            pending.put(event, republished.append)
        pending.set_pressure(SOME)
        for event in (delta(3), delta(4, ETH)):
            pending.put(event, republished.append)
        assert gaps(pending.take()) == [
            Gap(EXCHANGE, BTC, None, AT + 2, "orderbooks", "overflow: 2 deltas dropped", "1", "2", AT + 1, AT + 2)
        ], "and the changes of ETH, which miss nothing, went out"
        assert republished == []
        pending.set_pressure(NONE)
        assert republished == [BTC]
        assert [(gap.first_missing, gap.last_missing) for gap in gaps(pending.take())] == [("3", "3")]
        pending.put(delta(5), nobody)
        assert pending.take() == [delta(5)]

    def test_what_is_put_again_follows_the_gap(self) -> None:
        pending = Pending()
        pending.set_pressure(FULL)
        pending.put(delta(1), lambda symbol: pending.put(book(9, symbol), nobody))
        pending.set_pressure(NONE)
        assert [type(event) for event in pending.take()] == [Gap, Book]

    def test_a_view_of_a_book_that_begins_anew_is_not_told_beside_it(self) -> None:
        pending = Pending()
        pending.set_pressure(FULL)
        for event in (delta(1), book(2), ticker(3)):
            pending.put(event, lambda symbol: pending.put(book(9, symbol), nobody))
        pending.set_pressure(NONE)
        told = pending.take()
        assert [event for event in told if isinstance(event, Book)] == [book(9)]
        assert ticker(3) in told, "only the book is replaced; the ticker is not"


def gaps(events: list[Event]) -> list[Gap]:
    return [event for event in events if isinstance(event, Gap)]


class Markets(RuleBasedStateMachine):
    """Whatever comes under whatever pressure: what went in went out, or is told, or was overtaken by a newer view."""

    def __init__(self) -> None:
        super().__init__()
        self.pending = Pending()
        self.number = 0
        self.put: list[Event] = []
        self.out: list[Event] = []

    def republish(self, symbol: str) -> None:
        self.number += 1
        self.pending.put(book(self.number, symbol), self.republish)
        self.put.append(book(self.number, symbol))

    @rule(
        makes=st.lists(st.sampled_from([trade, delta, book, ticker, liquidation]), min_size=1, max_size=12),
        symbol=st.sampled_from([BTC, ETH]),
    )
    def tell(self, makes: list[Callable[[int, str], Event]], symbol: str) -> None:
        for make in makes:
            self.number += 1
            event = make(self.number, symbol)
            self.put.append(event)
            self.pending.put(event, self.republish)

    @rule()
    def squeeze(self) -> None:
        self.pending.set_pressure(FULL)

    @rule(pressure=st.sampled_from([SOME, NONE]))
    def ease(self, pressure: Pressure) -> None:
        self.pending.set_pressure(pressure)

    @rule()
    def take(self) -> None:
        self.out += self.pending.take()

    @invariant()
    def nothing_is_made_up(self) -> None:
        assert all(event in self.put for event in self.out if not isinstance(event, Gap))

    def teardown(self) -> None:
        self.pending.set_pressure(NONE)
        self.take()
        for symbol in (BTC, ETH):
            mine = [event for event in self.put if event.symbol == symbol]
            out = [event for event in self.out if event.symbol == symbol]
            self.trades_are_out_or_told(mine, out, Trade, "trades")
            self.trades_are_out_or_told(mine, out, Liquidation, "liquidations")
            self.changes_follow_each_other_or_a_whole_book(mine, out)
            for view in (Book, Ticker):
                last = [event for event in mine if isinstance(event, view)][-1:]
                assert [event for event in out if isinstance(event, view)][-1:] == last, "the latest is never lost"
        dropped = sum(count for name, count in self.pending.counts.items() if name.startswith("dropped"))
        assert dropped == sum(int(gap.reason.split()[1]) for gap in gaps(self.out))
        went_in, came_out = Counter(map(type, self.put)), Counter(map(type, self.out))
        for view, name in ((Ticker, "tickers"), (Book, "books")):
            assert came_out[view] + self.pending.counts[f"conflated {name}"] == went_in[view]

    def trades_are_out_or_told(
        self, mine: list[Event], out: list[Event], kind: type[Trade | Liquidation], channel: str
    ) -> None:
        told: list[str] = []
        every = [event.id for event in mine if isinstance(event, kind)]
        for event in out:
            if isinstance(event, kind):
                told.append(event.id)
            elif isinstance(event, Gap) and event.channel == channel:
                first, last = every.index(str(event.first_missing)), every.index(str(event.last_missing))
                assert int(event.reason.split()[1]) == last - first + 1
                told += every[first : last + 1]
        assert told == every, "in order, each once: as itself or in a gap"

    def changes_follow_each_other_or_a_whole_book(self, mine: list[Event], out: list[Event]) -> None:
        """A reader who keeps a book from what goes out never applies a change to a book that misses one."""
        every = [event.sequence for event in mine if isinstance(event, BookDelta)]
        before: int | None = None
        for event in out:
            if isinstance(event, Book):
                before = None
            elif isinstance(event, Gap) and event.channel == "orderbooks":
                before = -1
            elif isinstance(event, BookDelta):
                assert before != -1, "a change right behind a gap"
                assert before is None or every.index(event.sequence) == every.index(before) + 1
                before = event.sequence


TestMarkets = Markets.TestCase


@pytest.mark.parametrize("levels", [[NONE, SOME, FULL]])
def test_pressures_are_ordered(levels: list[Pressure]) -> None:
    assert sorted(Pressure) == levels
    assert not NONE
