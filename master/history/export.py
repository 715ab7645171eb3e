"""Files for other tools: what is stored, in the columns of tardis.dev's CSV files, as CSV or as Parquet.

A file holds a day (UTC, by `received`) of one market. Everything is streamed: the book of one market and a batch of rows are in
memory, and sorting may go to the disk. Files are written aside and then renamed.
"""

import csv
import gzip
from collections.abc import Iterable, Iterator
from datetime import timedelta
from itertools import groupby, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import Struct

from adapters.events import Book, BookDelta, Gap
from master.history.query import QueryError
from master.history.questions import EPOCH, moment
from master.history.tardis import COLUMNS, DAY, EXCHANGES, LOCAL_TIMESTAMP, Row, changes, level_rows, quote_rows
from master.lake import connect
from master.segments import sync_path
from master.settings import ConfigError

Format = Literal["tardis-csv", "parquet"]

_SUFFIX = {"tardis-csv": ".csv.gz", "parquet": ".parquet"}
_BATCH = 65_536
_MEMORY = "512MB"
"""Of DuckDB; what it sorts beyond that goes to the disk."""
_FOR_EVER = 1 << 60


class Chosen(Struct, frozen=True):
    """What to export. Times are microseconds UTC, of `received`; `end` is exclusive."""

    types: tuple[str, ...] = tuple(COLUMNS)
    exchange: str | None = None
    symbol: str | None = None
    start: int = 0
    end: int = _FOR_EVER


class Written(Struct, frozen=True):
    path: Path
    rows: int


_MARKET = "exchange = $exchange AND symbol = $symbol"
_BEFORE = "received < make_timestamp($start)"
_WITHIN = "received >= make_timestamp($start) AND received < make_timestamp($end)"
_OF_BOOK = """channel IN ('orderbooks', 'delivery', 'journal') AND exchange IN ('', $exchange)
    AND (symbol IS NULL OR symbol = $symbol)"""

_TABLES = {
    "trades": ("trades",),
    "book_ticker": ("(FROM tickers WHERE bid IS NOT NULL OR ask IS NOT NULL)",),
    "liquidations": ("liquidations",),
    "incremental_book_L2": ("books", "book_deltas"),
    "quotes": ("books", "book_deltas"),
}
_FLAT = {
    "trades": "id, side, price_text, amount_text",
    "book_ticker": "ask_amount_text, ask_text, bid_text, bid_amount_text",
    "liquidations": "id, side, price_text, amount_text",
}
"""Types whose rows are those of one table, and the columns behind the common ones."""
_OF_BOOKS = {"incremental_book_L2": level_rows, "quotes": quote_rows}

_MARKETS = """
SELECT DISTINCT exchange, symbol FROM {table}
WHERE ($exchange IS NULL OR exchange = $exchange) AND ($symbol IS NULL OR symbol = $symbol) AND {within}
"""
_FLAT_ROWS = """
SELECT $name, upper(symbol), epoch_us(coalesce(timestamp, received)), epoch_us(received), {columns}
FROM {table} WHERE {market} AND {within} ORDER BY received, position
"""
_BEGIN = f"""
SELECT greatest(0, (SELECT max(position) FROM gaps WHERE {_OF_BOOK} AND {_BEFORE}), (
    SELECT max(position) FROM books WHERE {_MARKET} AND {_BEFORE}
        AND NOT EXISTS (SELECT 1 FROM book_deltas WHERE {_MARKET} AND {_BEFORE})))
"""  # noqa: S608 (ours)
"""From where on a book's events tell all about it at `$start`: the last gap, or the last view where there are only views."""
_LEVELS = ", ".join(f"[each.{field}_text FOR each IN {side}]" for side in ("bids", "asks") for field in ("price", "amount"))
_BOOK_EVENTS = f"""
SELECT position, 'book', epoch_us(timestamp), epoch_us(received), {_LEVELS}, sequence, NULL
FROM books WHERE {_MARKET} AND position >= $begin AND received < make_timestamp($end)
UNION ALL
SELECT position, 'change', epoch_us(timestamp), epoch_us(received), {_LEVELS}, sequence, previous
FROM book_deltas WHERE {_MARKET} AND position >= $begin AND received < make_timestamp($end)
UNION ALL
SELECT position, 'gap', epoch_us(since), epoch_us(received), NULL, NULL, NULL, NULL, NULL, NULL
FROM gaps WHERE {_OF_BOOK} AND position >= $begin AND received < make_timestamp($end)
ORDER BY position
"""  # noqa: S608 (ours)


def choose(exchange: str | None, symbol: str | None, types: str | None, start: str | None, end: str | None) -> Chosen:
    """What a person asked for, in words. Raises ConfigError."""
    named = tuple(COLUMNS) if types is None else tuple(types.split(","))
    if unknown := [each for each in named if each not in COLUMNS]:
        raise ConfigError(f"--type: unknown: {', '.join(unknown)}; known: {', '.join(COLUMNS)}")
    begin = 0 if start is None else _moment("--start", start)
    return Chosen(named, exchange, symbol, begin, _FOR_EVER if end is None else _moment("--end", end))


def _moment(option: str, text: str) -> int:
    try:
        return moment(text)
    except ValueError as error:
        raise ConfigError(f"{option}: a time is expected, such as 2026-01-31T12:00, not {text!r}") from error


def export(data: Path, out: Path, form: Format, chosen: Chosen) -> Iterator[Written]:
    """Write the files, and tell of each when it is there. Raises QueryError."""
    if not data.is_dir():
        raise QueryError(f"{data}: there is no such data directory; --data names it")
    is_empty = True
    try:
        out.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".sorting-", dir=out) as folder, connect(data, with_ledger=False) as connection:
            connection.execute(f"SET memory_limit = '{_MEMORY}'; SET temp_directory = '{folder}'")
            for kind in chosen.types:
                for exchange, symbol in _markets(connection, kind, chosen):
                    rows = _rows(connection, kind, exchange, symbol, chosen)
                    for day, of_day in groupby(rows, key=_day):
                        yield _write(out / file_name(exchange, kind, day, symbol, form), kind, of_day)
                        is_empty = False
    except (duckdb.Error, OSError) as error:
        raise QueryError(str(error)) from error
    if is_empty:
        raise QueryError(f"{data} has nothing of that; `python -m master gaps` shows what is stored")


def file_name(exchange: str, kind: str, day: int, symbol: str, form: Format) -> str:
    """`binance_trades_2026-01-31_BTC-USDT.csv.gz`: of the symbol `/` becomes `-` and `:` becomes `_`."""
    plain = symbol.upper().replace("/", "-").replace(":", "_")
    date = (EPOCH + timedelta(days=day)).date()
    return f"{EXCHANGES.get(exchange, exchange)}_{kind}_{date}_{plain}{_SUFFIX[form]}"


def _markets(connection: duckdb.DuckDBPyConnection, kind: str, chosen: Chosen) -> list[tuple[str, str]]:
    wanted = {"exchange": chosen.exchange, "symbol": chosen.symbol, "start": chosen.start, "end": chosen.end}
    found = (connection.execute(_MARKETS.format(table=table, within=_WITHIN), wanted).fetchall() for table in _TABLES[kind])
    return sorted({(exchange, symbol) for of_table in found for exchange, symbol in of_table})


def _rows(connection: duckdb.DuckDBPyConnection, kind: str, exchange: str, symbol: str, chosen: Chosen) -> Iterator[Row]:
    name, market = EXCHANGES.get(exchange, exchange), {"exchange": exchange, "symbol": symbol}
    if kind in _FLAT:
        (table,) = _TABLES[kind]
        question = _FLAT_ROWS.format(columns=_FLAT[kind], table=table, market=_MARKET, within=_WITHIN)
        wanted = {**market, "name": name, "start": chosen.start, "end": chosen.end}
        yield from _fetched(connection.execute(question, wanted))
    else:
        (begin,) = connection.execute(_BEGIN, {**market, "start": chosen.start}).fetchall()[0]
        events = _book_events(connection, {**market, "begin": begin, "end": chosen.end})
        yield from _OF_BOOKS[kind]((name, symbol.upper()), changes(events, chosen.start))


def _fetched(result: duckdb.DuckDBPyConnection) -> Iterator[tuple[Any, ...]]:
    while batch := result.fetchmany(_BATCH):
        yield from batch


def _book_events(connection: duckdb.DuckDBPyConnection, chosen: dict[str, Any]) -> Iterator[Book | BookDelta | Gap]:
    """What was told of one book, in the order in which the master took it."""
    exchange, symbol = chosen["exchange"], chosen["symbol"]
    for _, kind, time, received, *levels, sequence, previous in _fetched(connection.execute(_BOOK_EVENTS, chosen)):
        if kind == "gap":
            yield Gap(exchange, symbol, None, received, "orderbooks", "", since=time)
            continue
        about = (exchange, symbol, time, received)
        bids, asks = (list(zip(*pair, strict=True)) for pair in (levels[:2], levels[2:]))
        yield Book(*about, bids, asks, sequence) if kind == "book" else BookDelta(*about, bids, asks, sequence, previous)


def _day(row: Row) -> int:
    local = row[LOCAL_TIMESTAMP]
    assert isinstance(local, int)
    return local // DAY


def _write(path: Path, kind: str, rows: Iterator[Row]) -> Written:
    """All of a file or nothing."""
    aside = path.with_name(f".{path.name}.writing")
    try:
        write = _write_parquet if path.suffix == ".parquet" else _write_csv
        count = write(aside, kind, rows)
        sync_path(aside)
        aside.rename(path)
        sync_path(path.parent)
    finally:
        aside.unlink(missing_ok=True)
    return Written(path, count)


def _batches(rows: Iterator[Row]) -> Iterable[list[Row]]:
    while batch := list(islice(rows, _BATCH)):
        yield batch


def _write_csv(path: Path, kind: str, rows: Iterator[Row]) -> int:
    count = 0
    with gzip.open(path, "wt", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS[kind])
        for batch in _batches(rows):
            writer.writerows(batch)
            count += len(batch)
    return count


_TEXT = ("exchange", "symbol", "id", "side")
_ARROW = {
    **dict.fromkeys(_TEXT, pa.string()),
    **dict.fromkeys(("timestamp", "local_timestamp"), pa.int64()),
    "is_snapshot": pa.bool_(),
}


def _write_parquet(path: Path, kind: str, rows: Iterator[Row]) -> int:
    schema = pa.schema([(name, _ARROW.get(name, pa.float64())) for name in COLUMNS[kind]])
    count = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in _batches(rows):
            columns = [
                pa.array(column).cast(field.type) for column, field in zip(zip(*batch, strict=True), schema, strict=True)
            ]
            writer.write_table(pa.table(columns, schema=schema))
            count += len(batch)
    return count
