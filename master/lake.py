"""The lake: sealed segments as Parquet files, and a view over them and the journal's tail together.

`lake/<table>/date=YYYY-MM-DD/<segment>.parquet`, the date being that of `received` (UTC). A segment's files are written aside,
then renamed, and only then is the segment removed: to do that again after a crash is harmless. A reader takes the rows of a
segment from the journal as long as the segment is there, and from Parquet once it is gone: each row once, whenever it looks.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from shutil import disk_usage
from time import time_ns
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from msgspec import Struct

from adapters.events import Gap
from master import ledger
from master.expired import last_gone, remember
from master.protocol import HEADER_SIZE
from master.segments import POSITION_BITS, position, scan, segments_in, sync_path
from master.tables import TABLES, TIME, Table, rows

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MIN_FREE = 2 << 30
"""Bytes of the disk that are left to others, whatever retention allows."""


class LakeError(Exception):
    """A file of the lake cannot be read: which, and what to do about it."""


def _written(segment: Path) -> int:
    """When a segment was last written to, microseconds UTC."""
    return segment.stat().st_mtime_ns // 1000


def seal(segment: Path, lake: Path) -> dict[str, int]:
    """Turn one closed segment into Parquet and remove it: rows written by table. Safe to repeat. Raises OSError."""
    written: dict[str, int] = {}
    ready: list[tuple[Path, Path]] = []
    last = _written(segment)
    told, _ = rows(scan(segment.read_bytes(), int(segment.stem)), last)
    for table, data in told.items():
        written[table.name] = data.num_rows
        for day, part in _by_day(data.sort_by([(name, "ascending") for name in ("symbol", "exchange", "position")]), last):
            target = lake / table.name / f"date={day}" / f"{segment.stem}.parquet"
            target.parent.mkdir(parents=True, exist_ok=True)
            aside = target.with_suffix(".writing")
            table.write(part, aside)
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
        remember(lake, max(last_gone(lake), *(int(path.stem) for path in leaving)))
    for path in leaving:
        path.unlink()
    return len(leaving)


# Looking -------------------------------------------------------------------------------------------------------------------

Span = tuple[int, int]
"""The least and the greatest value of a column; times are microseconds UTC."""
EVERYTHING: Span = (-(2**63), 2**63 - 1)


class Part(Struct, frozen=True):
    """Rows of one table that are kept together: a Parquet file, or some that are not sealed yet. Where they lie: `received`,
    `time` (that of the venue where it tells one, else `received`; may be given wider than it is) and `position`."""

    data: Path | pa.Table
    rows: int
    received: Span
    time: Span
    position: Span


class View:
    """The lake and the journal's tail of a data directory, as they were when `look` was called; also while a master writes.

    What was read of the journal is kept: to look again costs what has come since. Not for more than one thread.
    """

    def __init__(self, data: Path) -> None:
        self._journal = data / "journal"
        self._lake = data / "lake"
        self._tail: dict[int, _Segment] = {}
        self._newest = 0
        self._footers: dict[Table, dict[Path, Part]] = {table: {} for table in TABLES}

    def look(self) -> None:
        """Take in what has come since, and let go of what was sealed. Raises OSError."""
        listed = segments_in(self._journal)
        tail: dict[int, _Segment] = {}
        for path in listed:
            number = int(path.stem)
            segment = self._tail.get(number) or _Segment(path, number)
            try:
                segment.read_on(is_newest=path is listed[-1])
            except FileNotFoundError:  # sealed and removed since it was listed: its rows are in the lake
                continue
            tail[number] = segment
        self._tail = tail
        self._newest = int(listed[-1].stem) if listed else 2**31 - 1  # without a journal: whatever files there are

    @property
    def position(self) -> int:
        """Every row up to this position is seen, and no other."""
        newest = self._tail.get(self._newest)
        return position(self._newest, (1 << POSITION_BITS) - 1) if newest is None else position(newest.number, newest.events)

    def parts(self, table: Table) -> list[Part]:
        """All rows of this table, in no particular order. Raises LakeError and OSError."""
        files = [*self.sealed(table)]
        known = self._footers[table]
        self._footers[table] = {path: known.get(path) or _part_of_file(path) for path in files}
        return [*self._footers[table].values(), *self.unsealed(table)]

    def unsealed(self, table: Table) -> Iterator[Part]:
        for segment in self._tail.values():
            yield from segment.parts[table]

    def sealed(self, table: Table) -> Iterator[Path]:
        """Of the segments that were sealed when we looked: later ones may have come behind others of which we know a part."""
        for path in (self._lake / table.name).glob("date=*/*.parquet"):
            number = int(path.stem)
            if number <= self._newest and number not in self._tail:
                yield path


class _Segment:
    """A segment that is not sealed yet, as far as it was read."""

    def __init__(self, path: Path, number: int) -> None:
        self.number = number
        self._path = path
        self._forget()

    def _forget(self) -> None:
        self.events = 0
        self.parts: dict[Table, list[Part]] = {table: [] for table in TABLES}
        self._end = 0
        self._last = (0, b"")
        self._is_whole = False

    def read_on(self, *, is_newest: bool) -> None:
        """Take in what was written since. What stands half written at the end of the newest is no damage: a master is writing
        it, or was killed meanwhile. Raises OSError."""
        if self._is_whole:
            return
        with self._path.open("rb") as file:
            if not self._goes_on(file.fileno()):
                self._forget()
            file.seek(self._end)
            data = file.read()
            written = os.fstat(file.fileno()).st_mtime_ns // 1000
        if data:
            self._take(data, written, is_newest=is_newest)
        self._is_whole = not is_newest

    def _goes_on(self, fd: int) -> bool:
        """Whether what was read last is still there: a write that a disk refuses is taken back, and another follows."""
        offset, header = self._last
        return os.pread(fd, len(header), offset) == header

    def _take(self, data: bytes, written: int, *, is_newest: bool) -> None:
        found = scan(data, self.number)
        if is_newest:
            found.damage = [each for each in found.damage if each.offset < found.end]
        found.damage = [msgspec.structs.replace(each, offset=each.offset + self._end) for each in found.damage]
        found.offsets = [offset + self._end for offset in found.offsets]
        told, self.events = rows(found, written, self.events)
        for table, data_of_table in told.items():
            _add(self.parts[table], _part_of_rows(data_of_table))
        if found.end:
            last = found.offsets[-1] - self._end if found.offsets else 0
            self._last = (self._end + last, data[last : last + HEADER_SIZE])
        self._end += found.end


def _add(parts: list[Part], part: Part) -> None:
    """Beside the others, of which small ones become one: few parts, and no row is copied more often than they double."""
    while parts and parts[-1].rows <= 2 * part.rows:
        before = parts.pop()
        both = pa.concat_tables([before.data, part.data]).combine_chunks()
        part = Part(both, both.num_rows, *(_around(getattr(before, name), getattr(part, name)) for name in _SPANS))
    parts.append(part)


_SPANS = ("received", "time", "position")


def _around(*spans: Span) -> Span:
    return min(first for first, _ in spans), max(last for _, last in spans)


def _part_of_rows(data: pa.Table) -> Part:
    def span(name: str) -> Span:
        found = pc.min_max(data[name].cast(pa.int64()))
        first, last = found["min"].as_py(), found["max"].as_py()
        return EVERYTHING if first is None else (first, last)

    return _part(data, data.num_rows, span("received"), span("timestamp"), span("position"))


def _part_of_file(path: Path) -> Part:
    """By what its footer says. Raises LakeError, and OSError where it is not there any more."""
    try:
        with pq.ParquetFile(path) as file:
            about, names = file.metadata, file.schema_arrow.names
    except pa.ArrowException as error:
        raise LakeError(f"{path} cannot be read ({error}); move it out of the lake to go on without its rows") from error
    return _part(path, about.num_rows, *(_span(about, names.index(name)) for name in ("received", "timestamp", "position")))


def _part(data: Path | pa.Table, count: int, received: Span, timestamp: Span, positions: Span) -> Part:
    return Part(data, count, received, _around(received, *([] if timestamp == EVERYTHING else [timestamp])), positions)


def _span(about: pq.FileMetaData, column: int) -> Span:
    """Of a column of integers or times, over all row groups; of one without values: it may be anywhere."""
    known: list[Span] = []
    for group in range(about.num_row_groups):
        chunk = about.row_group(group).column(column)
        statistics = chunk.statistics  # reads memory of `chunk`, which must live as long
        if statistics is None:
            return EVERYTHING
        if statistics.has_min_max:
            known.append((statistics.min_raw, statistics.max_raw))
    return _around(*known) if known else EVERYTHING


def engine(**settings: Any) -> "DuckDBPyConnection":
    """DuckDB, as it can look at what is not sealed yet."""
    import duckdb  # noqa: PLC0415 (74 ms and 27 MB that only a query needs)

    connection = duckdb.connect(config=settings)
    connection.execute("SET disabled_optimizers = 'join_filter_pushdown'")  # its filters are none that PyArrow has (1.5)
    return connection


def connect(data: Path, *, with_ledger: bool = True) -> "DuckDBPyConnection":
    """A DuckDB connection with a view for each table over lake and journal tail, as of now; also while a master writes.

    Without its ledger, which takes 0.3 s to make, `gaps` are as they were told, and there is no `completeness`.
    """
    view = View(data)
    view.look()
    connection = engine()
    mount(connection, view, with_ledger=with_ledger)
    if with_ledger:
        ledger.create(connection, time_ns() // 1000)
    return connection


def mount(connection: "DuckDBPyConnection", view: View, *, with_ledger: bool) -> None:
    """Make, or make anew, the connection's view for each table; with a ledger over them, gaps as told are `ledger.gaps`."""
    connection.execute("CREATE SCHEMA IF NOT EXISTS ledger")
    for table in TABLES:
        tail = [part.data for part in view.unsealed(table)]
        sealed = [str(path) for path in view.sealed(table)]
        connection.register(f"{table.name}_tail", pa.concat_tables([table.schema.empty_table(), *tail]))
        union = f"FROM read_parquet({sealed}, hive_partitioning = false) UNION ALL BY NAME" if sealed else ""
        name = "ledger.gaps" if table.event is Gap and with_ledger else table.name
        connection.execute(f"CREATE OR REPLACE VIEW {name} AS {union} FROM {table.name}_tail")
