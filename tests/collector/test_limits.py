"""When something may be done again: never more than a venue allows in any window, pauses that grow, and one probe at a time."""

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.venue import Rate
from collector.limits import MARGIN, Breaker, Window
from master.backoff import Backoff

# Windows ------------------------------------------------------------------------------------------------------------------


def spend_all(window: Window, costs: list[float], pauses: list[float]) -> list[tuple[float, float]]:
    """Spend one after the other, each as soon as the window lets it, with pauses between: when what was spent."""
    now, spent = 0.0, []
    for cost, pause in zip(costs, pauses, strict=True):
        now += pause
        while (delay := window.delay(now, cost)) > 0:
            now += delay
        window.spend(now, cost)
        spent.append((now, cost))
    return spent


def worst(spent: list[tuple[float, float]], seconds: float) -> float:
    """The most that falls into any window of so many seconds; the worst ones begin with a spending."""
    return max(sum(cost for at, cost in spent if start <= at < start + seconds - 1e-9) for start, _ in spent)


rates = st.builds(Rate, st.integers(1, 50), st.sampled_from([0.5, 1.0, 10.0, 300.0]))
pauses = st.lists(st.floats(0, 3), min_size=1, max_size=60)


class TestWindow:
    @given(rates, st.sampled_from([1.0, 0.5, 0.2]), pauses)
    def test_never_more_than_the_venue_allows_wherever_one_looks(self, rate: Rate, share: float, pauses: list[float]) -> None:
        spent = spend_all(Window(rate, share), [1.0] * len(pauses), pauses)
        assert worst(spent, rate.seconds) <= max(1.0, rate.count * share)

    @given(rates, st.lists(st.tuples(st.floats(0.1, 20), st.floats(0, 3)), min_size=1, max_size=40))
    def test_with_costs_of_any_size(self, rate: Rate, asked: list[tuple[float, float]]) -> None:
        """One that is larger than the whole window passes, but alone."""
        spent = spend_all(Window(rate), [cost for cost, _ in asked], [pause for _, pause in asked])
        assert worst(spent, rate.seconds) <= max(rate.count, *(cost for _, cost in spent))

    @given(rates, st.integers(1, 8))
    def test_parts_of_an_exchange_keep_to_its_limit_together(self, rate: Rate, parts: int) -> None:
        """A limit is the address's, however many processes ask."""
        together = [each for _ in range(parts) for each in spend_all(Window(rate, 1 / parts), [1.0] * 20, [0.0] * 20)]
        allowed = rate.count
        lasts = max(at for at, _ in together)
        assert len(together) <= allowed * (lasts / rate.seconds + 1) + parts

    @given(rates, pauses)
    def test_never_waits_without_need(self, rate: Rate, pauses: list[float]) -> None:
        """What is made to wait would have gone above the part of the limit that is used."""
        window, now = Window(rate), 0.0
        spent: list[float] = []
        for pause in pauses:
            now += pause
            if window.delay(now) > 0:
                recent = sum(1 for at in spent if at > now - rate.seconds)
                assert recent + 1 > rate.count * MARGIN
            else:
                window.spend(now)
                spent.append(now)

    def test_at_once_up_to_nine_tenths_then_when_the_first_is_forgotten(self) -> None:
        window = Window(Rate(10, 60))
        for second in range(9):
            assert window.delay(float(second)) == 0
            window.spend(float(second))
        assert window.delay(10.0) == 50
        assert window.delay(60.0) == 0

    def test_looking_costs_nothing(self) -> None:
        window = Window(Rate(2, 60))
        assert [window.delay(0.0) for _ in range(5)] == [0] * 5

    def test_a_venue_that_says_when_to_come_back_is_obeyed(self) -> None:
        window = Window(Rate(10, 1))
        window.block(100.0)
        window.block(50.0)
        assert window.delay(40.0) == 60
        assert window.delay(100.0) == 0

    def test_a_large_one_passes_alone(self) -> None:
        window = Window(Rate(10, 60))
        assert window.delay(0.0, 50) == 0
        window.spend(0.0, 50)
        assert window.delay(1.0, 1) == 59
        window.spend(60.0, 1)
        assert window.delay(61.0, 50) == 59

    @given(rates, st.lists(st.tuples(st.floats(0, 1), st.floats(0, 3), st.floats(0, 1)), min_size=1, max_size=40))
    def test_what_takes_a_while_may_arrive_at_any_time_of_it(self, rate: Rate, asked: list[tuple[float, float, float]]) -> None:
        """Handshakes overlap, and the venue counts each at a moment of its own, which nobody here knows."""
        window, now = Window(rate), 0.0
        underway: list[float] = []
        arrived = []

        def ends(now: float) -> None:
            for at in sorted(underway):
                if at <= now:
                    underway.remove(at)
                    window.end(at)

        for pause, takes, part in asked:
            now += pause
            ends(now)
            while (delay := window.delay(now)) > 0:
                now = min([now + delay, *underway])
                ends(now)
            window.begin()
            underway.append(now + takes)
            arrived.append((now + takes * part, 1.0))
        assert worst(arrived, rate.seconds) <= rate.count

    def test_forgets(self) -> None:
        """However long it lives, it remembers one window."""
        window = Window(Rate(5, 1))
        for second in range(10_000):
            assert window.delay(float(second)) == 0
            window.spend(float(second))
        assert len(window._spent) <= 2


# Backoff ------------------------------------------------------------------------------------------------------------------


class Highest(Random):
    """Jitter that is always at its upper end."""

    def uniform(self, a: float, b: float) -> float:
        return b


class TestBackoff:
    def test_the_limit_doubles_to_a_ceiling(self) -> None:
        backoff = Backoff(Highest(), base=0.5, cap=60.0)
        assert [backoff.after_failure(0.0) for _ in range(9)] == [1, 2, 4, 8, 16, 32, 60, 60, 60]

    def test_a_ceiling_also_after_a_year(self) -> None:
        backoff = Backoff(Highest(), base=0.5, cap=60.0)
        assert max(backoff.after_failure(0.0) for _ in range(5000)) == 60

    @given(st.integers(0, 2**32), st.floats(0.01, 5), st.floats(1, 300), st.integers(1, 80))
    def test_a_pause_is_within_its_limit(self, seed: int, base: float, cap: float, failures: int) -> None:
        backoff = Backoff(Random(seed), base=base, cap=cap)
        for number in range(1, failures + 1):
            assert 0 <= backoff.after_failure(0.0) <= min(cap, base * 2.0**number)

    def test_jitter_is_full(self) -> None:
        """A thousand clients of one venue do not come back in the same second."""
        pauses = []
        for seed in range(1000):
            backoff = Backoff(Random(seed), base=0.5, cap=60.0)
            for _ in range(10):
                pause = backoff.after_failure(0.0)
            pauses.append(pause)
        for part in range(6):
            assert 100 < sum(10 * part <= pause < 10 * part + 10 for pause in pauses) < 240

    def test_begins_anew_only_after_something_that_held(self) -> None:
        backoff = Backoff(Highest(), base=0.5, cap=60.0, stable=60.0)
        assert [backoff.after_failure(lasted) for lasted in (0, 0, 0, 59.9, 60.0, 0)] == [1, 2, 4, 8, 1, 2]


# Breaker ------------------------------------------------------------------------------------------------------------------


class TestBreaker:
    def broken(self, at: float = 100.0) -> Breaker:
        breaker = Breaker(threshold=3, probe_every=15.0)
        for _ in range(3):
            breaker.failed(at)
        return breaker

    def test_closed_it_lets_all_pass(self) -> None:
        breaker = Breaker(threshold=3)
        for _ in range(2):
            breaker.failed(0.0)
        assert not breaker.is_open
        assert [breaker.delay(0.0) for _ in range(5)] == [0] * 5

    def test_open_it_waits_and_then_lets_one_probe_at_a_time(self) -> None:
        breaker = self.broken()
        assert breaker.is_open
        assert breaker.delay(100.0) == 15
        assert breaker.delay(114.0) == 1
        assert [breaker.delay(115.0) for _ in range(3)] == [0, 15, 15]
        assert breaker.delay(130.0) == 0, "the next probe, should the first never be heard of"

    def test_a_probe_that_fails_leaves_it_open(self) -> None:
        breaker = self.broken()
        assert breaker.delay(115.0) == 0
        breaker.failed(116.0)
        assert breaker.is_open
        assert breaker.delay(116.0) == 14

    def test_one_success_closes_it(self) -> None:
        breaker = self.broken()
        breaker.succeeded()
        assert not breaker.is_open
        assert breaker.delay(101.0) == 0
        for _ in range(2):
            breaker.failed(102.0)
        assert not breaker.is_open, "and it takes as many failures again"

    @pytest.mark.parametrize("between", [0.1, 1.0, 14.9])
    def test_never_more_than_one_attempt_in_a_probing_time(self, between: float) -> None:
        breaker = self.broken(at=0.0)
        now, attempts = 0.0, []
        while now < 200:
            now += between
            if breaker.delay(now) == 0:
                attempts.append(now)
                breaker.failed(now)
        assert attempts
        assert all(after - before >= 15 for before, after in pairwise(attempts))
