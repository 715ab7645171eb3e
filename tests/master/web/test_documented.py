"""docs/api.md: each of its lines for a shell, run as it is written, but for the port."""

import asyncio
import json
import os
import re
import shutil
import sys
from pathlib import Path
from time import time_ns

import pytest

from adapters.events import Book, Event, Ticker
from tests.master.making import STREAM, batch, trade
from tests.master.running import collector, configuration, running
from tests.waiting import PATIENCE

REPOSITORY = Path(__file__).parents[3]
BLOCKS = re.findall(r"```sh\n(.*?)```", (REPOSITORY / "docs" / "api.md").read_text(), re.DOTALL)
pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")


class Shell:
    """Whose curl fails where HTTP does, and whose `python` is this one."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder = folder
        self._port = port
        (folder / ".curlrc").write_text("fail-with-body\nsilent\nshow-error\n")
        (folder / "config.json").touch(mode=0o600)
        (folder / "config.json").write_text(json.dumps(configuration(folder / "data")))
        self._environment = os.environ | {
            "CURL_HOME": str(folder),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(REPOSITORY),
        }

    async def run(self, lines: str) -> tuple[int, str]:
        """Exit code, and what it printed."""
        script = lines.replace("127.0.0.1:8767", f"127.0.0.1:{self._port}")
        child = await asyncio.create_subprocess_exec(
            *("bash", "-eo", "pipefail", "-c", script),
            cwd=self._folder,
            env=self._environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(PATIENCE):
            said, _ = await child.communicate()
        return child.returncode or 0, said.decode()


async def test_what_may_be_asked(tmp_path: Path) -> None:
    now = time_ns() // 1000
    levels = [("99", "1")], [("101", "3")]
    market: list[Event] = [
        *(trade(number, exchange="binance", symbol="BTC/USDT", received=now + number) for number in range(12)),
        *(Book("binance", "BTC/USDT", None, now, *levels, 7), Ticker("binance", "BTC/USDT", None, now, "100")),
    ]
    blocks = [block for block in BLOCKS if "KEY" not in block]
    async with running(tmp_path / "data") as master, collector(master, STREAM) as source:
        await source.send(batch(1, *market))
        await source.acked(STREAM, 1)
        shell = Shell(tmp_path, master.http_port)
        for block in blocks:
            code, said = await shell.run(block)
            if "limit=0" in block:
                assert (code, "symbols" in said) == (22, True), "this one is wrong, and told so"
            else:
                assert code == 0, f"{block}\n{said}"
    assert len(blocks) == 6
    assert (tmp_path / "trades.parquet").read_bytes()[:4] == b"PAR1"


async def test_who_may_ask(tmp_path: Path) -> None:
    (block,) = (block for block in BLOCKS if "KEY" in block)
    make, ask = block.strip().split("\n")
    async with running(tmp_path / "data", http={"auth": True}) as master:
        shell = Shell(tmp_path, master.http_port)
        code, said = await shell.run(make)
        found = re.search(r"\bk[0-9a-f]{8}\.[0-9a-f]{64}\b", said)
        assert found, said
        assert (await shell.run(ask))[0] == 22, "KEY itself is none"
        async with asyncio.timeout(PATIENCE):
            while code := (await shell.run(ask.replace("KEY", found[0])))[0]:  # until the master has looked at its keys
                assert code == 22
