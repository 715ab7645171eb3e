"""How often an address may ask."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from master.web import rate
from master.web.rate import BURST_SECONDS, Rate


def test_a_burst_and_then_as_it_comes_back() -> None:
    bucket = Rate(10.0)
    assert [bucket.take("192.0.2.1", 0.0) for _ in range(20)] == [0.0] * 20
    assert bucket.take("192.0.2.1", 0.0) == pytest.approx(0.1)
    assert bucket.take("192.0.2.1", 0.05) == pytest.approx(0.05), "what was refused has cost nothing"
    assert bucket.take("192.0.2.1", 0.11) == 0.0
    assert bucket.take("192.0.2.2", 0.11) == 0.0, "another address has its own"


def test_a_rate_below_one_still_lets_one_through() -> None:
    slow = Rate(0.1)
    assert slow.take("192.0.2.1", 0.0) == 0.0
    assert slow.take("192.0.2.1", 0.0) == pytest.approx(10.0)


def test_who_has_one_ipv6_address_has_its_network() -> None:
    one = Rate(0.5)
    assert one.take("2001:db8::1", 0.0) == 0.0
    assert one.take("2001:db8::2", 0.0) > 0.0


def test_no_more_addresses_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate, "MOST_ADDRESSES", 3)
    few = Rate(0.5)
    for number in range(10):
        few.take(f"192.0.2.{number}", 0.0)
    assert len(few._buckets) == 3
    assert few.take("192.0.2.9", 0.0) > 0.0, "the newest is remembered"
    assert few.take("192.0.2.0", 0.0) == 0.0, "the oldest is not"


@given(st.lists(st.floats(0, 0.5), max_size=200), st.floats(0.5, 50))
def test_never_more_than_burst_and_rate_allow(pauses: list[float], per_second: float) -> None:
    bucket, now, passed = Rate(per_second), 0.0, 0
    for pause in pauses:
        now += pause
        wait = bucket.take("192.0.2.1", now)
        passed += wait == 0.0
        assert passed <= max(1.0, per_second * BURST_SECONDS) + per_second * now + 1e-6
        assert wait * per_second <= 1.0 + 1e-9
