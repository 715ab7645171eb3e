"""Every metric and label that alerts and dashboard ask for is there when the programs really run."""

from pathlib import Path
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.programs import stage
from tests.monitoring.papers import ALERTS, expressions, labels_in, metrics_in

ASKED = "\n".join([ALERTS.read_text(), *expressions()])
PAIRS = {"kraken": {"trades": ["BTC/USD"], "orderbooks": ["BTC/USD"], "tickers": ["BTC/USD"]}}
SUFFIXES = {"counter": ("_total",), "summary": ("_sum", "_count")}


async def text_of(session: aiohttp.ClientSession, url: str) -> str:
    async with session.get(url) as answer:
        return await answer.text()


def has_trouble(health: dict[str, Any]) -> bool:
    kraken = health["exchanges"].get("kraken")
    return bool(kraken and kraken["gaps"] and kraken["errors"])


async def test_what_is_asked_for_is_there(tmp_path: Path) -> None:
    async with stage(tmp_path) as on, aiohttp.ClientSession() as session:
        _, simulator = await on.simulator("--exchange", "kraken", "--fault", "kraken:bad_checksum", "kraken:corrupt=json")
        _, announced = await on.master()
        _, monitor = await on.collector(on.config(PAIRS, workers=1), simulator, announced["port"])
        await on.until_health(monitor, has_trouble, "a gap, and an error")
        master = f"http://127.0.0.1:{announced['http_port']}"
        await on.until_health(master, lambda health: health["exchanges"].get("kraken", {}).get("gap"), "a gap that is stored")
        await text_of(session, f"{master}/v1/trades?symbol=BTC/USD&limit=1")
        text = await text_of(session, f"{monitor}/metrics") + await text_of(session, f"{master}/metrics")
    families = [*text_string_to_metric_families(text)]
    names = {each.name + suffix for each in families for suffix in SUFFIXES.get(each.type, ("",))}
    assert metrics_in(ASKED) - names == set()
    labels = {(sample.name, label) for each in families for sample in each.samples for label in sample.labels}
    assert {(metric, label) for metric, label in labels_in(ASKED) if label not in {"instance", "job"}} - labels == set()


def test_what_is_looked_for_is_found() -> None:
    """So that the test above is about something."""
    assert {"collector_silent_pairs", "master_disk_free_bytes", "master_query_seconds_count"} <= metrics_in(ASKED)
    assert {
        ("collector_losses_total", "reason"),
        ("master_gaps_total", "reason"),
        ("collector_lag_seconds", "exchange"),
    } <= labels_in(ASKED)
