"""The lake's tables: one for each kind of event, and what a segment's events are as columns."""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from msgspec import Struct

from adapters.events import Book, BookDelta, Candle, Funding, Gap, Liquidation, OpenInterest, Price, Ticker, Trade
from master.protocol import Batch, decode_events
from master.segments import Damage, Scan, position

TIME = pa.timestamp("us")
"""Microseconds UTC, without a zone in the type, so that SQL on them needs no time-zone data."""

LEVELS = pa.list_(
    pa.struct([("price", pa.float64()), ("amount", pa.float64()), ("price_text", pa.string()), ("amount_text", pa.string())])
)
ROW_GROUP = 16_384
"""Rows that a reader of one market must read, at the least; a file is sorted by symbol, then exchange."""


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
            return LEVELS
        if name in self.integers:
            return pa.int64()
        return pa.bool_() if name in self.flags else pa.string()

    def write(self, rows: pa.Table, file: Path) -> None:
        """As Parquet. Raises OSError.

        Names, which repeat, stand in dictionaries; times, sequences and positions as what each differs from the one before; the
        text of numbers and ids as it is, where zstd finds what repeats. A third smaller than a dictionary for everything, which
        is what PyArrow makes unasked, and sooner read.
        """
        names = [name for name in self.event.__struct_fields__ if name != "id" and self._type(name) == pa.string()]
        counting = [field.name for field in rows.schema if field.type in (TIME, pa.int64())]
        encodings = dict.fromkeys(counting, "DELTA_BINARY_PACKED")
        options = {"compression": "zstd", "use_dictionary": names, "column_encoding": encodings}
        pq.write_table(rows, file, row_group_size=ROW_GROUP, **options)

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
    levels = pa.StructArray.from_arrays(columns, fields=list(LEVELS.value_type))
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


def rows(found: Scan, written: int, before: int = 0) -> tuple[dict[Table, pa.Table], int]:
    """Part of a segment as tables, and how many events the segment has up to its end; it had `before` ahead of this part.

    `position` rises in the order in which the master took the events. Damage is a row of `gaps`, at the time at which the
    segment was `written`, and takes the place of all events that were lost with it, so that the others keep theirs.
    """
    events: dict[Table, tuple[list[Struct], list[int]]] = {table: ([], []) for table in TABLES}
    place = before
    for record in _in_order(found):
        told: Sequence[Struct]
        if isinstance(record, Damage):
            told, count = [_as_gap(record, written)], record.batch[2] if record.batch else 1
        else:
            told, count = decode_events(record.body), record.count
        first = position(found.number, place + 1 if count else place)
        for kind in set(map(type, told)) & _TABLE_OF.keys():
            of_table, positions = events[_TABLE_OF[kind]]
            of_table += [event for event in told if type(event) is kind]
            positions += [at for at, event in enumerate(told, first) if type(event) is kind]
        place += count
    return {table: table.arrow(*of_table) for table, of_table in events.items() if of_table[0]}, place


def _in_order(found: Scan) -> list[Batch | Damage]:
    records: list[tuple[int, Batch | Damage]] = [*zip(found.offsets, found.batches, strict=True)]
    records += [(each.offset, each) for each in found.damage]
    return [record for _, record in sorted(records, key=itemgetter(0))]


def _as_gap(damage: Damage, written: int) -> Gap:
    stream, seq, count = damage.batch or ("", 0, 0)
    reason = f"journal damaged: {damage.reason}, {damage.size} bytes at {damage.offset}, {count} events of stream {stream}"
    number = str(seq) if seq else None
    return Gap("", None, None, written, "journal", reason, number, number)
