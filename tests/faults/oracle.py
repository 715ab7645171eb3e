"""What is in the lake, against what happened at the venue: the judge of a soak.

Of each market every trade between the first that went out to a subscriber and the last must be stored once, as it was told and
in order, or lie in a hole that a `gap` record names. A trade that nobody was connected for is no exception.
"""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
from msgspec import Struct

from master.lake import connect
from tests.faults.tape import FIRST, Tape

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

SLACK = 1_000_000
"""Microseconds by which the venue's clock may differ from ours, where a gap is told by time and not by numbers."""

State = Mapping[str, list[int | None]]
"""Of each market the first and the last id that went out, and the last that happened."""


_FAULTS = {
    "lost": "trades are neither stored nor named by a gap record",
    "doubled": "trades too many are stored",
    "reordered": "live trades are out of order",
    "altered": "trades are not stored as they happened",
    "never_issued": "trades are stored that nobody sent",
    "broken": "trades that a spool had are not stored as they were received",
    "stale": "have nothing stored since the last fault",
}


class Hole(Struct):
    """Trades that are not stored, first and last included."""

    first: int
    last: int

    @property
    def size(self) -> int:
        return self.last - self.first + 1


class Verdict(Struct):
    """Counts of trades, but for `acked` and `records`, which count gap records too. `gaps`: trades that a gap record names.
    `silent`: what is lost; `stale`: symbols of which nothing came after the last fault."""

    issued: int = 0
    acked: int = 0
    stored: int = 0
    records: int = 0
    lost: int = 0
    doubled: int = 0
    reordered: int = 0
    altered: int = 0
    broken: int = 0
    never_issued: int = 0
    stale: list[str] = []
    gaps: int = 0
    silent: list[Hole] = []

    @property
    def is_good(self) -> bool:
        return not any(getattr(self, name) for name in _FAULTS) and self.acked <= self.records

    def complaints(self, tape: Tape) -> Iterable[str]:
        """What is wrong, for a person; losses at the same time are one."""
        for name, words in _FAULTS.items():
            if wrong := getattr(self, name):
                yield f"{wrong} {words}"
        if self.acked > self.records:
            yield f"{self.acked} events are acknowledged, and {self.records} stored"
        for first, last in self._losses():
            yield f"lost: what happened from {tape.step * first / 1e6:.1f} s to {tape.step * last / 1e6:.1f} s"

    def _losses(self) -> list[tuple[int, int]]:
        """First and last number within their markets, of all markets together."""
        spans: list[tuple[int, int]] = []
        for first, last in sorted((hole.first % FIRST, hole.last % FIRST) for hole in self.silent):
            if spans and first <= spans[-1][1]:
                spans[-1] = (spans[-1][0], max(last, spans[-1][1]))
            else:
                spans.append((first, last))
        return spans


class Told(Struct):
    """What a gap record says is missing: numbers, or else times in microseconds."""

    first: int | None
    last: int | None
    since: int | None
    until: int | None


def judge(
    data: Path, tape: Tape, state: State, acked: int, fresh: Mapping[str, int], spooled: AbstractSet[int] = frozenset()
) -> Verdict:
    """`state`: of the venue at the end; `fresh`: of each market an id behind which something must be stored; `spooled`: ids of
    what must be stored as it was received, since a spool had it."""
    verdict = Verdict(acked=acked)
    with connect(data, with_ledger=False) as lake:
        rows = lake.sql("SELECT (SELECT count(*) FROM trades) + (SELECT count(*) FROM gaps)").fetchone()
        verdict.records = rows[0] if rows else 0
        lake.register("spooled", pa.table({"number": pa.array(sorted(spooled), pa.int64())}))
        for symbol, (first, last, _) in state.items():
            if first is not None and last is not None:
                _judge_market(lake, tape, symbol, Hole(first, last), verdict)
                if _newest(lake, symbol) <= fresh.get(symbol, 0):
                    verdict.stale.append(symbol)
    return verdict


def _newest(lake: "DuckDBPyConnection", symbol: str) -> int:
    row = lake.execute("SELECT max(id::BIGINT) FROM trades WHERE symbol = ?", [symbol]).fetchone()
    return row[0] or 0 if row else 0


_MARKET = """
WITH numbered AS (SELECT *, id::BIGINT AS number FROM trades WHERE symbol = $symbol),
behind AS (
    SELECT *, max(number) OVER (ORDER BY position ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS highest
    FROM numbered WHERE source = 'live'
)
SELECT
    (SELECT count(*) FROM numbered),
    (SELECT count(DISTINCT number) FROM numbered),
    (SELECT count(*) FROM behind WHERE number < highest),
    (SELECT count(*) FROM numbered WHERE NOT ({told})),
    (SELECT count(*) FROM numbered WHERE number NOT BETWEEN $first AND $last),
    (SELECT count(*) FROM spooled ANTI JOIN behind USING (number) WHERE spooled.number // {size} = $first // {size})
"""

_HOLES = """
WITH numbers AS (
    SELECT DISTINCT id::BIGINT AS number FROM trades WHERE symbol = $symbol AND id::BIGINT BETWEEN $first AND $last
    UNION SELECT $first - 1 UNION SELECT $last + 1
), pairs AS (SELECT number, lead(number) OVER (ORDER BY number) AS following FROM numbers)
SELECT number + 1, following - 1 FROM pairs WHERE following > number + 1
"""

_GAPS = """
SELECT first_missing::BIGINT, last_missing::BIGINT, epoch_us(since), epoch_us(until) FROM gaps
WHERE symbol = ? AND channel = 'trades' AND reason != 'backfilled'
"""


def _judge_market(lake: "DuckDBPyConnection", tape: Tape, symbol: str, issued: Hole, verdict: Verdict) -> None:
    about = {"symbol": symbol, "first": issued.first, "last": issued.last}
    counted = lake.execute(_MARKET.format(told=tape.sql, size=FIRST), about).fetchone()
    assert counted is not None
    stored, different, reordered, altered, strange, broken = counted
    verdict.issued += issued.size
    verdict.stored += stored
    verdict.doubled += stored - different
    verdict.reordered += reordered
    verdict.altered += altered
    verdict.never_issued += strange
    verdict.broken += broken
    told = [Told(*row) for row in lake.execute(_GAPS, [symbol]).fetchall()]
    for hole in (Hole(*row) for row in lake.execute(_HOLES, about).fetchall()):
        unnamed = list(_unnamed(hole, told, tape))
        verdict.gaps += hole.size - len(unnamed)
        verdict.lost += len(unnamed)
        if unnamed:
            verdict.silent.append(Hole(unnamed[0], unnamed[-1]))


def _unnamed(hole: Hole, told: Iterable[Told], tape: Tape) -> Iterable[int]:
    """The trades of a hole that no gap record names."""
    named = [each for each in told if _touches(each, hole, tape)]
    for number in range(hole.first, hole.last + 1):
        if not any(_names(each, number, tape) for each in named):
            yield number


def _touches(gap: Told, hole: Hole, tape: Tape) -> bool:
    if gap.first is not None and gap.last is not None:
        return gap.first <= hole.last and hole.first <= gap.last
    return (gap.since or 0) - SLACK <= tape.time(hole.last) and tape.time(hole.first) <= (gap.until or 1 << 62) + SLACK


def _names(gap: Told, number: int, tape: Tape) -> bool:
    if gap.first is not None and gap.last is not None:
        return gap.first <= number <= gap.last
    return (gap.since or 0) - SLACK <= tape.time(number) <= (gap.until or 1 << 62) + SLACK
