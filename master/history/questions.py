"""Questions about what was stored, and what an answer is. Light: whoever asks loads none of the engine that answers."""

import base64
from datetime import UTC, datetime, timedelta
from typing import Literal, get_args

import msgspec
from msgspec import Struct

SECOND = 1_000_000
MINUTE, HOUR, DAY = 60 * SECOND, 3600 * SECOND, 86_400 * SECOND
INTERVALS = {"1s": SECOND, "1m": MINUTE, "5m": 5 * MINUTE, "15m": 15 * MINUTE, "1h": HOUR, "4h": 4 * HOUR, "1d": DAY}
"""Microseconds of each interval. All begin at multiples of it since 1970 (UTC)."""

MOST_ROWS = {"json": 10_000, "csv": 1_000_000, "parquet": 1_000_000, "arrow": 1_000_000}
MOST_BYTES = 64 << 20
"""Of one answer."""

Stored = Literal["trades", "books", "book_deltas", "tickers", "funding", "liquidations", "prices", "gaps"]
"""What stands in the lake as it came."""
Made = Literal["candles", "completeness", "bars", "volumes"]
"""What is made of it when somebody asks."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
LAST = (datetime.max.replace(tzinfo=UTC) - EPOCH) // _MICROSECOND
"""Of all times that can be written as a date."""

_ENDLESS = 2**63 - 1


class QuestionError(Exception):
    """A question that has no answer as it is: the field that is wrong, and what to change."""

    def __init__(self, field: str, change: str) -> None:
        super().__init__(f"{field}: {change}")
        self.field = field
        self.change = change


def moment(text: str) -> int:
    """Microseconds UTC of what a person writes: those themselves, or ISO-8601, in UTC where it names no other zone. Raises
    ValueError."""
    if text.isascii() and text.isdigit():
        if len(text) > len(str(LAST)) or int(text) > LAST:
            raise ValueError(text)
        return int(text)
    time = datetime.fromisoformat(text)
    return ((time if time.tzinfo else time.replace(tzinfo=UTC)) - EPOCH) // _MICROSECOND


class Question(Struct, omit_defaults=True):
    """`start` (inclusive) and `end` (exclusive) are microseconds UTC: of `received`; for candles, of the candle's start; for
    `completeness`, of its hour.

    Without `start`, pages go from the newest back; with it, forward. The rows of a page always stand in rising order of
    (received, position). All pages that one cursor leads to are of what was there when the first was asked for: none is left
    out and none comes twice, whatever comes in meanwhile. A row whose time no column holds (only a collector that is none of
    ours sends such) is found by position alone.

    With `after`, rows stand in order of position: those behind it, `gaps` as they were told. `until` is the last position that
    is wanted, in any order.

    `candles` are made of the trades, each in the bucket of its venue time; without an exchange, of all that have the symbol.
    `gaps` of a market are all that touch it: also those of its whole exchange, and of everything. `completeness` comes whole,
    whatever the limit.

    With `newest`, only the newest row of each market is one. `bars` and `volumes` are what the trades received in that time
    add up to, for what is live to go on with: of each market and interval of venue time what a candle is made of, and of each
    market the quote volume of each second. All of them come at once.
    """

    table: Stored | Made
    exchange: str | None = None
    symbol: str | None = None
    start: int | None = None
    end: int | None = None
    limit: int = 1000
    cursor: str | None = None
    interval: str | None = None
    format: Literal["json", "csv", "parquet", "arrow"] = "json"
    after: int | None = None
    until: int | None = None
    newest: bool = False


class Found(Struct):
    """`cursor` leads to the next page; None where this is the last. `last` is the position of the last row; None where there is
    no row, or rows have none (`completeness`)."""

    body: bytes
    rows: int
    cursor: str | None = None
    last: int | None = None


class Cursor(Struct):
    """Where a page ended: the time and position of its last row, which way, and up to which position all pages go."""

    at: int
    position: int
    until: int
    is_back: bool


def encode_cursor(cursor: Cursor) -> str:
    """Text that stands in a URL as it is."""
    return base64.urlsafe_b64encode(msgspec.json.encode(cursor)).decode().rstrip("=")


def decode_cursor(text: str) -> Cursor:
    """Raises QuestionError."""
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), type=Cursor)
    except ValueError as error:  # that of base64, of text that is no ASCII, and msgspec's are
        raise QuestionError("cursor", "give one as the answer before had it, or none to begin anew") from error


def check(question: Question) -> None:
    """Raises QuestionError for the first thing that is wrong."""
    most = MOST_ROWS[question.format]
    if not 1 <= question.limit <= most:
        raise QuestionError("limit", f"from 1 to {most} for {question.format}, not {question.limit}")
    for name in ("start", "end", "after", "until"):
        value = getattr(question, name)
        if value is not None and not -_ENDLESS <= value <= _ENDLESS:
            raise QuestionError(name, "64 bits hold it, or it is a mistake")
    if question.start is not None and question.end is not None and question.end < question.start:
        raise QuestionError("end", "not before where it begins")
    if question.table == "candles":
        _check_candles(question)
    elif question.table == "bars":
        _check_interval(question)
    elif question.interval is not None:
        raise QuestionError("interval", "leave it out: only candles have one")
    if question.newest and (question.start is None or question.table in ("gaps", *get_args(Made))):
        raise QuestionError("newest", "of what is stored of markets, and with a start")
    if question.after is not None:
        _check_after(question)
    if question.cursor is not None:
        decode_cursor(question.cursor)


def _check_interval(question: Question) -> None:
    if question.interval not in INTERVALS:
        raise QuestionError("interval", f"one of {', '.join(INTERVALS)}")


def _check_candles(question: Question) -> None:
    _check_interval(question)
    if question.symbol is None:
        raise QuestionError("symbol", "name one, such as BTC/USDT: candles are of one symbol")


def _check_after(question: Question) -> None:
    if question.table in get_args(Made) or question.newest:
        raise QuestionError("after", f"leave it out: {question.table} are in order of time")
    for name in ("start", "end", "cursor"):
        if getattr(question, name) is not None:
            raise QuestionError(name, "leave it out: with `after`, rows are in order of position")
