"""What the master knows of itself, as /health (JSON) and /metrics (Prometheus)."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sized
from functools import partial
from shutil import disk_usage
from time import monotonic, time_ns
from typing import Any, Protocol

from msgspec import Struct, field, to_builtins
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, SummaryMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from master.ingest import Ingest
from master.journal import Journal
from master.segments import segments_in


class Usage(Struct):
    """What the API was asked since the start."""

    requests: Counter[tuple[str, int]] = field(default_factory=Counter)
    """By route and status."""
    queries: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By table and outcome."""
    query_seconds: defaultdict[str, float] = field(default_factory=partial(defaultdict, float))
    """By table, of those that were answered."""
    prices: Counter[str] = field(default_factory=Counter)
    """Answers by feed state: "priced", or "absent" where there was no price."""


class Figures(Protocol):
    """What all consumers of streams together were sent."""

    events: int
    conflated: int
    slow: int
    resumed: int


class Consumers(Protocol):
    @property
    def clients(self) -> Sized: ...
    @property
    def figures(self) -> Figures: ...


class Vitals(Collector):
    """Reads the live objects whenever it is asked; keeps nothing but the time of its start."""

    def __init__(self, ingest: Ingest, journal: Journal, usage: Usage, consumers: Consumers | None = None) -> None:
        self._ingest = ingest
        self._journal = journal
        self._usage = usage
        self._consumers = consumers
        self._started = monotonic()
        self._registry = CollectorRegistry()
        self._registry.register(self)

    @property
    def trouble(self) -> str | None:
        """Why nothing can be stored; None while it can."""
        return self._ingest.trouble

    def summary(self) -> dict[str, Any]:
        """`status` is "ok", or "failing" with the trouble that keeps anything from being stored."""
        ingest = self._ingest
        return {
            "status": "failing" if ingest.trouble else "ok",
            "trouble": ingest.trouble,
            "uptime": round(monotonic() - self._started, 1),
            "stored": ingest.stored,
            "collectors": sorted({session.worker for session in ingest.sessions}),
            "connections": len(ingest.sessions),
            "journal": {"bytes": self._journal.bytes_written, "pending": self._journal.pending},
        }

    def health(self) -> dict[str, Any]:
        """The same, and what was refused and stored since the start."""
        now = time_ns() // 1000
        ingest = self._ingest
        return {
            **self.summary(),
            "refused": dict(ingest.refused),
            "nats": to_builtins(ingest.nats()) if ingest.nats is not None else None,
            "exchanges": {
                name: {
                    **{kind.lower(): count for kind, count in sorted(tally.rows.items())},
                    "age": round((now - tally.last_received) / 1e6, 3),
                }
                for name, tally in sorted(ingest.exchanges.items())
            },
        }

    def exposition(self) -> bytes:
        """The text form of all metrics."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        yield from self._of_ingest()
        yield from self._of_disk()
        yield from _of_api(self._usage)
        if self._consumers is not None:
            yield from _of_streams(self._consumers)

    def _of_ingest(self) -> Iterator[Metric]:
        ingest = self._ingest
        if ingest.nats is not None:
            nats = ingest.nats()
            yield GaugeMetricFamily("master_nats_up", "1 while NATS can be read", value=float(nats.trouble is None))
            yield CounterMetricFamily("master_nats_left_out_events", "Events that NATS was too slow for", value=nats.left_out)
        yield GaugeMetricFamily("master_up", "1 while what arrives can be stored", value=float(ingest.trouble is None))
        yield GaugeMetricFamily("master_connections", "Logged-in collector connections", value=len(ingest.sessions))
        yield GaugeMetricFamily("master_journal_bytes", "Size of the open journal segment", value=self._journal.bytes_written)
        yield CounterMetricFamily("master_stored_events", "Events made durable", value=ingest.stored)
        refused = CounterMetricFamily("master_refused", "Logins, frames and batches refused", labels=["reason"])
        for reason, count in ingest.refused.items():
            refused.add_metric([reason], count)
        yield refused
        logins = CounterMetricFamily("master_logins", "Logins by role and method", labels=["role", "method"])
        for labels, count in ingest.logins.items():
            logins.add_metric(labels, count)
        yield logins
        events = CounterMetricFamily("master_events", "Events taken", labels=["exchange", "type"])
        last = GaugeMetricFamily("master_last_received_seconds", "Unix time of the newest event", labels=["exchange"])
        for name, tally in ingest.exchanges.items():
            last.add_metric([name], tally.last_received / 1e6)
            for kind, count in tally.rows.items():
                events.add_metric([name, kind.lower()], count)
        yield events
        yield last
        gaps = CounterMetricFamily("master_gaps", "Gap records by reason", labels=["exchange", "reason"])
        for name, tally in ingest.exchanges.items():
            for reason, count in tally.gaps.items():
                gaps.add_metric([name, reason], count)
        yield gaps

    def _of_disk(self) -> Iterator[Metric]:
        disk, segments = disk_usage(self._journal.folder), segments_in(self._journal.folder)
        yield GaugeMetricFamily("master_disk_bytes", "Size of the disk that journal and lake are on", value=disk.total)
        yield GaugeMetricFamily("master_disk_free_bytes", "Of it, what the master may still take", value=disk.free)
        yield GaugeMetricFamily("master_journal_segments", "Segments not sealed yet, with the open one", value=len(segments))


def _of_api(usage: Usage) -> Iterator[Metric]:
    requests = CounterMetricFamily("master_http_requests", "HTTP requests by route and status", labels=["route", "status"])
    for (route, status), count in usage.requests.items():
        requests.add_metric([route, str(status)], count)
    yield requests
    queries = CounterMetricFamily("master_queries", "Questions about the past by outcome", labels=["table", "outcome"])
    for (table, outcome), count in usage.queries.items():
        queries.add_metric([table, outcome], count)
    yield queries
    seconds = SummaryMetricFamily("master_query_seconds", "Time to the answer of a question", labels=["table"])
    for table, total in usage.query_seconds.items():
        seconds.add_metric([table], usage.queries[table, "answered"], total)
    yield seconds
    prices = CounterMetricFamily("master_price_answers", "Prices asked for: priced, or absent", labels=["state"])
    for state, count in usage.prices.items():
        prices.add_metric([state], count)
    yield prices


def _of_streams(consumers: Consumers) -> Iterator[Metric]:
    figures = consumers.figures
    yield GaugeMetricFamily("master_consumers", "Consumers of streams that are connected", value=len(consumers.clients))
    yield CounterMetricFamily("master_consumer_events", "Events sent to consumers", value=figures.events)
    yield CounterMetricFamily("master_consumer_conflated", "Views replaced by newer ones on their way", value=figures.conflated)
    yield CounterMetricFamily("master_consumer_slow", "Consumers sent away for being too slow", value=figures.slow)
    yield CounterMetricFamily("master_consumer_resumed", "Consumers that went on from a cursor", value=figures.resumed)
