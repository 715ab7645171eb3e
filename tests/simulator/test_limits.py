"""Windows and buckets, on a clock that the test owns."""

from hypothesis import given
from hypothesis import strategies as st

from simulator.limits import Bucket, FixedWindow, RollingWindow

times = st.lists(st.floats(0, 30), max_size=60).map(sorted)


def test_fixed_window_counts_weight_and_starts_with_its_first_use() -> None:
    window = FixedWindow(10, 60.0)
    assert window.take(100.0, 6)
    assert not window.take(101.0, 5)
    assert window.used == 6, "what is refused is not counted"
    assert window.take(159.9, 4)
    assert window.resets_in(150.0) == 10.0
    assert window.take(160.0, 10)


def test_rolling_window_forgets_one_by_one() -> None:
    window = RollingWindow(2, 1.0)
    assert window.take(0.0)
    assert window.take(0.6)
    assert not window.take(0.9)
    assert window.resets_in(0.9) == 0.1 or abs(window.resets_in(0.9) - 0.1) < 1e-9
    assert window.take(1.0)
    assert not window.take(1.5)
    assert window.take(1.6)


def test_bucket_lets_a_burst_through_and_then_its_rate() -> None:
    bucket = Bucket(3, 1.0)
    assert [bucket.take(0.0) for _ in range(4)] == [True, True, True, False]
    assert bucket.take(1.0)
    assert not bucket.take(1.5)


@given(times)
def test_a_rolling_window_never_holds_more_than_its_limit(moments: list[float]) -> None:
    window = RollingWindow(5, 3.0)
    taken = [moment for moment in moments if window.take(moment)]
    assert all(sum(start < moment <= start + 3.0 for moment in taken) <= 5 for start in taken)


@given(times)
def test_a_bucket_never_gives_more_than_its_burst_and_rate(moments: list[float]) -> None:
    bucket = Bucket(4, 2.0)
    taken = [moment for moment in moments if bucket.take(moment)]
    for i, first in enumerate(taken):
        for j in range(i, len(taken)):
            assert j - i + 1 <= 4 + 2.0 * (taken[j] - first) + 1e-6
