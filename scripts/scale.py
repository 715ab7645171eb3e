"""The tables of docs/scale.md: what many pairs need, computed from measured unit costs and from the facts of the adapters.

usage: scripts/scale.py    (puts them into docs/scale.md)
"""

import re
import sys
from collections.abc import Iterator
from math import ceil
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from msgspec import Struct  # noqa: E402 (the project is run from its folder, not installed)

from adapters import registry  # noqa: E402
from adapters.book import BookOptions  # noqa: E402
from adapters.effects import Fetch  # noqa: E402
from adapters.events import CHANNELS  # noqa: E402
from adapters.venue import Rate  # noqa: E402

PAGE = ROOT / "docs" / "scale.md"
_MADE = re.compile(r"(<!-- (\w+): made by scripts/scale.py -->\n).*?(<!-- end -->)", re.DOTALL)


class Unit(Struct, frozen=True):
    """One event of a kind. Microseconds: `worker` from the socket to the acknowledgement, `master` from the batch to fsync,
    market and candles, `seal` into Parquet. Bytes: in the journal (and in the batch on the wire), and in Parquet."""

    worker: float
    master: float
    seal: float
    journal: float
    parquet: float


UNITS = {
    "trade": Unit(26, 9, 3.2, 207, 13),
    "view": Unit(33, 12, 38, 1115, 103),
    "ticker": Unit(26, 6, 5.7, 234, 10),
}
BOOK_FRAME = 32.0
"""Microseconds of the worker for one frame that changes a book, read by itself."""
LEVEL = 221
"""Bytes of memory of a level of a book."""
DEPTH = 20
DAY = 86_400


class Pair(Struct, frozen=True):
    """What a pair brings: events a second by kind, frames a second that change its book, bytes a second on the venue's wire."""

    trade: float
    view: float
    ticker: float
    book_frames: float
    wire: float

    @property
    def worker(self) -> float:
        """Microseconds a second."""
        return self.book_frames * BOOK_FRAME + self.total("worker")

    def total(self, field: str) -> float:
        """Of all events of a second."""
        return float(sum(getattr(self, kind) * getattr(unit, field) for kind, unit in UNITS.items()))


BUSY = Pair(trade=7.3, view=1, ticker=1.8, book_frames=11.6, wire=19_000)
ORDINARY = Pair(trade=0.06, view=1, ticker=0.5, book_frames=4.9, wire=930)

MARKETS = {
    "binance": (1500, ""),
    "binanceus": (117, "2021-10"),
    "bitfinex": (293, "2021-04"),
    "bitget": (800, ""),
    "bitrue": (500, ""),
    "bitstamp": (140, "2022-01"),
    "bybit": (557, "2026-08"),
    "coinbase": (516, "2026-08"),
    "cryptocom": (400, ""),
    "gateio": (1414, "2021-04"),
    "htx": (883, "2021-04"),
    "kraken": (293, "2021-04"),
    "kucoin": (633, "2021-04"),
    "mexc": (2000, ""),
    "okx": (513, "2022-05"),
}
"""Spot markets that trade, and of when the list is that says so; without one, a round number that is assumed."""
EVERY = sum(number for number, _ in MARKETS.values())
SCENARIOS = {"1,000 pairs": (100, 900), "10,000 pairs": (300, 9_700), f"every pair, {EVERY:,}": (300, EVERY - 300)}
"""Busy and ordinary pairs."""


def needs() -> Iterator[str]:
    """One row a need, one column a scenario."""
    rows: dict[str, list[str]] = {}
    for busy, ordinary in SCENARIOS.values():

        def both(field: str, busy: int = busy, ordinary: int = ordinary) -> float:
            return busy * BUSY.total(field) + ordinary * ORDINARY.total(field)

        events = busy * (BUSY.trade + BUSY.view + BUSY.ticker) + ordinary * (ORDINARY.trade + ORDINARY.view + ORDINARY.ticker)
        views = (busy * BUSY.view + ordinary * ORDINARY.view) * UNITS["view"].parquet
        share = (busy + ordinary) / EVERY
        figures = {
            "events stored a second": f"{events:,.0f}",
            "book frames a second": f"{busy * BUSY.book_frames + ordinary * ORDINARY.book_frames:,.0f}",
            "from the venues, MB/s": f"{(busy * BUSY.wire + ordinary * ORDINARY.wire) / 1e6:.1f}",
            "workers, cores": f"{(busy * BUSY.worker + ordinary * ORDINARY.worker) / 1e6:.2f}",
            "master, cores": f"{both('master') / 1e6:.2f}",
            "sealing, cores": f"{both('seal') / 1e6:.2f}",
            "to the master, and written to journal, MB/s": f"{both('journal') / 1e6:.1f}",
            "the same, GB a day": f"{both('journal') * DAY / 1e9:,.0f}",
            "Parquet, GB a day": f"{both('parquet') * DAY / 1e9:,.1f}",
            "of which views of books": f"{views / both('parquet'):.0%}",
            "days in the default 10 GB": f"{10e9 / (both('parquet') * DAY):.2f}",
            "memory of books, GB at most": f"{share * sum(_book_bytes(name) for name in MARKETS) / 1e9:.1f}",
            "connections": f"{share * sum(connections(name) for name in MARKETS):,.0f}",
        }
        for need, figure in figures.items():
            rows.setdefault(need, []).append(figure)
    yield from _table(["", *SCENARIOS], [[need, *figures] for need, figures in rows.items()])


def starts() -> Iterator[str]:
    """Every pair of every exchange from one address: what its limits make of the start."""
    rows = []
    for name, (number, listed) in MARKETS.items():
        venue = registry.adapter(name).venue
        connecting = _paced(connections(name), venue.limits.connects)
        subscribing = max(
            _paced(ceil(min(number, venue.per_connection[channel]) / venue.limits.topics_per_frame), venue.limits.frames)
            for channel in CHANNELS
        )
        weight = snapshot_weight(name)
        asking = _paced(number * weight, venue.limits.weight)
        slowest = max((asking, "book snapshots"), (connecting, "connects"), (subscribing, "subscribing"))
        rows.append(
            [
                name,
                f"{number:,}{'' if listed else ' (assumed)'}",
                listed or "–",
                f"{connections(name)}",
                _seconds(connecting),
                _seconds(subscribing),
                _seconds(asking) if weight else "–",
                slowest[1] if slowest[0] else "nothing",
                f"{_book_bytes(name) / 1e6:,.0f} MB",
            ]
        )
    heads = ["exchange", "pairs", "list of", "connections", "connects", "subscribing", "book snapshots", "slowest", "books"]
    yield from _table(heads, rows)


def connections(name: str) -> int:
    """With trades, book and ticker of each of its pairs."""
    return sum(ceil(MARKETS[name][0] / pairs) for pairs in registry.adapter(name).venue.per_connection.values())


def snapshot_weight(name: str) -> float:
    """REST weight of one book; 0 where it comes over the socket."""
    adapter = registry.adapter(name)([("orderbooks", "BTC/USDT")], BookOptions(DEPTH, 1.0, "views"))
    if adapter.venue.book.source != "rest":
        return 0
    request = adapter.book_request(next(iter(adapter.subscriptions)).native)
    return request.weight if isinstance(request, Fetch) else 0


def _book_bytes(name: str) -> float:
    """Of all its books, each as deep as it is subscribed."""
    return MARKETS[name][0] * 2 * registry.adapter(name).venue.depth_for(DEPTH) * LEVEL


def _paced(number: float, rate: Rate) -> float:
    """Seconds until the last of so many may go out, where `rate.count` may in any `rate.seconds`."""
    return (ceil(number / rate.count) - 1) * rate.seconds if number else 0.0


def _seconds(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _table(heads: list[str], rows: list[list[str]]) -> Iterator[str]:
    yield "| " + " | ".join(heads) + " |"
    yield "|---" * len(heads) + "|"
    for row in rows:
        yield "| " + " | ".join(row) + " |"


def units() -> Iterator[str]:
    rows = [
        [kind, *(f"{getattr(unit, field):g}" for field in ("worker", "master", "seal", "journal", "parquet"))]
        for kind, unit in UNITS.items()
    ]
    rows.append(["book frame", f"{BOOK_FRAME:g}", "–", "–", "–", "–"])
    yield from _table(["", "worker, µs", "master, µs", "sealing, µs", "journal, bytes", "Parquet, bytes"], rows)


def rates() -> Iterator[str]:
    fields = ("trade", "view", "ticker", "book_frames", "wire")
    rows = [
        [name, *(f"{getattr(pair, field):g}" for field in fields)] for name, pair in (("busy", BUSY), ("ordinary", ORDINARY))
    ]
    yield from _table(["a pair", "trades/s", "views/s", "tickers/s", "book frames/s", "bytes/s from the venue"], rows)


TABLES = {"units": units, "rates": rates, "needs": needs, "starts": starts}


def made(page: str) -> str:
    """The page with its tables made anew."""
    return _MADE.sub(lambda found: found[1] + "\n".join(TABLES[found[2]]()) + "\n" + found[3], page)


if __name__ == "__main__":
    PAGE.write_text(made(PAGE.read_text()))
