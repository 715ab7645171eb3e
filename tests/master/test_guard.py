"""Pauses after failed logins: longer for those who never had a key, short for a fleet, and never more memory than was meant."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from master import guard
from master.guard import BURST, FIRST_PAUSE, LONGEST_PAUSE, MOST_WAITING, MOST_WAITING_OF_ONE, TRUSTED_FOR, Guard

HERE, THERE = "192.0.2.1", "192.0.2.2"


def fail(one: Guard, address: str, now: float, times: int) -> list[float]:
    return [one.failed(address, now) for _ in range(times)]


class TestPauses:
    def test_some_failures_are_free(self) -> None:
        one = Guard()
        assert fail(one, HERE, 0.0, BURST - 1) == [0.0] * (BURST - 1)
        assert one.pause(HERE, 0.0) == 0.0

    def test_then_each_pause_is_twice_the_one_before_up_to_the_longest(self) -> None:
        one = Guard()
        now, pauses = 0.0, []
        for _ in range(1000):
            if pause := one.failed(HERE, now):
                pauses.append(pause)
                now += pause
        assert pauses[:7] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0]
        assert set(pauses[6:]) == {LONGEST_PAUSE}

    def test_a_pause_is_told_to_the_end_and_ends(self) -> None:
        one = Guard()
        fail(one, HERE, 0.0, BURST)
        assert [one.pause(HERE, now) for now in (0.0, 0.25, 1.0, 5.0)] == [1.0, 0.75, 0.0, 0.0]

    def test_those_who_were_let_in_before_do_not_make_it_longer(self) -> None:
        """A hundred connections that fail in the same moment are one failure of the configuration."""
        one = Guard()
        assert sum(fail(one, HERE, 0.0, 100)) == FIRST_PAUSE
        assert one.pause(HERE, 0.0) == FIRST_PAUSE

    def test_nobody_else_has_to_wait(self) -> None:
        one = Guard()
        fail(one, HERE, 0.0, 100)
        assert one.pause(THERE, 0.0) == 0.0

    def test_a_right_login_forgives_everything(self) -> None:
        one = Guard()
        fail(one, HERE, 0.0, 100)
        one.trust(HERE, 0.5)
        assert one.pause(HERE, 0.5) == 0.0
        assert fail(one, HERE, 0.5, BURST - 1) == [0.0] * (BURST - 1)

    def test_long_after_it_is_forgotten(self) -> None:
        one = Guard()
        fail(one, HERE, 0.0, 100)
        one.failed(HERE, 1.0)
        later = 1.0 + guard.FORGOTTEN_AFTER + 1.0
        assert fail(one, HERE, later, BURST)[-1] == FIRST_PAUSE, "as if for the first time"

    def test_a_fleet_behind_one_address_with_one_wrong_key_is_never_kept_out_for_long(self) -> None:
        """Forty connections with an old key fail for a minute; at no moment has a good one to wait for more than a second."""
        one = Guard()
        one.trust(HERE, 0.0)
        now = 0.0
        while now < 60.0:
            if one.pause(HERE, now) == 0.0:
                fail(one, HERE, now, 40)
            assert one.pause(HERE, now) <= FIRST_PAUSE
            now += 0.1

    def test_where_somebody_was_right_failures_are_forgiven_quickly(self) -> None:
        one = Guard()
        one.trust(HERE, 0.0)
        assert sum(fail(one, HERE, 0.0, BURST)) == FIRST_PAUSE
        assert fail(one, HERE, 1.0, 10) == [0.0] * 9 + [FIRST_PAUSE]

    def test_trust_ends(self) -> None:
        one = Guard()
        one.trust(HERE, 0.0)
        now = TRUSTED_FOR + 1.0
        fail(one, HERE, now, BURST)
        one.failed(HERE, now + 1.0)
        assert one.pause(HERE, now + 1.0) == 2 * FIRST_PAUSE

    @pytest.mark.parametrize(
        ("first", "second", "is_one"),
        [
            ("2001:db8::1", "2001:db8::ffff:1", True),
            ("2001:db8::1", "2001:db8:0:1::1", False),
            ("::ffff:192.0.2.1", "192.0.2.1", True),
            ("fe80::1%eth0", "fe80::2", True),
            ("?", "?", True),
            ("192.0.2.1", "192.0.2.2", False),
        ],
    )
    def test_a_network_of_one_owner_is_one(self, first: str, second: str, is_one: bool) -> None:
        one = Guard()
        fail(one, first, 0.0, BURST)
        assert (one.pause(second, 0.0) > 0.0) is is_one

    @given(st.lists(st.tuples(st.sampled_from("ft"), st.integers(0, 3), st.floats(0, 100)), max_size=60))
    def test_whatever_happens_a_pause_is_within_its_limits(self, steps: list[tuple[str, int, float]]) -> None:
        one, now = Guard(), 0.0
        trusted: dict[str, float] = {}
        for what, number, passed in steps:
            now += passed
            address = f"192.0.2.{number}"
            if what == "t":
                one.trust(address, now)
                trusted[address] = now + TRUSTED_FOR
            else:
                fail(one, address, now, 7)
            for each in (f"192.0.2.{other}" for other in range(4)):
                assert 0.0 <= one.pause(each, now) <= LONGEST_PAUSE
            if now < trusted.get(address, 0.0):
                assert one.pause(address, now) <= FIRST_PAUSE

    def test_memory_is_bounded_and_the_oldest_is_forgotten(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(guard, "MOST_ADDRESSES", 50)
        one = Guard()
        fail(one, HERE, 0.0, BURST)
        for number in range(49):
            one.failed(f"198.51.100.{number}", 0.0)
        assert one.pause(HERE, 0.0) > 0.0
        one.failed("198.51.100.200", 0.0)
        assert one.pause(HERE, 0.0) == 0.0
        assert len(one._records) == 50


class TestWaiting:
    def test_one_address_leaves_room_for_others(self) -> None:
        one = Guard()
        assert [one.enter(HERE) for _ in range(MOST_WAITING_OF_ONE + 1)] == [True] * MOST_WAITING_OF_ONE + [False]
        assert one.enter(THERE)
        one.leave(HERE)
        assert one.enter(HERE)

    def test_there_is_an_end_to_all_of_them(self) -> None:
        one = Guard()
        entered = [one.enter(f"192.0.2.{number % 200}") for number in range(MOST_WAITING + 5)]
        assert entered == [True] * MOST_WAITING + [False] * 5

    def test_who_has_gone_is_forgotten(self) -> None:
        one = Guard()
        for number in range(100):
            one.enter(f"192.0.2.{number}")
            one.leave(f"192.0.2.{number}")
        assert not one._waiting
