"""Streams to consumers: what they subscribe to, and what they hear. With a running master and real sockets."""

from pathlib import Path

from tests.master.making import STREAM, batch, trade
from tests.master.running import collector, running
from tests.master.streaming import consumer


class TestStreams:
    async def test_trades_come_as_they_are_stored(self, tmp_path: Path) -> None:
        async with running(tmp_path) as master, collector(master, STREAM) as source, consumer(master) as one:
            answer = await one.subscribe("trades:kraken:BTC/USD")
            assert answer["streams"] == ["trades:kraken:BTC/USD"]
            assert answer["views"] == []
            await source.send(batch(1, trade(1), trade(2, exchange="okx"), trade(3)))
            found = await one.events(2)
            assert [each["id"] for each in found] == ["1", "3"]
            await source.send(batch(2, trade(4)))
            assert [each["id"] for each in await one.events(1)] == ["4"]

    async def test_a_cursor_leads_on(self, tmp_path: Path) -> None:
        async with running(tmp_path) as master, collector(master, STREAM) as source:
            async with consumer(master) as one:
                cursor = (await one.subscribe("trades:kraken:*"))["cursor"]
            await source.send(batch(1, trade(1), trade(2, exchange="okx"), trade(3)))
            await source.acked(STREAM, 1)
            async with consumer(master) as one:
                await one.subscribe("trades:kraken:*", cursor=cursor)
                assert [each["id"] for each in await one.events(2)] == ["1", "3"]
                await source.send(batch(2, trade(4)))
                assert [each["id"] for each in await one.events(1)] == ["4"]
