"""Volumes of the last hour, against a sum over all trades."""

from math import isclose

from hypothesis import given
from hypothesis import strategies as st

from master.live.volumes import Ring, Volumes
from tests.master.making import NOON

SECOND = 1_000_000
HOUR = 3600


def ring_of(*trades: tuple[float, float]) -> Ring:
    """Trades as (seconds after noon, volume), in this order."""
    ring = Ring()
    for at, volume in trades:
        ring.add(NOON + int(at * SECOND), volume)
    return ring


def plain(trades: list[tuple[int, float]], now: int, seconds: int) -> float:
    """Of every trade that was at most an hour older than the newest one when it came."""
    newest, counted = 0, []
    for time, volume in trades:
        newest = max(newest, time // SECOND)
        if time // SECOND >= newest - HOUR:
            counted.append((time // SECOND, volume))
    second = now // SECOND
    return sum(volume for time, volume in counted if second - seconds <= time <= second and time >= newest - HOUR)


steps = st.integers(0, 40) | st.integers(0, 5000) | st.integers(-4000, 0)
trades = st.lists(st.tuples(steps, st.integers(0, SECOND - 1), st.floats(0, 1e6)), max_size=60)


@given(trades, st.integers(1, HOUR), st.integers(-10, 8000))
def test_it_is_the_sum_over_all_trades(steps: list[tuple[int, int, float]], seconds: int, later: int) -> None:
    ring, told, time = Ring(), list[tuple[int, float]](), NOON
    for step, part, volume in steps:
        at = time + step * SECOND + part
        time = max(time, at)
        told.append((at, volume))
        ring.add(at, volume)
        assert isclose(ring.window(time, seconds), plain(told, time, seconds), abs_tol=1e-3)
    assert isclose(ring.window(time + later * SECOND, seconds), plain(told, time + later * SECOND, seconds), abs_tol=1e-3)


def test_the_second_that_is_under_way_counts() -> None:
    ring = ring_of((0.1, 5.0), (0.9, 7.0))
    assert ring.window(NOON + SECOND - 1, 1) == 12.0
    assert ring.window(NOON + SECOND, 1) == 12.0  # it is the last whole one now
    assert ring.window(NOON + 2 * SECOND, 1) == 0.0
    assert ring.window(NOON + 2 * SECOND, 2) == 12.0


def test_a_late_trade_lands_in_its_slot() -> None:
    ring = ring_of((0, 1.0), (100, 10.0), (40, 100.0))
    assert ring.window(NOON + 100 * SECOND, 10) == 10.0
    assert ring.window(NOON + 100 * SECOND, 60) == 110.0
    assert ring.window(NOON + 100 * SECOND, 100) == 111.0


def test_a_whole_hour_and_nothing_of_before() -> None:
    ring = ring_of((0, 1.0), (1, 10.0), (HOUR, 100.0))
    assert ring.window(NOON + HOUR * SECOND, HOUR) == 111.0
    ring.add(NOON + (HOUR + 1) * SECOND, 1000.0)  # in the slot of the first
    assert ring.window(NOON + (HOUR + 1) * SECOND, HOUR) == 1110.0
    ring.add(NOON - 7 * SECOND, 1.0)  # too late, whatever its slot is used for now
    assert ring.window(NOON + (HOUR + 1) * SECOND, HOUR) == 1110.0


def test_a_market_that_was_silent_for_long_begins_anew() -> None:
    ring = ring_of((0, 1.0), (5 * HOUR, 10.0))
    assert ring.window(NOON + 5 * HOUR * SECOND, HOUR) == 10.0


def test_markets_are_apart() -> None:
    volumes = Volumes()
    volumes.ring("kraken", "BTC/USD").add(NOON, 5.0)
    volumes.ring("kraken", "BTC/USD").add(NOON, 2.0)
    assert volumes.window("kraken", "BTC/USD", NOON, 60) == 7.0
    assert volumes.window("kraken", "BTC/EUR", NOON, 60) == 0.0
