"""examples/stream.js, run by Node against a running master."""

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from master import keys
from master.auth import join_key
from tests.master.line import line
from tests.master.making import STREAM, batch
from tests.master.running import KEY, collector, running
from tests.waiting import PATIENCE

EXAMPLE = Path(__file__).parents[2] / "examples" / "stream.js"
SCRIPT = """
import {{ stream }} from "{example}";
const [url, key, topic, cursor] = process.argv.slice(1);
try {{
  for await (const message of stream(url, key, [topic], {{ cursor: cursor ?? null }})) console.log(JSON.stringify(message));
}} catch (error) {{
  console.log(JSON.stringify({{ op: error.constructor.name, message: error.message }}));
}}
"""


@cache
def node() -> list[str] | None:
    """How to run a module that needs WebSocket; None where no Node has it."""
    for options in ([], ["--experimental-websocket"]):
        command = [shutil.which("node") or "node", *options]
        try:
            said = subprocess.run([*command, "-p", "typeof WebSocket"], capture_output=True, text=True, timeout=20, check=False)
        except OSError:
            return None
        if said.stdout.strip() == "function":
            return command
    return None


@pytest.fixture(autouse=True)
def _needs_node() -> None:
    if node() is None:
        pytest.skip("needs a node with WebSocket: 22, or 20 with --experimental-websocket")


class Child:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            message: dict[str, Any] = json.loads(await self._process.stdout.readline())
        return message


@asynccontextmanager
async def script(*arguments: str) -> AsyncIterator[Child]:
    command = [*(node() or []), "--input-type=module", "-e", SCRIPT.format(example=EXAMPLE), *arguments]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        yield Child(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_it_goes_on_where_it_was(tmp_path: Path) -> None:
    made = keys.make(keys.file_in(tmp_path), "consumer", "", None)
    async with line() as (way, url), running(tmp_path) as master, collector(master, STREAM) as source:
        way.port = master.port
        async with script(url, join_key(made.id, made.key), "trades:kraken:*") as child:
            assert (await child.hear())["op"] == "subscribed"
            await source.send(batch(1))
            assert (await child.hear())["events"][0]["id"] == "1"
            way.port = 0  # nobody is there
            way.cut()
            await source.send(batch(2))
            await source.acked(STREAM, 2)
            way.port = master.port
            assert (await child.hear())["op"] == "subscribed"
            assert [each["id"] for each in (await child.hear())["events"]] == ["2"]


async def test_what_is_wrong_is_an_error_that_says_it(tmp_path: Path) -> None:
    async with running(tmp_path) as master:
        async with script(master.url, "wrong", "trades:*:*") as child:
            assert (await child.hear())["op"] == "LoginError"
        async with script(master.url, KEY, "trade:*:*") as child:
            found = await child.hear()
            assert found["op"] == "SubscriptionError"
            assert "no channel 'trade'" in found["message"]
