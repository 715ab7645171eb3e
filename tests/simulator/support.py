"""What the tests of all venues share: a client, recorded frames, and the form of a frame."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from simulator import Simulator

PATIENCE = 5.0  # seconds until something that should happen is a failure
CAPTURES = Path(__file__).parents[3] / "shared" / "captures"

Json = Any


class Closed(Exception):  # noqa: N818  an event, not an error
    """The server ended the connection; `code` as the client saw it (1006: without a close frame)."""

    def __init__(self, code: int | None, reason: str | None) -> None:
        super().__init__(f"{code} {reason}")
        self.code = code
        self.reason = reason


class Client:
    """A WebSocket client that keeps what came and waits for conditions, never for time."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.texts: list[str] = []
        self.reason: str | None = None

    async def send(self, message: Json) -> None:
        await (self.socket.send_str(message) if isinstance(message, str) else self.socket.send_json(message))

    async def text(self) -> str:
        """The next frame; binary ones come as latin-1 text."""
        message = await self.socket.receive(PATIENCE)
        if message.type is aiohttp.WSMsgType.TEXT:
            text = str(message.data)
        elif message.type is aiohttp.WSMsgType.BINARY:
            text = bytes(message.data).decode("latin-1")
        else:
            raise Closed(self.socket.close_code, str(message.extra or ""))
        self.texts.append(text)
        return text

    async def json(self) -> Json:
        return json.loads(await self.text())

    async def until(self, wanted: Callable[[Json], object]) -> Json:
        """Read until a message fits, and return it. What does not parse does not fit."""
        async with asyncio.timeout(PATIENCE):
            while True:
                message = parsed(await self.text())
                if message is not None and wanted(message):
                    return message

    async def closed(self) -> Closed:
        """Read until the end of the connection."""
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    await self.text()
                except Closed as end:
                    return end


def parsed(text: str) -> Json:
    try:
        return json.loads(text)
    except ValueError:
        return None


def address(sim: Simulator, path: str) -> str:
    return f"{sim.url.replace('http', 'ws')}/{path}"


@asynccontextmanager
async def connect(sim: Simulator, path: str, **options: Any) -> AsyncIterator[Client]:
    """A client of `<real host>/<path>`."""
    async with aiohttp.ClientSession() as session, session.ws_connect(address(sim, path), **options) as socket:
        yield Client(socket)


async def refused(sim: Simulator, path: str) -> aiohttp.WSServerHandshakeError:
    """The answer to a handshake that is not let in."""
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        async with connect(sim, path):
            pass
    return caught.value


async def get(sim: Simulator, path: str, method: str = "GET", **options: Any) -> tuple[int, str, dict[str, str]]:
    """Status, body and headers (names in lower case) of a REST call."""
    async with aiohttp.ClientSession() as session, session.request(method, f"{sim.url}/{path}", **options) as answer:
        return answer.status, await answer.text(), {name.lower(): value for name, value in answer.headers.items()}


async def call(sim: Simulator, path: str, method: str = "GET", **options: Any) -> Json:
    """The JSON of a REST call that succeeds."""
    status, body, _ = await get(sim, path, method, **options)
    assert status == 200, body
    return json.loads(body)


async def eventually(condition: Callable[[], object]) -> None:
    """Wait until a condition of this process holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.002)


def recorded(path: str, contains: str) -> Iterator[str]:
    """The recorded frames of a capture file that contain a text; the test is skipped where there are no captures."""
    file = CAPTURES / path
    if not file.exists():
        pytest.skip(f"no captures at {CAPTURES}")
    for line in file.read_text().splitlines():
        raw = json.loads(line).get("raw", "")
        if contains in raw:
            yield raw


class Number(str):
    """The token of a bare JSON number."""

    __slots__ = ()


def form(text: str) -> Json:
    """What two frames of one kind have in common: keys in order, and the kind of every value.

    Text and bare numbers are told apart; so are their decimals: `.8` for eight with trailing zeros kept, `.` for a number
    without trailing zeros. Lists show the forms of their items, each once.
    """
    return _form(json.loads(text, parse_float=Number, parse_int=Number, object_pairs_hook=dict))


def _form(value: Json) -> Json:
    if isinstance(value, dict):
        return [(key, _form(item)) for key, item in value.items()]
    if isinstance(value, list):
        rows = sorted({json.dumps(_form(item)) for item in value})
        return ["list", *rows[:1]]
    if isinstance(value, Number):
        return "number"
    if isinstance(value, str):
        return "number text" if re.fullmatch(r"-?\d+(\.\d+)?", value) else "text"
    return type(value).__name__


def decimals(text: str) -> int:
    """How many decimals a number token shows."""
    return len(text.partition(".")[2])
