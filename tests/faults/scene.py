"""Venue, collector, proxy and master as users run them, in processes that may be killed, and what is known of their lives."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from time import time_ns
from typing import Any

import aiohttp

from adapters.events import Trade
from master.protocol import decode_events
from master.segments import scan, segments_in
from tests.e2e.programs import Program, Stage, is_alive
from tests.faults.oracle import State, Verdict, judge
from tests.faults.proxy import Proxy, proxy
from tests.faults.tape import Tape
from tests.waiting import PATIENCE

MARK = "SOAK_SCENE"
"""Environment of every process of a scene, and of those that they begin: its folder."""
ANSWER_WITHIN = 2.0


class SceneError(AssertionError):
    """The programs do not do what they must, whatever was done to them."""


class Scene:
    """The programs, what is done to them, and what is known of them."""

    def __init__(self, on: Stage, tape: Tape, workers: int, venue: str, line: Proxy, stack: AsyncExitStack) -> None:
        self.on = on
        self.tape = tape
        self.workers = workers
        self.line = line
        self.master: Program
        self.collector: Program
        self._venue = venue
        self._stack = stack
        self._monitor = ""
        self.spooled: set[int] = set()
        self._spool = ""
        self._acked_before = 0
        self._acked = 0
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_WITHIN))
        stack.push_async_callback(self._session.close)

    async def begin(self) -> None:
        await self.begin_master()
        await self.begin_collector()

    async def begin_master(self) -> None:
        self.master, ports = await self.on.master()
        self.line.to = ports["port"]

    async def begin_collector(self, spool: str = "spool") -> None:
        self._acked_before, self._acked = self._acked_before + self._acked, 0
        config = self.on.folder / "collector.json"
        chunk = -(-self.tape.markets // (2 * self.workers))
        exchange = {
            "name": "binance",
            "workers": self.workers,
            "pairs": {"trades": self.tape.symbols},
            "chunking": {"trades_per_connection": chunk},
        }
        self._spool = spool
        where = {"folder": str(self.on.folder / spool)}
        config.write_text(json.dumps({"exchanges": [exchange], "workers": self.workers, "spool": where}))
        self.collector, self._monitor = await self.on.collector(str(config), self._venue, self.line.port)

    # What is known.

    @property
    def seconds(self) -> float:
        """Since the tape began."""
        return (time_ns() // 1000 - self.tape.began) / 1e6

    async def health(self) -> dict[str, Any] | None:
        """The collector's; None where it gives none, being dead or stopped."""
        try:
            async with self._session.get(f"{self._monitor}/health") as response:
                found: dict[str, Any] = await response.json()
        except (aiohttp.ClientError, TimeoutError):
            return None
        self._acked = max(self._acked, found["acked"])
        return found

    @property
    def acked(self) -> int:
        return self._acked_before + self._acked

    async def note_spooled(self) -> None:
        """Remember which trades the spools hold now: whatever dies next, these must be stored."""
        self.spooled |= await asyncio.to_thread(trades_in, self.on.folder / self._spool)

    async def venue(self, what: str) -> State:
        async with self._session.get(f"{self._venue}/{what}") as response:
            state: State = await response.json()
            return state

    async def until(self, is_so: Any, what: str, within: float = PATIENCE) -> dict[str, Any]:
        """Ask until the collector is as it should be."""
        deadline = asyncio.get_running_loop().time() + within
        while True:
            self.check()
            health = await self.health()
            if health and is_so(health):
                return health
            if asyncio.get_running_loop().time() > deadline:
                raise SceneError(f"never came within {within:.0f} s: {what}; health: {json.dumps(health)}")
            await asyncio.sleep(0.05)

    def check(self) -> None:
        """Raises SceneError where a program has ended that nobody has killed."""
        for program in (self.master, self.collector):
            if program.process.returncode is not None:
                last = program.log.read_text(errors="replace").splitlines()[-3:]
                raise SceneError(f"ended by itself with {program.process.returncode}: {program.log}: {last}")

    # The end.

    async def finish(self, within: float = 60.0) -> Verdict:
        """Every fault is over: all must heal, a fresh trade of each market pass, and everything end in order."""
        await self.line.heal()
        await self.until(is_well, "everything is connected again", within)
        fresh = {symbol: happened or 0 for symbol, (_, _, happened) in (await self.venue("state")).items()}
        before = trades(await self.until(is_well, "still well", within))
        await self.until(lambda health: trades(health) > before + 2 * self.tape.markets, "trades flow")
        state = await self.venue("halt")
        await self.until(lambda health: health["waiting"] == 0, "everything that was told is acknowledged", within)
        await self._end(self.collector, within)
        await self._end(self.master, within)
        await self._no_orphans()
        return judge(self.on.data, self.tape, state, self.acked, fresh, self.spooled)

    async def _end(self, program: Program, within: float) -> None:
        async with asyncio.timeout(within):
            code, output = await program.end()
        if code != 0:
            raise SceneError(f"did not end in order, but with {code}: {program.log}")
        if program is self.collector:
            self._acked = max(self._acked, json.loads(output.splitlines()[-1])["acked"])

    async def _no_orphans(self) -> None:
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while left := of_scene(self.on.folder):
            if asyncio.get_running_loop().time() > deadline:
                raise SceneError(f"processes that nobody has any more: {left}")
            await asyncio.sleep(0.05)


def trades(health: dict[str, Any]) -> int:
    """Told by the venue in the present lives of the workers, and by those of this supervisor before."""
    exchange = health["exchanges"].get("binance")
    return int(exchange["events"]["trades"]) if exchange else 0


def is_well(health: dict[str, Any]) -> bool:
    return bool(health["status"] == "ok" and all(each["up"] and each["master_connections"] for each in health["workers"]))


def of_scene(folder: Path) -> list[int]:
    """Pids of the processes of a scene but its venue, be they children of children, or forgotten."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            is_ours = f"{MARK}={folder}".encode() in (process / "environ").read_bytes().split(b"\0")
            if is_ours and is_alive(int(process.name)) and b"tests.faults.venue" not in (process / "cmdline").read_bytes():
                found.append(int(process.name))
    return found


def trades_in(spools: Path) -> set[int]:
    """The ids of all live trades in these spools, which others write to meanwhile."""
    found: set[int] = set()
    for worker in spools.iterdir() if spools.is_dir() else ():
        for path in segments_in(worker):
            with suppress(FileNotFoundError):  # acknowledged, and gone since it was listed
                for batch in scan(path.read_bytes(), int(path.stem)).batches:
                    live = (each for each in decode_events(batch.body) if isinstance(each, Trade) and each.source == "live")
                    found.update(int(trade.id) for trade in live)
    return found


def _kill_all(folder: Path) -> None:
    for pid in of_scene(folder):
        os.kill(pid, signal.SIGKILL)


@asynccontextmanager
async def scene(
    folder: Path, markets: int, rate: int, workers: int = 1, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Scene]:
    """All programs, running in this environment; whatever is left of them at the end is killed."""
    async with AsyncExitStack() as stack:
        roll = {"COLLECTOR_SERVER__SEGMENT_MB": str(max(1, rate // 1000))}
        on = Stage(folder, stack, **({MARK: str(folder)} | roll | dict(environment or {})))
        tape = Tape(markets, rate, time_ns() // 1000)
        venue = await on.start("tests.faults.venue", str(markets), str(rate), str(tape.began))
        assert venue.process.stdout is not None
        address = f"http://127.0.0.1:{int(await venue.process.stdout.readline())}"
        line = await stack.enter_async_context(proxy(0))
        stack.callback(_kill_all, folder)
        set_up = Scene(on, tape, workers, address, line, stack)
        await set_up.begin()
        yield set_up
