"""The Python client against a running master, over connections that break at any moment."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from functools import partial
from itertools import count
from pathlib import Path
from random import Random

import pytest

from adapters.events import Ticker, Trade
from master import client as of_client
from master.auth import LoginError
from master.client import Client, ConnectError, SubscriptionError
from master.protocol import new_stream
from master.streams.consumers import Events, Lost, Snapshot, Subscribed
from tests.master.line import Line, line
from tests.master.making import NOON, STREAM, batch, trade
from tests.master.running import KEY, Address, collector, ids, running
from tests.waiting import until

PACE = 0.005
"""Seconds between two batches: enough of them for the test, and no more to read again than that takes."""


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


async def read(client: Client, found: list[str]) -> None:
    """All trades since the beginning, for ever."""
    async for message in client.subscribe("trades:kraken:*", cursor="0"):
        assert not isinstance(message, Lost)
        if isinstance(message, Events):
            found += [event.id for event in message.events if isinstance(event, Trade)]


async def feed(master: Address, numbers: Iterator[int]) -> None:
    """A collector that goes on and on, on a stream of its own."""
    stream = new_stream()
    async with collector(master, stream) as source:
        for seq in count(1):
            await source.send(batch(seq, *(trade(next(numbers)) for _ in range(7)), stream=stream))
            await source.acked(stream, seq)
            await asyncio.sleep(PACE)


def _brings_more(way: Line, found: list[str], before: int) -> bool:
    return way.is_used and len(found) > before


class TestClient:
    async def test_each_trade_once_and_in_order_whatever_breaks(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(of_client, "FIRST_PAUSE", 0.01)
        random, numbers, found = Random(20), count(), list[str]()
        async with AsyncExitStack() as stack:
            way, url = await stack.enter_async_context(line())
            reading = asyncio.create_task(read(Client(url, KEY), found))  # it waits for the first master as for each other
            for life in range(1, 4):
                async with running(tmp_path) as master:
                    way.port = master.port
                    feeding = asyncio.create_task(feed(master, numbers))
                    while way.cuts < life * 3:
                        await until(partial(_brings_more, way, found, len(found)), "a connection that brings something")
                        await asyncio.sleep(random.uniform(0.0, 0.06))
                        way.cut()
                    feeding.cancel()
                    await asyncio.wait([feeding])
            async with running(tmp_path) as master:
                way.port = master.port
                stored = ids(tmp_path)
                await until(lambda: len(found) >= len(stored), "the last trades")
            reading.cancel()
            await asyncio.wait([reading])
        assert found == [str(number) for number in stored]
        assert stored == list(range(len(stored)))

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
            if child.returncode is None:
                child.kill()
            await child.wait()
            await listening


async def _listen(output: asyncio.StreamReader, said: list[bytes]) -> None:
    while told := await output.readline():
        said.append(told)
