"""What was known before this start: asked of what is stored, and told to the rooms that live by it while new events come in.

Views first, that is the newest book, ticker, trade and price of each market: they are seen at once, as old as they are. Then
what volumes, windows and candles are made of, as fine as it is needed: every trade of the last minutes; of the hour before,
what they add up to by the minute and, for volumes, by the second; of the rest of the day, by the hour.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from random import Random
from time import time_ns
from typing import TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from adapters.events import Event, Gap, Price
from master.backoff import Backoff
from master.history.questions import DAY, HOUR, INTERVALS, MINUTE, SECOND, Found, Question, QuestionError, Stored
from master.history.reader import Reader, ReaderError
from master.live.books import is_in_doubt
from master.live.candles import Candles, StoredBar
from master.live.market import WINDOW_SECONDS, Market
from master.log import logger
from master.segments import position
from master.streams.fanout import Fanout
from master.streams.resume import placed, portions

log = logger("recall")

VIEWS_BACK = 10 * MINUTE
HOUR_BACK = HOUR
"""That of the longest volumes."""
SKEW = MINUTE
"""How far a venue's clock may be ahead of ours: what was received so long before a time counts for it as well."""
RECENT = WINDOW_SECONDS * SECOND + SKEW
"""Longer than candles of a second are kept, too."""
EVEN = 15 * MINUTE
"""Hours back begin at an even time, so that no candle shorter than an hour is told in part."""
SPAN = 5 * MINUTE
"""Of which sums are asked for at once."""
ROWS = 10_000
BOOKS = 100
"""Of a page; a book may have thousands of levels."""
PAUSE = 0.001
"""Seconds between two portions, so that what arrives is not kept waiting."""
TRIES = 6
OF_A_FIRST_LIFE = position(1, 0)
"""The position behind which the journal begins."""

T = TypeVar("T")


class _Volumes(Struct):
    """Of one market: seconds since 1970, and the quote volume of each."""

    exchange: str
    symbol: str
    seconds: list[int]
    volumes: list[float]


_bar, _volumes = msgspec.json.Decoder(StoredBar).decode, msgspec.json.Decoder(_Volumes).decode


class Recall:
    """Of one start, behind whose `position` the new events are."""

    def __init__(self, reader: Reader, position: int, market: Market, candles: Candles, fanout: Fanout) -> None:
        self._reader = reader
        self._position = position
        self._market = market
        self._candles = candles
        self._fanout = fanout
        self._began = time_ns() // 1000
        self._gaps: list[Gap] = []

    def hear(self, events: Sequence[Event], _: int) -> None:
        """Of the audience until the views are told: what is missing of the new ones may be missing of them."""
        self._gaps += [event for event in events if type(event) is Gap]

    # Views.

    async def views(self) -> None:
        """A book is told again where nothing was missed since, and no changes followed that would have to be told too."""
        since = self._began - VIEWS_BACK
        backs: dict[Stored, int] = {"tickers": since, "prices": since, "trades": self._began - HOUR_BACK}
        try:
            for table, back in backs.items():
                async for at, event in self._newest(table, back):
                    self._tell(at, event)
            books = [each async for each in self._newest("books", since)]
            changed = {(event.exchange, event.symbol): at async for at, event in self._newest("book_deltas", since)}
            gaps = await self._gaps_behind(min((at for at, _ in books), default=self._position))
        except (ReaderError, QuestionError) as error:
            log.error("books, tickers and prices begin with the first that comes", reason=str(error))
            return
        missing = [*gaps, *((self._position + 1, gap) for gap in self._gaps)]
        for at, book in books:
            is_whole = changed.get((book.exchange, book.symbol), 0) < at
            if is_whole and not any(behind > at and is_in_doubt(book, gap) for behind, gap in missing):
                self._tell(at, book)

    def _tell(self, at: int, event: Event) -> None:
        if isinstance(event, Price) or self._market.recall(event):
            self._fanout.recall(event, at)

    async def _newest(self, table: Stored, since: int) -> AsyncIterator[tuple[int, Event]]:
        most = BOOKS if table in ("books", "book_deltas") else ROWS
        question = Question(table, start=since, until=self._position, limit=most, newest=True)
        async for portion in self._asked(question, placed):
            for each in portion:
                yield each

    async def _gaps_behind(self, position: int) -> list[tuple[int, Event]]:
        gaps: list[tuple[int, Event]] = []
        while True:
            question = Question("gaps", after=gaps[-1][0] if gaps else position, until=self._position, limit=ROWS)
            found = [each async for portion in self._asked(question, placed) for each in portion]
            gaps += found
            if len(found) < ROWS:
                return gaps

    # Trades.

    async def trades(self) -> None:
        """Of this day, and at least of the last hour."""
        recent = self._began - RECENT
        even, day = (self._began - HOUR_BACK) // EVEN * EVEN, self._began // DAY * DAY
        try:
            await self._tell_trades(recent)
            await self._tell_volumes(even - SKEW, recent)
            await self._tell_bars("1m", even - SKEW, recent)
            await self._tell_bars("1h", day - SKEW, even - SKEW)
        except (ReaderError, QuestionError) as error:
            log.error("volumes, prices and candles begin without the trades before this start", reason=str(error))
            return
        self._candles.reach_back(recent + SKEW, even, min(even, day))
        log.info("the market knows the last hour")

    async def _tell_trades(self, since: int) -> None:
        question = Question("trades", start=since, until=self._position, limit=ROWS)
        async for portion in self._asked(question, placed):
            self._market.take([trade for _, trade in portion], 0)
            for place, trade in portion:
                self._candles.take([trade], place)

    async def _tell_volumes(self, since: int, end: int) -> None:
        for start in range(since, end, SPAN):
            question = Question("volumes", start=start, end=min(start + SPAN, end), until=self._position)
            async for portion in self._asked(question, _volumes):
                for each in portion:
                    ring = self._market.volumes.ring(each.exchange, each.symbol)
                    for second, volume in zip(each.seconds, each.volumes, strict=True):
                        ring.add(second * SECOND, volume)

    async def _tell_bars(self, interval: str, since: int, end: int) -> None:
        size = INTERVALS[interval]
        span = max(size, SPAN)
        for start in range(since, end, span):
            question = Question("bars", start=start, end=min(start + span, end), until=self._position, interval=interval)
            async for portion in self._asked(question, _bar):
                self._candles.go_on_with(portion, size)

    # Asking.

    async def _asked(self, question: Question, decode: Callable[[msgspec.Raw], T]) -> AsyncIterator[list[T]]:
        """All that is found, a portion at a time; nothing in a first life. Raises ReaderError and QuestionError."""
        if self._position == OF_A_FIRST_LIFE:
            return
        cursor: str | None = None
        while True:
            found = await self._found(replace(question, cursor=cursor))
            for portion in portions(found.body, decode):
                yield portion
                await asyncio.sleep(PAUSE)
            cursor = found.cursor
            if cursor is None:
                return

    async def _found(self, question: Question) -> Found:
        """Others ask too, and what answers may just have died."""
        backoff = Backoff(Random(), cap=10.0)  # noqa: S311 (no secret)
        while True:
            try:
                return await self._reader.ask(question)
            except ReaderError:
                pause = backoff.after_failure(0.0)
                if backoff.failures >= TRIES:
                    raise
                await asyncio.sleep(pause)
