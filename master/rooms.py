"""The rooms of the master that the API asks."""

from dataclasses import dataclass
from typing import Literal, Protocol

from msgspec import Struct

from master.market import Market
from master.metrics import Usage, Vitals
from master.prices import Prices
from master.pulse import Pulse

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
    """A question that has no answer as it is: the field that is wrong, and what to change."""

    def __init__(self, field: str, change: str) -> None:
        super().__init__(f"{field}: {change}")
        self.field = field
        self.change = change


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


class NoReader:
    """Until there is one."""

    is_up = False

    async def ask(self, _: Question) -> Found:
        raise ReaderError("there is nobody who reads the lake")


@dataclass(frozen=True, slots=True)
class Rooms:
    vitals: Vitals
    market: Market
    prices: Prices
    reader: Reader
    pulse: Pulse
    usage: Usage
