"""The window of recent trades, against the plainest thing that could be meant by it."""

from math import fsum
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from master.live import window
from master.live.window import TradeWindow

SPAN = 60

arrivals = st.lists(st.tuples(st.integers(1, 400), st.integers(0, 30)), max_size=150)
"""Times mostly rise; how late each trade comes is the second number."""


def told(arrivals: list[tuple[int, int]]) -> list[tuple[int, float, float]]:
    """Trades as they arrive, each with a price of its own."""
    clock, trades = 1000, []
    for number, (step, late) in enumerate(arrivals):
        clock += step % 7
        trades.append((clock - late * (step % 3), float(number), 1.0))
    return trades


def plain(trades: list[tuple[int, float, float]], span: int) -> list[tuple[int, float, float]]:
    newest = max((time for time, _, _ in trades), default=0)
    return sorted((each for each in trades if each[0] >= newest - span), key=lambda each: each[0])


@given(arrivals)
def test_it_holds_what_is_young_enough_in_order_of_time(arrivals: list[tuple[int, int]]) -> None:
    kept, trades = TradeWindow(SPAN), told(arrivals)
    for number, trade in enumerate(trades, 1):
        kept.add(*trade)
        assert list(kept) == plain(trades[:number], SPAN)
        assert len(kept) == len(plain(trades[:number], SPAN))
    assert not kept.truncated


@given(arrivals, st.integers(1, 20))
def test_of_too_many_it_keeps_the_newest_and_says_so(arrivals: list[tuple[int, int]], most: int) -> None:
    trades = told(arrivals)
    with patch.object(window, "_MOST_BYTES", most * 24):
        kept = TradeWindow(SPAN)
        for trade in trades:
            kept.add(*trade)
    young = plain(trades, SPAN)
    assert list(kept) == young[-min(most, len(young)) :] if young else list(kept) == []
    if len(young) > most:
        assert kept.truncated


def test_truncated_ends_when_what_was_dropped_would_be_too_old() -> None:
    with patch.object(window, "_MOST_BYTES", 2 * 24):
        kept = TradeWindow(10)
        for time in (1, 2, 3):
            kept.add(time, 1.0, 1.0)
        assert kept.truncated
        assert [time for time, _, _ in kept] == [2, 3]
        kept.add(11, 1.0, 1.0)
        assert kept.truncated  # that of the time 2 would be shown
        kept.add(30, 1.0, 1.0)
        assert not kept.truncated


def test_since() -> None:
    kept = TradeWindow(100)
    for time in (10, 20, 20, 30):
        kept.add(time, float(time), 0.5)
    assert list(kept.since(20)) == [(20, 20.0, 0.5), (20, 20.0, 0.5), (30, 30.0, 0.5)]
    assert list(kept.since(31)) == []
    assert [time for time, _, _ in kept.since(-5)] == [10, 20, 20, 30]


def test_it_may_change_while_somebody_looks() -> None:
    kept = TradeWindow(100)
    kept.add(1, 1.0, 1.0)
    looking = iter(kept)
    kept.add(2, 2.0, 2.0)
    assert list(looking) == [(1, 1.0, 1.0)]


SECOND = 1_000_000
steps = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 300_000, 700_000, SECOND, 7 * SECOND]),  # since the one before
        st.sampled_from([0, 0, 0, 1, 400_000, 3 * SECOND, 30 * SECOND]),  # how late it is
        st.floats(1e-3, 1e5),
        st.floats(1e-6, 1e4),
    ),
    min_size=15,
    max_size=50,
)


def directly(trades: list[tuple[int, float, float]], since: int, now: int) -> tuple[float, float, float]:
    """Value and volume of those since then, and the mean of the price over that time: by what these words mean."""
    young = [each for each in trades if each[0] >= since]
    value, volume = fsum(price * amount for _, price, amount in young), fsum(amount for _, _, amount in young)
    area = held = 0.0
    begin = start = now
    for time, price, _ in trades:
        until = min(max(time, since), now)
        if held:
            area += held * (until - start)
        else:
            begin = until
        start, held = until, price
    area += held * (now - start)
    return value, volume, area / (now - begin) if begin < now else held


@given(
    steps, st.sampled_from([1, 4_500_000, 12 * SECOND]), st.sampled_from([-SECOND, 0, 300_000]), st.sampled_from([12, 50_000])
)
def test_what_it_adds_up_to(steps: list[tuple[int, int, float, float]], span: int, ahead: int, most: int) -> None:
    """Whoever looked before, whatever came late since, and whatever was let go."""
    clock = 1000 * SECOND
    with patch.object(window, "_MOST_BYTES", most * 24):
        kept = TradeWindow(20 * SECOND)
        for step, late, price, amount in steps:
            clock += step
            kept.add(clock - late, price, amount)
            now = clock + ahead
            value, volume, mean = directly(list(kept), now - span, now)
            assert kept.traded(now - span) == pytest.approx((value, volume), rel=1e-12)
            assert kept.mean_price(now - span, now) == pytest.approx(mean, rel=1e-12)
