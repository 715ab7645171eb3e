"""`health` and `status` of programs that run, as probes and people call them."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from tests.e2e.programs import ROOT, stage

PAIRS = {"trades": ["BTC/USD", "ETH/USD", "NONE/USD"], "orderbooks": ["BTC/USD"]}


async def run(*arguments: str, **environment: str) -> tuple[int, str]:
    """Exit code of `python -m <arguments>`, and what it said."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *arguments), cwd=ROOT, env=os.environ | environment, stdout=-1, stderr=-2
    )
    said, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode is not None
    return process.returncode, said.decode()


async def test_of_a_collector_and_its_master(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        _, simulator = await on.simulator("--exchange", "kraken")
        config = on.config({"kraken": PAIRS})
        _, ports = await on.master()
        collector, monitor = await on.collector(config, simulator, ports["port"])
        place = {"COLLECTOR_MONITOR__PORT": monitor.rpartition(":")[2]}

        async def ask(*words: str) -> tuple[int, str]:
            return await run("collector", *words, "--config", config, **place)

        def is_whole(health: dict[str, Any]) -> bool:
            kraken = health["exchanges"].get("kraken", {"pairs": {}})
            return health["status"] == "ok" and kraken["pairs"].get("live") == 3 and bool(kraken["rejected"])

        await on.until_health(monitor, is_whole, "a collector in order")
        (ready, status, figures), master_health = await asyncio.gather(
            asyncio.gather(*(ask(*words) for words in (("health", "--ready"), ("status",), ("status", "--json")))),
            run("master", "health", "--data", str(on.data), "--config", config),
        )
        assert (ready[0], ready[1].startswith("ok: 3 connections, ")) == (0, True), ready
        assert master_health == (0, "ok\n")
        assert status[0] == 0
        assert "kraken rejected trades NONE/USD: " in status[1]
        row = next(line for line in status[1].splitlines() if line.startswith("kraken ")).split()
        assert row[1:5] == ["3/3", "3", "0", "0"], "connections, live, quiet, waiting"
        assert figures[0] == 0
        found = json.loads(figures[1])
        assert found["exchanges"]["kraken"]["events_per_second"] > 0
        assert found["workers"][0]["pid"] is not None

        await collector.end()
        code, said = await ask("health")
        assert (code, said.startswith("not up: no answer at 127.0.0.1:")) == (1, True), said
