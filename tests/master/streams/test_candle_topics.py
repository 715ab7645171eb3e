"""Candles to consumers, with a running master and real sockets; what time it is the test says."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from msgspec.structs import replace

from adapters.events import Trade
from master import recall, serving
from master.history.questions import MINUTE, SECOND
from master.streams import candle_topics, outlet
from tests.master.making import NOON, STREAM, batch, trade
from tests.master.running import collector, reader_of, running
from tests.master.streaming import Consumer, consumer, rig
from tests.waiting import PATIENCE, until


class Clock:
    """Microseconds UTC."""

    def __init__(self) -> None:
        self.now = NOON

    def time_ns(self) -> int:
        return self.now * 1000


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (candle_topics, serving, recall):
        monkeypatch.setattr(module, "time_ns", clock.time_ns)
    return clock


def made(at: int, price: str, exchange: str = "kraken") -> Trade:
    return replace(trade(0, exchange=exchange), timestamp=at, received=at, price=price)


def shown(candle: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(candle[name] for name in ("exchange", "open", "high", "low", "close", "volume", "trades", "closed"))


async def snapshot(one: Consumer, *topics: str) -> list[tuple[Any, ...]]:
    await one.subscribe(*topics)
    return [shown(each) for each in (await one.hear("snapshot"))["events"]]


async def told(one: Consumer, count: int = 1) -> list[tuple[Any, ...]]:
    return [shown(each) for each in await one.events(count, "views")]


class TestCandles:
    async def test_the_one_under_way_its_changes_its_end_and_a_correction(self, tmp_path: Path, clock: Clock) -> None:
        async with running(tmp_path) as master, collector(master, STREAM) as source, consumer(master) as one:
            await source.send(batch(1, made(NOON + 1, "5"), made(NOON + 2, "7")))
            await source.acked(STREAM, 1)
            answer = await one.subscribe("candles:1m:kraken:BTC/USD")
            assert (answer["streams"], answer["views"]) == ([], ["candles:1m:kraken:BTC/USD"])
            (first,) = (await one.hear("snapshot"))["events"]
            assert (first["type"], first["interval"], first["start"]) == ("candle", "1m", NOON)
            assert shown(first) == ("kraken", "5", "7", "5", "7", "0.2", 2, False)
            assert first["position"] == int(answer["cursor"])
            await source.send(batch(2, made(NOON + 3, "4"), made(NOON + 3, "9", "okx")))
            assert await told(one) == [("kraken", "5", "7", "4", "4", "0.3", 3, False)]
            clock.now += MINUTE
            assert await told(one) == [("kraken", "5", "7", "4", "4", "0.3", 3, True)]
            await source.send(batch(3, made(NOON, "3"), made(NOON + MINUTE, "8")))
            assert await told(one, 2) == [
                ("kraken", "3", "7", "3", "4", "0.4", 4, True),
                ("kraken", "8", "8", "8", "8", "0.1", 1, False),
            ]

    async def test_over_all_exchanges(self, tmp_path: Path, clock: Clock) -> None:
        async with running(tmp_path) as master, collector(master, STREAM) as source, consumer(master) as one:
            assert await snapshot(one, "candles:1s:all:BTC/USD", "candles:1s:okx:BTC/USD") == []
            await source.send(batch(1, made(NOON + 2, "5"), made(NOON + 1, "7", "okx"), trade(3, symbol="ETH/USD")))
            assert sorted(await told(one, 2)) == [
                ("", "7", "7", "5", "5", "0.2", 2, False),
                ("okx", "7", "7", "7", "7", "0.1", 1, False),
            ]

    async def test_in_a_first_life_the_one_under_way_is_told_since_nothing_is_stored_of_before(
        self, tmp_path: Path, clock: Clock
    ) -> None:
        clock.now += 1
        async with running(tmp_path) as master, collector(master, STREAM) as source, consumer(master) as one:
            await source.send(batch(1, made(NOON + 2, "5")))
            await source.acked(STREAM, 1)
            assert await snapshot(one, "candles:1m:kraken:BTC/USD") == [("kraken", "5", "5", "5", "5", "0.1", 1, False)]

    async def test_while_what_was_before_is_not_known_none_is_told_that_began_before(
        self, tmp_path: Path, clock: Clock
    ) -> None:
        async with running(tmp_path) as master, collector(master, STREAM) as source:
            await source.send(batch(1, made(NOON + 1, "4")))
            await source.acked(STREAM, 1)
        clock.now += SECOND
        async with running(tmp_path) as master, consumer(master) as one, collector(master, STREAM) as source:
            await until(lambda: reader_of(tmp_path), "it to ask what was before")
            asked = reader_of(tmp_path)
            assert asked is not None
            os.kill(asked, signal.SIGSTOP)
            await source.send(batch(2, made(NOON + 2, "5")))
            await source.acked(STREAM, 2)
            assert await snapshot(one, "candles:1m:kraken:BTC/USD") == []
            os.kill(asked, signal.SIGCONT)
            assert await told(one) == [("kraken", "4", "5", "4", "5", "0.2", 2, False)]

    async def test_the_hour_before_a_restart_is_known_again(self, tmp_path: Path, clock: Clock) -> None:
        async with running(tmp_path) as master, collector(master, STREAM) as source:
            await source.send(batch(1, made(NOON + 2, "5"), made(NOON + 1, "6")))
            await source.acked(STREAM, 1)
        clock.now += SECOND
        async with running(tmp_path) as master, consumer(master) as one, collector(master, STREAM) as source:
            async with asyncio.timeout(PATIENCE):
                while not (found := await snapshot(one, "candles:15m:all:BTC/USD")):
                    await one.say("unsubscribe", topics=["candles:15m:all:BTC/USD"])
                    await one.hear("unsubscribed")
            assert found == [("", "6", "6", "5", "5", "0.2", 2, False)]
            await source.send(batch(2, made(NOON + 3, "7")))
            assert await told(one) == [("", "6", "7", "5", "7", "0.3", 3, False)]

    async def test_a_pattern_is_refused(self, tmp_path: Path) -> None:
        async with running(tmp_path) as master, consumer(master) as one:
            answer = await one.refused("subscribe", topics=["candles:1m:*:BTC/USD"])
            assert (answer["code"], "candles:INTERVAL:EXCHANGE:SYMBOL" in answer["change"]) == ("topic", True)


class TestListening:
    TOPIC = "candles:1m:kraken:BTC/USD"

    async def test_one_that_comes_later_hears_what_the_others_hear_and_each_once(self, clock: Clock) -> None:
        async with rig() as here, here.consumer() as one, here.consumer() as other:
            assert await snapshot(one, self.TOPIC) == []
            here.tell(made(NOON, "5"))
            now = ("kraken", "5", "5", "5", "5", "0.1", 1, False)
            assert await snapshot(other, self.TOPIC) == [now]
            assert await told(one) == [now]
            clock.now += MINUTE
            for each in (one, other):
                assert await told(each) == [(*now[:-1], True)]

    async def test_nobody_looks_while_nobody_listens(self, clock: Clock) -> None:
        async with rig() as here:
            async with here.consumer() as one, here.consumer() as other:
                for each in (one, other):
                    await snapshot(each, self.TOPIC)
                await one.say("unsubscribe", topics=[self.TOPIC])
                await one.hear("unsubscribed")
                here.tell(made(NOON, "5"))
                assert len(await told(other)) == 1
                number = await one.say("ping")
                assert (await one.hear("pong"))["id"] == number, "and no candle before it"
                assert here.candles._watches
            await until(lambda: not here.fanout.clients)
            assert not here.candles._watches
            assert here.fanout._candles._looking is None

    async def test_of_what_waits_the_newest_state_of_each_candle_is_told(self, clock: Clock) -> None:
        async with rig() as here, here.consumer() as one:
            await one.subscribe(self.TOPIC, "tickers:*:*", conflate_ms=600)
            await one.hear("snapshot")
            here.tell(made(NOON, "1"))
            assert len(await told(one)) == 1  # the next message is a while from here
            for number in (2, 3):
                here.tell(made(NOON + 1, str(number)), made(NOON + MINUTE, str(number)))
                async with here.consumer() as other:  # whoever begins to listen has what is new told to all
                    await other.subscribe(self.TOPIC)
            latest: dict[int, tuple[str, int]] = {}
            states = 0
            while states < 4:
                found = await one.hear("views")
                states += len(found["events"]) + found["conflated"]
                latest |= {each["start"] - NOON: (each["close"], each["trades"]) for each in found["events"]}
            assert (states, latest) == (4, {0: ("3", 3), MINUTE: ("3", 2)})

    async def test_what_waits_is_not_written_after_the_end_of_listening(self, clock: Clock) -> None:
        async with rig() as here, here.consumer() as one, here.consumer() as other:
            await one.subscribe(self.TOPIC, conflate_ms=60_000)
            await one.hear("snapshot")
            here.tell(made(NOON, "1"))
            assert len(await told(one)) == 1
            here.tell(made(NOON, "2"))
            await other.subscribe(self.TOPIC)
            (sending,) = (each for each in here.fanout.clients if each.conflate_seconds)
            assert sending._views
            await one.say("unsubscribe", topics=[self.TOPIC])
            await one.hear("unsubscribed")
            assert not sending._views

    async def test_one_for_whom_too_many_wait_is_sent_away(self, clock: Clock) -> None:
        with patch.object(outlet, "MOST_VIEWS", 20):
            async with rig() as here, here.consumer() as one:
                await one.subscribe("candles:1s:kraken:BTC/USD")
                await one.hear("snapshot")
                here.tell(*(made(NOON + number * SECOND, "1") for number in range(21)))
                assert [each["op"] for each in await one.rest()] == ["bye"]
                assert one.socket.close_code == 1013
                assert here.fanout.figures.slow == 1
