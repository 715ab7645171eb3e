"""Answers to the questions of `history`, by SQL over lake and journal tail. Runs in the child process of `reader`."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from pathlib import Path
from time import time_ns
from typing import Any, cast

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from master import ledger
from master.history.forms import body
from master.history.questions import (
    INTERVALS,
    SECOND,
    Cursor,
    Found,
    Question,
    QuestionError,
    check,
    decode_cursor,
    encode_cursor,
)
from master.lake import EVERYTHING, LakeError, Part, Span, View, engine, mount
from master.live.market import AHEAD
from master.tables import TABLES, Table

MEMORY = "1GB"
"""Of the engine, above which a question fails: the machine is that of the ingest too."""
FIRST_LOOK = 8
"""Parts among which the rows of a page are sought first, at least; four times as many each time that they are not enough."""
ONE_IN = 15
"""Rows among which one is taken to be of the exchange that is asked for, or of the symbol; where that is too few, there is a
second look, which costs as much as the first."""

_TABLE = {table.name: table for table in TABLES}

_ROWS = """
SELECT * FROM {rows} WHERE {conditions} ORDER BY {order} LIMIT $limit
"""
_VOLUME = """rtrim(rtrim((
        coalesce(sum(CASE WHEN strlen(amount_text) <= 10 THEN TRY_CAST(amount_text AS DECIMAL(18, 8)) END), 0)
        + coalesce(sum(CASE WHEN strlen(amount_text) > 10 THEN TRY_CAST(amount_text AS DECIMAL(38, 18)) END), 0)
    )::VARCHAR, '0'), '.')"""
"""Text of ten characters fits the short decimal, which costs a fifth of the long one; sums are exact to 18 places."""
_NEWEST = """
SELECT * FROM {rows} WHERE position IN (
    SELECT arg_max(position, (received, position)) FROM {rows} WHERE {conditions} GROUP BY exchange, symbol
) ORDER BY received, position LIMIT $limit
"""
_BARS = """
SELECT exchange, symbol, time - ((time % {size}) + {size}) % {size} AS start,
    min(time) AS first_at, arg_min(position, (time, position)) AS first_position, arg_min(price_text, (time, position)) AS open,
    max(time) AS last_at, arg_max(position, (time, position)) AS last_position, arg_max(price_text, (time, position)) AS close,
    arg_max(price_text, price) AS high, arg_min(price_text, price) AS low, {volume} AS volume, count(*) AS trades,
    max(epoch_us(received)) AS received
FROM (SELECT *, epoch_us(coalesce(timestamp, received)) AS time FROM {rows} WHERE {conditions} AND price IS NOT NULL)
GROUP BY ALL
"""
_VOLUMES = """
SELECT exchange, symbol, list(second) AS seconds, list(volume) AS volumes FROM (
    SELECT exchange, symbol, sum(price * amount) AS volume,
        epoch_us(if(timestamp <= received + INTERVAL {ahead} MICROSECONDS, timestamp, received)) // {second} AS second
    FROM {rows} WHERE {conditions} AND price * amount >= 0 AND price * amount < 'Infinity'::DOUBLE GROUP BY ALL
) GROUP BY ALL
"""
"""As master/live sees them: by venue time, where that is to be believed."""
_CANDLES = """
SELECT {exchange} AS exchange, $symbol::VARCHAR AS symbol, max(time) AS timestamp, max(epoch_us(received)) AS received,
    $interval AS interval, start,
    arg_min(price_text, (time, position)) AS open_text, arg_max(price_text, price) AS high_text,
    arg_min(price_text, price) AS low_text, arg_max(price_text, (time, position)) AS close_text,
    {volume} AS volume_text,
    count(*) AS trades, start + $size <= $now AS closed, max(position) AS position
FROM (SELECT *, time - ((time % $size) + $size) % $size AS start FROM (
    SELECT *, epoch_us(coalesce(timestamp, received)) AS time FROM {rows}
)) WHERE {conditions} GROUP BY start ORDER BY start {way} LIMIT $limit
"""
"""Where equal prices have different texts, high and low may be either."""


class Answers:
    """Answers from one data directory; what was read of it once is not read again."""

    def __init__(self, data: Path) -> None:
        self._view = View(data)
        self._connection = engine(memory_limit=MEMORY, temp_directory="")
        self._connection.execute("SET parquet_metadata_cache = true")

    def look(self) -> None:
        """Take in what has come since. Raises OSError."""
        self._view.look()

    def answer(self, question: Question) -> Found:
        """Raises QuestionError, and LakeError where the lake cannot be read."""
        check(question)
        try:
            try:
                return self._answer(question)
            except (FileNotFoundError, duckdb.IOException):  # a file whose time has come went while we looked
                return self._answer(question)
        except duckdb.OutOfMemoryException as error:
            raise QuestionError("limit", f"ask for fewer rows or less time: it takes more than {MEMORY} of memory") from error
        except (OSError, duckdb.Error) as error:
            raise LakeError(str(error)) from error

    def _answer(self, question: Question) -> Found:
        self.look()
        now = time_ns() // 1000
        if question.table == "completeness":
            return self._completeness(question, now)
        page = _Page(question, self._view.position)
        if question.table in ("bars", "volumes"):
            return self._sums(page)
        if question.table == "gaps" and question.after is None:
            self._mount_ledger(now)
            found = self._ask(page.rows("gaps"), page)
        elif question.table == "candles":
            found = self._found(page, _TABLE["trades"], "time", lambda rows: page.candles(rows, now))
        else:
            key = "received" if question.after is None else "position"
            found = self._found(page, _TABLE[question.table], key, page.rows)
        return page.told(found)

    def _found(self, page: "_Page", table: Table, key: str, sql: Callable[[str], str]) -> pa.Table:
        """The rows of a page, from no more parts than it takes: once there are enough, and all come before whatever the rest
        may hold, the rest is of no interest."""
        first, last = page.span(key)
        parts = [part for part in self._view.parts(table) if getattr(part, key)[0] <= last and getattr(part, key)[1] >= first]
        parts.sort(key=lambda part: getattr(part, key)[page.is_back], reverse=page.is_back)
        edges = [getattr(part, key)[page.is_back] for part in parts]
        too_few = sum(rows < page.least_rows for rows in accumulate(part.rows for part in parts))
        count = max(FIRST_LOOK, too_few + 1, sum(abs(edge - edges[0]) < page.least_span for edge in edges))
        while True:
            found = self._ask(sql(self._rows(page, table, parts[:count])), page)
            if count >= len(parts) or page.is_certain(found, edges[count]):
                return found
            count *= 4

    def _rows(self, page: "_Page", table: Table, parts: Sequence[Part]) -> str:
        """What stands behind FROM for the rows of these parts."""
        tail = [part.data for part in parts if not isinstance(part.data, Path)]
        self._connection.register("tail", pa.concat_tables([table.schema.empty_table(), *tail]))
        page.parameters.pop("files", None)
        if len(tail) == len(parts):
            return "tail"
        page.parameters["files"] = [str(part.data) for part in parts if isinstance(part.data, Path)]
        return "(FROM read_parquet($files, hive_partitioning = false) UNION ALL BY NAME FROM tail)"

    def _ask(self, sql: str, page: "_Page") -> pa.Table:
        return self._connection.execute(sql, page.parameters).to_arrow_table()

    def _sums(self, page: "_Page") -> Found:
        first, last = page.span("received")
        parts = [part for part in self._view.parts(_TABLE["trades"]) if part.received[0] <= last and part.received[1] >= first]
        found = self._ask(page.sums(self._rows(page, _TABLE["trades"], parts)), page)
        return Found(body(found, "json", None, None), found.num_rows)

    def _mount_ledger(self, now: int) -> None:
        mount(self._connection, self._view, with_ledger=True)
        ledger.create(self._connection, now)

    def _completeness(self, question: Question, now: int) -> Found:
        self._mount_ledger(now)
        chosen = {"exchange": question.exchange, "symbol": question.symbol, "since": question.start, "until": question.end}
        found = ledger.question(self._connection, {name: _text(value) for name, value in chosen.items()})
        rows = found.to_arrow_table()
        return Found(body(rows, question.format, None, None), rows.num_rows)


class _Page:
    """One page of an answer: its SQL, which rows of what was found belong to it, and where the next begins."""

    def __init__(self, question: Question, position: int) -> None:
        """`position`: up to which there is anything."""
        cursor = None if question.cursor is None else decode_cursor(question.cursor)
        self._question = question
        self.is_back = question.start is None and question.after is None if cursor is None else cursor.is_back
        limits = (position, question.until, None if cursor is None else cursor.until)
        self._until = min(each for each in limits if each is not None)
        self._size = INTERVALS[question.interval] if question.table == "candles" and question.interval else 1
        self._times = self._from_to(cursor)
        self.parameters: dict[str, Any] = {"limit": question.limit + 1, "until": self._until}
        self._conditions = ["position <= $until"]
        if question.after is not None:
            self._require("position > $after", after=question.after)
        elif question.table == "candles":
            first, last = self._times
            self._require("price IS NOT NULL AND time BETWEEN $first AND $last", first=first, last=last)
        else:
            first, last = self._times
            self._require("epoch_us(received) BETWEEN $first AND $last", first=first, last=last)
            if cursor is not None:
                behind = "<" if self.is_back else ">"
                tie = f"(epoch_us(received) {behind} $at OR position {behind} $behind)"
                self._require(tie, at=cursor.at, behind=cursor.position)
        self._choose_market(question)

    def _from_to(self, cursor: Cursor | None) -> Span:
        """The times that are asked for, both inclusive; of candles whole buckets, those that begin within."""
        question, size = self._question, self._size
        first, last = EVERYTHING
        if question.start is not None:
            first = -(-question.start // size) * size
        if question.end is not None:
            last = -(-question.end // size) * size - 1
        if cursor is None:
            return first, last
        if self.is_back:
            return first, min(last, cursor.at - (question.table == "candles"))
        return max(first, cursor.at + (size if question.table == "candles" else 0)), last

    def _choose_market(self, question: Question) -> None:
        wide = question.table == "gaps"  # one of a whole exchange, or of everything, touches this market too
        if question.exchange is not None:
            self._require("exchange IN ($exchange, '')" if wide else "exchange = $exchange", exchange=question.exchange)
        if question.symbol is not None:
            self._require("coalesce(symbol, $symbol) = $symbol" if wide else "symbol = $symbol", symbol=question.symbol)

    def _require(self, condition: str, **parameters: Any) -> None:
        self._conditions.append(condition)
        self.parameters |= parameters

    def span(self, key: str) -> Span:
        """Where the rows that are wanted lie."""
        if key == "position":
            return (self._question.after or 0) + 1, self._until
        return self._times

    @property
    def least_rows(self) -> int:
        """So many rows are to be looked at for a page of rows as they came."""
        asked = self._question
        return 0 if asked.table == "candles" else asked.limit * ONE_IN ** sum(map(bool, (asked.exchange, asked.symbol)))

    @property
    def least_span(self) -> int:
        """A page of so many candles takes at least that long."""
        return self._question.limit * self._size

    def rows(self, source: str) -> str:
        if self._question.newest:
            return _NEWEST.format(rows=source, conditions=" AND ".join(self._conditions))
        way = " DESC" if self.is_back else ""
        order = "position" if self._question.after is not None else f"received{way}, position{way}"
        return _ROWS.format(rows=source, conditions=" AND ".join(self._conditions), order=order)

    def candles(self, source: str, now: int) -> str:
        self.parameters |= {"interval": self._question.interval, "size": self._size, "now": now}
        exchange = "''" if self._question.exchange is None else "$exchange::VARCHAR"
        conditions, way = " AND ".join(self._conditions), "DESC" if self.is_back else ""
        return _CANDLES.format(exchange=exchange, rows=source, conditions=conditions, way=way, volume=_VOLUME)

    def sums(self, source: str) -> str:
        del self.parameters["limit"]
        size = INTERVALS.get(self._question.interval or "")
        sql = _BARS if self._question.table == "bars" else _VOLUMES
        conditions = " AND ".join(self._conditions)
        return sql.format(rows=source, conditions=conditions, size=size, volume=_VOLUME, ahead=AHEAD, second=SECOND)

    def is_certain(self, found: pa.Table, edge: int) -> bool:
        """Whether there are rows enough, and none that was not looked at, from `edge` on, comes before the last or belongs into
        it."""
        if found.num_rows <= self._question.limit or self._question.newest:
            return False
        last = self._key(found, found.num_rows - 1)
        return last > edge if self.is_back else last + self._size <= edge

    def _key(self, found: pa.Table, row: int) -> int:
        if self._question.after is not None:
            return cast(int, found["position"][row].as_py())
        if self._question.table == "candles":
            return cast(int, found["start"][row].as_py())
        return cast(int, found["received"][row].value)

    def told(self, found: pa.Table) -> Found:
        question = self._question
        page = found.slice(0, question.limit)
        cursor = None
        if found.num_rows > question.limit and question.after is None:
            at, position = self._key(page, question.limit - 1), page["position"][question.limit - 1].as_py()
            cursor = encode_cursor(Cursor(at, position, self._until, self.is_back))
        if self.is_back:
            page = page.take(pa.array(range(page.num_rows - 1, -1, -1), pa.int64()))
        if question.table == "candles":
            page = _as_candles(page)
        last = page["position"][-1].as_py() if page.num_rows else None
        tag = _TABLE[question.table].event.__struct_config__.tag
        return Found(body(page, question.format, cursor, tag), page.num_rows, cursor, last)


def _as_candles(found: pa.Table) -> pa.Table:
    """The columns that the table of candles has."""
    schema = _TABLE["candles"].schema
    numbers = {name: pc.cast(found[f"{name}_text"], pa.float64()) for name in _TABLE["candles"].numbers}
    columns = [numbers[name] if name in numbers else found[name].cast(schema.field(name).type) for name in schema.names]
    return pa.table(columns, schema=schema)


def _text(value: str | int | None) -> str | None:
    """Microseconds as SQL reads a time."""
    if not isinstance(value, int):
        return value
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=value)).strftime("%Y-%m-%d %H:%M:%S.%f")
