"""What was known before this start: asked of what is stored, and told to the rooms that live by it while new events come in.

Views first, that is the newest book, ticker and price of each market: consumers see them at once, as old as they are. Then the
trades of the last hour, of which volumes, prices and the short candles are made; then what the trades of the day before them
add up to, for candles of an hour and more.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from time import time_ns

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from adapters.events import Event, Gap, Price
from master.history.questions import DAY, HOUR, MINUTE, Question, QuestionError, Stored
from master.history.reader import Reader, ReaderError
from master.live.candles import Candles, Hour
from master.live.market import Market, is_in_doubt
from master.log import logger
from master.streams.fanout import Fanout
from master.streams.resume import placed

log = logger("recall")

VIEWS_BACK = 10 * MINUTE
TRADES_BACK = HOUR
"""That of the longest volumes."""
EVEN = 15 * MINUTE
"""Trades are told from an even time on, so that no candle shorter than an hour is told in part."""
SKEW = MINUTE
"""How far a venue's clock may be ahead of ours: trades received so long before that time are told as well."""
PAGE = 500
PAUSE = 0.01
"""Seconds between two pages, so that what arrives is not kept waiting."""


class _Hours(Struct):
    rows: list[Hour]


_decode_hours = msgspec.json.Decoder(_Hours).decode
_OTHERS: tuple[Stored, ...] = ("tickers", "prices")


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

    async def views(self) -> None:
        """A book is told again where nothing was missed since, and no changes followed that would have to be told too."""
        try:
            since = self._began - VIEWS_BACK
            books = [each async for each in self._newest("books", since)]
            changed = {(event.exchange, event.symbol): at async for at, event in self._newest("book_deltas", since)}
            gaps = await self._gaps_behind(min((at for at, _ in books), default=self._position))
            others = [each for table in _OTHERS async for each in self._newest(table, since)]
        except (ReaderError, QuestionError) as error:
            log.error("books, tickers and prices begin with the first that comes", reason=str(error))
            return
        for at, event in others:
            self._tell(at, event)
        missing = [*gaps, *((self._position + 1, gap) for gap in self._gaps)]
        for at, book in books:
            is_whole = changed.get((book.exchange, book.symbol), 0) < at
            if is_whole and not any(behind > at and is_in_doubt(book, gap) for behind, gap in missing):
                self._tell(at, book)

    def _tell(self, at: int, event: Event) -> None:
        if isinstance(event, Price) or self._market.recall(event):
            self._fanout.recall(event, at)

    async def trades(self) -> None:
        """Of the last hour, each; of this day, what they add up to."""
        even = (self._began - TRADES_BACK) // EVEN * EVEN
        day = self._began // DAY * DAY
        told = 0
        try:
            async for page in self._pages(Question("trades", start=even - SKEW, until=self._position, limit=PAGE)):
                self._market.take([trade for _, trade in page], 0)
                for position, trade in page:
                    self._candles.take([trade], position)
                told += len(page)
            hours = [hour async for hour in self._hours(day, even - SKEW)]
        except (ReaderError, QuestionError) as error:
            log.error("volumes, prices and candles begin without the trades before this start", told=told, reason=str(error))
            return
        self._candles.go_on_with(hours)
        self._candles.reach_back(even, min(even, day))
        log.info("the market knows the last hour", trades=told)

    async def _hours(self, day: int, end: int) -> AsyncIterator[Hour]:
        """Asked for one at a time, so that others have their turn."""
        for start in range(day - SKEW, end, HOUR):
            question = Question("hours", start=start, end=min(start + HOUR, end), until=self._position)
            for hour in _decode_hours((await self._reader.ask(question)).body).rows:
                if hour.start >= day:
                    yield hour

    async def _newest(self, table: Stored, since: int) -> AsyncIterator[tuple[int, Event]]:
        async for page in self._pages(Question(table, start=since, until=self._position, limit=PAGE, newest=True)):
            for each in page:
                yield each

    async def _gaps_behind(self, position: int) -> list[tuple[int, Event]]:
        gaps: list[tuple[int, Event]] = []
        while True:
            behind = gaps[-1][0] if gaps else position
            found = await self._reader.ask(Question("gaps", after=behind, until=self._position, limit=PAGE))
            gaps += placed(found.body)
            if found.rows < PAGE:
                return gaps

    async def _pages(self, question: Question) -> AsyncIterator[list[tuple[int, Event]]]:
        """Raises ReaderError."""
        while True:
            found = await self._reader.ask(question)
            yield placed(found.body)
            if found.cursor is None:
                return
            question = replace(question, cursor=found.cursor)
            await asyncio.sleep(PAUSE)
