"""The lake's tables: every event as columns."""

from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from adapters.events import Book, BookDelta, Candle, Event, Funding, Gap, Status, Ticker, Trade
from master.lake import connect
from master.segments import scan, segments_in
from master.tables import TABLES, rows
from tests.master.lakes import ABOUT, FULL, ask, keep, numbers, seal_all
from tests.master.making import NOON, batch, trade

SPARE: dict[str, Event] = {
    "trades": Trade("kraken", "BTC/USD", None, NOON, "", "-0", "0", "unknown"),
    "books": Book("kraken", "BTC/USD", None, NOON, [], [], None),
    "book_deltas": BookDelta("kraken", "BTC/USD", None, NOON, [], [], None, None),
    "tickers": Ticker("kraken", "BTC/USD", None, NOON),
    "candles": Candle("kraken", "BTC/USD", None, NOON, "1m", NOON, "1", "1", "1", "1", "0", None, closed=False),
    "funding": Funding("kraken", "BTC/USD", None, NOON, "-0.0001"),
    "gaps": Gap("kraken", None, None, NOON, "connection", "closed"),
}
TIMES = ("timestamp", "received", "start", "next_time", "since", "until")


def expected(event: Struct) -> dict[str, Any]:
    """What a row says, derived from the event's own text and nothing of the lake."""
    row: dict[str, Any] = {}
    for name in event.__struct_fields__:
        value = getattr(event, name)
        if name in TIMES and value is not None:
            value = datetime.fromtimestamp(value / 1e6, UTC).replace(tzinfo=None)
        if name in ("bids", "asks"):
            value = [
                {"price": float(price), "amount": float(amount), "price_text": price, "amount_text": amount}
                for price, amount in value
            ]
        row[name] = value
    return row


TEXT_TOO = {
    "trades": ("price", "amount"),
    "tickers": ("bid", "bid_amount", "ask", "ask_amount", "last", "volume_24h"),
    "candles": ("open", "high", "low", "close", "volume"),
    "funding": ("rate", "mark_price", "index_price"),
    "open_interest": ("amount",),
    "liquidations": ("price", "amount"),
    "prices": ("price",),
}


@pytest.mark.parametrize("sealed", [False, True], ids=["journal", "parquet"])
@pytest.mark.parametrize(("table", "event"), [*FULL.items(), *SPARE.items()])
def test_every_event_is_a_row(tmp_path: Path, table: str, event: Event, sealed: bool) -> None:
    keep(tmp_path, 1, event)
    if sealed:
        seal_all(tmp_path)
        assert segments_in(tmp_path / "journal") == []
    with connect(tmp_path, with_ledger=False) as connection:
        answer = connection.execute(f"SELECT * FROM {table}")
        names = [name for name, *_ in answer.description or ()]
        (found,) = answer.fetchall()
    row = dict(zip(names, found, strict=True))
    row.pop("position")
    wanted = expected(event)
    for name in TEXT_TOO.get(table, ()):
        text = wanted[name]
        wanted[f"{name}_text"], wanted[name] = text, None if text is None else float(text)
    assert row == wanted


def test_other_readers_find_the_same(tmp_path: Path) -> None:
    """A lake is there to be read by whatever reads Parquet; rows enough for each way of encoding to be at work."""
    polars = import_module("polars")
    keep(tmp_path, 1, *(each for number in range(1000) for each in (*FULL.values(), *SPARE.values(), trade(number))))
    seal_all(tmp_path)
    for table in TABLES:
        (file,) = (tmp_path / "lake" / table.name).rglob("*.parquet")
        found = polars.read_parquet(file, hive_partitioning=False).to_dicts()
        assert len(found) >= 1000
        assert found == pq.ParquetFile(file).read().to_pylist()


def test_every_kind_of_event_has_a_table_but_one() -> None:
    assert {table.event for table in TABLES} == {type(event) for event in FULL.values()}
    assert set(TEXT_TOO) == {table.name for table in TABLES if table.numbers}
    assert Status not in {table.event for table in TABLES}, "a state is no data"


digits = st.from_regex(r"\A-?[0-9]{1,30}(\.[0-9]{1,30})?\Z")


@given(st.lists(st.tuples(digits, digits), min_size=1, max_size=5))
def test_text_is_kept_to_the_last_zero(prices: list[tuple[str, str]]) -> None:
    told = [Trade(*ABOUT, "", price, amount, "buy") for price, amount in prices]
    told_books: list[Event] = [Book(*ABOUT, prices, [], None)]
    found, _ = rows(scan(batch(1, *told, *told_books).data, 1), 0)
    by_name = {table.name: data.to_pylist() for table, data in found.items()}
    assert [(row["price_text"], row["amount_text"]) for row in by_name["trades"]] == prices
    assert [row["price"] for row in by_name["trades"]] == [float(price) for price, _ in prices]
    assert [(level["price_text"], level["amount_text"]) for level in by_name["books"][0]["bids"]] == prices


class TestOddValues:
    """What our adapters never send, another collector may: it must not keep the rest from being stored and asked for."""

    @pytest.mark.parametrize("sealed", [False, True], ids=["journal", "parquet"])
    def test_a_number_that_is_none_is_kept_as_text(self, tmp_path: Path, sealed: bool) -> None:
        odd: list[Event] = [
            Trade(*ABOUT, "1", "abc", "", "buy"),
            Ticker(*ABOUT, bid="1,5"),
            Book(*ABOUT, [("x", "1")], [], None),
        ]
        keep(tmp_path, 1, *odd, trade(2))
        if sealed:
            seal_all(tmp_path)
        assert ask(tmp_path, "SELECT id, price, price_text, amount_text FROM trades ORDER BY position") == [
            ("1", None, "abc", ""),
            ("2", 102.5, "102.50", "0.10"),
        ]
        assert ask(tmp_path, "SELECT bid, bid_text FROM tickers") == [(None, "1,5")]
        assert ask(tmp_path, "SELECT bids[1].price, bids[1].price_text, bids[1].amount FROM books") == [(None, "x", 1.0)]

    @pytest.mark.parametrize("sealed", [False, True], ids=["journal", "parquet"])
    def test_an_integer_that_no_column_holds_is_absent(self, tmp_path: Path, sealed: bool) -> None:
        keep(tmp_path, 1, Book("kraken", "BTC/USD", 2**70, NOON, [], [], 2**64 - 1), trade(2))
        if sealed:
            seal_all(tmp_path)
        assert ask(tmp_path, "SELECT sequence, timestamp FROM books") == [(None, None)]
        assert numbers(tmp_path) == [2]

    @pytest.mark.parametrize("received", [-1, 0, 2**63 - 1, 2**70, -(2**70)])
    @pytest.mark.parametrize("sealed", [False, True], ids=["journal", "parquet"])
    def test_a_row_is_there_whatever_its_time(self, tmp_path: Path, received: int, sealed: bool) -> None:
        keep(tmp_path, 1, trade(1, received=received), trade(2))
        if sealed:
            seal_all(tmp_path)
        assert numbers(tmp_path) == [1, 2]
