"""Who is let in at the door for collectors, over real sockets, and what the others hear."""

import pytest

from master import door as door_module
from master.auth import Opening, encode_opening, new_nonce, proof
from master.protocol import (
    MAX_BATCH,
    Accepted,
    Challenge,
    Hello,
    Login,
)
from tests.hearing import events, logs
from tests.master.making import STREAM, batch, trade
from tests.master.running import KEY, NO, WORKER, Address, collector, refused, stranger


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
