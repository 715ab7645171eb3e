"""What the master says of itself: /health for people and checks, /metrics for Prometheus; both from the same objects."""

import subprocess
from pathlib import Path
from shutil import which
from time import time_ns

import aiohttp
import pytest
from msgspec import Struct, field
from prometheus_client.parser import text_string_to_metric_families

from adapters.events import Event, Gap, Ticker
from master.ingest import Ingest
from master.journal import Journal, recover
from master.protocol import Receiver
from master.tally import Tally
from master.web.metrics import Usage, Vitals
from tests.master.making import STREAM, batch, trade
from tests.master.running import collector, door, running


def samples(exposition: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """As Prometheus itself reads it."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
    }


async def test_over_http(tmp_path: Path) -> None:
    now = time_ns() // 1000
    events: list[Event] = [trade(1, received=now), trade(2, received=now), Ticker("okx", "BTC/USDT", None, now - 5_000_000)]
    events.append(Gap("okx", "BTC/USDT", None, now - 5_000_000, "trades", "disconnected", None, None, now - 9_000_000, now))
    async with running(tmp_path / "data") as master, collector(master, STREAM) as one:
        await one.send(batch(1, *events))
        await one.acked(STREAM, 1)
        health = await master.health()
        found = samples(await master.metrics())
    assert health["status"] == "ok"
    assert health["trouble"] is None
    assert (health["stored"], health["connections"], health["collectors"]) == (4, 1, ["host-0"])
    assert (health["exchanges"]["kraken"]["trade"], health["exchanges"]["okx"]["ticker"]) == (2, 1)
    assert 0 <= health["exchanges"]["kraken"]["age"] < 5 <= health["exchanges"]["okx"]["age"]
    assert health["journal"]["pending"] == 0
    assert found["master_up", ()] == 1
    assert found["master_connections", ()] == 1
    assert found["master_stored_events_total", ()] == 4
    assert found["master_gaps_total", (("exchange", "okx"), ("reason", "disconnected"))] == 1
    assert found["master_journal_segments", ()] == 1
    assert 0 < found["master_disk_free_bytes", ()] < found["master_disk_bytes", ()]
    assert found["master_events_total", (("exchange", "kraken"), ("type", "trade"))] == 2
    assert found["master_last_received_seconds", (("exchange", "kraken"),)] == pytest.approx(now / 1e6)
    assert found["master_journal_bytes", ()] == health["journal"]["bytes"] > 0


async def test_http_says_what_it_sends(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as master, aiohttp.ClientSession(f"http://127.0.0.1:{master.http_port}") as session:
        async with session.get("/metrics") as answer:
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        async with session.get("/health") as answer:
            assert (answer.status, answer.content_type) == (200, "application/json")
        async with session.get("/nothing") as answer:
            assert answer.status == 404
        async with session.get("/v1/market") as answer:
            assert (await answer.json())["sources"] == []


def objections(exposition: bytes) -> tuple[int, bytes]:
    """Exit code of promtool, and what it has to say."""
    command = ["promtool", "check", "metrics"]
    checked = subprocess.run(
        command, input=exposition, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=30
    )
    return checked.returncode, checked.stdout


class SentFigures(Struct):
    events: int = 1
    conflated: int = 2
    slow: int = 4
    resumed: int = 8


class SimpleConsumers(Struct):
    """Two consumers, and what they were sent."""

    clients: tuple[int, ...] = (1, 2)
    figures: SentFigures = field(default_factory=SentFigures)


class TestVitals:
    @pytest.fixture
    async def parts(self, tmp_path: Path) -> tuple[Ingest, Vitals]:
        ingest = Ingest(door(tmp_path), Receiver(), tmp_path / "dead")
        journal = Journal(tmp_path, recover(tmp_path), ingest.committed, lambda _: None, roll_bytes=1 << 20, roll_seconds=60)
        journal.close()
        return ingest, Vitals(ingest, journal, Usage())

    async def test_trouble_is_what_a_check_must_see(self, parts: tuple[Ingest, Vitals]) -> None:
        ingest, vitals = parts
        ingest.trouble = "no space left"
        assert vitals.health()["status"] == "failing"
        assert vitals.health()["trouble"] == "no space left"
        assert samples(vitals.exposition().decode())["master_up", ()] == 0

    async def test_refusals_by_reason(self, parts: tuple[Ingest, Vitals]) -> None:
        ingest, vitals = parts
        ingest.refused.update({"login": 2, "damaged": 1})
        found = samples(vitals.exposition().decode())
        assert found["master_refused_total", (("reason", "login"),)] == 2
        assert found["master_refused_total", (("reason", "damaged"),)] == 1

    async def test_what_the_api_was_asked(self, tmp_path: Path) -> None:
        usage = Usage()
        usage.requests["/v1/price", 200] = 3
        usage.queries["trades", "answered"] = 2
        usage.query_seconds["trades"] = 0.5
        usage.prices["absent"] = 1
        journal = Journal(tmp_path, recover(tmp_path), lambda *_: None, lambda _: None, roll_bytes=1 << 20, roll_seconds=60)
        journal.close()
        ingest = Ingest(door(tmp_path), Receiver(), tmp_path)
        found = samples(Vitals(ingest, journal, usage, SimpleConsumers()).exposition().decode())
        assert found["master_http_requests_total", (("route", "/v1/price"), ("status", "200"))] == 3
        assert found["master_queries_total", (("outcome", "answered"), ("table", "trades"))] == 2
        assert found["master_query_seconds_sum", (("table", "trades"),)] == 0.5
        assert found["master_query_seconds_count", (("table", "trades"),)] == 2
        assert found["master_price_answers_total", (("state", "absent"),)] == 1
        assert found["master_consumers", ()] == 2
        assert found["master_consumer_slow_total", ()] == 4

    @pytest.mark.skipif(which("promtool") is None, reason="promtool comes with Debian's package prometheus")
    async def test_prometheus_has_nothing_to_say_against_it(self, parts: tuple[Ingest, Vitals]) -> None:
        ingest, vitals = parts
        ingest.exchanges["kraken"] = Tally({"Trade": 1}, 1)  # type: ignore[arg-type]
        ingest.refused["login"] = 1
        assert objections(vitals.exposition()) == (0, b"")

    async def test_odd_names_are_escaped(self, parts: tuple[Ingest, Vitals]) -> None:
        """A collector in another language may call an exchange what it likes."""
        ingest, vitals = parts
        name = 'a "b"\\c\nd'
        ingest.exchanges[name] = Tally({"Trade": 1}, 1)  # type: ignore[arg-type]
        assert samples(vitals.exposition().decode())["master_events_total", (("exchange", name), ("type", "trade"))] == 1

    async def test_two_masters_in_one_process_do_not_share(self, parts: tuple[Ingest, Vitals], tmp_path: Path) -> None:
        """Each has a registry of its own."""
        ingest, vitals = parts
        ingest.stored = 7
        (tmp_path / "other").mkdir()
        journal = Journal(
            tmp_path / "other", recover(tmp_path / "other"), lambda *_: None, lambda _: None, roll_bytes=1, roll_seconds=60
        )
        journal.close()
        other = Vitals(Ingest(door(tmp_path), Receiver(), tmp_path), journal, Usage())
        assert samples(other.exposition().decode())["master_stored_events_total", ()] == 0
        assert samples(vitals.exposition().decode())["master_stored_events_total", ()] == 7
