"""What the master knows of itself, as /health (JSON) and /metrics (Prometheus)."""

from collections.abc import Iterator
from time import monotonic, time_ns
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from master.ingest import Ingest
from master.journal import Journal


class Vitals(Collector):
    """Reads the live objects whenever it is asked; keeps nothing but the time of its start."""

    def __init__(self, ingest: Ingest, journal: Journal) -> None:
        self._ingest = ingest
        self._journal = journal
        self._started = monotonic()
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def health(self) -> dict[str, Any]:
        """`status` is "ok", or "failing" with the trouble that keeps anything from being stored."""
        now = time_ns() // 1000
        ingest = self._ingest
        return {
            "status": "failing" if ingest.trouble else "ok",
            "trouble": ingest.trouble,
            "uptime": round(monotonic() - self._started, 1),
            "stored": ingest.stored,
            "collectors": sorted({session.worker for session in ingest.sessions}),
            "connections": len(ingest.sessions),
            "refused": dict(ingest.refused),
            "journal": {"bytes": self._journal.bytes_written, "pending": self._journal.pending},
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
        ingest = self._ingest
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
