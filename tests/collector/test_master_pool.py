"""MasterPool against a real master: what is acknowledged is stored, once, always."""

import asyncio
import shutil
from pathlib import Path

import pytest

from collector.master_pool import MasterPool
from collector.spool import Spool
from tests.collector.line import line
from tests.collector.pooling import SYMBOLS, Source, acked, pool
from tests.disk import Disk
from tests.master.running import ask, ids, process, running
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("impatient")


async def more_acked(one: MasterPool, than: int) -> None:
    await until(lambda: acked(one) > than, "some of it acknowledged")


def all_of(told: int, data: Path) -> None:
    """Everything that was told is stored, once; and in order within each market."""
    found = ids(data)
    assert sorted(found) == list(range(1, told + 1))
    for symbol in SYMBOLS:
        of_market = ids(data, f"symbol = '{symbol}'")
        assert of_market == sorted(of_market)
    assert ask(data, "SELECT count(*) FROM gaps") == [(0,)]


class TestDelivery:
    async def test_everything_is_stored_once(self, data: Path) -> None:
        async with running(data) as master, pool(master.url) as one:
            source = Source(one)
            for _ in range(20):
                source.tell(100)
                await asyncio.sleep(0.001)
            assert await one.outbox.drain(10.0)
            assert acked(one) == 2000
            assert one.live == 3
        all_of(2000, data)

    async def test_what_an_earlier_life_has_counted_is_not_counted_again(self, data: Path, tmp_path: Path) -> None:
        async with running(data) as master:
            async with pool(master.url, spool=Spool(tmp_path / "spool")) as one:
                await until(lambda: one.live)
                Source(one).tell(500)
                assert await one.outbox.drain(10.0)
                assert acked(one) == 500
                shutil.copytree(tmp_path / "spool", tmp_path / "as a kill leaves it")
            async with pool(master.url, spool=Spool(tmp_path / "as a kill leaves it")) as two:
                assert two.outbox.held_events == 500
                assert await two.outbox.drain(10.0)
                assert acked(two) == 0
        all_of(500, data)

    async def test_a_master_that_comes_later(self, data: Path, port: int) -> None:
        async with pool(f"ws://127.0.0.1:{port}") as one:
            source = Source(one)
            source.tell(500)
            await until(lambda: one.outbox.held_bytes)
            assert one.live == 0
            async with running(data, port=port):
                assert await one.outbox.drain(10.0)
        all_of(500, data)

    async def test_a_master_that_ends_and_comes_back_again_and_again(self, data: Path, port: int) -> None:
        async with pool(f"ws://127.0.0.1:{port}") as one:
            source = Source(one)
            for _ in range(4):
                async with running(data, port=port):
                    source.tell(300)
                    await more_acked(one, than=acked(one))
                    source.tell(100)
            async with running(data, port=port):
                assert await one.outbox.drain(10.0)
        all_of(source.told, data)

    async def test_connections_that_break_under_way(self, data: Path) -> None:
        """Cut without a word, one after the other, while everything flows."""
        async with running(data) as master, line(master.port) as (network, url), pool(url, connections=4) as one:
            source = Source(one)
            for number in range(60):
                source.tell(60)
                await asyncio.sleep(0.004)
                network.cut(number)
            assert network.cuts > 20
            assert await one.outbox.drain(10.0)
        all_of(source.told, data)

    async def test_a_disk_that_refuses_for_a_while(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("master.ingest.JOURNAL_RETRY", 0.02)
        disk = Disk(monkeypatch)
        async with running(data) as master, pool(master.url) as one:
            source = Source(one)
            source.tell(300)
            await until(lambda: acked(one) == 300)
            disk.is_full = True
            source.tell(300)
            await until(lambda: one.live == 0, "all connections refused")
            await asyncio.sleep(0.1)
            assert acked(one) == 300
            disk.is_full = False
            source.tell(300)
            assert await one.outbox.drain(10.0)
        all_of(900, data)

    async def test_a_master_that_is_killed_while_everything_flows(self, data: Path, port: int) -> None:
        """kill -9; what was acknowledged is on disk, and what was not comes again."""
        async with pool(f"ws://127.0.0.1:{port}") as one:
            source = Source(one)
            for _ in range(2):
                with process(data, port=port) as (started, _):
                    source.tell(2000)
                    await more_acked(one, than=acked(one))
                    started.kill()
                    assert len(ids(data)) >= acked(one)
                source.tell(100)
            with process(data, port=port) as (started, _):
                assert await one.outbox.drain(15.0)
                code, said = await asyncio.to_thread(started.end)
                assert code == 0, said
        all_of(4200, data)
