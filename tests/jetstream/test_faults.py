"""A full queue, a full disk, a slow one, what comes twice, what was removed, and doors that are locked."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Event as Flag
from typing import Any

import nkeys
import pytest

from master.jetstream.access import Access
from master.jetstream.link import Link, LinkError, linked
from master.jetstream.settings import JetStreamSettings, Market, Queue, Republish
from master.jetstream.streams import StreamError, reconcile
from master.segments import SegmentWriter
from tests.disk import Disk
from tests.hearing import events, logs
from tests.jetstream.making import Source, acked, all_of, sections, until_stored
from tests.jetstream.nats import Server, client, engine, needs_server, server, until_empty
from tests.master.making import batch, trade
from tests.master.running import ask, running
from tests.master.test_tls import authority
from tests.waiting import PATIENCE, until

pytestmark = needs_server


@asynccontextmanager
async def streams(of: Server, max_gb: float = 1.0) -> AsyncIterator[None]:
    """The server has its streams, and no master reads yet."""
    async with client(of) as link:
        await reconcile(link.js, JetStreamSettings(servers=(of.url,), queue=Queue(max_gb=max_gb)))
    yield


async def test_a_full_queue_leaves_batches_in_the_spool_until_a_master_reads(data: Path, nats: Server, tmp_path: Path) -> None:
    small = {"queue": {"max_gb": 0.0002}}
    with logs() as said:
        await _fill_and_read(data, nats, tmp_path, small)
    waits = [line["reason"] for line in said if line["event"] == "batches wait"]
    assert len([each for each in waits if "10077" in each]) == 1
    all_of(ask(data, "SELECT max(id::INT) FROM trades")[0][0], data)
    assert ask(data, "SELECT count(*) FROM gaps") == [(0,)]


async def _fill_and_read(data: Path, nats: Server, tmp_path: Path, small: dict[str, Any]) -> None:
    async with streams(nats, 0.0002), engine(nats.access, spool=tmp_path / "spool") as one:
        source = Source(one)
        while one.trouble is None:
            source.tell(200)
            await asyncio.sleep(0.01)
        source.tell(1000)
        assert "10077" in one.trouble
        assert "make room" in one.trouble
        had = acked(one)
        await asyncio.sleep(0.2)
        assert acked(one) == had < source.told
        async with running(data, sections=sections(nats, **small)):
            assert await one.outbox.drain(20.0)
            await until_stored(source.told, data)
        assert one.trouble is None
        assert acked(one) == source.told


async def test_what_was_removed_from_the_queue_is_told(data: Path, nats: Server) -> None:
    async with streams(nats), engine(nats.access, lanes=1) as one:
        source = Source(one)
        source.tell(100)
        await until(lambda: acked(one) == 100)
        async with client(nats) as link:
            lost = (await link.js.stream_info("batch")).state.messages
            await link.js.purge_stream("batch")
        source.tell(100)
        await until(lambda: acked(one) == 200)
        async with running(data, sections=sections(nats)):
            await until_stored(100, data)
    assert ask(data, "SELECT min(id::INT), max(id::INT), count(*) FROM trades") == [(101, 200, 100)]
    ((channel, reason, first, last),) = ask(data, "SELECT channel, reason, first_missing, last_missing FROM gaps")
    assert (channel, first, last) == ("delivery", "1", str(lost))
    assert reason.startswith("no longer held by worker host-0")


async def test_what_is_published_twice_is_stored_once(data: Path, nats: Server) -> None:
    """With an id the server drops it, without one the master does; what is no batch harms nobody."""
    async with running(data, sections=sections(nats)), client(nats) as link:
        await until_made(link.js)
        for seq in (1, 1, 2, 2, 3):
            await link.js.publish("batch.kraken.0", batch(seq, trade(seq)).data)
        for _ in range(2):
            ack = await link.js.publish("batch.kraken.0", batch(4, trade(4)).data, headers={"Nats-Msg-Id": "the same"})
        assert ack.duplicate
        await link.js.publish("batch.kraken.0", b"what is this?")
        await until_stored(4, data)
        await until_empty(link)
    all_of(4, data)


async def until_made(js: object) -> None:
    async with asyncio.timeout(20.0):
        while "batch" not in {each.config.name for each in await js.streams_info()}:  # type: ignore[attr-defined]
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("seconds_between_looks", [0.25, 2.0])
async def test_a_masters_disk_that_refuses_for_a_while(
    data: Path, nats: Server, monkeypatch: pytest.MonkeyPatch, seconds_between_looks: float
) -> None:
    """What was taken and could not be kept is in the queue still; also where all is well again before the reader looks."""
    monkeypatch.setattr("master.jetstream.consumer.SETTLE_EVERY", seconds_between_looks)
    monkeypatch.setattr("master.ingest.JOURNAL_RETRY", 0.02)
    disk = Disk(monkeypatch)
    with logs() as said:
        async with running(data, sections=sections(nats)), engine(nats.access) as one:
            source = Source(one)
            source.tell(300)
            await until_stored(300, data)
            disk.is_full = True
            source.tell(300)
            await until(lambda: disk.refused)
            disk.is_full = False
            await until(lambda: "writing again" in events(said))
            source.tell(300)
            await until_stored(900, data)
    all_of(900, data)
    assert ask(data, "SELECT count(*) FROM gaps") == [(0,)]


async def test_what_is_not_on_disk_yet_is_not_acknowledged(data: Path, nats: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """While an fsync takes its time, the queue keeps everything, however often acknowledgements would be due."""
    sync, begun, may_end = SegmentWriter.sync, Flag(), Flag()

    def slow(writer: SegmentWriter) -> None:
        begun.set()
        may_end.wait(PATIENCE)
        sync(writer)

    async with running(data, sections=sections(nats)), engine(nats.access) as one, client(nats) as link:
        await until(lambda: one.live)
        monkeypatch.setattr(SegmentWriter, "sync", slow)
        Source(one).tell(50)
        try:
            assert await one.outbox.drain(10.0)
            await until(begun.is_set)
            kept = (await link.js.stream_info("batch")).state.messages
            before = await beats(link)
            while await beats(link) < before + 5:  # a beat is longer than the time between acknowledgements
                await asyncio.sleep(0.02)
            assert (await link.js.stream_info("batch")).state.messages == kept > 0
        finally:
            may_end.set()
        await until_empty(link)


async def beats(link: Link) -> int:
    """How often the master has said that it lives."""
    return (await link.js.get_last_msg("KV_masters", "$KV.masters.master.*")).seq or 0


async def test_a_slow_disk_bounds_what_is_read(data: Path, nats: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("master.ingest.MOST_PENDING", 1)
    monkeypatch.setattr("master.jetstream.consumer.PULL", 4)
    async with streams(nats), engine(nats.access) as one:
        source = Source(one)
        for _ in range(30):
            source.tell(20)
        assert await one.outbox.drain(20.0)
        async with running(data, sections=sections(nats)):
            await until_stored(source.told, data)
    all_of(source.told, data)


async def test_a_stream_that_cannot_become_what_is_wanted_says_what_to_do(nats: Server) -> None:
    async with streams(nats), client(nats) as link:
        await reconcile(link.js, JetStreamSettings(servers=(nats.url,), queue=Queue(max_gb=2.0)))
        assert (await link.js.stream_info("batch")).config.max_bytes == 2_000_000_000
        with pytest.raises(StreamError, match=r"storage.*nats stream rm batch"):
            await reconcile(link.js, JetStreamSettings(servers=(nats.url,), queue=Queue(storage="memory")))


async def test_streams_that_are_as_wanted_are_left_alone(nats: Server) -> None:
    everything = JetStreamSettings(servers=(nats.url,), republish=Republish(keep=Market()))
    async with client(nats) as link:
        await reconcile(link.js, everything)
        with logs() as said:
            await reconcile(link.js, everything)
    assert said == []


async def test_a_key_and_a_certificate_are_needed(tmp_path: Path) -> None:
    ours = authority(tmp_path / "ours")
    cert, key = ours.certify("nats")
    seed, user = _new_user(tmp_path)
    may = '{ publish: { deny: "batch.>" } }'
    locked = f"""
        authorization {{ users: [ {{ nkey: "{user}", permissions: {may} }} ] }}
        tls {{ cert_file: "{cert}", key_file: "{key}" }}
    """
    with server(tmp_path / "nats", locked, "tls") as nats:
        with logs() as said:
            async with linked(Access((nats.url,), nkey=seed, ca=ours.ca), "test") as link:
                for _ in range(3):
                    await link.client.publish("batch.kraken.0", b"")
                await link.client.flush()
                await until(lambda: said, "that this is forbidden is said")
            assert ["batch.kraken.0" in line["reason"].lower() for line in said] == [True]
        for wrong, why in (
            (Access((nats.url,), ca=ours.ca), "refuses the login"),
            (Access((nats.url,), nkey=seed), "certificate"),
        ):
            with pytest.raises(LinkError, match=why):
                async with linked(wrong, "test"):
                    pass


def _new_user(folder: Path) -> tuple[Path, str]:
    pair = nkeys.from_seed(nkeys.encode_seed(bytes(range(32)), nkeys.PREFIX_BYTE_USER))
    file = folder / "user.nk"
    file.write_bytes(bytes(pair.seed))
    return file, pair.public_key.decode()
