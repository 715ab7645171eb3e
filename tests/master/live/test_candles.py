"""Candles: in whatever order trades come, a candle is what one sees who sorts them all; in any interval."""

from collections import defaultdict
from collections.abc import Iterable
from decimal import Context, Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.events import Candle, Trade
from master.history.questions import DAY, HOUR, INTERVALS, MINUTE, SECOND
from master.live.candles import Candles
from tests.master.making import NOON

EXCHANGES = ("binance", "kraken")
MIDNIGHT = NOON - 12 * HOUR


def made(at: int, price: str, amount: str = "1", *, exchange: str = "kraken", received: int | None = None) -> Trade:
    return Trade(exchange, "BTC/USD", at, at + 50 if received is None else received, f"{at}", price, amount, "buy")


def by_hand(interval: str, trades: Iterable[tuple[int, Trade]], exchange: str) -> dict[int, tuple[str, ...]]:
    """By sorting everything: what each candle must be, by its start."""
    size = INTERVALS[interval]
    buckets: dict[int, list[tuple[int, int, Trade]]] = defaultdict(list)
    for position, each in trades:
        at = each.timestamp or each.received
        if exchange in ("", each.exchange):
            buckets[at // size * size].append((at, position, each))
    found: dict[int, tuple[str, ...]] = {}
    for start, content in buckets.items():
        of_bucket = [each for _, _, each in sorted(content, key=lambda row: row[:2])]
        prices = [(Decimal(each.price), each.price) for each in of_bucket]
        with localcontext(prec=100):
            volume = sum((Decimal(each.amount) for each in of_bucket), Decimal())
        ends = of_bucket[0].price, max(prices)[1], min(prices)[1], of_bucket[-1].price
        found[start] = (*ends, f"{volume.normalize(Context(prec=100)):f}", str(len(of_bucket)))
    return found


def shown(candle: Candle) -> tuple[str, ...]:
    return candle.open, candle.high, candle.low, candle.close, candle.volume, str(candle.trades)


ages = st.one_of(st.integers(0, 5 * SECOND), st.integers(0, 2 * MINUTE), st.integers(0, 2 * HOUR), st.integers(0, 2 * DAY))
arrivals = st.lists(
    st.tuples(
        st.integers(0, 20 * MINUTE),  # since the one before
        ages,
        st.sampled_from(EXCHANGES),
        st.sampled_from(["100", "100.0", "99.5", "100.25", "101"]),
        st.sampled_from(["1", "0.10", "0.00000001", "123456789012345678.5", "0.000000000000000001"]),
    ),
    max_size=40,
)


class TestOrder:
    @given(arrivals)
    def test_any_order_within_the_horizon_gives_the_candles_of_all_trades_in_order(
        self, arriving: list[tuple[int, int, str, str, str]]
    ) -> None:
        candles = Candles(0)
        watches = [candles.watch(interval, "BTC/USD", name) for interval in INTERVALS for name in ("", *EXCHANGES)]
        told: dict[tuple[str, str], dict[int, Candle]] = defaultdict(dict)
        too_old: dict[tuple[str, str], set[int]] = defaultdict(set)
        stored: list[tuple[int, Trade]] = []
        now = NOON
        for position, (later, age, exchange, price, amount) in enumerate(arriving, 1):
            now += later
            stored.append((position, made(now - age, price, amount, exchange=exchange, received=now)))
            candles.take([stored[-1][1]], position)
            for watch in watches:
                start = (now - age) // INTERVALS[watch.interval] * INTERVALS[watch.interval]
                about = (watch.interval, start, now, "BTC/USD", watch.exchange)
                if watch.exchange in ("", exchange) and candles.candle(*about) is None:
                    too_old[watch.interval, watch.exchange].add(start)
                told[watch.interval, watch.exchange].update({each.start: each for each in watch.changes(now)})
        for watch in watches:
            expected = by_hand(watch.interval, stored, watch.exchange)
            latest, unknown = told[watch.interval, watch.exchange], too_old[watch.interval, watch.exchange]
            assert {start: shown(candle) for start, candle in latest.items() if start not in unknown} == {
                start: each for start, each in expected.items() if start not in unknown
            }
            if INTERVALS[watch.interval] >= HOUR:
                assert not unknown  # the horizon of hours is two days

    def test_equal_times_are_ordered_by_position_also_in_one_batch(self) -> None:
        candles = Candles(0)
        candles.take([made(NOON, "3"), made(NOON, "2")], 20)
        candles.take([made(NOON, "1")], 10)
        candle = candles.candle("1s", NOON, NOON, "BTC/USD", "kraken")
        assert candle is not None
        assert (candle.open, candle.close) == ("1", "2")

    def test_a_trade_without_a_venue_time_counts_when_it_was_received(self) -> None:
        candles = Candles(0)
        candles.take([Trade("kraken", "BTC/USD", None, NOON + SECOND, "1", "7", "1", "unknown")], 1)
        assert candles.candle("1s", NOON, NOON, "BTC/USD") is None
        assert candles.candle("1s", NOON + SECOND, NOON, "BTC/USD") == Candle(
            "", "BTC/USD", NOON + SECOND, NOON + SECOND, "1s", NOON + SECOND, "7", "7", "7", "7", "1", 1, closed=False
        )

    @pytest.mark.parametrize("interval", INTERVALS)
    def test_a_trade_at_the_very_beginning_and_one_at_the_end_of_a_candle(self, interval: str) -> None:
        candles, size = Candles(0), INTERVALS[interval]
        end = NOON // size * size + size
        candles.take([made(end - size, "1"), made(end - 1, "2"), made(end, "3")], 1)
        candle, following = (candles.candle(interval, start, end, "BTC/USD") for start in (end - size, end))
        assert candle is not None
        assert following is not None
        assert (candle.open, candle.close, candle.trades, candle.closed) == ("1", "2", 2, True)
        assert (following.open, following.trades, following.closed) == ("3", 1, False)


class TestWatch:
    def test_a_candle_is_told_when_it_changes_when_it_closes_and_when_a_late_trade_corrects_it(self) -> None:
        candles = Candles(0)
        watch = candles.watch("1m", "BTC/USD", "kraken")
        candles.take([made(NOON, "5"), made(NOON, "9", exchange="binance")], 1)
        assert [(shown(each)[:4], each.closed) for each in watch.changes(NOON + SECOND)] == [(("5", "5", "5", "5"), False)]
        assert watch.changes(NOON + 2 * SECOND) == []
        assert [each.closed for each in watch.changes(NOON + MINUTE)] == [True]
        assert watch.changes(NOON + 2 * MINUTE) == []
        candles.take([made(NOON + SECOND, "6", received=NOON + 3 * MINUTE)], 3)
        assert [(each.close, each.trades, each.closed) for each in watch.changes(NOON + 3 * MINUTE)] == [("6", 2, True)]

    def test_several_candles_come_oldest_first(self) -> None:
        candles = Candles(0)
        watch = candles.watch("1s", "BTC/USD")
        candles.take([made(NOON + second * SECOND, "1") for second in (3, 1, 2)], 1)
        assert [(each.start - NOON) // SECOND for each in watch.changes(NOON)] == [1, 2, 3]

    def test_what_is_too_old_to_be_told_apart_is_not_told(self) -> None:
        candles = Candles(0)
        seconds, hours = candles.watch("1s", "BTC/USD"), candles.watch("1h", "BTC/USD")
        candles.take([made(NOON, "1")], 1)
        candles.take([made(NOON, "2", received=NOON + 10 * MINUTE)], 2)
        assert seconds.changes(NOON + 10 * MINUTE) == []
        assert [shown(each) for each in hours.changes(NOON + 10 * MINUTE)] == [("1", "2", "1", "2", "2", "2")]
        candles.take([made(NOON - 3 * DAY, "3", received=NOON)], 3)
        assert hours.changes(NOON) == []

    def test_what_began_before_anybody_listened_is_not_told(self) -> None:
        candles = Candles(NOON + 1)
        watch = candles.watch("1s", "BTC/USD")
        candles.take([made(NOON + 5, "1"), made(NOON + SECOND, "2")], 1)
        assert watch.current(NOON + 6) is None
        assert [each.start for each in watch.changes(NOON)] == [NOON + SECOND]

    def test_what_was_under_way_is_told_once_its_first_trades_are_known(self) -> None:
        candles = Candles(NOON + 30 * SECOND)
        watch = candles.watch("1m", "BTC/USD")
        candles.take([made(NOON + 31 * SECOND, "5")], 8)
        assert watch.changes(NOON + 32 * SECOND) == []
        candles.take([made(NOON + SECOND, "4")], 7)
        candles.reach_back(NOON - HOUR, NOON - HOUR, NOON - HOUR)
        assert [(shown(each)[:4], each.closed) for each in watch.changes(NOON + 2 * MINUTE)] == [(("4", "5", "4", "5"), True)]
        assert candles.position == 8

    def test_the_candle_under_way_is_there_at_once_and_its_end_is_told(self) -> None:
        candles = Candles(0)
        candles.take([made(NOON, "5")], 1)
        watch = candles.watch("1m", "BTC/USD")
        current = watch.current(NOON + SECOND)
        assert current is not None
        assert (shown(current)[:4], current.closed) == (("5", "5", "5", "5"), False)
        assert watch.changes(NOON + 2 * SECOND) == []
        assert [each.closed for each in watch.changes(NOON + MINUTE)] == [True]
        assert watch.current(NOON + MINUTE) is None

    def test_an_end_of_watching_costs_nothing_more(self) -> None:
        candles = Candles(0)
        first, second = candles.watch("1m", "BTC/USD"), candles.watch("1m", "BTC/USD")
        candles.unwatch(first)
        candles.take([made(NOON, "1")], 1)
        assert first.changes(NOON) == []
        assert len(second.changes(NOON)) == 1
        candles.unwatch(second)
        candles.take([made(NOON, "1")], 2)
        assert second.changes(NOON) == []

    def test_an_unknown_interval_is_refused(self) -> None:
        with pytest.raises(KeyError):
            Candles(0).watch("7m", "BTC/USD")


class TestBounds:
    def test_a_market_keeps_a_few_hundred_bars_however_long_it_trades(self) -> None:
        candles = Candles(0)
        for number in range(0, 5 * DAY, 20 * SECOND):
            candles.take([made(NOON + number, "1")], number + 1)
        levels = candles._ladders["BTC/USD"]["kraken"].levels
        assert [len(bars) for bars in levels] == pytest.approx([6, 150, 60], abs=32)
