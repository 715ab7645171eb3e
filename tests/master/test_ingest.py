"""What is acknowledged to collectors and when, over real sockets, and what becomes of the rest."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from master import ingest
from master.journal import Journal
from master.protocol import (
    HEADER_SIZE,
    Ack,
    Batch,
    Control,
    Hello,
    Nak,
    Refused,
    Welcome,
    decode_control,
    encode_control,
    pack,
)
from tests.disk import Disk
from tests.hearing import events, logs
from tests.master.making import OTHER, STREAM, batch, batches_in, streams, trade
from tests.master.running import WORKER, Address, ask, collector, ids, stranger, told
from tests.waiting import until

# Streams ------------------------------------------------------------------------------------------------------------------


class TestStream:
    async def test_hello_welcome_batches_ack(self, master: Address, data: Path) -> None:
        async with stranger(master) as one:
            await one.log_in()
            assert await one.hello(STREAM, OTHER) == {STREAM: 0, OTHER: 0}
            await one.send(batch(1), batch(2), batch(1, trade(100), stream=OTHER))
            reached: dict[str, int] = {}
            while reached != {STREAM.hex(): 2, OTHER.hex(): 1}:
                reached |= (await one.hear(Ack)).streams
        assert ids(data) == [1, 2, 100]

    async def test_nothing_is_acknowledged_before_it_is_durable(self, disk: Disk, master: Address) -> None:
        async with collector(master, STREAM) as one:
            disk.may_sync.clear()
            await one.send(batch(1))
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await one.socket.recv()
            disk.may_sync.set()
            assert await one.hear(Ack) == Ack({STREAM.hex(): 1})

    async def test_one_commit_is_one_acknowledgement(self, disk: Disk, master: Address, data: Path) -> None:
        async with collector(master, STREAM) as one:
            disk.may_sync.clear()
            await one.send(batch(1))
            await until(lambda: len(batches_in(data / "journal")) == 1, "the first batch in the journal")
            await one.send(*(batch(seq) for seq in range(2, 33)))
            await told(master, lambda health: health["exchanges"]["kraken"]["trade"] == 32)
            disk.may_sync.set()
            assert await one.hear(Ack) == Ack({STREAM.hex(): 1})
            assert await one.hear(Ack) == Ack({STREAM.hex(): 32})

    async def test_a_known_batch_is_answered_with_what_is_durable(self, disk: Disk, master: Address, data: Path) -> None:
        async with collector(master, STREAM) as one:
            await one.send(batch(1))
            await one.acked(STREAM, 1)
            disk.may_sync.clear()
            await one.send(batch(2), batch(2), batch(1))
            assert await one.hear(Ack) == Ack({STREAM.hex(): 1}), "2 was received, and is not yet safe"
            disk.may_sync.set()
            await one.acked(STREAM, 2)
        assert ids(data) == [1, 2]

    async def test_a_reconnecting_collector_learns_what_is_durable(self, master: Address) -> None:
        async with collector(master, STREAM) as one:
            await one.send(batch(1), batch(2))
            await one.acked(STREAM, 2)
        async with stranger(master) as again:
            await again.log_in()
            assert await again.hello(STREAM) == {STREAM: 2}
            await again.send(batch(2), batch(3))
            await again.acked(STREAM, 3)

    async def test_a_stream_that_moves_is_acknowledged_where_it_is(self, disk: Disk, master: Address, data: Path) -> None:
        async with collector(master, STREAM) as one, collector(master, STREAM) as other:
            disk.may_sync.clear()
            await one.send(batch(1))
            await until(lambda: len(batches_in(data / "journal")) == 1, "the first batch in the journal")
            await other.send(batch(1), batch(2))
            assert await other.hear(Ack) == Ack({STREAM.hex(): 0})
            disk.may_sync.set()
            await other.acked(STREAM, 2)
        assert ids(data) == [1, 2]

    async def test_a_late_copy_from_an_old_connection_takes_no_acknowledgement_away(self, disk: Disk, master: Address) -> None:
        """The old connection is dead for the collector, and the master does not know."""
        async with collector(master, STREAM) as old, collector(master, STREAM) as new:
            disk.may_sync.clear()
            await new.send(batch(1))
            await told(master, lambda health: health["exchanges"].get("kraken", {}).get("trade") == 1)
            await old.send(batch(1))
            assert await old.hear(Ack) == Ack({STREAM.hex(): 0})
            disk.may_sync.set()
            await new.acked(STREAM, 1)

    async def test_whoever_asks_has_a_turn_between_the_batches_of_all_sockets(
        self, master: Address, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The master runs in this loop: its sockets are full when it comes to read them."""
        turn, taken_at, append = 0, [], Journal.append

        def appended(journal: Journal, batch: Batch) -> None:
            taken_at.append(turn)
            append(journal, batch)

        monkeypatch.setattr(Journal, "append", appended)
        mine = streams(3)
        async with collector(master, mine[0]) as one, collector(master, mine[1]) as two, collector(master, mine[2]) as three:
            for stream, each in zip(mine, (one, two, three), strict=True):
                await each.send(*(batch(seq, stream=stream) for seq in range(1, 11)))
            async with asyncio.timeout(10):
                while len(taken_at) < 30:
                    turn += 1
                    await asyncio.sleep(0)
        assert len({*taken_at}) == 30

    async def test_hello_may_be_said_again(self, master: Address) -> None:
        async with collector(master, STREAM) as one:
            assert await one.hello(STREAM, OTHER) == {STREAM: 0, OTHER: 0}
            await one.send(batch(1, stream=OTHER))
            await one.acked(OTHER, 1)

    async def test_sessions_come_and_go(self, master: Address) -> None:
        async with collector(master, *streams(3)), collector(master, *streams(3)):
            health = await master.health()
            assert (health["connections"], health["collectors"]) == (2, [WORKER])
        await told(master, lambda health: health["connections"] == 0)


class TestHoles:
    async def test_one_nak_for_a_hole_and_not_one_for_each_batch_behind_it(self, master: Address, data: Path) -> None:
        async with collector(master, STREAM) as one:
            await one.send(*(batch(seq) for seq in (1, 3, 4, 5, 6)))
            await one.send(batch(2), batch(3))
            heard: list[Control] = []
            while not heard or heard[-1] != Ack({STREAM.hex(): 3}):
                heard.append(decode_control(await one.socket.recv()))
        assert [each for each in heard if isinstance(each, Nak)] == [Nak(STREAM.hex(), 2)]
        assert ids(data) == [1, 2, 3]

    async def test_the_next_hole_has_its_own(self, master: Address) -> None:
        async with collector(master, STREAM) as one:
            await one.send(batch(2))
            assert await one.hear(Nak) == Nak(STREAM.hex(), 1)
            await one.send(batch(1))
            await one.acked(STREAM, 1)
            await one.send(batch(3))
            assert await one.hear(Nak) == Nak(STREAM.hex(), 2)

    async def test_a_nak_that_led_to_nothing_is_said_again(self, master: Address, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ingest, "NAK_EVERY", 0.0)
        async with collector(master, STREAM) as one:
            for _ in range(2):
                await one.send(batch(2))
                assert await one.hear(Nak) == Nak(STREAM.hex(), 1)

    async def test_what_the_collector_no_longer_has_is_a_gap_in_its_place(self, master: Address, data: Path) -> None:
        """The gap stands before what follows it, so that no crash can leave the one without the other."""
        async with collector(master, STREAM) as one:
            await one.send(batch(1))
            await one.acked(STREAM, 1)
        async with stranger(master) as again:
            await again.log_in()
            assert await again.hello(STREAM, oldest=5) == {STREAM: 1}
            await again.send(batch(5))
            await again.acked(STREAM, 5)
        told = [
            msgspec.json.decode(event)
            for each in batches_in(data / "journal")
            for event in msgspec.json.decode(each.body, type=list[msgspec.Raw])
        ]
        assert [event["type"] for event in told] == ["trade", "gap", "trade"]
        ((channel, reason, first, last),) = ask(data, "SELECT channel, reason, first_missing, last_missing FROM gaps")
        assert (channel, first, last) == ("delivery", "2", "4")
        assert reason == f"no longer held by worker {WORKER}: stream {STREAM.hex()}"


class TestDamage:
    async def test_a_frame_that_was_altered_on_its_way_is_wanted_again(self, master: Address, data: Path) -> None:
        async with collector(master, STREAM) as one:
            altered = bytearray(batch(1).data)
            altered[HEADER_SIZE + 5] ^= 4
            await one.socket.send(bytes(altered))
            assert await one.hear(Nak) == Nak(STREAM.hex(), 1)
            await one.send(batch(1))
            await one.acked(STREAM, 1)
        assert ids(data) == [1]
        assert (await master.health())["refused"] == {"damaged": 1}

    async def test_a_frame_cut_short(self, master: Address) -> None:
        async with collector(master, STREAM) as one:
            await one.socket.send(batch(1).data[:-1])
            assert await one.hear(Nak) == Nak(STREAM.hex(), 1)

    @pytest.mark.parametrize(
        "frame",
        [
            b"",
            b"\x00" * 100,
            batch(1).data[: HEADER_SIZE - 1],
            b"X" + batch(1).data[1:],
            batch(1, stream=OTHER).data,
            batch(1, stream=OTHER).data[:-1],
            "",
            '{"op":"dance"}',
            encode_control(Welcome({})),
            encode_control(Hello(WORKER, 1, {"xyz": 1})),
            encode_control(Hello(WORKER, 1, {"00" * 16: 1})),
        ],
        ids=[
            "nothing",
            "zeros",
            "half a header",
            "magic",
            "unannounced",
            "unannounced and cut",
            "no text",
            "op",
            "welcome",
            "name",
            "head",
        ],
    )
    async def test_what_never_was_a_batch_ends_the_session_and_no_other(self, master: Address, frame: str | bytes) -> None:
        async with collector(master, STREAM) as one, collector(master, streams(1)[0]) as other:
            await one.socket.send(frame)
            assert not (await one.hear(Refused)).retry
            assert await one.closed() == 1008
            assert await other.hello(STREAM) == {STREAM: 0}

    @pytest.mark.parametrize(
        ("body", "count"),
        [
            (b"nonsense", 1),
            (b'[{"type":"dance"}]', 1),
            (b'[{"type":"trade"}]', 1),
            (b"[]", 1),
            (b"{}", 0),
            (b"[1]", 1),
            (b"\xff", 1),
        ],
    )
    async def test_a_batch_that_cannot_be_read_is_kept_aside_and_the_stream_goes_on(
        self, master: Address, data: Path, body: bytes, count: int
    ) -> None:
        unreadable = pack(STREAM, 2, count, body)
        async with collector(master, STREAM) as one:
            await one.send(batch(1), unreadable, batch(3))
            await one.acked(STREAM, 3)
        name = f"{STREAM.hex()}-2.batch"
        assert (data / "dead-letters" / name).read_bytes() == unreadable.data
        assert ids(data) == [1, 3]
        assert ask(data, "SELECT channel, reason, first_missing, last_missing FROM gaps") == [
            ("delivery", f"unreadable batch {name}", "2", "2")
        ]

    async def test_and_is_not_taken_again(self, master: Address, data: Path) -> None:
        async with collector(master, STREAM) as one:
            await one.send(pack(STREAM, 1, 1, b"nonsense"))
            await one.acked(STREAM, 1)
        async with stranger(master) as again:
            await again.log_in()
            assert await again.hello(STREAM) == {STREAM: 1}
        assert ask(data, "SELECT count(*) FROM gaps") == [(1,)]


# A disk that refuses ------------------------------------------------------------------------------------------------------


class TestFullDisk:
    async def test_nothing_is_acknowledged_and_everybody_is_told_to_come_back(
        self, disk: Disk, master: Address, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ingest, "JOURNAL_RETRY", 0.05)
        async with collector(master, STREAM) as one, collector(master, OTHER) as other:
            disk.is_full = True
            await one.send(batch(1), batch(2))
            for each in (one, other):
                said = await each.hear(Refused)
                assert (said.retry, said.after) == (True, 0.05)
                assert "No space left on device" in said.reason
                assert await each.closed() == 1013
        assert (await master.health())["status"] == "failing"

    async def test_when_there_is_room_again_everything_is_wanted_that_was_not_acknowledged(
        self, disk: Disk, master: Address, data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ingest, "JOURNAL_RETRY", 0.02)
        async with collector(master, STREAM) as one:
            await one.send(batch(1))
            await one.acked(STREAM, 1)
            disk.is_full = True
            await one.send(batch(2), batch(3))
            await one.closed()
        async with stranger(master) as early:
            await early.log_in()
            await early.closed()
        disk.is_full = False
        await told(master, lambda health: health["status"] == "ok")
        async with stranger(master) as again:
            await again.log_in()
            assert await again.hello(STREAM, oldest=2) == {STREAM: 1}
            await again.send(batch(2), batch(3))
            await again.acked(STREAM, 3)
        assert ids(data) == [1, 2, 3]

    async def test_whoever_comes_meanwhile_is_told_at_once(
        self, disk: Disk, master: Address, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ingest, "JOURNAL_RETRY", 1.0)
        disk.is_full = True
        async with collector(master, STREAM) as one:
            await one.send(batch(1))
            await one.closed()
        async with stranger(master) as late:
            await late.log_in()
            assert (await late.hear(Refused)).retry
        assert disk.refused == 1, "and not by another try"

    async def test_it_is_said_once(self, disk: Disk, master: Address, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ingest, "JOURNAL_RETRY", 0.01)
        with logs() as said:
            async with collector(master, STREAM) as one:
                disk.is_full = True
                await one.send(batch(1))
                await one.closed()
            await asyncio.sleep(0.1)
            disk.is_full = False
            await told(master, lambda health: health["status"] == "ok")
        assert events(said) == ["cannot write; nothing is acknowledged until there is room", "writing again"]

    async def test_a_gap_that_could_not_be_written_is_written_later(
        self, disk: Disk, master: Address, data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ingest, "JOURNAL_RETRY", 0.02)
        disk.is_full = True
        async with stranger(master) as one:
            await one.log_in()
            await one.hello(STREAM, oldest=5)
            await one.closed()
        disk.is_full = False
        await told(master, lambda health: health["status"] == "ok")
        async with stranger(master) as again:
            await again.log_in()
            await again.hello(STREAM, oldest=5)
            await again.send(batch(5))
            await again.acked(STREAM, 5)
        assert ask(data, "SELECT first_missing, last_missing FROM gaps") == [("1", "4")]
