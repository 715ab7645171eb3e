"""The machine that fills holes: whatever the venue answers, a trade is told once, in its hole and in order; claims are true."""

from collections.abc import Callable
from itertools import pairwise
from random import Random
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters import backfill, holes
from adapters.backfill import Backfill, LastTrade, Resume
from adapters.effects import Fetch, Priority, Request
from adapters.events import Gap, Trade
from adapters.holes import Hole, Row
from adapters.subscriptions import Subscription
from adapters.venue import History
from tests.adapters.driving import of
from tests.adapters.puppet import EPOCH, Session, Wanted, puppet, trade

TRADES: Wanted = ("trades", "BTC/USDT")
SECOND = 1_000_000
Order = Literal["up", "down", "last"]


class Market:
    """A venue with `count` trades, several at one moment now and then, and a list of them."""

    def __init__(self, count: int, order: Order, rows: int, seed: int, *, numbered: bool) -> None:
        self.random = Random(seed)
        self.history = History(order, rows, reach=float("inf"))
        time, self.trades = EPOCH, []
        for number in range(1, count + 1):
            time += self.random.choice((0, 1000, SECOND))
            self.trades.append(Row(number if numbered else f"t{number}", "1", "2", "buy", time))
        self.numbered = numbered
        self.told: list[Trade | Gap] = []
        self.subscription = Subscription("trades", "BTC/USDT", "BTCUSDT")
        venue = puppet(numbers_trades=numbered, history=self.history).venue
        self.machine = Backfill(venue, {"BTCUSDT": self.subscription}, self.request, self.told.append)
        self.asked: Hole | None = None
        self.now = 1000.0

    def request(self, native: str, hole: Hole) -> Fetch:
        self.asked = hole
        return Fetch(("trades", native), Request("https://puppet.example/trades"))

    def live(self, *positions: int) -> None:
        """These trades come live."""
        for position in positions:
            row = self.trades[position]
            if not self.numbered:
                assert self.subscription.is_new(str(row.number))
            self.subscription.latest = row.timestamp
            self.subscription.told += 1

    def lose(self, first: int, last: int) -> Gap:
        """Those between two positions do not: a hole, which the next one shows."""
        since, until = self.trades[first - 1].timestamp, self.trades[last + 1].timestamp
        gap = Gap("puppet", "BTC/USDT", None, until, "trades", "disconnected", since=since, until=until)
        if self.numbered:
            gap.first_missing, gap.last_missing = str(self.trades[first].number), str(self.trades[last].number)
        self.machine.found(self.subscription, gap, self.now)
        return gap

    def page(self) -> list[Row]:
        """What a true list answers."""
        hole, rows, most = self.asked, self.trades, self.history.rows
        assert hole is not None
        if self.history.order == "last":
            return rows[-most:][::-1]
        if self.history.order == "up":
            begins = hole.first if self.numbered else hole.since
            return [row for row in rows if (row.number if self.numbered else row.timestamp) >= begins][:most]  # type: ignore[operator]
        ends = hole.last if self.numbered else hole.until
        found = [row for row in rows if (row.number if self.numbered else row.timestamp) <= ends]  # type: ignore[operator]
        if not self.numbered and hole.edge is not None:
            ids = [row.number for row in rows]
            found = rows[: ids.index(hole.edge)]
        return found[-most:][::-1]

    def run(self, fails: Callable[[], bool] = lambda: False, garble: Callable[[list[Row]], list[Row]] = list) -> int:
        """Time passes until nothing is asked any more: the number of questions."""
        questions, idle = 0, 0
        while idle < 20:
            due = list(self.machine.due(self.now))
            idle = 0 if due else idle + 1
            while due:
                questions += 1
                assert questions < 1000, "it never ends"
                (fetch,) = due
                assert (fetch.key, fetch.priority) == (("backfill", "BTCUSDT"), Priority.BACKFILL)
                if fails():
                    self.machine.failed("BTCUSDT", self.now)
                    due = []
                else:
                    due = list(self.machine.answered("BTCUSDT", garble(self.page()), EPOCH + 10**12, self.now))
            self.now += 5.0
        return questions

    @property
    def filled(self) -> list[str]:
        return [each.id for each in of(self.told, Trade)]

    @property
    def claims(self) -> list[Gap]:
        return of(self.told, Gap)


def ids(market: Market, first: int, last: int) -> list[str]:
    return [str(row.number) for row in market.trades[first : last + 1]]


markets = st.builds(
    Market,
    count=st.integers(40, 60),
    order=st.sampled_from(("up", "down", "last")),
    rows=st.integers(8, 60),
    seed=st.integers(0, 1000),
    numbered=st.booleans(),
)


@settings(max_examples=60, deadline=None)
@given(markets, st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=4), st.data())
def test_holes_are_filled_once_in_order_and_inside(market: Market, steps: list[tuple[int, int]], data: st.DataObject) -> None:
    """With answers that fail now and then, and lists that lag behind or repeat rows."""
    position, lost = 0, []
    for told, missing in steps:
        if position + told + missing + 1 >= len(market.trades):
            break
        market.live(*range(position, position + told))
        position += told
        market.lose(position, position + missing - 1)
        lost += ids(market, position, position + missing - 1)
        position += missing
        market.live(position)
        position += 1
    market.live(*range(position, len(market.trades)))

    def garble(rows: list[Row]) -> list[Row]:
        if data.draw(st.booleans()):
            return rows[:2] + rows
        late = data.draw(st.integers(0, 2))
        return rows[: len(rows) - late] if market.history.order == "up" else rows[late:]

    market.run(lambda: data.draw(st.integers(0, 3)) == 0, garble)
    assert len(set(market.filled)) == len(market.filled), "once"
    assert set(market.filled) <= set(lost), "inside its hole"
    numbers = [int(each.removeprefix("t")) for each in market.filled]
    of_hole = [range(int(g.first_missing or 0), int(g.last_missing or 0) + 1) for g in market.claims if market.numbered]
    assert all(str(number) in market.filled for each in of_hole for number in each), "a claim of what was not told"
    if len(steps) == 1:
        assert all(a < b for a, b in pairwise(numbers)), "in order"
    assert not market.machine._searches, "nothing is left open"


@settings(max_examples=60, deadline=None)
@given(markets, st.integers(1, 20), st.integers(0, 15))
def test_a_true_list_that_reaches_back_far_enough_fills_the_hole_wholly(market: Market, first: int, size: int) -> None:
    market.live(*range(first))
    gap = market.lose(first, first + size)
    market.live(*range(first + size + 1, len(market.trades)))
    market.run()
    reaches = market.history.order != "last" or market.history.rows > len(market.trades) - first
    at_one_moment = len({row.timestamp for row in market.trades}) < len(market.trades) and not market.numbered
    if reaches and not (at_one_moment and market.history.order == "up"):
        assert market.filled == ids(market, first, first + size)
        assert [(claim.since, claim.until) for claim in market.claims] == [(gap.since, gap.until)]
        assert isinstance(market.told[-1], Gap), "after its trades"
    elif not market.numbered:
        got = set(market.filled)
        for claim in market.claims:
            inside = [row for row in market.trades[first : first + size + 1] if claim.since < row.timestamp < claim.until]  # type: ignore[operator]
            assert {str(row.number) for row in inside} <= got, "a claim that is not true"


class TestBounds:
    def market(self, **facts: Any) -> Market:
        market = Market(50, facts.pop("order", "up"), facts.pop("rows", 100), 1, numbered=facts.pop("numbered", True))
        market.live(*range(10))
        market.lose(10, 19)
        market.live(20)
        return market

    def test_nothing_is_asked_before_lists_have_caught_up(self) -> None:
        market = self.market()
        assert list(market.machine.due(market.now + holes.SETTLED_AFTER / 2)) == []
        assert list(market.machine.due(market.now + holes.SETTLED_AFTER)) != []

    def test_one_question_at_a_time(self) -> None:
        market = self.market()
        market.lose(30, 31)
        assert len(list(market.machine.due(market.now + 2.0))) == 1
        assert list(market.machine.due(market.now + 3.0)) == []

    def test_a_venue_that_never_answers_is_left_in_peace(self) -> None:
        market = self.market()
        assert market.run(fails=lambda: True) == backfill.ATTEMPTS
        assert (market.told, market.machine.given_up) == ([], 1)

    def test_a_venue_that_has_nothing_is_left_in_peace(self) -> None:
        market = self.market()
        assert market.run(garble=lambda rows: []) == backfill.ATTEMPTS
        assert market.told == []

    def test_a_hole_has_so_many_pages(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(backfill, "PAGES", 3)
        market = self.market(rows=2)
        assert market.run() == 3
        assert market.filled == [str(number) for number in range(11, 17)]
        assert [(gap.first_missing, gap.last_missing) for gap in market.claims] == [("11", "16")]

    def test_a_market_has_so_many_holes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(backfill, "HOLES", 1)
        market = self.market()
        market.lose(30, 31)
        market.run()
        assert market.filled == [str(number) for number in range(11, 21)]
        assert market.machine.given_up == 1

    def test_where_repeats_could_not_be_told_nothing_is_asked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(backfill, "REMEMBERED_IDS", 11)
        market = self.market(numbered=False)
        assert market.run() == 0

    def test_ids_are_kept_only_while_a_hole_is_open(self) -> None:
        market = self.market(numbered=False)
        assert market.subscription.kept == backfill.REMEMBERED_IDS
        market.run()
        assert market.subscription.kept < backfill.REMEMBERED_IDS

    def test_what_comes_late_is_not_told_again_and_counts_as_filled(self) -> None:
        market = self.market()
        market.machine.came(market.subscription, 15, EPOCH)
        market.run()
        assert market.filled == [str(number) for number in range(11, 21) if number != 15]
        assert [(gap.first_missing, gap.last_missing) for gap in market.claims] == [("11", "20")]

    def test_a_list_without_the_last_live_trade_is_asked_again(self) -> None:
        market = self.market(numbered=False, order="down")
        lagging, shown = iter([True, True, False]), market.trades[15].timestamp

        def garble(rows: list[Row]) -> list[Row]:
            return [row for row in rows if row.timestamp < shown] if next(lagging) else rows

        assert market.run(garble=garble) == 3
        assert market.filled == ids(market, 10, 19)

    def test_what_was_asked_on_a_lost_connection_is_asked_on_the_next(self) -> None:
        market = self.market()
        assert list(market.machine.due(market.now + 2.0))
        market.machine.lost()
        assert market.run() == 1
        assert len(market.filled) == 10


class TestResume:
    """A process that takes up where an earlier one ended."""

    last = LastTrade("7", EPOCH - SECOND, EPOCH - SECOND + 5)
    numbered = puppet(numbers_trades=True)

    def gaps(self, outputs: Any) -> list[tuple[Any, ...]]:
        return [(gap.reason, gap.first_missing, gap.last_missing, gap.since) for gap in of(outputs, Gap)]

    def test_the_next_number_proves_that_nothing_is_missing(self) -> None:
        session = Session(TRADES, adapter=self.numbered, resume=Resume(EPOCH, {"BTC/USDT": self.last}))
        assert self.gaps(session.open_and_ack() + session.say(trade(8))) == []

    def test_a_later_number_is_a_gap_with_its_ids(self) -> None:
        session = Session(TRADES, adapter=self.numbered, resume=Resume(EPOCH, {"BTC/USDT": self.last}))
        assert self.gaps(session.open_and_ack() + session.say(trade(12))) == [
            ("collector restarted", "8", "11", self.last.received)
        ]

    def test_what_the_earlier_process_told_is_not_told_again(self) -> None:
        session = Session(TRADES, adapter=self.numbered, resume=Resume(EPOCH, {"BTC/USDT": self.last}))
        session.open_and_ack()
        known = (trade(6, timestamp=EPOCH - 2 * SECOND), trade(7, timestamp=EPOCH - SECOND))
        assert of(session.say(*known), Trade) == []

    def test_without_numbers_the_hole_begins_at_the_last_trade_and_that_one_is_known(self) -> None:
        session = Session(TRADES, resume=Resume(EPOCH, {"BTC/USDT": LastTrade("a", EPOCH - SECOND, EPOCH - 5)}))
        outputs = session.open_and_ack() + session.say(trade("a"), trade("b"))
        assert self.gaps(outputs) == [("collector restarted", None, None, EPOCH - 5)]
        assert [each.id for each in of(outputs, Trade)] == ["b"]

    def test_a_market_without_a_last_trade_has_a_hole_since_then(self) -> None:
        session = Session(TRADES, ("trades", "ETH/USDT"), resume=Resume(EPOCH - 9, {"BTC/USDT": self.last}))
        told = {gap.symbol: gap.since for gap in of(session.open_and_ack(), Gap)}
        assert told == {"BTC/USDT": self.last.received, "ETH/USDT": EPOCH - 9}

    def test_word_that_comes_before_the_first_trade(self) -> None:
        session = Session(TRADES, adapter=self.numbered)
        session.open_and_ack()
        outputs = session.adapter.resumed({"BTC/USDT": self.last}, session.now) + session.say(trade(10))
        assert self.gaps(outputs) == [("collector restarted", "8", "9", self.last.received)]

    def test_word_that_comes_after_it(self) -> None:
        session = Session(TRADES, adapter=self.numbered)
        session.open_and_ack()
        session.say(trade(10), trade(11))
        assert self.gaps(session.adapter.resumed({"BTC/USDT": self.last}, session.now)) == [
            ("collector restarted", "8", "9", self.last.received)
        ]
        assert session.adapter.resumed({"BTC/USDT": self.last}, session.now) == [], "said once"

    def test_word_of_what_was_told_here(self) -> None:
        session = Session(TRADES, adapter=self.numbered)
        session.open_and_ack()
        session.say(trade(6), trade(7), trade(8))
        assert session.adapter.resumed({"BTC/USDT": self.last}, session.now) == []

    def test_a_hole_since_an_unknown_trade_is_not_filled(self) -> None:
        listed = puppet(history=History("last", 100))
        session = Session(TRADES, adapter=listed, resume=Resume(EPOCH - 9))
        session.open_and_ack()
        session.say(trade("b"))
        assert of(session.wait(30.0), Fetch) == []
