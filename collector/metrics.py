"""What the collector knows of itself: the words of all workers as one picture, as /health (JSON) and /metrics (Prometheus)."""

from collections import Counter
from collections.abc import Iterable, Iterator
from time import monotonic
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from collector.pending import LOSSES
from collector.supervisor import Worker
from collector.worker import Count, WorkerState, counts

EVENT_COUNTS = ("trades", "orderbooks", "deltas", "tickers")
STARTING = 30.0
"""Seconds after the start in which what is missing may still be coming."""
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SINGLE = {
    "gaps": "Holes in the data, each written as a gap",
    "frames": "Data frames received",
    "sessions": "Connections opened",
    "refused": "Connections that the venue refused",
    "stray": "Data of markets nobody asked for",
    "repeated": "Trades that came twice, told once",
}


def exchanges_of(states: Iterable[WorkerState], totals: Counter[Count]) -> dict[str, dict[str, Any]]:
    """Each exchange as it stands, over all workers that have a part of it."""
    exchanges: dict[str, dict[str, Any]] = {}
    for state in states:
        for each in state.exchanges:
            entry = exchanges.setdefault(each.name, _entry(each.name, totals))
            for gauge in ("connections", "connections_wanted", "books", "books_synced", "books_recovering", "silent"):
                entry[gauge] += getattr(each, gauge)
            entry["recovering_for"] = max(entry["recovering_for"], each.recovering_for)
            entry["silent_for"] |= each.silent_for
            entry["lag_ms"] = each.lag_ms if each.lag_ms is not None else entry["lag_ms"]
            entry["rejected"] |= each.rejected
            entry["pairs"] = dict(Counter(entry["pairs"]) + Counter(each.pairs))
    return dict(sorted(exchanges.items()))


def _entry(name: str, totals: Counter[Count]) -> dict[str, Any]:
    """One exchange in /health: what rises, and zeros for what is to be added up."""
    errors = {label: number for (exchange, what, label), number in totals.items() if (exchange, what) == (name, "errors")}
    return {
        "connections": 0,
        "connections_wanted": 0,
        "pairs": {},
        "books": 0,
        "books_synced": 0,
        "books_recovering": 0,
        "recovering_for": 0.0,
        "silent": 0,
        "silent_for": {},
        "lag_ms": None,
        "events": {channel: totals[name, "events", channel] for channel in EVENT_COUNTS},
        "acked": totals[name, "acked", ""],
        "errors": errors,
        **{what: totals[name, what, ""] for what in _SINGLE},
        "rejected": {},
    }


class Picture(Collector):
    """Of all workers, whenever it is asked. `past`: what workers have counted that are no more."""

    def __init__(self, workers: list[Worker], past: Counter[Count] | None = None) -> None:
        self._workers = workers
        self._past = Counter() if past is None else past
        self._started = monotonic()
        self._registry = CollectorRegistry()
        self._registry.register(self)

    @property
    def _totals(self) -> Counter[Count]:
        totals = Counter(self._past)
        for worker in self._workers:
            totals.update(worker.past)  # a sum would leave out what is 0, and Prometheus miss the first that comes
            totals.update(counts(worker.state) if worker.state else ())
        return totals

    def health(self) -> dict[str, Any]:
        """`status`: "ok"; "starting"; "degraded" while a worker, a venue connection, the master or a spool is missing, which
        `trouble` says in words."""
        states = [worker.state for worker in self._workers if worker.state is not None]
        totals = self._totals
        exchanges = exchanges_of(states, totals)
        trouble = list(self._trouble(exchanges, states))
        return {
            "status": "ok" if not trouble else "degraded" if monotonic() - self._started > STARTING else "starting",
            "trouble": trouble,
            "uptime": round(monotonic() - self._started, 1),
            "acked": sum(number for (_, what, _), number in totals.items() if what == "acked"),
            "waiting": sum(state.waiting for state in states),
            "waiting_bytes": sum(state.waiting_bytes for state in states),
            "room_used": round(max((state.waiting_bytes / state.room for state in states), default=0.0), 4),
            "losses": {reason: number for (_, what, reason), number in totals.items() if what == "losses"},
            "workers": [
                {
                    "name": worker.name,
                    "pid": worker.state.pid if worker.state else None,
                    "up": worker.is_up,
                    "restarts": worker.restarts,
                    "master_connections": worker.state.master_connections if worker.state else 0,
                    "spool_trouble": worker.state.spool_trouble if worker.state else None,
                }
                for worker in self._workers
            ],
            "exchanges": exchanges,
        }

    def _trouble(self, exchanges: dict[str, dict[str, Any]], states: list[WorkerState]) -> Iterator[str]:
        for worker in self._workers:
            if not worker.is_up:
                yield f"worker {worker.name} is down"
        for state in states:
            if not state.master_connections:
                yield f"worker {state.name} has no connection to the master"
            if state.spool_trouble:
                yield f"worker {state.name} cannot spool: {state.spool_trouble}"
        for name, each in exchanges.items():
            if each["connections"] < each["connections_wanted"]:
                yield f"{name} has {each['connections']} of {each['connections_wanted']} connections"
        if not exchanges:
            yield "no exchange is collected"

    def exposition(self) -> bytes:
        """The text form of all metrics."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        health, totals = self.health(), self._totals
        yield GaugeMetricFamily(
            "collector_up", "1 while everything that is wanted is there", value=float(health["status"] == "ok")
        )
        yield GaugeMetricFamily("collector_waiting_events", "Events not yet acknowledged", value=health["waiting"])
        yield GaugeMetricFamily(
            "collector_waiting_bytes", "Bytes of batches not yet acknowledged", value=health["waiting_bytes"]
        )
        yield GaugeMetricFamily(
            "collector_room_used_ratio",
            "Of the fullest worker: room taken by what waits; from 0.5 views are conflated, from 1 trades are dropped",
            value=health["room_used"],
        )
        failing = sum(worker["spool_trouble"] is not None for worker in health["workers"])
        yield GaugeMetricFamily("collector_spools_failing", "Workers whose spool does not take what waits", value=failing)
        restarts = sum(worker.restarts for worker in self._workers)
        yield CounterMetricFamily("collector_worker_restarts", "Worker processes that ended and were restarted", value=restarts)
        yield CounterMetricFamily("collector_acked_events", "Events durable at the master", value=health["acked"])
        yield from _gauges(health["exchanges"])
        yield from _counters(totals)


_GAUGES = {
    "connections": ("connections", "Open venue connections"),
    "connections_wanted": ("connections_wanted", "Venue connections of the plan"),
    "books": ("books", "Order books of the plan"),
    "books_synced": ("books_synced", "Order books in step with their venue"),
    "books_recovering": ("books_recovering", "Order books whose market is heard, and which are not in step"),
    "recovering_seconds": ("recovering_for", "For how long the first of the recovering books has been so"),
    "silent_pairs": ("silent", "Subscriptions that stand still, by their own pace; /health names the first"),
}
"""Of each exchange: the metric, where /health has it, and what it is."""


def _gauges(exchanges: dict[str, dict[str, Any]]) -> Iterator[Metric]:
    for metric, (field, text) in _GAUGES.items():
        family = GaugeMetricFamily(f"collector_{metric}", text, labels=["exchange"])
        for name, entry in exchanges.items():
            family.add_metric([name], entry[field])
        yield family
    pairs = GaugeMetricFamily("collector_subscriptions", "Subscriptions by state", labels=["exchange", "state"])
    lag = GaugeMetricFamily("collector_lag_seconds", "From the venue's time to ours", labels=["exchange"])
    for name, entry in exchanges.items():
        if entry["lag_ms"] is not None:
            lag.add_metric([name], entry["lag_ms"] / 1000)
        for state, number in entry["pairs"].items():
            pairs.add_metric([name, state], number)
    yield from (pairs, lag)


def _counters(totals: Counter[Count]) -> Iterator[Metric]:
    events = CounterMetricFamily("collector_events", "Events told", labels=["exchange", "channel"])
    errors = CounterMetricFamily("collector_errors", "Errors of venues and frames", labels=["exchange", "kind"])
    losses = CounterMetricFamily("collector_losses", "Events conflated or dropped for want of room", labels=["reason"])
    for reason in LOSSES:
        losses.add_metric([reason], totals["", "losses", reason])
    labelled = {"events": events, "errors": errors}
    singles = {what: CounterMetricFamily(f"collector_{what}", text, labels=["exchange"]) for what, text in _SINGLE.items()}
    for (exchange, what, label), number in sorted(totals.items()):
        if what in labelled:
            labelled[what].add_metric([exchange, label], number)
        elif what in singles:
            singles[what].add_metric([exchange], number)
    yield from (events, errors, losses, *singles.values())


def application(picture: Picture) -> web.Application:
    """/health answers 200 whenever it can: whether the collector is well is in the body (a restart would help nobody)."""

    async def health(_: web.Request) -> web.Response:
        return web.json_response(picture.health())

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=picture.exposition(), headers={"Content-Type": CONTENT_TYPE})

    app = web.Application()
    app.add_routes([web.get("/health", health), web.get("/metrics", metrics)])
    return app
