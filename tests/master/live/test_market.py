"""What the market is held to be, by hand: last trade, best prices, the state of a source, and what of before is taken."""

import json
from itertools import permutations

import pytest

from adapters.events import Book, BookDelta, Event, Gap, Levels, Price, Ticker, Trade
from master.live.market import STALE_AFTER, Market, Source
from tests.master.making import NOON

SECOND = 1_000_000
BIDS: Levels = [("100.0", "1"), ("99.5", "2"), ("99.0", "3")]
ASKS: Levels = [("100.50", "4"), ("101.0", "5")]


def trade(number: int, at: int, *, received: int | None = None, price: str = "100.10", symbol: str = "BTC/USD") -> Trade:
    return Trade("kraken", symbol, at, at if received is None else received, str(number), price, "2.0", "buy")


def book(
    bids: Levels = BIDS, asks: Levels = ASKS, *, exchange: str = "kraken", symbol: str = "BTC/USD", at: int = NOON
) -> Book:
    return Book(exchange, symbol, at - 5, at, bids, asks, 7)


def ticker(bid: str | None = "100.2", ask: str | None = "100.3", at: int = NOON) -> Ticker:
    return Ticker("kraken", "BTC/USD", None, at, bid, None, ask, "3")


def gap(channel: str = "orderbooks", exchange: str = "kraken", symbol: str | None = "BTC/USD", at: int = NOON) -> Gap:
    return Gap(exchange, symbol, None, at, channel, "sequence")


def market_of(*events: Event) -> Market:
    market = Market()
    market.take(events, 1)
    return market


def source_of(*events: Event) -> Source:
    return market_of(*events).source("kraken", "BTC/USD")


class TestTrades:
    def test_the_last_is_the_newest_by_the_venue_whatever_comes_first(self) -> None:
        trades = [trade(1, NOON), trade(2, NOON + 5, received=NOON + 90), trade(3, NOON + 3, received=NOON + 99)]
        for events in permutations(trades):
            assert source_of(*events).trade == trades[1]

    def test_of_the_same_moment_the_later_one(self) -> None:
        assert source_of(trade(1, NOON), trade(2, NOON)).trade == trade(2, NOON)

    def test_a_time_of_the_future_is_not_believed(self) -> None:
        """It would be the last trade for an hour, and the window would be empty but for it."""
        odd = trade(2, NOON + 3600 * SECOND, received=NOON + 1)
        source = source_of(trade(1, NOON), odd, trade(3, NOON + 2))
        assert source.trade == trade(3, NOON + 2)
        assert [time for time, _, _ in source.window] == [NOON, NOON + 1, NOON + 2]

    @pytest.mark.parametrize(
        ("timestamp", "expected"),
        [(NOON - 900, NOON - 900), (None, NOON), (NOON + 5 * SECOND, NOON + 5 * SECOND), (NOON + 5 * SECOND + 1, NOON)],
        ids=["the venue's", "none", "a clock that is a little ahead", "of the future"],
    )
    def test_the_time_of_a_trade(self, timestamp: int | None, expected: int) -> None:
        assert source_of(Trade("kraken", "BTC/USD", timestamp, NOON, "1", "1", "1", "buy")).traded == expected

    def test_where_nobody_reads_windows_none_is_kept(self) -> None:
        market = Market(0)
        market.take([trade(1, NOON), trade(2, NOON + 1)], 1)
        source = market.source("kraken", "BTC/USD")
        assert (list(source.window), source.trade) == ([], trade(2, NOON + 1))
        assert market.volumes.window("kraken", "BTC/USD", NOON, 60) > 0

    def test_window_and_volumes(self) -> None:
        market = market_of(trade(1, NOON), trade(2, NOON + 400 * SECOND), trade(3, NOON + 101 * SECOND, price="50"))
        source = market.source("kraken", "BTC/USD")
        assert list(source.window) == [(NOON + 101 * SECOND, 50.0, 2.0), (NOON + 400 * SECOND, 100.1, 2.0)]
        assert market.volumes.window("kraken", "BTC/USD", NOON + 400 * SECOND, 60) == 200.2
        assert market.volumes.window("kraken", "BTC/USD", NOON + 400 * SECOND, 3600) == pytest.approx(500.4)


class TestBest:
    def test_nothing(self) -> None:
        assert source_of(trade(1, NOON)).best() is None

    def test_the_fresher_of_book_and_ticker(self) -> None:
        for later, origin, bid in ((0, "book", "100.0"), (1, "ticker", "100.2"), (-1, "book", "100.0")):
            best = source_of(book(), ticker(at=NOON + later)).best()
            assert best is not None
            assert (best.origin, best.bid) == (origin, bid)

    def test_its_texts_are_those_of_the_venue(self) -> None:
        best = source_of(book()).best()
        assert best is not None
        assert (best.bid, best.bid_amount, best.ask, best.ask_amount) == ("100.0", "1", "100.50", "4")
        assert best.received == NOON

    @pytest.mark.parametrize("half", [ticker(bid=None, at=NOON + 9), ticker(ask=None, at=NOON + 9), book([], at=NOON + 9)])
    def test_who_has_one_side_only_has_no_word_in_it(self, half: Event) -> None:
        best = source_of(book() if isinstance(half, Ticker) else ticker(), half).best()
        assert best is not None
        assert best.received == NOON

    def test_changes_are_in_it(self) -> None:
        changed = BookDelta("kraken", "BTC/USD", None, NOON + 1, [("100.0", "0")], [("100.1", "9")], 8, 7)
        best = source_of(book(), changed).best()
        assert best is not None
        assert (best.bid, best.bid_amount, best.ask, best.ask_amount, best.received) == ("99.5", "2", "100.1", "9", NOON + 1)


class TestStates:
    def test_empty(self) -> None:
        assert Market().source("kraken", "BTC/USD").state(NOON) == "empty"

    @pytest.mark.parametrize("event", [trade(1, NOON), ticker(), book()])
    def test_live_then_stale(self, event: Event) -> None:
        source = source_of(event)
        assert source.state(NOON + STALE_AFTER) == "live"
        assert source.state(NOON + STALE_AFTER + 1) == "stale"
        assert source.state(NOON + 11, 10) == "stale"

    def test_any_word_keeps_it_from_being_stale(self) -> None:
        assert source_of(trade(1, NOON), ticker(at=NOON + 50)).state(NOON + 55, 10) == "live"

    @pytest.mark.parametrize(("bid", "state"), [("100.49", "live"), ("100.5", "crossed"), ("100.51", "crossed")])
    def test_crossed(self, bid: str, state: str) -> None:
        assert source_of(book([(bid, "1")])).state(NOON) == state

    def test_recovering_until_the_next_book(self) -> None:
        market = market_of(trade(1, NOON), book(), gap())
        source = market.source("kraken", "BTC/USD")
        assert (source.state(NOON), source.book, source.best(), source.ladder(5, NOON)) == ("recovering", None, None, None)
        market.take([book(at=NOON + 1)], 4)
        assert (source.state(NOON + 1), source.book) == ("live", book(at=NOON + 1))

    def test_recovering_grows_stale(self) -> None:
        assert source_of(trade(1, NOON), book(), gap()).state(NOON + STALE_AFTER + 1) == "stale"

    @pytest.mark.parametrize(
        ("hole", "lost"),
        [
            (gap(), {("kraken", "BTC/USD")}),
            (gap(symbol=None), {("kraken", "BTC/USD"), ("kraken", "ETH/USD")}),
            (gap("delivery", "", None), {("kraken", "BTC/USD"), ("kraken", "ETH/USD"), ("okx", "BTC/USD")}),
            (gap("journal", "", None), {("kraken", "BTC/USD"), ("kraken", "ETH/USD"), ("okx", "BTC/USD")}),
            (gap("trades"), set()),
            (gap("tickers", symbol=None), set()),
        ],
        ids=["one", "an exchange", "batches", "the journal", "of trades", "of tickers"],
    )
    def test_which_books_a_hole_is_of(self, hole: Gap, lost: set[tuple[str, str]]) -> None:
        market = market_of(book(), book(symbol="ETH/USD"), book(exchange="okx"), hole)
        assert {(each.exchange, each.symbol) for each in market.sources() if each.is_recovering} == lost
        assert {(each.exchange, each.symbol) for each in market.sources() if each.book is None} == lost


class TestReports:
    now = NOON + 2 * SECOND

    def test_a_source(self) -> None:
        source = source_of(trade(1, NOON - SECOND, received=NOON), book(), ticker(at=NOON + SECOND))
        assert json.loads(json.dumps(source.report(self.now))) == {
            "exchange": "kraken",
            "symbol": "BTC/USD",
            "state": "live",
            "age": 1.0,
            "trade": {
                **{"price": "100.10", "amount": "2.0", "side": "buy", "id": "1", "age": 3.0},
                **{"timestamp": NOON - SECOND, "received": NOON},
            },
            "best": {
                **{"bid": "100.2", "bid_amount": None, "ask": "100.3", "ask_amount": "3"},
                **{"received": NOON + SECOND, "age": 1.0, "origin": "ticker"},
            },
            "book": {"levels": 5, "received": NOON, "age": 2.0},
        }

    def test_one_of_which_nothing_is_known(self) -> None:
        report = Market().source("kraken", "BTC/USD").report(self.now)
        assert report == {
            **{"exchange": "kraken", "symbol": "BTC/USD", "state": "empty"},
            **dict.fromkeys(("age", "trade", "best", "book")),
        }

    def test_a_ladder(self) -> None:
        assert source_of(book()).ladder(2, self.now) == {
            **{"exchange": "kraken", "symbol": "BTC/USD", "timestamp": NOON - 5, "received": NOON, "age": 2.0},
            **{"state": "live", "sequence": 7, "bids": BIDS[:2], "asks": ASKS},
        }

    def test_a_ladder_of_changes(self) -> None:
        changed = BookDelta("kraken", "BTC/USD", NOON + 1, NOON + 2, [("99.7", "8")], [("100.50", "0")], 9, 7)
        source = source_of(book(), changed)
        assert source.ladder(2, self.now) == {
            **{"exchange": "kraken", "symbol": "BTC/USD", "timestamp": NOON + 1, "received": NOON + 2, "age": 1.999998},
            **{"state": "live", "sequence": 9, "bids": [("100.0", "1"), ("99.7", "8")], "asks": [("101.0", "5")]},
        }
        whole = [("100.0", "1"), ("99.7", "8"), ("99.5", "2"), ("99.0", "3")]
        assert source.book == Book("kraken", "BTC/USD", NOON + 1, NOON + 2, whole, [("101.0", "5")], 9)

    def test_a_clock_ahead_of_ours_makes_nothing_younger_than_now(self) -> None:
        report = source_of(book(at=NOON + 9 * SECOND)).report(self.now)
        assert (report["age"], report["book"]["age"]) == (0.0, 0.0)


class TestBefore:
    """After a restart trades of the last hour come from the lake, while newer events are here."""

    def test_only_trades_of_before_are_taken(self) -> None:
        market = Market()
        newest: list[Event] = [trade(9, NOON + 9), book(at=NOON + 9), ticker(at=NOON + 9)]
        market.take(newest, 100)
        market.take([trade(1, NOON), book([("1", "1")]), ticker("1"), gap(), trade(2, NOON + 1)], 20)
        source = market.source("kraken", "BTC/USD")
        assert market.position == 102
        assert [source.trade, source.book, source.ticker] == newest
        assert not source.is_recovering
        assert [time for time, _, _ in source.window] == [NOON, NOON + 1, NOON + 9]
        assert market.volumes.window("kraken", "BTC/USD", NOON + 9, 60) == pytest.approx(600.6)

    def test_the_position_is_that_of_the_newest_event(self) -> None:
        market = Market()
        for position, expected in ((1, 2), (3, 4), (1 << 32 | 1, (1 << 32) + 2), (3, (1 << 32) + 2)):
            market.take([ticker(), ticker()], position)
            assert market.position == expected


class TestNumbersThatAreNone:
    @pytest.mark.parametrize("price", ["", "one", "nan", "-1", "inf", "1e999"])
    def test_a_trade(self, price: str) -> None:
        market = market_of(trade(1, NOON), trade(2, NOON + 1, price=price), trade(3, NOON + 2))
        assert [time for time, _, _ in market.source("kraken", "BTC/USD").window] == [NOON, NOON + 2]
        assert market.unreadable == {"kraken": 1}

    def test_a_ticker(self) -> None:
        market = market_of(ticker(), ticker(bid="?"))
        assert market.source("kraken", "BTC/USD").ticker == ticker()
        assert market.unreadable == {"kraken": 1}

    @pytest.mark.parametrize(
        "event",
        [book([("?", "1")]), BookDelta("kraken", "BTC/USD", None, NOON, [("99.5", "0"), ("?", "1")], [], 8, 7)],
        ids=["book", "change"],
    )
    def test_a_book_is_in_doubt(self, event: Event) -> None:
        market = market_of(book(), event)
        assert market.source("kraken", "BTC/USD").is_recovering
        assert market.source("kraken", "BTC/USD").book is None


@pytest.mark.parametrize("missing", [gap(symbol=None), gap("delivery", "", None)])
def test_a_market_without_a_book_has_none_to_recover(missing: Gap) -> None:
    source = source_of(trade(1, NOON), missing)
    assert not source.is_recovering
    assert source.state(NOON) == "live"


def test_sources() -> None:
    market = market_of(book(), book(symbol="ETH/USD"), book(exchange="okx"))
    names = {"BTC kraken", "ETH kraken", "BTC okx"}

    def found(symbol: str | None = None, exchange: str | None = None) -> set[str]:
        return {f"{each.symbol[:3]} {each.exchange}" for each in market.sources(symbol, exchange)}

    assert found() == names
    assert found("BTC/USD") == {"BTC kraken", "BTC okx"}
    assert found(exchange="kraken") == {"BTC kraken", "ETH kraken"}
    assert found("ETH/USD", "okx") == found("XRP/USD") == set()


def test_what_is_no_market_begins_none() -> None:
    market = market_of(Price("", "BTC/USD", None, NOON, "1", "median", 1, 0, 0.0, 1.0), gap(), gap("delivery", "", None))
    assert list(market.sources()) == []
