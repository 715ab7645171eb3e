"""What can be subscribed: one Feed makes the payloads of one stream, once for all who listen."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Sequence
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, ClassVar
from zlib import crc32

from simulator.market import Book, Candle, Change, Market, Step

if TYPE_CHECKING:
    from simulator.connection import Connection

Payloads = Sequence[str | bytes]
NOTHING: Payloads = ()
UNBOUNDED = -(1 << 62)  # the edge of a window that holds fewer levels than it could


class Feed:
    """One stream of one market.

    A feed is told every step (`note`) and answers what is to be sent at once; one with a period is asked every that many
    seconds (`flush`). `kind` says what the faults may do with it: book (deltas that chain), trade, view (whole small
    books and best prices), ticker, candle.
    """

    kind: ClassVar[str]
    notes: ClassVar[bool] = False
    """Whether it wants every step."""

    def __init__(self, name: str, market: Market, period: float = 0.0) -> None:
        self.name = name
        self.market = market
        self.period = period
        self.subscribers: dict[Connection, int] = {}
        """Listeners, and the sequence of the book when each began to listen."""

    def note(self, step: Step) -> Payloads:
        """Payloads that this step causes now."""
        return NOTHING

    def flush(self, time: int) -> Payloads:
        """Payloads due at `time` (microseconds UTC)."""
        return NOTHING

    def wrap(self, payload: str | bytes, envelope: Hashable) -> str | bytes:
        """The message around a payload, for connections that share an envelope."""
        return payload


class CandleFeed(Feed, ABC):
    """Candles of `minutes`: the open one when it has changed, and a last time when it has closed.

    closes: the venue marks closed candles, so each is sent once more. flat: it sends candles without trades.
    """

    kind = "candle"
    closes: ClassVar[bool] = True
    flat: ClassVar[bool] = True

    def __init__(self, name: str, market: Market, minutes: int, period: float) -> None:
        super().__init__(name, market, period)
        self.minutes = minutes
        self._shown = (0, -1)  # start and number of trades of the candle shown last

    def flush(self, time: int) -> Payloads:
        candles = self.market.candles(self.minutes, time, 2)
        start, trades = self._shown
        payloads: list[str | bytes] = []
        for candle in candles:
            closed = candle is not candles[-1]
            traded = candle.start == start and candle.trades > trades
            begun = candle.start > start and not closed and (self.flat or candle.trades > 0)
            ended = candle.start == start and closed and self.closes and (self.flat or candle.trades > 0)
            if traded or begun or ended:
                payloads.append(self.render(candle, closed, time))
        self._shown = (candles[-1].start, candles[-1].trades)
        return payloads

    @abstractmethod
    def render(self, candle: Candle, closed: bool, time: int) -> str | bytes:
        """One candle in the venue's form."""


class Window:
    """The best `depth` levels of each side, as those who follow the changes know them.

    Levels that come into the window because others vanished are told. Levels that are pushed out of it are told only
    where `farewell` is set: OKX deletes them, Kraken leaves them to the reader.
    """

    def __init__(self, book: Book, depth: int, *, farewell: bool) -> None:
        self._book = book
        self._depth = depth
        self._farewell = farewell
        self._edges = {True: self._edge(book.bids), False: self._edge(book.asks)}

    def changes(self, keys: Iterable[int]) -> tuple[list[Change], list[Change]]:
        """Rows (key, lots) of bids and asks after levels `keys` changed, in the order of `keys`, then what came in."""
        bids = [key for key in keys if key > 0]
        asks = [key for key in keys if key < 0]
        book = self._book
        return self._side(True, book.bids, bids), self._side(False, book.asks, asks)

    def _edge(self, side: list[int]) -> int:
        return side[-self._depth] if len(side) >= self._depth else UNBOUNDED

    def _side(self, bid: bool, side: list[int], keys: list[int]) -> list[Change]:
        if not keys:
            return []
        old = self._edges[bid]
        new = self._edges[bid] = self._edge(side)
        levels = self._book.levels
        known = set(keys)
        rows: list[Change] = []
        for key in keys:
            lots = levels.get(key, 0)
            if lots and key >= new:
                rows.append((key, lots))
            elif key >= old and (not lots or self._farewell):
                rows.append((key, 0))
        at = len(side) - self._depth
        if new < old:
            for key in side[max(at, 0) :]:
                if key >= old:
                    break
                if key not in known:
                    rows.append((key, levels[key]))
        elif self._farewell and new > old:
            for key in reversed(side[:at]):
                if key < old:
                    break
                if key not in known:
                    rows.append((key, 0))
        return rows


def interleaved(bids: Iterable[str], asks: Iterable[str]) -> int:
    """CRC32 as a signed number, over bid and ask in turn with a colon between; the longer side goes on alone."""
    text = ":".join(filter(None, chain.from_iterable(zip_longest(bids, asks))))
    return (crc32(text.encode()) ^ 1 << 31) - (1 << 31)


class Dirty:
    """The keys that changed since the last flush, with the sequence numbers they cover."""

    def __init__(self, sequence: int) -> None:
        self.keys: dict[int, int] = {}
        self.first = sequence + 1
        self.last = sequence

    def add(self, step: Step) -> None:
        self.keys.update(step.changes)
        self.last = step.sequence

    def clear(self) -> None:
        self.keys.clear()
        self.first = self.last + 1
