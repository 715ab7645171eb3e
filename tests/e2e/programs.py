"""The programs as users start them: processes with a configuration, a data directory and a log."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp

from master.lake import connect
from tests.ports import kept_port
from tests.waiting import PATIENCE, until

ROOT = Path(__file__).parents[2]
KEY = "canary-4f1d7c0e"
"""The key of all tests here; it must never be seen anywhere but in the environment of the programs."""


class Program:
    """One running program."""

    def __init__(self, process: Process, log: Path) -> None:
        self.process = process
        self.log = log

    @property
    def pid(self) -> int:
        return self.process.pid

    def logged(self, event: str) -> list[dict[str, Any]]:
        """What it logged under this name so far."""
        lines = self.log.read_text().splitlines()
        return [entry for line in lines if line.startswith("{") and (entry := json.loads(line))["event"] == event]

    async def end(self, how: int = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal and wait: its exit code, and what it said on standard output."""
        if self.process.returncode is None:
            self.process.send_signal(how)
        return await self.ended()

    async def ended(self) -> tuple[int, str]:
        """Wait for it to end by itself: the same."""
        output, _ = await asyncio.wait_for(self.process.communicate(), PATIENCE)
        assert self.process.returncode is not None
        return self.process.returncode, (output or b"").decode()


class Stage:
    """Starts programs in a folder, and ends whatever still runs when the test is over."""

    def __init__(self, folder: Path, stack: AsyncExitStack, **environment: str) -> None:
        self.folder = folder
        self.data = folder / "data"
        self._environment = environment
        self._stack = stack
        self._port = stack.enter_context(kept_port())
        self._session: aiohttp.ClientSession | None = None
        self._logs = 0

    async def start(self, *arguments: str, output: int = PIPE, **settings: str | int) -> Program:
        """`python -m <arguments>`, settings as environment; `output`: the file descriptor that is its standard output."""
        self._logs += 1
        log = self.folder / f"{self._logs}-{arguments[0]}.log"
        usual = {"COLLECTOR_MASTER__KEY": KEY, "COLLECTOR_SERVER__DATA": str(self.data)} | self._environment
        environment = os.environ | usual | {name: str(value) for name, value in settings.items()}
        with log.open("wb") as errors:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", *arguments), cwd=ROOT, env=environment, stdout=output, stderr=errors
            )
        program = Program(process, log)
        self._stack.push_async_callback(self._kill, process)
        return program

    @staticmethod
    async def _kill(process: Process) -> None:
        if process.returncode is None:
            process.kill()
            await process.wait()

    def config(self, exchanges: dict[str, dict[str, list[str]]], *, mode: str = "views", **more: Any) -> str:
        """A configuration file of these exchanges and pairs, and what is told of books: its path."""
        about = {"chunking": {"trades_per_connection": 2}, "orderbook": {"update_interval_ms": 100, "mode": mode}}
        entries = [{"name": name, "pairs": pairs, **about} for name, pairs in exchanges.items()]
        file = self.folder / "config.json"
        file.write_text(json.dumps({"exchanges": entries, "workers": 2, **more}))
        return str(file)

    async def master(self) -> tuple[Program, dict[str, int]]:
        """A master on this stage's data, at the same port over all its lives, and its ports."""
        announced = self.data / "master.json"
        announced.unlink(missing_ok=True)
        empty = self.folder / "empty.json"
        empty.write_text("{}")
        ports = {"COLLECTOR_SERVER__PORT": self._port, "COLLECTOR_SERVER__HTTP_PORT": 0}
        program = await self.start("master", "--config", str(empty), "--data", str(self.data), **ports)
        await until(lambda: announced.exists() or program.process.returncode is not None, "the master is up")
        assert announced.exists(), program.log.read_text()
        return program, json.loads(announced.read_text())

    async def simulator(self, *arguments: str) -> tuple[Program, str]:
        """A simulator, and its address."""
        program = await self.start("simulator", "--port", "0", *arguments)
        assert program.process.stdout is not None
        return program, json.loads(await program.process.stdout.readline())["url"]

    async def collector(self, config: str, simulator: str, master_port: int) -> tuple[Program, str]:
        """A collector, and the address of its health."""
        program = await self.start(
            *("collector", "--config", config, "--simulator", simulator),
            COLLECTOR_MASTER__URL=f"ws://127.0.0.1:{master_port}",
            COLLECTOR_MONITOR__PORT=0,
        )
        await until(lambda: program.logged("collecting") or program.process.returncode is not None, "the collector is up")
        assert program.process.returncode is None, program.log.read_text()
        return program, str(program.logged("collecting")[0]["monitor"])

    async def get(self, url: str) -> dict[str, Any]:
        if self._session is None:
            self._session = await self._stack.enter_async_context(aiohttp.ClientSession())
        async with self._session.get(url) as response:
            answer: dict[str, Any] = await response.json()
            return answer

    async def until_health(self, url: str, is_so: Any, what: str) -> dict[str, Any]:
        """Ask until the health is as it should be."""
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while True:
            health = await self.get(f"{url}/health")
            if is_so(health):
                return health
            assert asyncio.get_running_loop().time() < deadline, f"never came: {what}: {health}"
            await asyncio.sleep(0.05)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with connect(self.data, with_ledger=False) as connection:
            return connection.sql(sql).fetchall()

    def count(self, *tables: str) -> int:
        """Rows of all these tables, or of all that a collector fills."""
        names = tables or ("trades", "books", "book_deltas", "tickers", "gaps")
        return sum(self.rows(f"SELECT count(*) FROM {name}")[0][0] for name in names)


@asynccontextmanager
async def stage(folder: Path) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        yield Stage(folder, stack)


def _stat(pid: int) -> list[str]:
    """What stands behind the name of a process (proc(5), stat): its state, its parent."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()


def is_alive(pid: int) -> bool:
    """Whether a process runs (one that has ended and waits to be reaped does not)."""
    try:
        return _stat(pid)[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # the other: it went between opening and reading
        return False


def command_lines(root: int) -> dict[int, bytes]:
    """Of a process and all that it has started, by pid."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        pid = int(entry.name)
        with suppress(FileNotFoundError, ProcessLookupError):  # ended meanwhile
            children.setdefault(int(_stat(pid)[1]), []).append(pid)
    found, waiting = {}, [root]
    while waiting:
        pid = waiting.pop()
        waiting += children.get(pid, [])
        with suppress(FileNotFoundError, ProcessLookupError):
            found[pid] = Path(f"/proc/{pid}/cmdline").read_bytes()
    return found
