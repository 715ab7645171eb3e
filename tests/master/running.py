"""A master that runs, and a collector that is spoken by hand."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

import aiohttp
from msgspec import Struct
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from master.auth import Opening, encode_opening, new_nonce, proof, split_key
from master.door import Door
from master.keys import KeyRing, file_in
from master.lake import connect as connect_lake
from master.protocol import (
    MAX_BATCH,
    Accepted,
    Ack,
    Batch,
    Challenge,
    Control,
    Hello,
    Login,
    Refused,
    Welcome,
    decode_control,
    encode_control,
)
from master.service import Sealer, run
from master.settings import MasterSettings, load
from tests.e2e.programs import command_lines
from tests.waiting import PATIENCE, until, until_now

KEY = "key of the tests"
WORKER = "host-0"
FOR_EVER = 100_000
"""Days of retention."""

Expected = TypeVar("Expected", bound=Struct)


def ids(data: Path, where: str = "true") -> list[int]:
    """The ids of the stored trades in the order in which they were taken; each must be a number."""
    with connect_lake(data, with_ledger=False) as connection:
        found = connection.execute(f"SELECT id FROM trades WHERE {where} ORDER BY position").fetchall()
    return [int(number) for (number,) in found]


def ask(data: Path, sql: str) -> list[tuple[Any, ...]]:
    with connect_lake(data, with_ledger=False) as connection:
        return connection.execute(sql).fetchall()


# The master ---------------------------------------------------------------------------------------------------------------


class Address(Struct, frozen=True):
    """Where a master listens."""

    pid: int
    port: int
    http_port: int

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    @property
    def secure_url(self) -> str:
        return f"wss://localhost:{self.port}"

    async def health(self) -> dict[str, Any]:
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{self.http_port}/health") as answer:
            found: dict[str, Any] = await answer.json()
            return found

    async def metrics(self) -> str:
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{self.http_port}/metrics") as answer:
            return await answer.text()


def configuration(data: Path, sections: dict[str, Any] | None = None, **server: Any) -> dict[str, Any]:
    """Of a master that keeps what these tests store, whose trades are all of one old day."""
    usual = {"data": str(data), "port": 0, "http_port": 0, "retention_days": FOR_EVER}
    return {"master": {"key": KEY}, "server": {**usual, **server}, **(sections or {})}


def door(data: Path, key: str = KEY) -> Door:
    """A door as a master on this data has it."""
    return Door(KeyRing(file_in(data), key))


def address(data: Path) -> Address | None:
    """What a master that is up has left word of."""
    try:
        return Address(**json.loads((data / "master.json").read_bytes()))
    except (FileNotFoundError, json.JSONDecodeError):
        return None


def reader_of(data: Path) -> int | None:
    """The pid of what answers questions about this data for a master in this process, where there is one."""
    wanted = {b"master.history.reader", os.fsencode(data)}
    found = command_lines(os.getpid()).items()
    return next((pid for pid, line in found if wanted <= set(line.split(b"\0"))), None)


async def _seal_nothing(_: Sealer) -> None:
    await asyncio.Event().wait()


@asynccontextmanager
async def running(
    data: Path,
    *,
    seals: bool = False,
    hangup: asyncio.Event | None = None,
    sections: dict[str, Any] | None = None,
    **server: Any,
) -> AsyncIterator[Address]:
    """A master in this process; in its first moments it begins no child unless it `seals`, or is asked about the past. One that
    seals gives way to nobody: beside other tests it would wait for the last of them."""
    stop = asyncio.Event()
    seal = Sealer.run if seals else _seal_nothing
    with patch.object(Sealer, "run", seal), patch("master.service.NICENESS", 0):
        serving = asyncio.create_task(run(load(MasterSettings, configuration(data, sections, **server)), stop, hangup))
        await until(lambda: serving.done() or address(data), "a master")
        if serving.done():
            serving.result()
        found = address(data)
        assert found is not None
        try:
            yield found
        finally:
            stop.set()
            await serving


class Process:
    """A master in a process of its own, which can be killed."""

    def __init__(self, data: Path, config: dict[str, Any]) -> None:
        file = data.with_suffix(".json")
        file.touch(mode=0o600)
        file.write_text(json.dumps(config))
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "master", "--config", str(file)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def end(self) -> tuple[int, str]:
        """Ask it to end: its exit code, and what it has said."""
        self.popen.send_signal(signal.SIGTERM)
        return self.ended()

    def ended(self) -> tuple[int, str]:
        _, said = self.popen.communicate(timeout=PATIENCE)
        return self.popen.returncode, said

    def kill(self) -> None:
        self.popen.kill()
        self.popen.communicate()


@contextmanager
def process(data: Path, sections: dict[str, Any] | None = None, **server: Any) -> Iterator[tuple[Process, Address]]:
    """A master that is up, in a process of its own."""
    started = Process(data, configuration(data, sections, **server))
    try:
        until_now(lambda: started.popen.poll() is not None or is_of(address(data), started), "a master process")
        found = address(data)
        assert found is not None, started.ended()
        yield started, found
    finally:
        if started.popen.poll() is None:
            os.killpg(started.popen.pid, signal.SIGKILL)
            started.popen.communicate()


def is_of(found: Address | None, started: Process) -> bool:
    """A master that was killed leaves its word behind."""
    return found is not None and found.pid == started.popen.pid


async def told(master: Address, is_so: Callable[[dict[str, Any]], object]) -> None:
    """Wait until /health says so."""
    async with asyncio.timeout(PATIENCE):
        while not is_so(await master.health()):
            await asyncio.sleep(0.005)


# The collector ------------------------------------------------------------------------------------------------------------


class Collector:
    """One connection, spoken by hand."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def log_in(self, key: str = KEY, role: str = "collector", worker: str = WORKER) -> None:
        kid, secret = split_key(key)
        opening = Opening(role, id=worker, nonce=new_nonce(), kid=kid)
        await self.socket.send(encode_opening(opening))
        challenge = await self.hear(Challenge)
        await self.say(Login(proof(secret, "client", opening, challenge.nonce)))
        accepted = await self.hear(Accepted)
        assert accepted.proof == proof(secret, "server", opening, challenge.nonce)

    async def hello(self, *streams: bytes, oldest: int = 1) -> dict[bytes, int]:
        """Announce streams; the durable marks."""
        await self.say(Hello(WORKER, 1, {stream.hex(): oldest for stream in streams}))
        welcome = await self.hear(Welcome)
        return {bytes.fromhex(name): seq for name, seq in welcome.streams.items()}

    async def say(self, message: Control) -> None:
        await self.socket.send(encode_control(message))

    async def send(self, *batches: Batch) -> None:
        for each in batches:
            await self.socket.send(each.data)

    async def hear(self, kind: type[Expected]) -> Expected:
        """The next control message, which must be of this kind."""
        async with asyncio.timeout(PATIENCE):
            message = decode_control(await self.socket.recv())
        assert isinstance(message, kind), message
        return message

    async def acked(self, stream: bytes, seq: int) -> None:
        """Wait until everything up to `seq` is acknowledged."""
        reached = 0
        while reached < seq:
            reached = (await self.hear(Ack)).streams.get(stream.hex(), reached)
        assert reached == seq

    async def closed(self) -> int | None:
        """Wait for the end: the close code."""
        async with asyncio.timeout(PATIENCE):
            try:
                while True:
                    await self.socket.recv()
            except ConnectionClosed:
                return self.socket.close_code


NO = ("login refused", False, 4401)
"""What everybody hears who may not come in, whatever was wrong."""


async def refused(one: Collector) -> tuple[str, bool, int | None]:
    """The reason, whether to try again, and the close code."""
    said = await one.hear(Refused)
    return said.reason, said.retry, await one.closed()


@asynccontextmanager
async def stranger(to: Address) -> AsyncIterator[Collector]:
    """A connection on which nothing was said yet."""
    async with connect(to.url, compression=None, max_size=MAX_BATCH, close_timeout=1.0, proxy=None) as socket:
        yield Collector(socket)


@asynccontextmanager
async def collector(to: Address, *streams: bytes, oldest: int = 1) -> AsyncIterator[Collector]:
    """One that is logged in and has announced its streams."""
    async with stranger(to) as one:
        await one.log_in()
        if streams:
            await one.hello(*streams, oldest=oldest)
        yield one


async def is_taken(to: Address, key: str, role: str = "collector") -> bool:
    """Whether a login with this key is right; a wrong one must be told so."""
    async with stranger(to) as one:
        try:
            await one.log_in(key, role)
        except AssertionError:
            assert await one.closed() == 4401
            return False
        return True


async def becomes_taken(to: Address, key: str) -> None:
    """Until the master has looked at its keys again."""
    async with asyncio.timeout(PATIENCE):
        while not await is_taken(to, key):
            await asyncio.sleep(0.02)
