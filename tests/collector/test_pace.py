"""A market is measured by its own pace: hand-computed cases, and whole hours of simulated markets."""

from collections.abc import Iterable
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from collector.pace import FLOOR, LEARNED, TIMES, WINDOW, Market, Paces

BTC: Market = ("trades", "BTC/USD")
XDC: Market = ("trades", "XDC/USDT")
LOOK = 10.0


def looked(paces: Paces, news: Iterable[bool], now: float = 0.0) -> float:
    """Look every ten seconds, at each of which the market has news or not: the time of the last look."""
    mark = int(now)
    for has_news in news:
        now += LOOK
        mark = int(now) if has_news else mark
        paces.look({BTC: mark}, now)
    return now


class TestByHand:
    def test_a_market_that_always_speaks_is_silent_after_five_minutes(self) -> None:
        paces = Paces(0.0)
        now = looked(paces, [True] * (LEARNED + 1))
        assert paces.silent(now + FLOOR - 1) == {}
        assert paces.silent(now + FLOOR) == {BTC: FLOOR}

    def test_one_that_pauses_for_four_minutes_is_silent_after_twelve(self) -> None:
        paces = Paces(0.0)
        now = looked(paces, [*([False] * 23), True] * (LEARNED // 20) + [True] * (LEARNED + 1))
        assert paces.silent(now + 719) == {}
        assert paces.silent(now + 720) == {BTC: 720.0}

    def test_one_that_was_hardly_ever_heard_is_not_silent(self) -> None:
        paces = Paces(0.0)
        now = looked(paces, [True] * LEARNED)  # of which the first is no news
        assert paces.silent(now + 86_400) == {}
        looked(paces, [True], now)
        assert paces.silent(now + 86_400) == {BTC: 86_390.0}

    def test_a_word_ends_the_silence(self) -> None:
        paces = Paces(0.0)
        now = looked(paces, [True] * (LEARNED + 1)) + 1000
        assert paces.silent(now) == {BTC: 1000.0}
        paces.look({BTC: 9_999_999}, now)
        assert paces.silent(now) == {}
        assert paces.silent(now + TIMES * 1000 - 1) == {}, "such a pause is usual now"
        assert paces.silent(now + TIMES * 1000) == {BTC: 3000.0}

    def test_a_long_pause_is_forgotten_after_two_windows(self) -> None:
        paces = Paces(0.0)
        looks = int(WINDOW / LOOK)
        now = looked(paces, [True] * LEARNED + [False] * 60 + [True] * (looks - 60 - LEARNED - 1))
        assert paces.silent(now + FLOOR) == {}
        now = looked(paces, [True] * looks, now)
        assert paces.silent(now + FLOOR) == {}, "it was in the window before"
        now = looked(paces, [True] * looks, now)
        assert paces.silent(now + FLOOR) == {BTC: FLOOR}

    def test_the_longest_silence_stands_first(self) -> None:
        paces = Paces(0.0)
        for turn in range(1, LEARNED + 5):
            paces.look({XDC: turn if turn < LEARNED + 3 else LEARNED + 2, BTC: turn}, turn * LOOK)
        now = (LEARNED + 4) * LOOK + FLOOR
        assert list(paces.silent(now).items()) == [(XDC, FLOOR + 2 * LOOK), (BTC, FLOOR)]

    def test_who_is_not_wanted_any_more_is_not_silent(self) -> None:
        paces = Paces(0.0)
        now = looked(paces, [True] * (LEARNED + 1))
        paces.look({XDC: 1}, now)
        assert paces.silent(now + 86_400) == {}

    def test_a_successor_that_has_heard_nothing_changes_nothing(self) -> None:
        paces = Paces(0.0)
        now = looked(paces, [True] * (LEARNED + 1))
        paces.look({BTC: 0}, now + 100)
        assert paces.silent(now + FLOOR) == {BTC: FLOOR}


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), chance=st.floats(0.03, 1.0))
def test_a_steady_market_is_hardly_ever_called_silent_and_a_dead_one_always_is(seed: int, chance: float) -> None:
    """Six hours of a market that has news at so many looks. What its longest pause is, chance alone decides."""
    random = Random(seed)
    paces = Paces(0.0)
    now, mark, false = 0.0, 1, 0
    for _ in range(6 * 360):
        now += LOOK
        mark += random.random() < chance
        paces.look({BTC: mark}, now)
        false += BTC in paces.silent(now)
    assert false <= 6 * 360 / 100
    assert BTC in paces.silent(now + 86_400)
