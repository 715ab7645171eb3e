"""Collecting inside another program: a queue that stays within bounds however slowly it is read."""

import asyncio

import pytest

from adapters.events import Event, Gap, Status, Trade
from collector import embed
from collector.embed import Queue, stream
from collector.pending import Pressure
from master.settings import ConfigError
from tests.collector.making import AT, BTC, EXCHANGE, book, delta, ticker, trade
from tests.waiting import PATIENCE

SOME, FULL = 200, 1000


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embed, "PRESSURE_FROM", {Pressure.SOME: SOME, Pressure.FULL: FULL})


async def everything(queue: Queue) -> list[Event]:
    """All that can be taken."""
    taken: list[Event] = []
    while not await queue.drain(0.0):
        taken += await queue.take()
    return taken


class TestQueue:
    async def test_in_order(self) -> None:
        queue = Queue()
        put = queue.open(EXCHANGE, print)
        told: list[Event] = [trade(1), book(2), ticker(3), delta(4)]
        for event in told:
            put(event)
        assert await queue.take() == told

    async def test_whoever_waits_is_woken(self) -> None:
        queue = Queue()
        put = queue.open(EXCHANGE, print)
        taking = asyncio.create_task(queue.take())
        await asyncio.sleep(0)
        put(trade(1))
        async with asyncio.timeout(PATIENCE):
            assert await taking == [trade(1)]

    async def test_states_come_along(self) -> None:
        queue = Queue()
        status = Status(EXCHANGE, None, None, AT, "connection", "open", "")
        taking = asyncio.create_task(queue.take())
        await asyncio.sleep(0)
        queue.status(status)
        async with asyncio.timeout(PATIENCE):
            assert await taking == [status]

    async def test_never_more_than_so_much_waits(self) -> None:
        queue = Queue()
        put = queue.open(EXCHANGE, print)
        for number in range(10 * FULL):
            for event in (trade(number), book(number), ticker(number)):
                put(event)
            queue.status(Status(EXCHANGE, None, None, AT, "connection", "open", ""))
        assert len(queue._pending.events) <= FULL
        assert len(queue._pending._latest) == 2

    async def test_a_slow_reader_gets_every_trade_and_the_latest_views(self) -> None:
        queue = Queue()
        put = queue.open(EXCHANGE, print)
        for number in range(SOME + 100):
            put(trade(number))
            put(ticker(number))
        taken = await everything(queue)
        assert [event for event in taken if isinstance(event, Trade)] == [trade(number) for number in range(SOME + 100)]
        assert taken[-1] == ticker(SOME + 99)
        assert len(taken) < 2 * SOME + 100

    async def test_a_very_slow_one_a_gap_for_what_it_missed(self) -> None:
        queue = Queue()
        put = queue.open(EXCHANGE, print)
        for number in range(FULL + 500):
            put(trade(number))
        taken = await everything(queue)
        (gap,) = [event for event in taken if isinstance(event, Gap)]
        trades = [event for event in taken if isinstance(event, Trade)]
        assert trades == [trade(number) for number in range(FULL)]
        assert (gap.first_missing, gap.last_missing, gap.symbol) == (str(FULL), str(FULL + 499), BTC)

    async def test_when_it_is_back_everything_flows_again(self) -> None:
        queue = Queue()
        republished: list[str] = []
        put = queue.open(EXCHANGE, republished.append)
        for number in range(FULL):
            put(trade(number))
        put(delta(1))
        await everything(queue)
        assert republished == [BTC]
        put(delta(2))
        put(book(3))
        assert await queue.take() == [delta(2), book(3)]

    async def test_what_was_kept_back_is_not_forgotten_if_nothing_else_comes(self) -> None:
        queue = Queue()
        put = queue.open(EXCHANGE, print)
        for number in range(SOME):
            put(trade(number))
        put(book(1))
        assert len(await queue.take()) == SOME
        async with asyncio.timeout(PATIENCE):
            assert await queue.take() == [book(1)]


class TestStream:
    async def test_a_wrong_configuration_is_told_before_anything_begins(self) -> None:
        with pytest.raises(ConfigError, match="nothing to collect"):
            async for _ in stream({"exchanges": []}):
                pass

    async def test_from_a_file_that_is_not_there(self) -> None:
        with pytest.raises(ConfigError, match=r"nowhere\.json"):
            async for _ in stream("nowhere.json"):
                pass
