"""Starts simulator, master and collector as three programs, shows what they do, and ends them in order."""

import argparse
import asyncio
import json
import os
import secrets
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import aiohttp
from rich.console import Console
from rich.live import Live

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from collector.table import Rates, render  # noqa: E402 (the project is run from its folder, not installed)
from master.parent import end_with_parent  # noqa: E402

REDRAW_EVERY = 0.5
START_WITHIN = 30.0
END_WITHIN = 30.0
LAST_LINES = 20
"""Of a program's log, shown where it ended by itself."""
USUAL_PORTS = {"COLLECTOR_SERVER__PORT": 8766, "COLLECTOR_SERVER__HTTP_PORT": 8767, "COLLECTOR_MONITOR__PORT": 8768}


class QuickstartError(Exception):
    """The data directory cannot be used; or one of the programs did not come up, or ended: where its log is."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/quickstart", description=__doc__)
    parser.add_argument("--seconds", type=float, help="end by itself so long after all is up (default: at Ctrl-C)")
    parser.add_argument("--data", type=_place, default=ROOT / "data", help="where to keep data, key and logs (default: ./data)")
    parser.add_argument("--config", type=_place, default=ROOT / "config.json")
    parser.add_argument("--live", action="store_true", help="the real exchanges instead of the simulator")
    parser.add_argument("--rate", type=float, default=200, help="simulated events a second of each exchange (default: 200)")
    parser.add_argument("--json", action="store_true", help="one last line of JSON on standard output")
    options = parser.parse_args()
    console = Console(stderr=options.json)
    try:
        outcome = asyncio.run(run(options, console))
    except QuickstartError as error:
        console.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        return 1
    if options.json:
        print(json.dumps(outcome))
    else:
        console.print(f"{outcome['stored']:,} events stored in {options.data}; look at them, for example with")
        sql = "SELECT exchange, symbol, count(*) AS trades, avg(price) FROM trades GROUP BY ALL ORDER BY ALL"
        command = f'.venv/bin/python -m master query "{sql}" --data {options.data}'
        console.print(command, markup=False, highlight=False, soft_wrap=True)
    return 0


def _place(text: str) -> Path:
    """Seen from where the user stands: the programs run in the project's folder."""
    return Path(text).resolve()


async def run(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Start everything, watch it, and end it in order: the collector first, so that all it has is acknowledged."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        programs = Programs(options, stack, session)
        simulator = None if options.live else await programs.simulator()
        master, master_http = await programs.master()
        collector, monitor = await programs.collector(master, simulator)
        console.print(f"data: {options.data}   logs: {programs.logs}", highlight=False, soft_wrap=True)
        console.print(f"health: {monitor}/health (collector)   {master_http}/health (master)", highlight=False, soft_wrap=True)
        console.print(f"page: {master_http}/ (what it serves beside: docs/api.md)", highlight=False, soft_wrap=True)
        if options.seconds is not None:
            asyncio.get_running_loop().call_later(options.seconds, stop.set)
        await watch(session, monitor, master_http, programs, stop, console)
        final = await programs.end_collector(collector)
        stored = (await get(session, f"{master_http}/health"))["stored"]
    return summary(final, stored)


def summary(final: dict[str, Any], stored: int) -> dict[str, Any]:
    """The last line: counts after the drain, and the books as they were before it."""
    exchanges = {
        name: {
            "trades": each["events"]["trades"],
            "books": each["events"]["orderbooks"],
            "gaps": each["gaps"],
            "books_synced": each["books_synced"],
        }
        for name, each in final["exchanges"].items()
    }
    errors = sum(sum(each["errors"].values()) for each in final["exchanges"].values())
    return {"exchanges": exchanges, "acked": final["acked"], "stored": stored, "errors": errors}


class Programs:
    """The three programs, as a user would start them: each with its log in a file, none of them living longer than this one."""

    def __init__(self, options: argparse.Namespace, stack: AsyncExitStack, session: aiohttp.ClientSession) -> None:
        """Raises QuickstartError."""
        self.logs: Path = options.data / "logs"
        self._options = options
        self._stack = stack
        self._session = session
        self._running: dict[str, tuple[Process, int]] = {}
        try:
            self.logs.mkdir(parents=True, exist_ok=True)
            key = self._key()
        except OSError as error:
            raise QuickstartError(f"{error.filename}: {error.strerror}; --data names another directory") from error
        ours = {"COLLECTOR_MASTER__KEY": key, "COLLECTOR_SERVER__DATA": str(self._options.data), "PYTHONUNBUFFERED": "1"}
        self._environment = os.environ | ours

    def _key(self) -> str:
        """The key that collector and master share, made once for this data directory."""
        file: Path = self._options.data / "master.key"
        if not file.exists():
            file.touch(mode=0o600)
            file.write_text(secrets.token_hex(32))
        return file.read_text()

    async def _start(self, name: str, *arguments: str, **settings: str | int) -> Process:
        log = self._stack.enter_context((self.logs / f"{name}.log").open("ab"))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", name, *arguments),
            cwd=ROOT,
            env=self._environment | {key: str(value) for key, value in settings.items()},
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for this program, which ends the others in order
            preexec_fn=partial(end_with_parent, signal.SIGTERM),
        )
        self._running[name] = (process, log.tell())
        self._stack.push_async_callback(self._end, process)
        return process

    async def simulator(self) -> str:
        process = await self._start("simulator", "--port", "0", "--rate", str(self._options.rate))
        assert process.stdout is not None
        async with self._coming_up("simulator"):
            line = await process.stdout.readline()
            if not line:
                await process.wait()
                self.check()
        return str(json.loads(line)["url"])

    async def master(self) -> tuple[str, str]:
        """Its WebSocket and HTTP addresses."""
        announced = self._options.data / "master.json"
        announced.unlink(missing_ok=True)
        ports = {name: free_port(name) for name in ("COLLECTOR_SERVER__PORT", "COLLECTOR_SERVER__HTTP_PORT")}
        await self._start("master", *self._config, **ports)
        async with self._coming_up("master"):
            while not announced.exists():
                self.check()
                await asyncio.sleep(0.05)
        found = json.loads(announced.read_text())
        return f"ws://127.0.0.1:{found['port']}", f"http://127.0.0.1:{found['http_port']}"

    async def collector(self, master: str, simulator: str | None) -> tuple[Process, str]:
        """The process, and its HTTP address."""
        port = free_port("COLLECTOR_MONITOR__PORT")
        settings: dict[str, str | int] = {"COLLECTOR_MASTER__URL": master, "COLLECTOR_MONITOR__PORT": port}
        arguments = ("--simulator", simulator) if simulator else ()
        process, monitor = await self._start("collector", *self._config, *arguments, **settings), f"http://127.0.0.1:{port}"
        async with self._coming_up("collector"):
            while not await self._has_workers(monitor):
                self.check()
                await asyncio.sleep(0.05)
        return process, monitor

    async def _has_workers(self, monitor: str) -> bool:
        """Whether all of them have begun: from then on a collector that is told to end says what it did."""
        try:
            health = await get(self._session, f"{monitor}/health")
        except aiohttp.ClientError:
            return False
        return all(worker["up"] for worker in health["workers"])

    @property
    def _config(self) -> tuple[str, str]:
        return "--config", str(self._options.config)

    @asynccontextmanager
    async def _coming_up(self, name: str) -> AsyncIterator[None]:
        """Raises QuickstartError where a program is not up in time."""
        try:
            async with asyncio.timeout(START_WITHIN):
                yield
        except TimeoutError as error:
            raise QuickstartError(f"{name} does not come up; see {self.logs / name}.log") from error

    def check(self) -> None:
        """Raises QuickstartError where a program has ended by itself."""
        for name, (process, begin) in self._running.items():
            if process.returncode is not None:
                log = self.logs / f"{name}.log"
                last = log.read_bytes()[begin:].decode(errors="replace").strip().splitlines()[-LAST_LINES:]
                raise QuickstartError("\n".join((f"{name} ended with code {process.returncode}; see {log}", *last)))

    async def end_collector(self, collector: Process) -> dict[str, Any]:
        """Let it drain: its last word, the JSON line on its standard output."""
        self.check()
        self._running.clear()
        collector.terminate()
        output, _ = await asyncio.wait_for(collector.communicate(), END_WITHIN)
        last: dict[str, Any] = json.loads(output.splitlines()[-1])
        return last

    async def _end(self, process: Process) -> None:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), END_WITHIN)
            except TimeoutError:
                process.kill()
                await process.wait()


async def watch(
    session: aiohttp.ClientSession, monitor: str, master: str, programs: Programs, stop: asyncio.Event, console: Console
) -> None:
    """Until `stop`: a live table, where there is a terminal."""
    rates = Rates()
    with Live(console=console, auto_refresh=False, transient=False) as live:
        while not stop.is_set():
            programs.check()
            try:
                collecting, keeping = await get(session, f"{monitor}/health"), await get(session, f"{master}/health")
            except (aiohttp.ClientError, TimeoutError):
                collecting = keeping = {}
            if collecting and console.is_terminal:
                lost = "".join(f", [yellow]{number:,} {reason}[/]" for reason, number in collecting["losses"].items() if number)
                title = f"{collecting['acked']:,} acked, {keeping['stored']:,} stored{lost}; Ctrl-C drains and ends"
                stored = {name: sum_of_rows(each) for name, each in keeping["exchanges"].items()}
                acked = {name: each["acked"] for name, each in collecting["exchanges"].items()}
                counts = {"acked": acked, "stored": stored}
                live.update(render(collecting["exchanges"], counts, rates, monotonic(), title), refresh=True)
            await wait_for(stop, REDRAW_EVERY)


def sum_of_rows(exchange: dict[str, Any]) -> int:
    return sum(number for kind, number in exchange.items() if kind != "age")


async def wait_for(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass


async def get(session: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    async with session.get(url, timeout=aiohttp.ClientTimeout(total=5.0)) as response:
        report: dict[str, Any] = await response.json()
        return report


def free_port(name: str) -> int:
    """The port that the environment names, or the usual one; where somebody has it, one that the system chooses."""
    for port in (int(os.environ.get(name, USUAL_PORTS[name])), 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise QuickstartError("the system has no free port")


if __name__ == "__main__":
    sys.exit(main())
