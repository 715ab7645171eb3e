"""The live table that a person watches: a row for each exchange."""

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

_HEADINGS = ("exchange", "conns", "live", "quiet", "wait", "re-\njected", "events\n/s", "books", "gaps", "lag\nms")
"""Short enough for a terminal of 80 columns."""
_RATES = ("trades", "orderbooks", "deltas", "tickers")


class Rates:
    """Events a second, from successive totals."""

    def __init__(self) -> None:
        self._before: dict[str, tuple[float, int]] = {}
        self._rates: dict[str, float] = {}

    def of(self, name: str, total: int, now: float) -> float:
        at, before = self._before.get(name, (now, total))
        if now - at >= 1.0 or name not in self._before:
            self._rates[name] = (total - before) / (now - at) if now > at else 0.0
            self._before[name] = (now, total)
        return self._rates.get(name, 0.0)


Counts = Mapping[str, int]
"""Of each exchange."""


def render(exchanges: dict[str, dict[str, Any]], more: Mapping[str, Counts], rates: Rates, now: float, title: str) -> Table:
    """`exchanges` as in /health of the collector; `more`: further columns by their headings, such as rows that are stored."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=0, show_edge=False)
    for heading in (*_HEADINGS, *more):
        table.add_column(heading, justify="left" if heading == "exchange" else "right", no_wrap=True, vertical="bottom")
    for name, each in exchanges.items():
        table.add_row(name, *_cells(name, each, rates, now), *(f"{counts.get(name, 0):,}" for counts in more.values()))
    return table


def workers_table(workers: list[dict[str, Any]]) -> Table:
    """`workers` as in /health of the collector."""
    table = Table("worker", "pid", "restarts", "master", "spool", box=SIMPLE_HEAD, padding=0, show_edge=False)
    for each in workers:
        table.add_row(
            each["name"],
            str(each["pid"]) if each["up"] else "[red]down[/]",
            _mark(str(each["restarts"]), "yellow" if each["restarts"] else ""),
            _mark(str(each["master_connections"]), "" if each["master_connections"] else "red"),
            "ok" if each["spool_trouble"] is None else f"[red]{escape(each['spool_trouble'])}[/]",
        )
    return table


def _cells(name: str, each: dict[str, Any], rates: Rates, now: float) -> list[str]:
    pairs = each["pairs"]
    waiting = pairs.get("requested", 0) + pairs.get("acked", 0)
    told = sum(each["events"].values())
    missing = each["connections"] < each["connections_wanted"]
    unsynced = each["books_synced"] < each["books"]
    lag = "" if each["lag_ms"] is None else f"{each['lag_ms']:,.0f}"
    return [
        _mark(f"{each['connections']}/{each['connections_wanted']}", "red" if missing else ""),
        str(pairs.get("live", 0)),
        str(pairs.get("quiet", 0)),
        _mark(str(waiting), "yellow" if waiting else ""),
        _mark(str(pairs.get("rejected", 0)), "red" if pairs.get("rejected") else ""),
        f"{rates.of(name, told, now):,.0f}",
        _mark(f"{each['books_synced']}/{each['books']}", "yellow" if unsynced else ""),
        _mark(str(each["gaps"]), "yellow" if each["gaps"] else ""),
        lag,
    ]


def _mark(text: str, style: str) -> str:
    return f"[{style}]{text}[/]" if style else text
