"""Collector to NATS to master, with a real server that is killed, and programs that are killed: everything is stored once."""

import asyncio
import shutil
from pathlib import Path

import pytest

from collector.engine import FencedError
from collector.jetstream import JetStream
from tests.jetstream.making import Source, acked, all_of, sections, until_stored
from tests.jetstream.nats import Server, client, engine, needs_server, until_empty
from tests.master.running import ask, process, running
from tests.waiting import until

pytestmark = needs_server


async def test_everything_is_stored_once_and_leaves_the_queue(data: Path, nats: Server) -> None:
    async with running(data, sections=sections(nats)) as master, engine(nats.access, exchanges=("kraken", "okx")) as one:
        source = Source(one, "kraken", "okx")
        for _ in range(20):
            source.tell(100)
            await asyncio.sleep(0.001)
        assert await one.outbox.drain(10.0)
        assert acked(one) == 2000
        assert one.live == 1
        assert one.trouble is None
        async with client(nats) as other:
            await until_empty(other)
        health = await master.health()
        assert health["nats"] == {"trouble": None, "exchanges": ["kraken", "okx"], "published": 0, "left_out": 0}
        assert "master_nats_up 1.0" in await master.metrics()
    all_of(2000, data)
    assert ask(data, "SELECT count(*) FROM gaps") == [(0,)]


async def test_a_server_that_is_killed_while_everything_flows(data: Path, nats: Server, tmp_path: Path) -> None:
    async with running(data, sections=sections(nats)), engine(nats.access, spool=tmp_path / "spool") as one:
        source = Source(one)
        for _ in range(3):
            source.tell(500)
            await until(lambda: acked(one) > source.told - 500, "some is acknowledged")
            source.tell(500)
            nats.kill()
            source.tell(500)
            nats.start()
        assert await one.outbox.drain(20.0)
        await until_stored(source.told, data)
    all_of(source.told, data)
    assert ask(data, "SELECT count(*) FROM gaps") == [(0,)]


async def test_a_master_that_is_killed_while_everything_flows(data: Path, nats: Server) -> None:
    async with engine(nats.access) as one:
        source = Source(one)
        with process(data, sections(nats)) as (started, _):
            source.tell(2000)
            await until_stored(1, data)
            source.tell(2000)
            started.kill()
        source.tell(500)
        assert await one.outbox.drain(10.0)
        async with running(data, sections=sections(nats)):
            await until_stored(source.told, data)
    all_of(source.told, data)
    assert ask(data, "SELECT count(*) FROM gaps") == [(0,)]


async def test_a_worker_that_is_killed_sends_again_what_its_spool_holds(data: Path, nats: Server, tmp_path: Path) -> None:
    """Also what the server has already: that is not counted again, and not stored again."""
    spool, left = tmp_path / "spool", tmp_path / "as a kill leaves it"
    async with running(data, sections=sections(nats)):
        async with engine(nats.access, spool=spool) as one:
            Source(one).tell(500)
            assert await one.outbox.drain(10.0)
            shutil.copytree(spool, left)
        async with engine(nats.access, spool=left) as two:
            assert two.outbox.held_events == 500
            Source(two, told=500).tell(100)
            assert await two.outbox.drain(10.0)
            assert acked(two) == 100
        await until_stored(600, data)
    all_of(600, data)


async def test_a_reborn_worker_hears_what_is_stored(data: Path, nats: Server) -> None:
    """Everything that was published before it asked, also what the master had not read yet."""
    async with running(data, sections=sections(nats)):
        async with engine(nats.access) as one:
            Source(one).tell(10)
            await until_stored(10, data)
            Source(one, told=10).tell(500)
            assert await one.outbox.drain(10.0)
        async with engine(nats.access) as two:
            await until(two.known.done, "an answer")
            last = {symbol: int(each.id) for symbol, each in two.known_of("kraken").trades.items()}
    assert sorted(last.values()) == [506, 507, 508, 509, 510]


async def test_without_a_master_a_worker_begins_without_knowing(nats: Server) -> None:
    async with engine(nats.access) as one:
        await until(one.known.done, "no answer is one too")
        assert one.known_of("kraken").trades == {}


async def test_of_two_processes_with_one_name_the_older_ends(nats: Server) -> None:
    old = JetStream(nats.access, 1, "host-0", ("kraken",))
    ended = asyncio.create_task(old.run())
    await until(lambda: old.live)
    async with engine(nats.access) as new:
        with pytest.raises(FencedError, match="host-0"):
            await asyncio.wait_for(ended, 20.0)
        await until(lambda: new.live)
