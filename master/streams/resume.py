"""What streams carried before: the events that a consumer has missed since its cursor, page by page, in order."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import msgspec
from msgspec import Struct

from adapters.events import Event
from master.expired import last_gone
from master.history.questions import Question, QuestionError, Stored
from master.history.reader import Reader, ReaderError
from master.segments import position
from master.streams.topics import Pattern, only

PAGE = 5000
"""Events read at once from a table."""
PORTION = 16 << 10
"""Bytes of JSON that are decoded in one turn of the loop."""

T = TypeVar("T")


class PastError(Exception):
    """What was cannot be read now; it may be later."""


class Past(Protocol):
    """Everything that is kept, durable events included from the moment on that the audience hears of them."""

    async def oldest(self) -> int:
        """The position behind which nothing was let go of yet. Raises PastError."""

    async def events(
        self, table: Stored, after: int, until: int, limit: int, exchange: str | None, symbol: str | None
    ) -> list[tuple[int, Event]]:
        """Events of one table of the lake with their positions: after < position <= until, in order, the first `limit` of them,
        of this exchange and symbol where one is given. Raises PastError."""


class Page(NamedTuple):
    """Events in order, and how far they reach: up to `position` there are no others."""

    events: list[tuple[int, Event]]
    position: int


async def page(past: Past, patterns: Sequence[Pattern], after: int, until: int) -> Page:
    """What these patterns choose among the next events behind `after`. Raises PastError."""
    wanted = {
        table: [each for each in patterns if table in each.channel.tables] for each in patterns for table in each.channel.tables
    }
    found = await asyncio.gather(*(_events(past, table, those, after, until) for table, those in wanted.items()))
    # A table that has more than it was asked for may have events before those that another one has told of already.
    position = min([until, *(events[-1][0] for events in found if len(events) == PAGE)])
    events = sorted((each for events in found for each in events if each[0] <= position), key=lambda each: each[0])
    return Page([(at, event) for at, event in events if any(each.chooses(event) for each in patterns)], position)


async def _events(past: Past, table: Stored, patterns: Sequence[Pattern], after: int, until: int) -> list[tuple[int, Event]]:
    if table == "gaps":  # one without exchange or symbol is about all of them
        return await past.events(table, after, until, PAGE, None, None)
    exchange, symbol = only(each.exchange for each in patterns), only(each.symbol for each in patterns)
    return await past.events(table, after, until, PAGE, exchange, symbol)


class _Rows(Struct):
    rows: list[msgspec.Raw]


class _Place(Struct):
    position: int


_rows, _place = msgspec.json.Decoder(_Rows), msgspec.json.Decoder(_Place)
_event: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


def portions(body: bytes, decode: Callable[[msgspec.Raw], T]) -> Iterator[list[T]]:
    """The rows of an answer in JSON, as many at a time as hold up nobody: the loop may have a turn between them."""
    portion: list[T] = []
    size = 0
    for row in _rows.decode(body).rows:
        portion.append(decode(row))
        size += len(row)
        if size >= PORTION:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion


def placed(row: msgspec.Raw) -> tuple[int, Event]:
    """A row that is an event, and its position."""
    return _place.decode(row).position, _event.decode(row)


class ReaderPast:
    """Asks the process that reads lake and journal."""

    def __init__(self, reader: Reader, data: Path) -> None:
        self._reader = reader
        self._data = data

    async def oldest(self) -> int:
        try:
            gone = await asyncio.to_thread(last_gone, self._data / "lake")
        except (OSError, ValueError) as error:
            raise PastError(str(error)) from error
        return position(gone + 1, 0) if gone else 0

    async def events(
        self, table: Stored, after: int, until: int, limit: int, exchange: str | None, symbol: str | None
    ) -> list[tuple[int, Event]]:
        found: list[tuple[int, Event]] = []
        most = limit
        while len(found) < limit:
            most = min(most, limit - len(found))
            behind = found[-1][0] if found else after
            try:
                answer = await self._reader.ask(Question(table, exchange, symbol, limit=most, after=behind, until=until))
            except ReaderError as error:
                raise PastError(str(error)) from error
            except QuestionError as error:  # rows that are too large to come at once
                if most == 1:
                    raise PastError(str(error)) from error
                most //= 2
                continue
            for portion in portions(answer.body, placed):
                found += portion
                await asyncio.sleep(0)
            if answer.rows < most:
                break
        return found
