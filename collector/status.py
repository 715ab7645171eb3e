"""How the running collector is: a line for probes, a table for people. It is asked at its monitor, as anybody may."""

import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from master.probe import ProbeError, Section, ask

if TYPE_CHECKING:  # a probe needs no table
    from collector.table import Rates

Health = dict[str, Any]
LOOK_AGAIN = 1.0
"""Seconds between two looks, from which rates are made."""


def health(config: Path, *, ready: bool) -> tuple[int, str]:
    """Exit code and a line for it. 0: the collector runs and answers, also while a venue or the master is away, since a restart
    would bring neither back; where `ready` is asked: nothing is missing."""
    try:
        seen = _look(config)
    except ProbeError as error:
        return 1, f"not up: {error}"
    return int(ready and seen["status"] != "ok"), summary(seen)


def summary(seen: Health) -> str:
    """The status, and what is missing; or what there is."""
    connections = sum(each["connections"] for each in seen["exchanges"].values())
    well = f"{connections} connections, {seen['waiting']:,} events waiting"
    return f"{seen['status']}: {'; '.join(seen['trouble']) or well}"


def look_twice(config: Path) -> "tuple[Health, Rates]":
    """/health as it is now, with `events_per_second` of each exchange since a second ago. Raises ProbeError."""
    from collector.table import Rates  # noqa: PLC0415

    rates = Rates()
    _rate(_look(config), rates)
    sleep(LOOK_AGAIN)
    return _rate(_look(config), rates), rates


def _rate(seen: Health, rates: "Rates") -> Health:
    for name, each in seen["exchanges"].items():
        each["events_per_second"] = round(rates.of(name, sum(each["events"].values()), monotonic()), 1)
    return seen


def _look(config: Path) -> Health:
    """Raises ProbeError."""
    monitor = Section(config, "monitor")
    port = monitor.get("port", "8768")
    if not port.isdecimal() or port == "0":
        raise ProbeError(f"monitor.port is {port}, where nobody can be asked; give it a fixed port")
    code, answer = ask(monitor.get("host", "127.0.0.1"), int(port), "/health")
    if code != 200 or not isinstance(answer, dict) or "workers" not in answer:
        raise ProbeError(f"another program answers at port {port}; see monitor.port")
    return answer


def show(seen: Health, rates: "Rates") -> None:
    """On standard output: a row for each exchange, one for each worker, and what has no place in a table."""
    from rich.console import Console  # noqa: PLC0415

    from collector.table import render, workers_table  # noqa: PLC0415

    acked = {name: each["acked"] for name, each in seen["exchanges"].items()}
    console = Console() if sys.stdout.isatty() else Console(width=160)
    console.print(render(seen["exchanges"], {"acked": acked}, rates, monotonic(), summary(seen)))
    console.print(workers_table(seen["workers"]))
    for line in remarks(seen):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def remarks(seen: Health) -> Iterator[str]:
    """Sums, losses, and what each exchange rejected or got wrong, a line each."""
    yield f"up {seen['uptime']:,.0f} s; {seen['acked']:,} events acknowledged"
    yield f"waiting for the master: {seen['waiting']:,} events, {seen['waiting_bytes']:,} bytes"
    for reason, number in seen["losses"].items():
        yield f"for want of room: {number:,} {reason}"
    for name, each in seen["exchanges"].items():
        for what, why in each["rejected"].items():
            yield f"{name} rejected {what}: {why}"
        for kind, number in each["errors"].items():
            yield f"{name} errors: {number:,} {kind}"
