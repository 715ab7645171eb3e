"""Durable events reach whoever serves them once and in order, in parts that let others have a turn."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.events import Event, Trade
from master.relay import PART, SHARE, Relay
from tests.waiting import until


def trades(first: int, count: int) -> list[Event]:
    return [Trade("okx", "BTC/USD", None, number, str(number), "1", "1", "buy") for number in range(first, first + count)]


class Listener:
    """Hears, and remembers the parts: positions, and what was said at each."""

    def __init__(self) -> None:
        self.parts: list[list[int]] = []
        self.positions: list[int] = []

    def hear(self, events: Sequence[Event], position: int) -> None:
        self.parts.append([event.received for event in events])
        self.positions += range(position, position + len(events))

    @property
    def heard(self) -> list[int]:
        return [number for part in self.parts for number in part]


def tell(relay: Relay, sizes: list[int], first: int = 1) -> int:
    """Batches of these sizes, of events whose `received` is their position: the position behind them."""
    for size in sizes:
        relay.hear(trades(first, size), first)
        first += size
    return first


@given(sizes=st.lists(st.integers(0, 3 * PART), max_size=20))
async def test_each_event_once_in_order_and_at_its_position(sizes: list[int]) -> None:
    one, other = Listener(), Listener()
    relay = Relay([one.hear, other.hear])
    running = asyncio.create_task(relay.run())
    end = tell(relay, sizes)
    await until(lambda: not relay.waiting)
    running.cancel()
    for each in (one, other):
        assert each.heard == each.positions == list(range(1, end))


async def test_others_have_their_turn_between_the_parts_of_a_large_batch() -> None:
    listener, turns = Listener(), 0
    relay = Relay([listener.hear])
    tell(relay, [20 * PART])
    running = asyncio.create_task(relay.run())
    while relay.waiting:
        await asyncio.sleep(0)
        turns += 1
    running.cancel()
    assert turns >= len(listener.parts) > SHARE
    assert max(map(len, listener.parts)) <= max(PART, 20 * PART // SHARE)


async def test_what_waits_stays_bounded_while_more_comes_than_a_part() -> None:
    relay = Relay([Listener().hear])
    running = asyncio.create_task(relay.run())
    first, most = 1, 0
    for _ in range(200):
        first = tell(relay, [10 * PART], first)
        await asyncio.sleep(0)
        most = max(most, relay.waiting)
    running.cancel()
    assert most <= 10 * PART * SHARE


async def test_at_the_end_everything_is_told_at_once() -> None:
    listener = Listener()
    relay = Relay([listener.hear])
    end = tell(relay, [5 * PART, 0, 7])
    relay.finish()
    assert listener.heard == list(range(1, end))
    assert relay.waiting == 0


async def test_an_audience_that_fails_is_not_passed_over() -> None:
    def fail(_: Sequence[Event], __: int) -> None:
        raise ValueError("what it heard")

    relay = Relay([fail])
    tell(relay, [1])
    with pytest.raises(ValueError, match="what it heard"):
        await relay.run()
