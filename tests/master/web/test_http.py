"""What every request passes on its way in: how often, with which key, from which page; and every refusal as a problem."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from master import keys
from master.auth import join_key
from master.guard import BURST
from master.history.questions import Found, Question
from master.history.reader import BusyError
from master.web.http import MOST_BODY
from tests.hearing import logs
from tests.master.running import KEY
from tests.master.serving import House, house, problem, serving


@pytest.fixture
def at(tmp_path: Path) -> House:
    return house(tmp_path / "data")


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class TestProblems:
    async def test_a_path_that_is_none(self, at: House) -> None:
        async with serving(at) as client, client.get("/v1/tradez") as answer:
            assert "/openapi.json" in (await problem(answer, 404))["change"]

    async def test_a_method_that_is_none(self, at: House) -> None:
        async with serving(at) as client, client.post("/v1/market") as answer:
            await problem(answer, 405)
            assert set(answer.headers["Allow"].split(",")) == {"GET", "HEAD"}

    async def test_a_body_that_is_too_large(self, at: House) -> None:
        async with serving(at) as client, client.post("/feed-values/", data=b" " * (MOST_BODY + 1)) as answer:
            assert "256 KiB" in (await problem(answer, 413))["change"]

    async def test_a_failure_of_ours_is_told_to_the_log_and_not_to_the_caller(
        self, at: House, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fails(*_: Any) -> None:
            raise ZeroDivisionError("secret of the house")

        monkeypatch.setattr(at.rooms.pulse, "history", fails)
        with logs() as said:
            async with serving(at) as client, client.get("/v1/status/history") as answer:
                await problem(answer, 500)
                assert "secret" not in await answer.text()
        (told,) = [line for line in said if line.get("exc_info")]
        assert (told["event"], told["path"]) == ("a request failed", "/v1/status/history")

    async def test_a_body_that_never_ends(self, at: House, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("master.web.endpoint.BODY_WITHIN", 0.01)
        async with serving(at) as client:
            host, port = client._base_url.host, client._base_url.port  # type: ignore[union-attr]
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(b"POST /feed-values/ HTTP/1.1\r\nHost: here\r\nContent-Length: 100\r\n\r\n{")
            assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")
            writer.close()

    async def test_every_answer_says_that_it_is_no_page(self, at: House) -> None:
        async with serving(at) as client:
            for path in ("/health", "/nothing"):
                async with client.get(path) as answer:
                    assert answer.headers["X-Content-Type-Options"] == "nosniff"
                    assert answer.headers["Cache-Control"] == "no-store"
                    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")

    async def test_the_page_says_itself_what_it_is(self, at: House) -> None:
        async def index(_: web.Request) -> web.Response:
            return web.Response(text="page", headers={"Content-Security-Policy": "default-src 'self'"})

        gate = at.gate(needs_key=True)
        async with serving(at, gate, [web.get("/", index)]) as client, client.get("/") as answer:
            assert (answer.status, answer.headers["Content-Security-Policy"]) == (200, "default-src 'self'")


class TestRate:
    async def test_who_asks_too_often_is_told_when_to_come_again(self, at: House) -> None:
        clock = Clock()
        async with serving(at, at.gate(rate=0.5, clock=clock)) as client:
            async with client.get("/v1/feeds") as answer:
                assert answer.status == 200
            async with client.get("/v1/feeds") as answer:
                assert "server.http.rate" in (await problem(answer, 429))["detail"]
                assert answer.headers["Retry-After"] == "2"
            async with client.get("/health/live") as answer:
                assert answer.status == 200, "what restarts programs is always answered"
            clock.now += 2.0
            async with client.get("/v1/feeds") as answer:
                assert answer.status == 200
        assert at.rooms.usage.requests["/v1/feeds", 429] == 1

    async def test_a_wrong_key_costs_as_much_as_a_right_one(self, at: House) -> None:
        async with serving(at, at.gate(rate=0.5, needs_key=True)) as client:
            async with client.get("/v1/feeds") as answer:
                await problem(answer, 401)
            async with client.get("/v1/feeds", headers={"Authorization": f"Bearer {KEY}"}) as answer:
                await problem(answer, 429)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


class TestKeys:
    @pytest.fixture
    def made(self, at: House) -> dict[str, str]:
        """A live key of each role, and one of a consumer that was revoked."""
        file = keys.file_in(at.data)
        made = {role: keys.make(file, role) for role in ("collector", "consumer", "admin")}
        gone = keys.make(file, "consumer")
        keys.revoke(file, gone.id)
        return {role: join_key(key.id, key.key) for role, key in {**made, "revoked": gone}.items()}

    @pytest.mark.parametrize("path", ["/v1/market", "/v1/feeds", "/health", "/metrics", "/v1/trades", "/nothing"])
    async def test_nothing_is_told_without_one(self, at: House, path: str) -> None:
        async with serving(at, at.gate(needs_key=True)) as client, client.get(path) as answer:
            assert "keys new --role consumer" in (await problem(answer, 401))["change"]
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")

    @pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/openapi.json"])
    async def test_these_are_open(self, at: House, path: str) -> None:
        async with serving(at, at.gate(needs_key=True)) as client, client.get(path) as answer:
            assert answer.status == 200

    async def test_which_key_may_read(self, at: House, made: dict[str, str]) -> None:
        async with serving(at, at.gate(needs_key=True)) as client:
            seen = {}
            wrong = {"none": "wrong", "odd": "schlüssel", "nearly": made["consumer"][:-1] + "g", "empty": ""}
            for name, key in {**made, **wrong, "shared": KEY}.items():
                async with client.get("/v1/feeds", headers=bearer(key)) as answer:
                    seen[name] = answer.status
        assert {name for name, status in seen.items() if status == 200} == {"consumer", "admin", "shared"}
        assert set(seen.values()) == {200, 401}

    async def test_another_scheme_is_none(self, at: House) -> None:
        async with (
            serving(at, at.gate(needs_key=True)) as client,
            client.get("/v1/feeds", headers={"Authorization": f"Basic {KEY}"}) as answer,
        ):
            await problem(answer, 401)

    async def test_guessing_has_to_pause_and_a_key_never_reaches_the_log(self, at: House) -> None:
        clock = Clock()
        with logs() as said:
            async with serving(at, at.gate(needs_key=True, clock=clock)) as client:
                for _ in range(BURST):
                    async with client.get("/v1/feeds", headers=bearer("guess of a key")) as answer:
                        await problem(answer, 401)
                async with client.get("/v1/feeds", headers=bearer(KEY)) as answer:
                    await problem(answer, 429)
                    assert answer.headers["Retry-After"] == "1"
                clock.now += 1.0
                async with client.get("/v1/feeds", headers=bearer(KEY)) as answer:
                    assert answer.status == 200
        assert "guess" not in str(said)
        assert [line["event"] for line in said].count("key refused") == BURST


PREFLIGHT = {"Origin": "https://desk.example", "Access-Control-Request-Method": "GET"}


class TestOtherOrigins:
    async def test_a_page_that_may_ask(self, at: House) -> None:
        gate = at.gate(needs_key=True, cors=("https://desk.example",))
        async with serving(at, gate) as client:
            async with client.options("/v1/feeds", headers=PREFLIGHT) as answer:
                assert answer.status == 204
                assert answer.headers["Access-Control-Allow-Origin"] == "https://desk.example"
                assert answer.headers["Vary"] == "Origin"
                assert "Authorization" in answer.headers["Access-Control-Allow-Headers"]
            async with client.get("/v1/feeds", headers={**bearer(KEY), "Origin": "https://desk.example"}) as answer:
                assert answer.status == 200
                assert answer.headers["Access-Control-Allow-Origin"] == "https://desk.example"
                assert "X-Next-Cursor" in answer.headers["Access-Control-Expose-Headers"]
            async with client.get("/v1/feeds", headers={"Origin": "https://desk.example"}) as answer:
                await problem(answer, 401)
                assert answer.headers["Access-Control-Allow-Origin"], "or the page could not read what is wrong"

    async def test_one_that_may_not(self, at: House) -> None:
        for cors in ((), ("https://other.example",)):
            async with serving(at, at.gate(cors=cors)) as client:
                async with client.options("/v1/feeds", headers=PREFLIGHT) as answer:
                    assert "server.http.cors" in (await problem(answer, 403))["change"]
                async with client.get("/v1/feeds", headers={"Origin": "https://desk.example"}) as answer:
                    assert "Access-Control-Allow-Origin" not in answer.headers

    async def test_all_may(self, at: House) -> None:
        async with (
            serving(at, at.gate(cors=("*",))) as client,
            client.options("/v1/feeds", headers=PREFLIGHT) as answer,
        ):
            assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (204, "*")


async def test_only_what_fails_is_a_line_of_the_log(at: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async def busy(_: Question) -> Found:
        raise BusyError("32 questions wait already")

    monkeypatch.setattr(at.rooms.reader, "ask", busy)
    at.ingest.trouble = "no space left"
    with logs() as said:  # from the level "info" on
        async with serving(at) as client:
            for path, status in (("/v1/feeds", 200), ("/v1/trades", 503), ("/health", 503), ("/health/ready", 503)):
                async with client.get(path) as answer:
                    assert answer.status == status
    assert [(line["event"], line["path"], line["status"]) for line in said] == [("request", "/v1/trades", 503)]
