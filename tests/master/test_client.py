"""The Python client against a running master, over connections that break at any moment."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from random import Random

import pytest

from adapters.events import Ticker, Trade
from master.auth import LoginError
from master.client import Client, ConnectError, SubscriptionError
from master.consumers import Events, Lost, Snapshot, Subscribed
from master.protocol import new_stream
from tests.master.line import line
from tests.master.making import NOON, STREAM, batch, trade
from tests.master.running import KEY, Address, collector, running


async def heard(client: Client, wanted: int, cursor: str | None = None) -> list[str]:
    """The ids of so many trades, exactly."""
    found: list[str] = []
    async for message in client.subscribe("trades:kraken:*", cursor=cursor):
        assert not isinstance(message, Lost)
        if isinstance(message, Events):
            found += [event.id for event in message.events if isinstance(event, Trade)]
            if len(found) >= wanted:
                break
    assert len(found) == wanted
    return found


async def feed(master: Address, numbers: Iterator[int], batches: int) -> None:
    """A collector that goes on and on, on a stream of its own."""
    stream = new_stream()
    async with collector(master, stream) as source:
        for seq in range(1, batches + 1):
            await source.send(batch(seq, *(trade(next(numbers)) for _ in range(7)), stream=stream))
            await source.acked(stream, seq)


class TestClient:
    async def test_each_trade_once_and_in_order_whatever_breaks(self, tmp_path: Path) -> None:
        random, numbers, rounds, batches = Random(20), count(), 3, 40
        async with line() as (way, url):
            reading: asyncio.Task[list[str]] | None = None
            for _ in range(rounds):  # the master restarts between them
                async with running(tmp_path) as master:
                    way.port = master.port
                    if reading is None:
                        client = Client(url, KEY)
                        await client.__aenter__()
                        reading = asyncio.create_task(heard(client, rounds * batches * 7, "0"))
                    feeding = asyncio.create_task(feed(master, numbers, batches))
                    while not feeding.done():
                        await asyncio.sleep(random.uniform(0.0, 0.15))
                        way.cut()
                    await feeding
            assert reading is not None
            async with running(tmp_path) as master:
                way.port = master.port
                assert await reading == [str(number) for number in range(rounds * batches * 7)]
            assert way.cuts >= rounds
            await client.__aexit__()

    async def test_from_a_cursor_that_was_kept(self, tmp_path: Path) -> None:
        async with running(tmp_path) as master, collector(master, STREAM) as source:
            async with Client(master.url, KEY) as client:
                messages = client.subscribe("trades:*:*")
                first = await anext(messages)
                assert isinstance(first, Subscribed)
                await source.send(batch(1), batch(2))
                await source.acked(STREAM, 2)
            async with Client(master.url, KEY) as client:
                assert await heard(client, 2, first.cursor) == ["1", "2"]

    async def test_views_come_whole_again(self, tmp_path: Path) -> None:
        async with line() as (way, url), running(tmp_path) as master, collector(master, STREAM) as source:
            way.port = master.port
            await source.send(batch(1, Ticker("kraken", "BTC/USD", None, NOON, last="1")))
            await source.acked(STREAM, 1)
            async with Client(url, KEY) as client:
                snapshots = 0
                async for message in client.subscribe("tickers:kraken:*"):
                    if isinstance(message, Snapshot):
                        assert [event.symbol for event in message.events] == ["BTC/USD"]
                        snapshots += 1
                        way.cut()
                    if snapshots == 2:
                        break

    async def test_what_is_wrong_is_an_error_that_says_it(self, tmp_path: Path) -> None:
        async with running(tmp_path) as master:
            with pytest.raises(LoginError, match="consumer"):
                await Client(master.url, "wrong").__aenter__()
            async with Client(master.url, KEY) as client:
                with pytest.raises(SubscriptionError, match="no channel 'trade'"):
                    await anext(client.subscribe("trade:kraken:*"))
                with pytest.raises(RuntimeError):
                    await anext(client.subscribe("trades:kraken:*"))
        with pytest.raises(ConnectError, match="is the master running"):
            await Client(master.url, KEY).__aenter__()

    async def test_on_the_command_line(self, tmp_path: Path) -> None:
        async with running(tmp_path) as master, collector(master, STREAM) as source:
            command = (sys.executable, "-m", "master.client", master.url, "trades:kraken:*")
            environment = {**os.environ, "COLLECTOR_MASTER__KEY": KEY}
            child = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, env=environment)
            try:
                assert child.stdout is not None
                assert json.loads(await child.stdout.readline())["op"] == "subscribed"
                await source.send(batch(1))
                assert json.loads(await child.stdout.readline())["events"][0]["id"] == "1"
            finally:
                child.kill()
                await child.wait()


DOCUMENT = Path(__file__).parents[2] / "docs" / "streams.md"


@pytest.mark.parametrize(
    "example", re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL), ids=["client", "by-hand"]
)
async def test_the_examples_run_as_they_are_written(tmp_path: Path, example: str) -> None:
    async with running(tmp_path) as master, collector(master, STREAM) as source:
        command = (sys.executable, "-u", "-c", example.replace("ws://127.0.0.1:8766", master.url))
        environment = {**os.environ, "COLLECTOR_MASTER__KEY": KEY}
        child = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, env=environment)
        assert child.stdout is not None
        said: list[bytes] = []
        listening = asyncio.create_task(_listen(child.stdout, said))
        try:
            for seq in count(1):
                await source.send(batch(seq))
                await source.acked(STREAM, seq)
                if any(b".50" in each for each in said):
                    break
                assert child.returncode is None
                await asyncio.sleep(0.05)
        finally:
            child.kill()
            await child.wait()
            await listening


async def _listen(output: asyncio.StreamReader, said: list[bytes]) -> None:
    while told := await output.readline():
        said.append(told)
