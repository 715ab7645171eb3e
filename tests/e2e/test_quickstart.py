"""The quick start, as in the README."""

import json
import os
import signal
import sys
from asyncio import create_subprocess_exec
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.e2e.programs import ROOT, stage


@asynccontextmanager
async def begun(*arguments: str, where: Path = ROOT) -> AsyncIterator[Process]:
    """The quick start, on ports that nobody else has."""
    ports = dict.fromkeys(("COLLECTOR_SERVER__PORT", "COLLECTOR_SERVER__HTTP_PORT", "COLLECTOR_MONITOR__PORT"), "0")
    command = (sys.executable, str(ROOT / "scripts" / "quickstart.py"), *arguments)
    process = await create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE, cwd=where, env=os.environ | ports)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            await process.communicate()


async def quickstart(*arguments: str, where: Path = ROOT) -> tuple[int | None, str, str]:
    """Its exit code, and what it said on standard output and on standard error."""
    async with begun(*arguments, where=where) as process:
        output, errors = await process.communicate()
    return process.returncode, output.decode(), errors.decode()


def is_synced(health: dict[str, Any]) -> bool:
    exchanges = health["exchanges"].values()
    return all(each["books_synced"] == each["books"] > 0 and each["events"]["trades"] for each in exchanges)


async def test_told_to_end_as_soon_as_it_has_begun(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"exchanges": [{"name": "kraken", "pairs": {"trades": ["BTC/USD"]}}]}))
    arguments = ("--config", "config.json", "--seconds", "0.1", "--json", "--data", "here")
    code, output, errors = await quickstart(*arguments, where=tmp_path)
    assert code == 0, errors
    assert set(json.loads(output)["exchanges"]) == {"kraken"}
    assert (tmp_path / "here" / "master.key").exists(), "paths are seen from where the user stands"


async def test_a_place_that_is_no_directory_is_said_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, output, errors = await quickstart("--data", str(tmp_path / "file"))
    assert (code, errors) == (1, "")
    assert output == f"{tmp_path}/file/logs: Not a directory; --data names another directory\n"


async def test_a_program_that_ends_is_shown_with_its_reasons(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"exchanges": [{"name": "mtgox"}, {"name": "okx", "orderbook": {"depth": 500}}]}))
    code, output, _ = await quickstart("--config", str(config), "--data", str(tmp_path))
    assert code == 1
    *_, said, first, second = output.splitlines()
    assert said.startswith("collector ended with code 2; see ")
    assert first.startswith("exchanges[0].name: unknown exchange 'mtgox'")
    assert second.startswith("exchanges[1].orderbook.depth: okx keeps at most")


async def test_the_quick_start_stores_what_it_says(tmp_path: Path) -> None:
    async with stage(tmp_path) as on, begun("--json", "--data", str(on.data)) as process:
        assert process.stderr is not None
        await process.stderr.readline()
        _, monitor, *_ = (await process.stderr.readline()).decode().split()
        await on.until_health(monitor.removesuffix("/health"), is_synced, "trades, and all books synced")
        process.send_signal(signal.SIGINT)
        output, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()
        last = json.loads(output.splitlines()[-1])
        configured = json.loads((ROOT / "config.json").read_text())["exchanges"]
        assert set(last["exchanges"]) == {exchange["name"] for exchange in configured}
        for exchange in configured:
            outcome = last["exchanges"][exchange["name"]]
            assert outcome["books_synced"] == len(exchange["pairs"]["orderbooks"]), (exchange["name"], outcome)
            assert outcome["trades"] > 0
            assert outcome["books"] > 0
            assert outcome["gaps"] == 0
        assert last["errors"] == 0
        assert last["acked"] == last["stored"] == on.count()
        trades = sum(outcome["trades"] for outcome in last["exchanges"].values())
        assert trades == on.count("trades")
