"""Real processes, killed and ended as in life."""

import json
import os
import signal
from pathlib import Path
from time import monotonic
from typing import Any

from collector.supervisor import FIRST_PAUSE
from tests.e2e.programs import Stage, is_alive, stage
from tests.waiting import until

EXCHANGES = {
    "binance": {"trades": ["BTC/USDT", "ETH/USDT", "SOL/USDT"], "orderbooks": ["BTC/USDT"], "tickers": ["BTC/USDT"]},
    "kraken": {"trades": ["BTC/USD", "ETH/USD"], "orderbooks": ["BTC/USD", "ETH/USD"]},
}


def is_whole(health: dict[str, Any]) -> bool:
    exchanges = health["exchanges"].values()
    return len(exchanges) == len(EXCHANGES) and all(
        each["connections"] == each["connections_wanted"] and each["books_synced"] == each["books"] for each in exchanges
    )


async def everything(on: Stage, *simulator: str) -> tuple[Any, Any, str, dict[str, int]]:
    """Simulator, master and collector of two exchanges, all books synced: master, collector, its health, the master's ports."""
    _, address = await on.simulator("--rate", "300", *simulator)
    master, ports = await on.master()
    collector, monitor = await on.collector(on.config(EXCHANGES), address, ports["port"])
    await on.until_health(monitor, is_whole, "everything is connected")
    return master, collector, monitor, ports


def check_numbered_trades_are_whole(on: Stage) -> None:
    """Every trade of a numbered market is there once, or a gap names it."""
    gaps = on.rows(
        "SELECT exchange, symbol, first_missing::BIGINT, last_missing::BIGINT FROM gaps WHERE first_missing IS NOT NULL"
    )
    sql = "SELECT exchange, symbol, list(id::BIGINT ORDER BY id::BIGINT) FROM trades GROUP BY ALL"
    for exchange, symbol, ids in on.rows(sql):
        assert len(set(ids)) == len(ids), f"{exchange} {symbol}: doubled"
        missing = set(range(ids[0], ids[-1] + 1)) - set(ids)
        named = {number for at, of, first, last in gaps if (at, of) == (exchange, symbol) for number in range(first, last + 1)}
        unnamed = missing - named
        restarted = on.rows(
            f"SELECT 1 FROM gaps WHERE exchange = '{exchange}' AND symbol = '{symbol}' AND reason = 'collector restarted'"
        )
        assert not unnamed or restarted, f"{exchange} {symbol}: {sorted(unnamed)[:5]} are missing without a word"


async def test_sigterm_drains_and_every_count_agrees(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        master, collector, monitor, ports = await everything(on)
        await on.until_health(monitor, lambda health: health["acked"] > 200, "events are acknowledged")
        code, output = await collector.end()
        assert code == 0
        last = json.loads(output.splitlines()[-1])
        stored = (await on.get(f"http://127.0.0.1:{ports['http_port']}/health"))["stored"]
        assert last["waiting"] == 0
        assert last["acked"] == stored == on.count()
        assert (await master.end())[0] == 0
        assert on.count() == stored
        check_numbered_trades_are_whole(on)
        assert on.count("gaps") == 0


async def test_a_killed_worker_is_back_at_once_and_its_absence_is_a_gap(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        began = monotonic()
        _, collector, monitor, _ = await everything(on)
        start = monotonic() - began
        health = await on.until_health(monitor, lambda health: health["acked"] > 100, "events are acknowledged")
        victim = health["workers"][0]["pid"]
        os.kill(victim, signal.SIGKILL)
        killed = monotonic()
        await on.until_health(
            monitor,
            lambda health: health["workers"][0]["pid"] not in (victim, None) and is_whole(health),
            "the worker is back",
        )
        assert monotonic() - killed < start, (
            "sooner than all was at first, however busy the machine (two seconds on an idle one)"
        )
        assert collector.logged("worker ended; will be restarted")[0]["pause"] <= FIRST_PAUSE
        assert (await collector.end())[0] == 0
        restarted = on.rows("SELECT DISTINCT channel FROM gaps WHERE reason = 'collector restarted'")
        assert ("orderbooks",) in restarted, "of trades the venue itself may tell what was missed"
        check_numbered_trades_are_whole(on)


async def test_no_worker_outlives_its_supervisor(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        _, collector, monitor, _ = await everything(on)
        workers = [worker["pid"] for worker in (await on.get(f"{monitor}/health"))["workers"]]
        assert len(workers) == 2
        assert all(map(is_alive, workers))
        os.kill(collector.pid, signal.SIGKILL)
        await until(lambda: not any(map(is_alive, workers)), "the workers are gone")


async def test_a_master_that_is_away_loses_nothing(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        master, collector, monitor, _ = await everything(on)
        before = await on.until_health(monitor, lambda health: health["acked"] > 100, "events are acknowledged")
        for how in (signal.SIGKILL, signal.SIGTERM):
            await master.end(how)
            away = await on.until_health(monitor, lambda health: health["waiting"] > 50, "events wait")
            assert is_whole(away), "no exchange is disturbed"
            assert away["losses"] == {}
            master, again = await on.master()
            more = before["acked"] + 100
            before = await on.until_health(monitor, lambda health, more=more: health["acked"] > more, "it goes on")
        assert (await collector.end())[0] == 0
        health = await on.get(f"http://127.0.0.1:{again['http_port']}/health")
        assert health["status"] == "ok"
        assert on.count("gaps") == 0
        check_numbered_trades_are_whole(on)


async def test_a_wrong_key_is_said_once_with_what_to_do(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        _, address = await on.simulator("--exchange", "binance")
        _, ports = await on.master()
        collector = await on.start(
            *("collector", "--config", on.config({"binance": EXCHANGES["binance"]}), "--simulator", address),
            COLLECTOR_MASTER__URL=f"ws://127.0.0.1:{ports['port']}",
            COLLECTOR_MONITOR__PORT=0,
            COLLECTOR_MASTER__KEY="another",
        )
        await until(lambda: collector.logged("no master"), "the refusal is said")
        monitor = str(collector.logged("collecting")[0]["monitor"])
        await on.until_health(monitor, lambda health: health["waiting"] > 0, "events wait")
        code, _ = await collector.end()
        assert code == 1, "what could not be handed over is no success"
        said = collector.logged("no master")
        assert len(said) == 1
        assert "refuses" in said[0]["reason"]
        assert "another" not in collector.log.read_text().replace("to another", "")
