"""The door for collectors, over real sockets: who is let in, what is acknowledged and when, and what becomes of the rest."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from master import door as door_module
from master import ingest
from master.auth import Opening, encode_opening, new_nonce, proof
from master.ingest import Ingest
from master.journal import Journal, recover
from master.protocol import (
    HEADER_SIZE,
    MAX_BATCH,
    Accepted,
    Ack,
    Batch,
    Challenge,
    Control,
    Hello,
    Login,
    Nak,
    Receiver,
    Refused,
    Welcome,
    decode_control,
    encode_control,
    pack,
)
from master.segments import SegmentWriter, scan, segments_in
from tests.hearing import events, logs
from tests.master.making import NOON, STREAM, batch, streams, trade
from tests.master.running import KEY, WORKER, Address, Collector, ask, collector, door, ids, running, stranger
from tests.waiting import PATIENCE, until

OTHER = bytes(range(101, 117))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
async def master(data: Path) -> AsyncIterator[Address]:
    async with running(data) as found:
        yield found


async def told(master: Address, is_so: Callable[[dict[str, Any]], object]) -> None:
    """Wait until /health says so."""
    async with asyncio.timeout(PATIENCE):
        while not is_so(await master.health()):
            await asyncio.sleep(0.005)


# Login --------------------------------------------------------------------------------------------------------------------


async def refused(one: Collector) -> tuple[str, bool, int | None]:
    """The reason, whether to try again, and the close code."""
    said = await one.hear(Refused)
    return said.reason, said.retry, await one.closed()


NO = ("login refused", False, 4401)
"""What everybody hears who may not come in, whatever was wrong."""


class TestLogin:
    async def test_both_sides_show_that_they_have_the_key(self, master: Address) -> None:
        async with stranger(master) as one:
            opening = Opening("collector", id=WORKER, nonce=new_nonce())
            await one.socket.send(encode_opening(opening))
            challenge = await one.hear(Challenge)
            assert len(bytes.fromhex(challenge.nonce)) == 32
            await one.say(Login(proof(KEY, "client", opening, challenge.nonce)))
            accepted = await one.hear(Accepted)
            assert accepted.proof == proof(KEY, "server", opening, challenge.nonce)

    @pytest.mark.parametrize(("key", "role"), [("another key", "collector"), (KEY, "owner"), (KEY, ""), ("", "collector")])
    async def test_a_wrong_key_and_a_wrong_role_look_the_same(self, master: Address, key: str, role: str) -> None:
        async with stranger(master) as one:
            opening = Opening(role or "x", id=WORKER, nonce=new_nonce())
            await one.socket.send(encode_opening(opening))
            challenge = await one.hear(Challenge)
            await one.say(Login(proof(key, "client", opening, challenge.nonce)))
            assert await refused(one) == NO

    @pytest.mark.parametrize(
        "frame", ["", "hello", "key=wrong&role=collector", f"key={KEY}&role=admin", "v=2&role=collector", b"\x00" * 50]
    )
    async def test_so_does_a_first_frame_that_is_no_login(self, master: Address, frame: str | bytes) -> None:
        async with stranger(master) as one:
            await one.socket.send(frame)
            assert await refused(one) == NO

    async def test_a_proof_that_was_overheard_is_worth_nothing(self, master: Address) -> None:
        opening = Opening("collector", id=WORKER, nonce=new_nonce())
        async with stranger(master) as one:
            await one.socket.send(encode_opening(opening))
            overheard = Login(proof(KEY, "client", opening, (await one.hear(Challenge)).nonce))
            await one.say(overheard)
            await one.hear(Accepted)
        async with stranger(master) as other:
            await other.socket.send(encode_opening(opening))
            await other.hear(Challenge)
            await other.say(overheard)
            assert await refused(other) == NO

    async def test_the_master_s_own_proof_sent_back_is_no_login(self, master: Address) -> None:
        async with stranger(master) as one:
            opening = Opening("collector", id=WORKER, nonce=new_nonce())
            await one.socket.send(encode_opening(opening))
            challenge = await one.hear(Challenge)
            await one.say(Login(proof(KEY, "server", opening, challenge.nonce)))
            assert await refused(one) == NO

    async def test_a_hello_is_no_login(self, master: Address) -> None:
        async with stranger(master) as one:
            await one.socket.send(encode_opening(Opening("collector", id=WORKER, nonce=new_nonce())))
            await one.hear(Challenge)
            await one.say(Hello(WORKER, 1, {}))
            assert await refused(one) == NO

    async def test_a_stranger_cannot_send_much(self, master: Address) -> None:
        async with stranger(master) as one:
            await one.socket.send("k" * 5000)
            assert await one.closed() == 1009

    async def test_a_collector_can(self, master: Address) -> None:
        async with collector(master, STREAM) as one:
            await one.send(batch(1, *(trade(number) for number in range(20_000))))
            await one.acked(STREAM, 1)

    async def test_but_not_without_end(self, master: Address) -> None:
        async with collector(master, STREAM) as one:
            announced = b"\x82\xff" + (MAX_BATCH + 1).to_bytes(8, "big") + b"mask"
            one.socket.transport.write(announced)  # the head of a frame; its body need not even be sent
            assert await one.closed() == 1009

    @pytest.mark.parametrize("says_something", [False, True])
    async def test_whoever_is_silent_is_sent_away(
        self, master: Address, monkeypatch: pytest.MonkeyPatch, says_something: bool
    ) -> None:
        monkeypatch.setattr(door_module, "LOGIN_WITHIN", 0.1)
        async with stranger(master) as one:
            if says_something:
                await one.socket.send(encode_opening(Opening("collector", id=WORKER, nonce=new_nonce())))
            assert await one.closed() == 4401
        assert (await master.health())["refused"] == {"silent": 1}

    async def test_refusals_are_counted_and_logged_without_any_secret(self, master: Address) -> None:
        with logs() as said:
            for _ in range(2):
                async with stranger(master) as one:
                    await one.socket.send("key=canary-wrong&role=collector")
                    await refused(one)
        assert (await master.health())["refused"] == {"login": 2}
        assert events(said) == ["login refused"] * 2
        assert "canary" not in repr(said)
        assert KEY not in repr(said)

    async def test_a_refusal_disturbs_nobody(self, master: Address) -> None:
        async with collector(master, STREAM) as one, stranger(master) as other:
            await other.socket.send("nonsense")
            await refused(other)
            await one.send(batch(1))
            await one.acked(STREAM, 1)


# Streams ------------------------------------------------------------------------------------------------------------------


class Disk:
    """The master's disk in the hands of a test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.may_sync = threading.Event()
        self.may_sync.set()
        self.is_full = False
        self.refused = 0
        write, sync = SegmentWriter.write, SegmentWriter.sync

        def careful_write(writer: SegmentWriter, records: list[bytes]) -> None:
            if self.is_full:
                self.refused += 1
                raise OSError(28, "No space left on device")
            write(writer, records)

        def slow_sync(writer: SegmentWriter) -> None:
            self.may_sync.wait(10)
            sync(writer)

        monkeypatch.setattr(SegmentWriter, "write", careful_write)
        monkeypatch.setattr(SegmentWriter, "sync", slow_sync)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def journal(data: Path) -> list[Batch]:
    return [each for path in segments_in(data / "journal") for each in scan(path.read_bytes(), int(path.stem)).batches]


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
            await until(lambda: len(journal(data)) == 1, "the first batch in the journal")
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
            await until(lambda: len(journal(data)) == 1, "the first batch in the journal")
            await other.send(batch(1), batch(2))
            assert await other.hear(Ack) == Ack({STREAM.hex(): 0})
            disk.may_sync.set()
            await other.acked(STREAM, 2)
        assert ids(data) == [1, 2]

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
            for each in journal(data)
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


# Older collectors ---------------------------------------------------------------------------------------------------------

MILLIS = NOON // 1000
COMMON = {"exchange": "binance", "symbol": "BTC/USDT", "timestamp": MILLIS}


class TestLegacy:
    async def test_what_it_sends_is_stored(self, master: Address, data: Path) -> None:
        async with stranger(master) as one:
            await one.socket.send(f"key={KEY}&role=collector")
            for message in (
                {"type": "trade", **COMMON, "price": "1.50", "amount": "2", "side": "buy"},
                {"op": "ping"},
                {"type": "book", **COMMON, "asks": [["2", "1"]], "bids": [["1", "1"]]},
                {"type": "ticker", **COMMON, "last": "1.50"},
            ):
                await one.socket.send(json.dumps(message))
            await told(master, lambda health: health["stored"] == 3)
        assert ask(data, "SELECT source, id, price_text, epoch_ms(timestamp) FROM trades") == [("legacy", "", "1.50", MILLIS)]
        assert ask(data, "SELECT asks[1].price_text FROM books") == [("2",)]
        assert ask(data, "SELECT last_text FROM tickers") == [("1.50",)]

    async def test_a_frame_that_cannot_be_read_costs_itself(self, master: Address, data: Path) -> None:
        async with stranger(master) as one:
            await one.socket.send(f"key={KEY}&role=collector")
            await one.socket.send("nonsense")
            await one.socket.send(json.dumps({"type": "trade", **COMMON, "price": "1", "amount": "2", "side": "buy"}))
            await told(master, lambda health: health["stored"] == 1)
        assert (await master.health())["refused"] == {"legacy": 1}

    async def test_beside_a_new_one(self, master: Address, data: Path) -> None:
        async with stranger(master) as old, collector(master, STREAM) as new:
            await old.socket.send(f"key={KEY}&role=collector")
            await old.socket.send(json.dumps({"type": "trade", **COMMON, "price": "1", "amount": "2", "side": "sell"}))
            await new.send(batch(1))
            await new.acked(STREAM, 1)
            await told(master, lambda health: health["stored"] == 2)
        assert ask(data, "SELECT source, count(*) FROM trades GROUP BY 1 ORDER BY 1") == [("legacy", 1), ("live", 1)]

    async def test_a_disk_that_refuses_costs_nothing_that_was_taken(
        self, disk: Disk, master: Address, data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nobody will send it again: it waits here, and its sender is sent away until there is room."""
        monkeypatch.setattr(ingest, "JOURNAL_RETRY", 0.1)
        message = json.dumps({"type": "trade", **COMMON, "price": "1", "amount": "2", "side": "buy"})
        async with stranger(master) as one:
            await one.socket.send(f"key={KEY}&role=collector")
            await one.socket.send(message)
            await told(master, lambda health: health["stored"] == 1)
            disk.is_full = True
            await one.socket.send(message)
            await told(master, lambda health: health["status"] == "failing")
            await one.socket.send(message)
            assert (await one.hear(Refused)).retry
            assert await one.closed() == 1013
        disk.is_full = False
        await told(master, lambda health: health["status"] == "ok")
        await told(master, lambda health: health["journal"]["pending"] == 0)
        assert ask(data, "SELECT count(*) FROM trades") == [(2,)]

    async def test_what_waits_for_company_at_the_end_is_stored(self, data: Path) -> None:
        data.mkdir()
        inside = Ingest(door(data), Receiver(), data / "dead-letters")
        kept = Journal(data, recover(data), inside.committed, lambda _: None, roll_bytes=1 << 20, roll_seconds=3600)
        committing = asyncio.create_task(inside.run(kept))
        await asyncio.sleep(0)
        inside.record([trade(1)])
        await inside.close()
        kept.stop()
        await committing
        kept.close()
        assert inside.stored == 1

    async def test_stored_also_if_the_master_ends_at_once(self, data: Path) -> None:
        async with running(data) as found, stranger(found) as one:
            await one.socket.send(f"key={KEY}&role=collector")
            await one.socket.send(json.dumps({"type": "trade", **COMMON, "price": "1", "amount": "2", "side": "buy"}))
            await told(found, lambda health: health["exchanges"])
        assert ask(data, "SELECT count(*) FROM trades") == [(1,)]
