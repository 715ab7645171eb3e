"""The quick start, as in the README."""

import json
import sys
from asyncio import create_subprocess_exec
from asyncio.subprocess import PIPE
from pathlib import Path

from tests.e2e.programs import ROOT, stage


async def test_the_quick_start_stores_what_it_says(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        script = str(ROOT / "scripts" / "quickstart.py")
        process = await create_subprocess_exec(
            *(sys.executable, script, "--seconds", "12", "--json", "--data", str(on.data)), stdout=PIPE, stderr=PIPE
        )
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
