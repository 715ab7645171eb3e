"""The port itself, over raw sockets: how many may be connected, how long they may say nothing, and what is no HTTP."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from socket import create_server
from typing import Any

import pytest
from msgspec import Struct

from master.web import port
from master.web.api import application
from tests.hearing import logs
from tests.master.running import running
from tests.master.serving import House, house
from tests.waiting import PATIENCE

ASK = b"GET %s HTTP/1.1\r\nHost: here\r\n\r\n"


class Line(Struct):
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def answer(self, request: bytes) -> tuple[int, dict[str, str], Any]:
        """Status, headers and JSON."""
        self.writer.write(request)
        async with asyncio.timeout(PATIENCE):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])}
            body = await self.reader.readexactly(int(headers["content-length"]))
        return int(head[0].split()[1]), headers, json.loads(body)

    async def problem(self, request: bytes, status: int) -> dict[str, Any]:
        """The problem that it must be, and the end of the connection."""
        found, headers, told = await self.answer(request)
        assert (found, headers["content-type"]) == (status, "application/problem+json"), told
        assert headers["x-content-type-options"] == "nosniff"
        assert all(told[name] for name in ("title", "detail", "change"))
        assert await self.rest() == b""
        return {**told, "headers": headers}

    async def rest(self) -> bytes:
        """All until the master closes it."""
        async with asyncio.timeout(PATIENCE):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b""


Connect = Callable[[], AbstractAsyncContextManager[Line]]


@asynccontextmanager
async def connected(number: int) -> AsyncIterator[Line]:
    reader, writer = await asyncio.open_connection("127.0.0.1", number)
    try:
        yield Line(reader, writer)
    finally:
        writer.close()


@asynccontextmanager
async def served(of: House, most: int = 100) -> AsyncIterator[Connect]:
    with create_server(("127.0.0.1", 0)) as on:
        async with port.listening(application(of.rooms, of.gate()), on, most):
            number = on.getsockname()[1]
            yield lambda: connected(number)


@pytest.fixture
def at(tmp_path: Path) -> House:
    return house(tmp_path / "data")


class TestWhatIsNoHttp:
    @pytest.mark.parametrize(
        ("sent", "says"),
        [
            (b"secret of mine\r\n\r\n", "this is no HTTP"),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "this is no HTTP"),
            (b"GET / HTTP/1.1\r\nHost: here\r\nAuthorization secret\r\n\r\n", "this is no HTTP"),
            (b"GET / HTTP/1.1\r\nHost: here\r\nX: " + b"x" * 9000 + b"\r\n\r\n", "Got more than 8190 bytes"),
            (b"POST /volumes/ HTTP/1.1\r\nHost: here\r\nContent-Length: -1\r\n\r\n", "this is no HTTP"),
        ],
    )
    async def test_is_told_as_a_problem_and_leaves_no_line_in_the_log(self, at: House, sent: bytes, says: str) -> None:
        with logs() as said:
            async with served(at) as connect, connect() as line:
                assert says in (await line.problem(sent, 400))["detail"]
        assert said == []

    async def test_a_body_that_is_not_as_its_headers_say(self, at: House) -> None:
        head = b"POST /volumes/ HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n"
        with logs() as said:
            async with served(at) as connect, connect() as line:
                status, _, told = await line.answer(head + b"zz\r\n")
        assert (status, said) == (400, []), told

    async def test_what_cannot_be_expected(self, at: House) -> None:
        async with served(at) as connect:
            for path in (b"/v1/feeds", b"/nothing"):
                async with connect() as line:
                    await line.problem(ASK.replace(b"\r\n\r\n", b"\r\nExpect: wonders\r\n\r\n") % path, 417)


class TestHowMany:
    async def test_one_too_many_is_told_when_to_come_again(self, at: House) -> None:
        async with served(at, most=2) as connect, connect() as one:
            async with connect() as two:
                for line in (one, two):
                    assert (await line.answer(ASK % b"/v1/feeds"))[0] == 200
                async with connect() as third:
                    told = await third.problem(ASK % b"/v1/feeds", 503)
                    assert "server.http.connections" in told["change"]
                    assert told["headers"]["retry-after"] == "1"
                async with connect() as probe:
                    status, headers, told = await probe.answer(ASK % b"/health/live")
                    assert (status, told, headers["connection"]) == (200, {"status": "ok"}, "close")
                assert (await one.answer(ASK % b"/v1/feeds"))[0] == 200, "who is in is served"
            await two.writer.wait_closed()
            async with asyncio.timeout(PATIENCE):
                status = 503
                while status == 503:
                    async with connect() as line:
                        status, _, _ = await line.answer(ASK % b"/v1/feeds")
            assert status == 200

    async def test_even_those_who_are_told_are_counted(self, at: House, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(port, "MOST_REFUSED", 1)
        async with served(at, most=1) as connect, connect() as one, connect() as second:
            assert (await one.answer(ASK % b"/v1/feeds"))[0] == 200
            second.writer.write(b"GET ")
            async with connect() as third:
                assert await third.rest() == b""
            assert (await second.answer((ASK % b"/v1/feeds")[4:]))[0] == 503

    async def test_it_is_set_in_the_configuration(self, tmp_path: Path) -> None:
        async with running(tmp_path / "data", http={"connections": 1}) as master, connected(master.http_port) as one:
            assert (await one.answer(ASK % b"/v1/feeds"))[0] == 200
            async with connected(master.http_port) as two:
                await two.problem(ASK % b"/v1/feeds", 503)


@pytest.mark.parametrize("said", [b"", b"GET /v1/feeds HTTP/1.1\r\nHost: he", ASK % b"/v1/feeds"])
async def test_who_says_nothing_more_is_sent_away(at: House, monkeypatch: pytest.MonkeyPatch, said: bytes) -> None:
    monkeypatch.setattr(port, "IDLE", 0.1)
    async with served(at, most=1) as connect, connect() as slow:
        slow.writer.write(said)
        rest = await slow.rest()
        assert rest.startswith(b"HTTP/1.1 200") if said.endswith(b"\r\n\r\n") else rest == b""
        async with connect() as next_one:
            assert (await next_one.answer(ASK % b"/v1/feeds"))[0] == 200
