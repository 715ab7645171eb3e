"""The door over real sockets: keys of the ring, roles, the old login, and what becomes of those who try too often."""

import asyncio
import json
from datetime import timedelta
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus

from master import auth, door, guard, keys, service
from master.auth import PLACEHOLDER_KEY, Opening, Role, encode_opening, join_key, new_nonce, proof
from master.keys import Key
from master.protocol import Challenge, Hello, Login, encode_control
from tests.hearing import Said, events, logs
from tests.master.making import STREAM, batch
from tests.master.running import (
    KEY,
    NO,
    WORKER,
    Address,
    Collector,
    becomes_taken,
    collector,
    ids,
    is_taken,
    refused,
    running,
    stranger,
)
from tests.waiting import PATIENCE, until

LEGACY = f"key={KEY}&role=collector"


@pytest.fixture(autouse=True)
def watchful(monkeypatch: pytest.MonkeyPatch) -> None:
    """A master that looks at its keys often."""
    monkeypatch.setattr(service, "LOOK_AT_KEYS_EVERY", 0.02)


def make(data: Path, role: Role = "collector", lifetime: timedelta | None = None) -> tuple[Key, str]:
    """A key of the ring, and how it stands in a configuration."""
    made = keys.make(keys.file_in(data), role, "", lifetime)
    return made, join_key(made.id, made.key)


async def fails(master: Address, frame: str = "nonsense") -> None:
    async with stranger(master) as one:
        await one.socket.send(frame)
        assert await refused(one) == NO


async def sends_for_ever(one: Collector) -> None:
    while True:
        await one.socket.send(b"x" * 1000)
        await asyncio.sleep(0.01)


class TestRing:
    async def test_rotation_costs_nobody_a_session(self, data: Path) -> None:
        """The old key and the new one are both taken until the old one is revoked."""
        _, old = make(data)
        async with running(data) as master, stranger(master) as first, stranger(master) as second:
            await first.log_in(old)
            await first.hello(STREAM)
            await first.send(batch(1))
            await first.acked(STREAM, 1)
            _, new = make(data)
            await becomes_taken(master, new)
            await second.log_in(new)
            keys.revoke(keys.file_in(data), auth.split_key(old)[0])
            assert await refused(first) == NO
            assert await second.hello(STREAM) == {STREAM: 1}
            await second.send(batch(2))
            await second.acked(STREAM, 2)
            assert not await is_taken(master, old)
            assert (await master.health())["refused"]["expelled"] == 1
        assert ids(data) == [1, 2]

    async def test_a_key_that_expires_ends_its_sessions(self, data: Path) -> None:
        _, brief = make(data, "collector", timedelta(seconds=2))
        async with running(data) as master, stranger(master) as one, collector(master, STREAM) as other:
            with logs() as said:
                await one.log_in(brief)
                assert await refused(one) == NO
            assert not await is_taken(master, brief)
            await other.send(batch(1))
            await other.acked(STREAM, 1)
        assert "session ended: its key is no longer live" in events(said)

    async def test_a_revoked_key_ends_also_a_session_that_does_not_read(
        self, data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(door, "LEAVE_WITHIN", 0.1)
        monkeypatch.setattr(service, "CLOSE_WITHIN", 2 * PATIENCE)  # which is not what ends it
        made, key = make(data)
        async with running(data) as master, stranger(master) as one:
            await one.log_in(key)
            one.socket.transport.pause_reading()
            keys.revoke(keys.file_in(data), made.id)
            async with asyncio.timeout(PATIENCE):
                while (await master.health())["refused"].get("expelled") is None:
                    await asyncio.sleep(0.01)
                with pytest.raises(ConnectionClosed):
                    await sends_for_ever(one)

    @pytest.mark.parametrize("role", ["consumer", "admin", "owner", ""])
    async def test_a_collector_s_key_in_another_role(self, data: Path, role: str) -> None:
        _, key = make(data)
        async with running(data) as master:
            assert not await is_taken(master, key, role or "x")
            assert await is_taken(master, key)

    async def test_an_unknown_key_hears_what_a_wrong_one_hears(self, data: Path) -> None:
        made, _ = make(data)
        heard = []
        async with running(data) as master:
            for kid in (made.id, "k00000000", "nonsense", "x" * 2000):
                async with stranger(master) as one:
                    opening = Opening("collector", id=WORKER, nonce=new_nonce(), kid=kid)
                    await one.socket.send(encode_opening(opening))
                    challenge = await one.hear(Challenge)
                    await one.say(Login(proof("wrong", "client", opening, challenge.nonce)))
                    heard.append(await refused(one))
        assert heard == [NO] * 4

    async def test_the_key_s_id_is_bound_into_the_proof(self, data: Path) -> None:
        """Somebody between the two cannot make one key's login that of another."""
        made, _ = make(data)
        async with running(data) as master, stranger(master) as one:
            opening = Opening("collector", id=WORKER, nonce=new_nonce(), kid=made.id)
            await one.socket.send(encode_opening(opening))
            challenge = await one.hear(Challenge)
            without = Opening("collector", id=WORKER, nonce=opening.nonce)
            await one.say(Login(proof(made.key, "client", without, challenge.nonce)))
            assert await refused(one) == NO

    async def test_the_first_key_retires_the_placeholder(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLLECTOR_MASTER__KEY", PLACEHOLDER_KEY)
        async with running(data) as master, stranger(master) as one:
            await one.log_in(PLACEHOLDER_KEY)
            _, key = make(data)
            assert await refused(one) == NO
            assert not await is_taken(master, PLACEHOLDER_KEY)
            assert await is_taken(master, key)

    async def test_a_key_of_one_s_own_stays_good_beside_a_ring(self, data: Path) -> None:
        make(data)
        async with running(data) as master:
            assert await is_taken(master, KEY)

    async def test_a_ring_that_cannot_be_read_is_said_once_and_changes_nothing(self, data: Path) -> None:
        _, key = make(data)
        with logs() as said:
            async with running(data) as master:
                keys.file_in(data).chmod(0o644)
                await until(lambda: "cannot read the key ring; the keys are as they were before" in events(said))
                assert await is_taken(master, key)
                keys.file_in(data).chmod(0o600)
                make(data, "admin")
                await until(lambda: "key ring read" in events(said))
        assert len([event for event in events(said) if event.startswith("cannot read")]) == 1

    async def test_nobody_could_log_in(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        made, key = make(data)
        keys.revoke(keys.file_in(data), made.id)
        monkeypatch.setenv("COLLECTOR_MASTER__KEY", key)
        with logs() as said:
            async with running(data):
                await until(lambda: any("nobody can log in; make one" in event for event in events(said)))


class TestRoles:
    @pytest.mark.parametrize("role", ["consumer", "admin"])
    @pytest.mark.parametrize(
        "frame", [encode_control(Hello(WORKER, 1, {STREAM.hex(): 1})), batch(1).data], ids=["hello", "batch"]
    )
    async def test_only_a_collector_sends(self, data: Path, role: Role, frame: str | bytes) -> None:
        _, key = make(data, role)
        async with running(data) as master, stranger(master) as one:
            await one.log_in(key, role)
            await one.socket.send(frame)
            async with asyncio.timeout(PATIENCE):
                answer = json.loads(await one.socket.recv())
            assert (answer["op"], answer["code"]) == ("error", "malformed")
            health = await master.health()
            assert (health["stored"], health["collectors"]) == (0, [])
        assert ids(data) == []

    async def test_nor_has_anybody_else_room_for_a_large_frame(self, master: Address) -> None:
        async with stranger(master) as one:
            await one.log_in(KEY, "consumer")
            await one.socket.send(b"x" * 70_000)
            assert await one.closed() == 1009

    async def test_logins_are_counted_by_role_and_method(self, master: Address) -> None:
        for role in ("collector", "consumer", "consumer"):
            assert await is_taken(master, KEY, role)
        async with stranger(master) as one:
            await one.socket.send(LEGACY)
            await one.socket.send('{"op":"ping"}')
            async with asyncio.timeout(PATIENCE):
                while 'method="legacy"' not in (said := await master.metrics()):
                    await asyncio.sleep(0.01)
        assert 'master_logins_total{method="challenge",role="consumer"} 2.0' in said
        assert 'master_logins_total{method="challenge",role="collector"} 1.0' in said
        assert 'master_logins_total{method="legacy",role="collector"} 1.0' in said


TRADE = json.dumps(
    {"type": "trade", "exchange": "x", "symbol": "A/B", "timestamp": 1, "price": "1", "amount": "2", "side": "buy"}
)


class TestLegacy:
    async def test_it_may_use_a_key_of_the_ring(self, data: Path) -> None:
        made, key = make(data)
        _, of_a_reader = make(data, "consumer")
        async with running(data) as master:
            for shown in (of_a_reader, f"{made.id}.{'0' * 64}", made.key):
                await fails(master, f"key={shown}&role=collector")
            async with stranger(master) as one:
                await one.socket.send(f"key={key}&role=collector")
                await one.socket.send(TRADE)
                async with asyncio.timeout(PATIENCE):
                    while (await master.health())["stored"] != 1:
                        await asyncio.sleep(0.01)
                keys.revoke(keys.file_in(data), made.id)
                assert await refused(one) == NO

    async def test_it_can_be_forbidden(self, data: Path) -> None:
        with logs() as said:
            async with running(data, allow_legacy=False) as master:
                await fails(master, LEGACY)
        (reason,) = [line["reason"] for line in said if line["event"] == "login refused"]
        assert "server.allow_legacy" in reason

    @pytest.mark.parametrize(("allow", "is_in"), [(None, False), (True, True)])
    async def test_from_elsewhere_it_must_be_allowed(
        self, data: Path, monkeypatch: pytest.MonkeyPatch, allow: bool | None, is_in: bool
    ) -> None:
        """Its key could be overheard. (There is one machine here: the peer's address is put elsewhere.)"""
        monkeypatch.setattr(door, "address_of", lambda _: "192.0.2.7")
        async with running(data, allow_legacy=allow) as master, stranger(master) as one:
            await one.socket.send(LEGACY)
            if is_in:
                await one.socket.send(TRADE)
                async with asyncio.timeout(PATIENCE):
                    while (await master.health())["stored"] != 1:
                        await asyncio.sleep(0.01)
            else:
                assert await refused(one) == NO


class TestPatience:
    @pytest.fixture(autouse=True)
    def strict(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(guard, "BURST", 3)
        monkeypatch.setattr(guard, "FORGIVEN", 0.0)

    async def test_who_fails_too_often_is_answered_before_anything_is_spent(self, master: Address) -> None:
        with logs() as said:
            for _ in range(3):
                await fails(master)
            for _ in range(5):
                with pytest.raises(InvalidStatus) as caught:
                    await connect(master.url, proxy=None).__aenter__()
                assert caught.value.response.status_code == 429
                assert caught.value.response.headers["Retry-After"] == "1"
                assert caught.value.response.body == b"too many failed logins\n"
        assert (await master.health())["refused"] == {"login": 3, "throttled": 5}
        assert "master_refused_total" in await master.metrics(), "those who look after it are not kept out"
        assert events(said).count("too many failed logins; the address has to wait") == 1

    async def test_after_the_pause_a_right_login_clears_it(self, master: Address, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(guard, "FIRST_PAUSE", 0.05)
        for _ in range(3):
            await fails(master)
        await asyncio.sleep(0.06)
        assert await is_taken(master, KEY)
        for _ in range(2):
            await fails(master)
        assert await is_taken(master, KEY)

    async def test_sessions_that_are_in_notice_nothing(self, master: Address) -> None:
        async with collector(master, STREAM) as one:
            for _ in range(20):
                try:
                    await fails(master)
                except InvalidStatus:
                    break
            await one.send(batch(1))
            await one.acked(STREAM, 1)

    async def test_right_keys_are_never_counted(self, master: Address) -> None:
        for _ in range(20):
            assert await is_taken(master, KEY)

    async def test_a_large_first_frame_ends_its_connection_and_touches_nobody(self, master: Address) -> None:
        async with collector(master, STREAM) as one:
            for _ in range(2):
                async with stranger(master) as other:
                    await other.socket.send("k" * 100_000)
                    assert await other.closed() == 1009
            await one.send(batch(1))
            await one.acked(STREAM, 1)
        assert (await master.health())["refused"] == {"broken": 2}

    async def test_it_counts_as_a_failure(self, master: Address) -> None:
        for _ in range(3):
            async with stranger(master) as one:
                await one.socket.send("k" * 100_000)
                assert await one.closed() == 1009
        with pytest.raises(InvalidStatus):
            await connect(master.url, proxy=None).__aenter__()


class TestCrowd:
    async def test_those_who_wait_leave_room_and_those_who_are_in_do_not_count(
        self, master: Address, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(guard, "MOST_WAITING_OF_ONE", 3)
        async with collector(master), collector(master), collector(master), collector(master, STREAM) as one:
            waiting = [await asyncio.open_connection("127.0.0.1", master.port) for _ in range(3)]  # not even HTTP is spoken
            with pytest.raises(InvalidMessage):
                await connect(master.url, proxy=None).__aenter__()
            assert (await master.health())["refused"] == {"crowded": 1}
            await one.send(batch(1))
            await one.acked(STREAM, 1)
            for _, writer in waiting:
                writer.close()
            async with asyncio.timeout(PATIENCE):
                while not await has_room(master):
                    await asyncio.sleep(0.01)


async def has_room(master: Address) -> bool:
    try:
        return await is_taken(master, KEY)
    except InvalidMessage:
        return False


class TestNonces:
    async def test_a_proof_is_good_once_also_on_its_own_connection(self, master: Address) -> None:
        async with stranger(master) as one:
            opening = Opening("collector", id=WORKER, nonce=new_nonce())
            await one.socket.send(encode_opening(opening))
            challenge = await one.hear(Challenge)
            login = Login(proof(KEY, "client", opening, challenge.nonce))
            await one.say(Login("00" * 32))
            assert await refused(one) == NO
            with pytest.raises(ConnectionClosed):
                await one.say(login)

    @pytest.mark.parametrize(
        "altered",
        [
            Opening("admin", id=WORKER, nonce="11" * 32),
            Opening("collector", id="host-1", nonce="11" * 32),
            Opening("collector", id=WORKER, nonce="12" * 32),
            Opening("collector", id=WORKER, nonce="11" * 32, kid="k01234567"),
        ],
        ids=["role", "id", "nonce", "key id"],
    )
    async def test_an_opening_that_was_altered_on_its_way(self, master: Address, altered: Opening) -> None:
        async with stranger(master) as one:
            await one.socket.send(encode_opening(altered))
            challenge = await one.hear(Challenge)
            sent = Opening("collector", id=WORKER, nonce="11" * 32)
            await one.say(Login(proof(KEY, "client", sent, challenge.nonce)))
            assert await refused(one) == NO

    @pytest.mark.parametrize(
        "frame",
        [
            "",
            "key=canary&role=collector",
            '{"op":"login"}',
            '{"op":"login","proof":5}',
            '{"op":"canary"}',
            b"\xff\x00",
            "[" * 4000,
        ],
    )
    async def test_whatever_follows_the_challenge_looks_the_same(self, master: Address, frame: str | bytes) -> None:
        with logs() as said:
            async with stranger(master) as one:
                await one.socket.send(encode_opening(Opening("collector", id=WORKER, nonce=new_nonce())))
                await one.hear(Challenge)
                await one.socket.send(frame)
                assert await refused(one) == NO
        assert "canary" not in repr(said)

    async def test_a_login_at_the_wrong_place_is_not_repeated_to_anybody(self, master: Address) -> None:
        """Such as an older collector's, on a session that is logged in already."""
        said: Said
        with logs() as said:
            async with collector(master) as one:
                await one.socket.send("key=canary&role=collector")
                heard = await refused(one)
        assert heard[2] == 1008
        assert "canary" not in repr((heard, said))
