"""The rooms of the master that the API asks."""

from dataclasses import dataclass
from typing import Any, Literal, Protocol

from msgspec import Struct

from master.market import Market
from master.metrics import Usage, Vitals
from master.prices import Prices

Table = Literal["trades", "books", "tickers", "candles", "prices", "gaps", "completeness"]
Format = Literal["json", "csv", "parquet", "arrow"]


class Question(Struct):
    """Rows of one table; times are microseconds UTC of `received`, the end is not in it."""

    table: Table
    exchange: str | None = None
    symbol: str | None = None
    start: int | None = None
    end: int | None = None
    limit: int = 1000
    cursor: str | None = None
    interval: str | None = None
    format: Format = "json"


class Found(Struct):
    """Rows as they were wanted; `cursor` leads on where there are more."""

    body: bytes
    rows: int
    cursor: str | None = None


class QuestionError(Exception):
    """A question that has no answer, whoever is asked: such as one with a cursor that is none."""


class ReaderError(Exception):
    """No answer this time."""


class BusyError(ReaderError):
    """Too many questions wait already."""


class SlowError(ReaderError):
    """It would have taken too long."""


class Reader(Protocol):
    """Answers from the lake, in a process of its own."""

    @property
    def is_up(self) -> bool: ...
    async def ask(self, question: Question) -> Found:
        """Raises QuestionError, ReaderError."""
        ...


class Pulse(Protocol):
    """How it goes, and how it went these ten minutes."""

    def status(self, now: int) -> dict[str, Any]: ...
    def history(self) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Rooms:
    vitals: Vitals
    market: Market
    prices: Prices
    reader: Reader
    pulse: Pulse
    usage: Usage
