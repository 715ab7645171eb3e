"""MasterPool against a master that misbehaves by script, or is away."""

import asyncio
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection

from collector import master_pool
from collector import outbox as outbox_module
from collector.master_pool import MasterPool
from collector.pending import Pressure
from master import auth, guard, keys
from master.protocol import (
    Accepted,
    Ack,
    Challenge,
    Login,
    Nak,
    Refused,
    decode_control,
    encode_control,
)
from tests.collector.making import trade
from tests.collector.pooling import SYMBOLS, Script, Source, listening, pool
from tests.hearing import Said, events, logs
from tests.master.running import KEY, ask, ids, running
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("impatient")


class TestMutualProof:
    async def test_a_master_that_does_not_know_the_key_gets_nothing(self) -> None:
        """It may copy everything that it hears; the proof it cannot make."""
        heard: list[str | bytes] = []

        async def false(socket: ServerConnection) -> None:
            heard.append(await socket.recv())
            await socket.send(encode_control(Challenge("sn")))
            login = await socket.recv()
            heard.append(login)
            proof = decode_control(login)
            assert isinstance(proof, Login)
            await socket.send(encode_control(Accepted(proof.proof)))
            heard.extend([frame async for frame in socket])

        with logs() as said:
            async with listening(false) as url, pool(url, connections=1) as one:
                Source(one).tell(10)
                await until(lambda: len(heard) >= 6, "three attempts")
                assert one.live == 0
        assert all(isinstance(frame, str) and (frame.startswith("v=1") or '"login"' in frame) for frame in heard), (
            "no hello, no data"
        )
        assert reasons(said) == [f"{url}: the other side does not know the key; it is not our master"]
        assert KEY not in repr(heard) + repr(said)

    async def test_another_program_behind_the_port(self) -> None:
        async def other(socket: ServerConnection) -> None:
            await socket.send('{"op":"dance"}')
            await socket.wait_closed()

        with logs() as said:
            async with listening(other) as url, pool(url, connections=1) as one:
                await until(lambda: reasons(said))
                assert one.live == 0
        assert "Invalid value 'dance'" in reasons(said)[0]


def reasons(said: Said) -> list[str]:
    return [line["reason"] for line in said if line["event"] == "no master"]


class TestTrouble:
    """Said once when it begins, and once when it ends; with what can be done about it."""

    async def test_a_wrong_key(self, data: Path) -> None:
        with logs() as said:
            async with running(data) as master, pool(master.url, key="canary") as one:
                await until(lambda: events(said).count("login refused") >= 9, "several attempts of each connection")
                assert one.live == 0
        assert reasons(said) == [f"{master.url} refuses: login refused"]
        assert "canary" not in repr(said)

    async def test_an_address_that_has_to_wait_waits_and_then_gets_in(
        self, data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Behind one address there are others, who had a wrong key."""
        monkeypatch.setattr(guard, "BURST", 3)
        with logs() as said:
            async with running(data) as master:
                async with pool(master.url, key="canary", connections=5):
                    await until(lambda: "too many failed logins; the address has to wait" in events(said))
                refused_before = events(said).count("login refused")
                async with pool(master.url) as one:
                    await until(lambda: one.live == 3)
                    assert any("too many failed logins from this address" in reason for reason in reasons(said))
                assert events(said).count("login refused") == refused_before
                assert (await master.health())["refused"]["throttled"] <= 8, "each asks once, and waits as it was told"

    async def test_refused_it_never_shows_its_key(self) -> None:
        """Whatever answers there, it never falls back to the form that sends the key."""
        heard: list[str | bytes] = []

        async def refuse(socket: ServerConnection) -> None:
            heard.append(await socket.recv())
            await socket.send(encode_control(Refused("login refused", retry=False)))
            await socket.close(4401)

        async with listening(refuse) as url, pool(url, key="canary", connections=1):
            await until(lambda: len(heard) >= 5)
        assert all(str(frame).startswith("v=1&role=collector&id=host-0&nonce=") for frame in heard)
        assert "canary" not in repr(heard)

    async def test_a_key_of_a_ring(self, data: Path) -> None:
        made = keys.make(keys.file_in(data), "collector")
        async with running(data) as master, pool(master.url, key=auth.join_key(made.id, made.key)) as one:
            Source(one).tell(10)
            assert await one.outbox.drain(5.0)
        assert sorted(ids(data)) == list(range(1, 11))

    async def test_nobody_there_and_then_somebody(self, data: Path, port: int) -> None:
        with logs() as said:
            async with pool(f"ws://127.0.0.1:{port}") as one:
                await until(lambda: reasons(said))
                await asyncio.sleep(0.1)
                async with running(data, port=port):
                    await until(lambda: one.live == 3)
        first, *rest = [line for line in said if line.get("room") == "master_pool"]
        assert first["event"] == "no master"
        assert first["reason"].endswith("is the master running?")
        assert [line["event"] for line in rest][:1] == ["connected to the master"]

    async def test_a_reason_that_is_told_in_several_ways(self) -> None:
        """A master whose disk is full says so in a message, in the close, or in both, as it comes."""
        attempts = 0

        async def full(socket: ServerConnection) -> None:
            nonlocal attempts
            await socket.recv()
            attempts += 1
            if attempts % 2:
                await socket.send(encode_control(Refused("disk full", retry=True, after=1.0)))
            await socket.close(1013, "disk full")

        with logs() as said:
            async with listening(full) as url, pool(url, connections=2):
                await until(lambda: attempts >= 8, "several attempts of both kinds")
        assert len(reasons(said)) == len(set(reasons(said))) == 2
        assert all("disk full" in reason for reason in reasons(said))

    async def test_somebody_who_says_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(master_pool, "LOGIN_WITHIN", 0.1)

        async def mute(socket: ServerConnection) -> None:
            await socket.wait_closed()

        with logs() as said:
            async with listening(mute) as url, pool(url, connections=1):
                await until(lambda: reasons(said))
        assert reasons(said) == [f"{url}: no answer in time; is the master running?"]

    async def test_a_name_that_is_none(self) -> None:
        with logs() as said:
            async with pool("ws://master..example:8766", connections=1):
                await until(lambda: reasons(said))
        assert reasons(said)[0].endswith("is the master running?")

    async def test_a_port_of_something_else(self) -> None:
        async def speaks_no_websocket(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readline()
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(speaks_no_websocket, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        with logs() as said:
            async with server, pool(f"ws://127.0.0.1:{port}", connections=2):
                await until(lambda: reasons(said))
        assert reasons(said)[0].endswith("is that the master's port?")


class TestBetweenTheLines:
    async def test_one_hello_a_connection_names_all_streams_and_what_is_held(self) -> None:
        script = Script()
        async with listening(script.serve) as url, pool(url, connections=2) as one:
            await until(lambda: len(script.hellos) == 2)
            names = {lane.stream.sender.name for lane in one.outbox.lanes}
            assert [set(hello.streams) for hello in script.hellos] == [names, names]
            assert {hello.worker for hello in script.hellos} == {"host-0"}
            assert len({hello.boot for hello in script.hellos}) == 1

    async def test_no_more_than_a_window_is_on_its_way(self) -> None:
        script = Script()
        async with listening(script.serve) as url, pool(url, connections=1) as one:
            (lane,) = one.outbox.lanes
            add(one, lane.index, 100)
            await until(lambda: len(script.batches[0:1]) and len(script.batches[0]) == 32)
            await asyncio.sleep(0.05)
            assert len(script.batches[0]) == 32
            await script.say(script.sockets[0], Ack({lane.stream.sender.name: 10}))
            await until(lambda: len(script.batches[0]) == 42)

    async def test_a_nak_is_answered_from_there(self) -> None:
        script = Script()
        async with listening(script.serve) as url, pool(url, connections=1) as one:
            (lane,) = one.outbox.lanes
            add(one, 0, 5)
            await until(lambda: script.batches and len(script.batches[0]) == 5)
            await script.say(script.sockets[0], Nak(lane.stream.sender.name, 3))
            await until(lambda: len(script.batches[0]) == 8)
            assert script.seqs(0, lane.stream.sender.stream) == [1, 2, 3, 4, 5, 3, 4, 5]

    async def test_a_lane_moves_when_its_connection_dies_and_begins_at_the_oldest_held(self) -> None:
        script = Script()
        async with listening(script.serve) as url, pool(url, connections=2) as one:
            await until(lambda: one.live == 2)
            stream = one.outbox.lanes[1].stream.sender.stream
            add(one, 1, 4)
            carrier = await carrier_of(script, stream, 4)
            other = 1 - carrier
            await script.say(script.sockets[carrier], Ack({stream.hex(): 1}))
            await until(lambda: one.outbox.lanes[1].stream.sender.oldest == 2)
            script.sockets[carrier].transport.abort()
            await until(lambda: script.seqs(other, stream) or len(script.sockets) > 2)
            await until(
                lambda: any(
                    script.seqs(each, stream)[:3] == [2, 3, 4] for each in range(len(script.sockets)) if each != carrier
                )
            )

    async def test_an_acknowledgement_on_another_connection_opens_the_window_too(self) -> None:
        """The master acknowledges where it heard a stream last, which may be the connection that a lane has just left."""
        script = Script()
        async with listening(script.serve) as url, pool(url, connections=2) as one:
            await until(lambda: one.live == 2)
            stream = one.outbox.lanes[0].stream.sender.stream
            add(one, 0, 64)
            carrier = await carrier_of(script, stream, 32)
            await script.say(script.sockets[1 - carrier], Ack({stream.hex(): 32}))
            await until(lambda: len(script.seqs(carrier, stream)) == 64, "the rest of the lane")

    async def test_so_does_a_nak(self) -> None:
        script = Script()
        async with listening(script.serve) as url, pool(url, connections=2) as one:
            await until(lambda: one.live == 2)
            stream = one.outbox.lanes[0].stream.sender.stream
            add(one, 0, 5)
            carrier = await carrier_of(script, stream, 5)
            await script.say(script.sockets[1 - carrier], Nak(stream.hex(), 4))
            await until(lambda: script.seqs(carrier, stream) == [1, 2, 3, 4, 5, 4, 5], "the rewind")

    async def test_more_acknowledged_than_sent_ends_the_session(self) -> None:
        script = Script()
        with logs() as said:
            async with listening(script.serve) as url, pool(url, connections=1) as one:
                await until(lambda: one.live == 1)
                await script.say(script.sockets[0], Ack({one.outbox.lanes[0].stream.sender.name: 7}))
                await until(lambda: len(script.sockets) == 2, "another session")
        assert "7 acknowledged, 0 sent" in reasons(said)[0]

    async def test_streams_of_somebody_else_are_passed_over(self) -> None:
        script = Script()
        async with listening(script.serve) as url, pool(url, connections=1) as one:
            await until(lambda: one.live == 1)
            await script.say(script.sockets[0], Ack({"00" * 16: 7}))
            await script.say(script.sockets[0], Nak("11" * 16, 7))
            add(one, 0, 1)
            await until(lambda: len(script.batches[0]) == 1)
            assert len(script.sockets) == 1

    @pytest.mark.parametrize("frame", [b"\x00\x01", "nonsense", encode_control(Refused("disk full", retry=True, after=1.0))])
    async def test_anything_else_ends_the_session_and_nothing_is_lost(self, frame: str | bytes) -> None:
        script = Script()
        async with listening(script.serve) as url, pool(url, connections=1) as one:
            add(one, 0, 3)
            await until(lambda: script.batches and len(script.batches[0]) == 3)
            await script.sockets[0].send(frame)
            await until(lambda: len(script.batches) == 2 and len(script.batches[1]) == 3, "all of it again")
            assert script.batches[0] == script.batches[1]


def add(one: MasterPool, lane: int, batches: int) -> None:
    """So many batches on one lane."""
    for number in range(batches):
        one.outbox.lanes[lane].pending.events.append(trade(number + 1))
        one.outbox.flush()


async def carrier_of(script: Script, stream: bytes, batches: int) -> int:
    """The connection on which so many batches of a stream have arrived."""

    def found() -> list[int]:
        return [each for each in range(len(script.batches)) if len(script.seqs(each, stream)) == batches]

    await until(found, f"{batches} batches on one connection")
    return found()[0]


class TestAway:
    async def test_memory_is_bounded_and_what_is_missing_is_stored_as_gaps(
        self, data: Path, port: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The whole of it: hours without a master, in small."""
        monkeypatch.setattr(outbox_module, "IN_MEMORY", 100_000)
        async with pool(f"ws://127.0.0.1:{port}") as one:
            source = Source(one)
            for _ in range(100):
                source.tell(100)
                await asyncio.sleep(0.001)
            assert one.outbox.held_bytes < 300_000
            dropped = one.outbox.losses["dropped trades"]
            assert dropped > 5000
            async with running(data, port=port):
                await until(lambda: one.outbox.pressure is Pressure.NONE)
                source.tell(70)
                assert await one.outbox.drain(10.0)
        found = ids(data)
        assert len(found) == len(set(found)) == source.told - dropped
        missing = sorted(set(range(1, source.told + 1)) - set(found))
        told = ask(data, "SELECT symbol, first_missing::INT, last_missing::INT, reason FROM gaps")
        assert missing == sorted(
            number for symbol, first, last, _ in told for number in range(first, last + 1) if SYMBOLS[number % 7] == symbol
        )
        assert sum(int(reason.split()[1]) for *_, reason in told) == dropped


async def test_the_end_leaves_no_task_behind(data: Path) -> None:
    before = asyncio.all_tasks()
    async with running(data) as master, pool(master.url) as one:
        Source(one).tell(10)
        assert await one.outbox.drain(5.0)
    assert asyncio.all_tasks() <= before
