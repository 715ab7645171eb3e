"""Data directories with some events in them, and what the lake says of those."""

from pathlib import Path
from typing import Any

from adapters.events import Book, BookDelta, Candle, Event, Funding, Gap, Liquidation, OpenInterest, Price, Ticker, Trade
from master.lake import connect, seal
from master.segments import segments_in
from tests.master.making import DAY, NOON, batch, write_segment

ABOUT = ("kraken", "BTC/USD", NOON - 250, NOON)
BIDS, ASKS = [("100.10", "0.5000"), ("100.0", "1")], [("100.20", "0.00000001")]

FULL: dict[str, Event] = {
    "trades": Trade(*ABOUT, "T-1", "100.10", "0.50000000", "sell", "backfill"),
    "books": Book(*ABOUT, BIDS, ASKS, 17),
    "book_deltas": BookDelta(*ABOUT, BIDS, [], 18, 17),
    "tickers": Ticker(*ABOUT, "1.0", "2.00", "3", "4.5", "5", "6.000"),
    "candles": Candle(*ABOUT, "1m", NOON - 60_000_000, "1.0", "2.0", "0.5", "1.50", "1234.5", 42, closed=True),
    "funding": Funding(*ABOUT, "0.000100", NOON + DAY, "100.05", "100.04"),
    "open_interest": OpenInterest(*ABOUT, "12345.678"),
    "liquidations": Liquidation(*ABOUT, "L-1", "99.9", "3", "buy"),
    "prices": Price(*ABOUT, "71287.34", "weighted_median", 6, 1, 2.5, 0.97),
    "gaps": Gap(*ABOUT, "trades", "sequence", "11", "13", NOON - 5, NOON),
}
"""An event of each table, with all that it can say."""


def ask(data: Path, sql: str) -> list[tuple[Any, ...]]:
    with connect(data, with_ledger=False) as connection:
        return connection.execute(sql).fetchall()


def numbers(data: Path) -> list[int]:
    """The ids of all trades in the order in which the master took them: made from 1, each must be there once."""
    return [int(found) for (found,) in ask(data, "SELECT id FROM trades ORDER BY position")]


def keep(data: Path, number: int, *events: Event) -> Path:
    """A data directory whose journal has these events in one more segment."""
    return write_segment(data / "journal", number, [batch(number, *events)])


def seal_all(data: Path) -> None:
    for path in segments_in(data / "journal"):
        seal(path, data / "lake")
