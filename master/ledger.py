"""How complete the data is: the views `gaps` and `completeness`, over what the lake holds.

`gaps` has a row for each that was told, and how much of it was filled since: `repaired`, from 0 to 1, by trade numbers where it
names any, else by time. It is null for the records of reason `backfilled`, which are no holes but say what was filled.

`completeness` has a row for each exchange, symbol, channel and hour with data or a hole:

events             what was received in it; `book_deltas` count with `books`, both of which are the channel `orderbooks`
holes, repaired    gaps that begin in it, and how many of these were filled wholly
missing_seconds    time of the hour that lies in a hole and was not filled; holes that overlap count once
missing_ids        trade numbers of the holes that begin in it, as far as they were not filled
complete           the share of the hour that lies in no hole, from 0 to 1

A gap without a symbol, channel or exchange counts for all it could touch: every market of its exchange and channel that there
are data or gaps of, and one of `delivery` or `journal` for every channel. An open gap lasts until the next data of its market,
else until now. One whose beginning nobody knows is a hole without a length.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection, DuckDBPyRelation

CHANNELS = {"trades": "trades", "books": "orderbooks", "book_deltas": "orderbooks", "tickers": "tickers"}
"""View of the lake to the channel that its rows came on."""

_TOLD = " UNION ALL ".join(
    f"SELECT exchange, symbol, '{channel}' AS channel, received FROM {view}"  # noqa: S608 (ours)
    for view, channel in CHANNELS.items()
)

_MARKET_CHANNELS = "('trades', 'orderbooks', 'tickers')"
_NUMBERS = "TRY_CAST(first_missing AS HUGEINT) AS first, TRY_CAST(last_missing AS HUGEINT) AS last"
_CONDITIONS = {
    "exchange": "exchange = $exchange",
    "symbol": "symbol = $symbol",
    "since": "hour >= date_trunc('hour', CAST($since AS TIMESTAMP))",
    "until": "hour < CAST($until AS TIMESTAMP)",
}

_SPANS = """
CREATE OR REPLACE VIEW {name} AS
WITH ordered AS (
    SELECT *, max(until) OVER (
        PARTITION BY exchange, symbol, channel ORDER BY since, until ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS reached
    FROM ({source})
), numbered AS (
    SELECT *, sum(CASE WHEN since <= reached THEN 0 ELSE 1 END) OVER (
        PARTITION BY exchange, symbol, channel ORDER BY since, until ROWS UNBOUNDED PRECEDING
    ) AS span
    FROM ordered
)
SELECT exchange, symbol, channel, min(since) AS since, max(until) AS until FROM numbered
GROUP BY exchange, symbol, channel, span
"""
"""Spans of time that overlap or touch become one."""

_HOURS = """
SELECT exchange, symbol, channel, hour,
    sum(epoch(least(until, hour + INTERVAL 1 HOUR) - greatest(since, hour))) AS seconds
FROM (
    SELECT *, unnest(generate_series(date_trunc('hour', since), until, INTERVAL 1 HOUR)) AS hour FROM {spans}
) GROUP BY ALL
"""

_TABLES = f"""
CREATE OR REPLACE VIEW ledger.told AS {_TOLD};
CREATE OR REPLACE TABLE ledger.told_gaps AS FROM ledger.gaps;
CREATE OR REPLACE VIEW ledger.counted AS
    SELECT exchange, symbol, channel, date_trunc('hour', received) AS hour, count(*) AS events FROM ledger.told GROUP BY ALL;
CREATE OR REPLACE TABLE ledger.markets AS
    SELECT DISTINCT exchange, symbol, channel FROM ledger.told
    UNION SELECT exchange, symbol, channel FROM ledger.told_gaps WHERE symbol IS NOT NULL AND channel IN {_MARKET_CHANNELS};
CREATE OR REPLACE TABLE ledger.ends AS
    SELECT gap.position, min(later.received) AS until FROM ledger.told_gaps gap JOIN ledger.told later
    ON gap.exchange = later.exchange AND gap.symbol = later.symbol AND gap.channel = later.channel
    AND gap.received < later.received
    WHERE gap.until IS NULL AND gap.reason <> 'backfilled' GROUP BY gap.position;
CREATE OR REPLACE TABLE ledger.holes AS
    SELECT gap.position, gap.exchange, gap.symbol, gap.channel, gap.received, gap.since,
        coalesce(gap.until, ends.until, ledger.opened()) AS until,
        CASE WHEN gap.channel = 'trades' THEN gap.first END AS first, CASE WHEN gap.channel = 'trades' THEN gap.last END AS last
    FROM (SELECT *, {_NUMBERS} FROM ledger.told_gaps WHERE reason <> 'backfilled') gap LEFT JOIN ledger.ends USING (position);
CREATE OR REPLACE TABLE ledger.touched AS
    SELECT hole.position, market.*, hole.received, hole.since, hole.until, hole.first, hole.last
    FROM ledger.holes hole JOIN ledger.markets market
    ON hole.exchange IN (market.exchange, '') AND coalesce(hole.symbol, market.symbol) = market.symbol
    AND (hole.channel = market.channel OR hole.channel NOT IN {_MARKET_CHANNELS});
"""  # noqa: S608 (ours)
"""What is made once, since many views ask for it, and all rows of the lake must be read for it."""

_VIEWS = f"""
CREATE OR REPLACE VIEW ledger.filled AS
    SELECT exchange, symbol, channel, received, since, until, {_NUMBERS} FROM ledger.told_gaps WHERE reason = 'backfilled';
{_SPANS.format(name="ledger.filled_spans", source="SELECT * FROM ledger.filled WHERE since < until")};
CREATE OR REPLACE VIEW ledger.ids_filled AS
    SELECT hole.position, hole.exchange, hole.symbol,
        sum(least(hole.last, part.last) - greatest(hole.first, part.first) + 1) AS ids
    FROM ledger.touched hole JOIN ledger.filled part
    ON hole.exchange = part.exchange AND hole.symbol = part.symbol AND hole.channel = part.channel
    AND part.received >= hole.received AND part.first <= hole.last AND part.last >= hole.first
    GROUP BY ALL;
CREATE OR REPLACE VIEW ledger.time_filled AS
    SELECT hole.position, hole.exchange, hole.symbol, hole.channel,
        sum(epoch(least(hole.until, span.until) - greatest(hole.since, span.since))) AS seconds
    FROM ledger.touched hole JOIN ledger.filled_spans span
    ON hole.exchange = span.exchange AND hole.symbol = span.symbol AND hole.channel = span.channel
    AND span.since < hole.until AND span.until > hole.since
    GROUP BY ALL;
CREATE OR REPLACE VIEW ledger.shares AS
    SELECT hole.*, hole.last - hole.first + 1 AS ids, coalesce(numbers.ids, 0) AS ids_filled,
        CASE WHEN hole.first IS NULL THEN coalesce(times.seconds / nullif(epoch(hole.until - hole.since), 0), 0)
        ELSE coalesce(numbers.ids, 0) / (hole.last - hole.first + 1) END AS share
    FROM ledger.touched hole
    LEFT JOIN ledger.ids_filled numbers
    ON hole.position = numbers.position AND hole.exchange = numbers.exchange AND hole.symbol = numbers.symbol
    LEFT JOIN ledger.time_filled times
    ON hole.position = times.position AND hole.exchange = times.exchange AND hole.symbol = times.symbol
    AND hole.channel = times.channel;
CREATE OR REPLACE VIEW gaps AS
    SELECT gap.*, CASE WHEN reason <> 'backfilled' THEN least(coalesce(share, 0), 1) END AS repaired
    FROM ledger.told_gaps gap
    LEFT JOIN (SELECT position, avg(share) AS share FROM ledger.shares GROUP BY position) USING (position);
{
    _SPANS.format(
        name="ledger.hole_spans",
        source="SELECT exchange, symbol, channel, since, until FROM ledger.touched WHERE since < until "
        "UNION ALL SELECT exchange, symbol, channel, since, until FROM ledger.filled WHERE since < until",
    )
};
CREATE OR REPLACE VIEW completeness AS
    WITH begun AS (
        SELECT exchange, symbol, channel, date_trunc('hour', coalesce(since, until)) AS hour, count(*) AS holes,
            count(*) FILTER (share >= 1) AS repaired, sum(ids - ids_filled) AS missing_ids
        FROM ledger.shares GROUP BY ALL
    ), missing AS (
        SELECT exchange, symbol, channel, hour, lost.seconds - coalesce(got.seconds, 0) AS seconds
        FROM ({_HOURS.format(spans="ledger.hole_spans")}) lost LEFT JOIN ({_HOURS.format(spans="ledger.filled_spans")}) got
        USING (exchange, symbol, channel, hour)
    )
    SELECT exchange, symbol, channel, hour, coalesce(events, 0) AS events, coalesce(holes, 0) AS holes,
        round(coalesce(seconds, 0), 6) AS missing_seconds, CAST(coalesce(missing_ids, 0) AS BIGINT) AS missing_ids,
        coalesce(repaired, 0) AS repaired, round(1 - coalesce(seconds, 0) / 3600, 9) AS complete
    FROM ledger.counted FULL JOIN begun USING (exchange, symbol, channel, hour)
    FULL JOIN missing USING (exchange, symbol, channel, hour);
"""  # noqa: S608 (ours)


def create(connection: "DuckDBPyConnection", now: int) -> None:
    """Put the ledger over a connection that has the lake's views, and the gaps as they were told in `ledger.gaps`; or make it
    anew, of what the views have now. `now` is microseconds UTC: until then holes last whose end is not known."""
    opened = f"CREATE OR REPLACE MACRO ledger.opened() AS make_timestamp({now})"
    connection.execute(f"{opened}; {_TABLES} {_VIEWS}")


def question(connection: "DuckDBPyConnection", chosen: Mapping[str, str | None]) -> "DuckDBPyRelation":
    """The ledger of what is chosen: exchange, symbol, and hours from `since` to before `until`. Raises duckdb's errors."""
    given = {name: value for name, value in chosen.items() if value is not None}
    conditions = " AND ".join(_CONDITIONS[name] for name in given) or "true"
    ordered = f"SELECT * FROM completeness WHERE {conditions} ORDER BY exchange, symbol, channel, hour"  # noqa: S608 (ours)
    return connection.sql(ordered, params=given)
