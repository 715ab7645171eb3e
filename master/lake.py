"""The lake: sealed segments as Parquet files, and SQL over them and the journal's tail together.

`lake/<table>/date=YYYY-MM-DD/<segment>.parquet`, the date being that of `received` (UTC). A segment's files are written aside,
then renamed, and only then is the segment removed: to do that again after a crash is harmless. A reader takes the rows of a
segment from the journal as long as the segment is there, and from Parquet once it is gone: each row once, whenever it looks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import disk_usage
from time import time_ns
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from msgspec import Struct

from adapters.events import Book, BookDelta, Candle, Event, Funding, Gap, Liquidation, OpenInterest, Price, Ticker, Trade
from master import ledger
from master.segments import Damage, Scan, position, scan, segments_in, sync_path

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

TIME = pa.timestamp("us")
"""Microseconds UTC, without a zone in the type, so that SQL on them needs no time-zone data."""

_LEVELS = pa.list_(
    pa.struct([("price", pa.float64()), ("amount", pa.float64()), ("price_text", pa.string()), ("amount_text", pa.string())])
)
MIN_FREE = 2 << 30
"""Bytes of the disk that are left to others, whatever retention allows."""
GONE = "expired"
"""File with the number of the newest segment of which anything has expired."""
_events = msgspec.json.Decoder(list[Event])


@dataclass(frozen=True, slots=True)
class Table:
    """One view of the lake: the event it holds, and what becomes of each of its fields."""

    name: str
    event: type[Struct]
    numbers: tuple[str, ...] = ()
    """Text that is kept as it is in `<field>_text` and stands as DOUBLE under its own name."""
    levels: tuple[str, ...] = ()
    times: tuple[str, ...] = ()
    integers: tuple[str, ...] = ()
    floats: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()

    @property
    def schema(self) -> pa.Schema:
        fields = [(name, self._type(name)) for name in self.event.__struct_fields__]
        return pa.schema([*fields, *((f"{name}_text", pa.string()) for name in self.numbers), ("position", pa.int64())])

    def _type(self, name: str) -> pa.DataType:
        if name in ("timestamp", "received", *self.times):
            return TIME
        if name in self.numbers or name in self.floats:
            return pa.float64()
        if name in self.levels:
            return _LEVELS
        if name in self.integers:
            return pa.int64()
        return pa.bool_() if name in self.flags else pa.string()

    def arrow(self, events: Sequence[Struct], positions: Sequence[int]) -> pa.Table:
        """The events as columns. What does not fit its column (no adapter emits that) is absent there; text is always kept."""
        schema = self.schema
        columns: dict[str, pa.Array] = {"position": pa.array(positions, pa.int64())}
        for name in self.event.__struct_fields__:
            values = [getattr(event, name) for event in events]
            if name in self.numbers:
                columns[f"{name}_text"] = text = pa.array(values, pa.string())
                columns[name] = _doubles(text)
            elif name in self.levels:
                columns[name] = _level_column(values)
            else:
                columns[name] = _column(values, schema.field(name).type)
        return pa.table([columns[name] for name in schema.names], schema=schema)


def _column(values: list[Any], kind: pa.DataType) -> pa.Array:
    try:
        return pa.array(values, kind)
    except (pa.ArrowInvalid, OverflowError):
        return pa.array([value if value is not None and -(2**63) <= value < 2**63 else None for value in values], kind)


def _doubles(text: pa.Array) -> pa.Array:
    try:
        return pc.cast(text, pa.float64())
    except pa.ArrowInvalid:
        return pa.array([_double(each) for each in text.to_pylist()], pa.float64())


def _double(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _level_column(views: list[list[tuple[str, str]]]) -> pa.ListArray:
    offsets = [0]
    for view in views:
        offsets.append(offsets[-1] + len(view))
    prices = pa.array([price for view in views for price, _ in view], pa.string())
    amounts = pa.array([amount for view in views for _, amount in view], pa.string())
    columns = [_doubles(prices), _doubles(amounts), prices, amounts]
    levels = pa.StructArray.from_arrays(columns, fields=list(_LEVELS.value_type))
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), levels)


TABLES = (
    Table("trades", Trade, numbers=("price", "amount")),
    Table("books", Book, levels=("bids", "asks"), integers=("sequence",)),
    Table("book_deltas", BookDelta, levels=("bids", "asks"), integers=("sequence", "previous")),
    Table("tickers", Ticker, numbers=("bid", "bid_amount", "ask", "ask_amount", "last", "volume_24h")),
    Table(
        "candles",
        Candle,
        numbers=("open", "high", "low", "close", "volume"),
        times=("start",),
        integers=("trades",),
        flags=("closed",),
    ),
    Table("funding", Funding, numbers=("rate", "mark_price", "index_price"), times=("next_time",)),
    Table("open_interest", OpenInterest, numbers=("amount",)),
    Table("liquidations", Liquidation, numbers=("price", "amount")),
    Table("prices", Price, numbers=("price",), integers=("sources", "refused"), floats=("spread_bps", "confidence")),
    Table("gaps", Gap, times=("since", "until")),
)
_TABLE_OF = {table.event: table for table in TABLES}


def rows(found: Scan, written: int) -> dict[Table, pa.Table]:
    """One segment as tables. `position` rises in the order in which the master took the events; damage is a row of `gaps`, at
    the time at which the segment was `written`."""
    events: dict[Table, tuple[list[Struct], list[int]]] = {table: ([], []) for table in TABLES}
    place = position(found.number, 0)
    told = (event for batch in found.batches for event in _events.decode(batch.body))
    for event in (*told, *(_as_gap(damage, written) for damage in found.damage)):
        place += 1
        table = _TABLE_OF.get(type(event))
        if table is not None:
            of_table, positions = events[table]
            of_table.append(event)
            positions.append(place)
    return {table: table.arrow(of_table, positions) for table, (of_table, positions) in events.items() if of_table}


def _as_gap(damage: Damage, written: int) -> Gap:
    stream, seq, count = damage.batch or ("", 0, 0)
    reason = f"journal damaged: {damage.reason}, {damage.size} bytes at {damage.offset}, {count} events of stream {stream}"
    number = str(seq) if seq else None
    return Gap("", None, None, written, "journal", reason, number, number)


def _written(segment: Path) -> int:
    """When a segment was last written to, microseconds UTC."""
    return segment.stat().st_mtime_ns // 1000


def seal(segment: Path, lake: Path) -> dict[str, int]:
    """Turn one closed segment into Parquet and remove it: rows written by table. Safe to repeat. Raises OSError."""
    written: dict[str, int] = {}
    ready: list[tuple[Path, Path]] = []
    last = _written(segment)
    for table, data in rows(scan(segment.read_bytes(), int(segment.stem)), last).items():
        written[table.name] = data.num_rows
        for day, part in _by_day(data.sort_by([(name, "ascending") for name in ("exchange", "symbol", "position")]), last):
            target = lake / table.name / f"date={day}" / f"{segment.stem}.parquet"
            target.parent.mkdir(parents=True, exist_ok=True)
            aside = target.with_suffix(".writing")
            pq.write_table(part, aside, compression="zstd", row_group_size=131_072)
            sync_path(aside)
            ready.append((aside, target))
    for aside, target in ready:
        aside.rename(target)
        sync_path(target.parent)
    segment.unlink()
    sync_path(segment.parent)
    return written


def _by_day(data: pa.Table, otherwise: int) -> list[tuple[str, pa.Table]]:
    """By the day of `received`; a row without one belongs to the day of `otherwise`."""
    days = pc.strftime(data["received"].fill_null(pa.scalar(otherwise, TIME)), format="%Y-%m-%d")
    return [(str(day), data.filter(pc.equal(days, day))) for day in pc.unique(days)]


def expire(lake: Path, *, oldest_day: str, max_bytes: int, min_free: int = MIN_FREE) -> int:
    """Remove days before `oldest_day` (YYYY-MM-DD); then the oldest files, until the rest has at most `max_bytes` and the disk
    `min_free` bytes to spare: files gone."""
    files = sorted(lake.glob("*/date=*/*.parquet"), key=lambda path: (path.parent.name, path.name))
    sizes = {path: path.stat().st_size for path in files}
    excess = max(sum(sizes.values()) - max_bytes, min_free - disk_usage(lake.parent).free)
    leaving = []
    for path in files:
        if path.parent.name.removeprefix("date=") >= oldest_day and excess <= 0:
            break
        leaving.append(path)
        excess -= sizes[path]
    if leaving:
        _remember(lake, max(last_gone(lake), *(int(path.stem) for path in leaving)))
    for path in leaving:
        path.unlink()
    return len(leaving)


def _remember(lake: Path, segment: int) -> None:
    """Before anything goes: nobody must take for whole what no longer is."""
    aside = (lake / GONE).with_suffix(".writing")
    aside.write_text(str(segment))
    sync_path(aside)
    aside.rename(lake / GONE)
    sync_path(lake)


def last_gone(lake: Path) -> int:
    """The newest segment of which anything has expired; 0 where nothing has. Raises OSError."""
    try:
        return int((lake / GONE).read_text())
    except FileNotFoundError:
        return 0


def connect(data: Path, *, with_ledger: bool = True) -> "DuckDBPyConnection":
    """A DuckDB connection with a view for each table over lake and journal tail, as of now; also while a master writes.

    Without its ledger, which takes 0.3 s to make, `gaps` are as they were told, and there is no `completeness`.
    """
    import duckdb  # noqa: PLC0415 (74 ms and 27 MB that only a query needs)

    connection = duckdb.connect()
    connection.execute("CREATE SCHEMA ledger")
    tail, unsealed = _tail(data / "journal")  # before the Parquet files are listed: a segment sealed meanwhile is in both
    for table in TABLES:
        connection.register(f"{table.name}_tail", tail[table])
        files = (data / "lake" / table.name).glob("date=*/*.parquet")
        sealed = [str(path) for path in files if path.stem not in unsealed]
        union = f"FROM read_parquet({sealed}, hive_partitioning = false) UNION ALL BY NAME" if sealed else ""
        name = "ledger.gaps" if table.event is Gap and with_ledger else table.name
        connection.execute(f"CREATE VIEW {name} AS {union} FROM {table.name}_tail")
    if with_ledger:
        ledger.create(connection, time_ns() // 1000)
    return connection


def _tail(journal: Path) -> tuple[dict[Table, pa.Table], set[str]]:
    """Everything that is not sealed yet, and the names of the segments it is in. What stands half written at the very end is
    no damage: a master is writing it, or was killed meanwhile."""
    parts: dict[Table, list[pa.Table]] = {table: [table.schema.empty_table()] for table in TABLES}
    unsealed = set()
    segments = segments_in(journal)
    for path in segments:
        try:
            written, found = _written(path), scan(path.read_bytes(), int(path.stem))
        except FileNotFoundError:  # sealed and removed since it was listed: its rows are in the lake
            continue
        unsealed.add(path.stem)
        if path is segments[-1]:
            found.damage = [each for each in found.damage if each.offset < found.end]
        for table, part in rows(found, written).items():
            parts[table].append(part)
    return {table: pa.concat_tables(of_table) for table, of_table in parts.items()}, unsealed
