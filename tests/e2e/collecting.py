"""A collecting side inside the test: real feeds against the simulator, and a Sink that keeps everything it is given."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

from adapters import registry
from adapters.book import BookOptions
from adapters.events import Book, BookDelta, Event, Gap, Status, Ticker, Trade
from collector.exchange import Exchange
from collector.exchanges import running
from collector.plan import Chunk, ExchangePlan
from collector.sink import Put, Republish
from simulator import Simulator

DOLLARS = ("bitfinex", "bitstamp", "coinbase", "cryptocom", "kraken")
"""Venues whose main quote is the dollar itself."""
PAIRS = {
    name: tuple(f"{base}/{'USD' if name in DOLLARS else 'USDT'}" for base in ("BTC", "ETH", "SOL")) for name in registry.NAMES
}
SHOWN = 20


class Memory:
    """Implements Sink: keeps all events in the order in which they were put."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.statuses: list[Status] = []

    def open(self, exchange: str, republish: Republish) -> Put:
        return self.events.append

    def status(self, status: Status) -> None:
        self.statuses.append(status)

    async def drain(self, within: float) -> bool:
        return True

    def trades(self, symbol: str) -> list[Trade]:
        return [event for event in self.events if isinstance(event, Trade) and event.symbol == symbol]

    def gaps(self, channel: str, symbol: str) -> list[Gap]:
        """Those of this market, and those that may be of any."""
        gaps = [event for event in self.events if isinstance(event, Gap) and event.channel == channel]
        return [gap for gap in gaps if gap.symbol in (symbol, None)]

    def books(self, symbol: str) -> list[Book]:
        return [event for event in self.events if isinstance(event, Book) and event.symbol == symbol]

    def deltas(self, symbol: str) -> list[BookDelta]:
        return [event for event in self.events if isinstance(event, BookDelta) and event.symbol == symbol]

    def tickers(self, symbol: str) -> list[Ticker]:
        return [event for event in self.events if isinstance(event, Ticker) and event.symbol == symbol]


def plan_of(name: str, mode: str = "views", redundancy: int = 1) -> ExchangePlan:
    """Trades of three pairs, books of two, a ticker: three chunks."""
    first, second, third = PAIRS[name]
    chunks = (
        Chunk(name, "trades", (first, second, third)),
        Chunk(name, "orderbooks", (first, second)),
        Chunk(name, "tickers", (first,)),
    )
    options = BookOptions(SHOWN, 0.1, "deltas" if mode == "deltas" else "views")
    return ExchangePlan(name, options, chunks, redundancy=redundancy)


@asynccontextmanager
async def collecting(
    sim: Simulator, name: str, mode: str = "views", redundancy: int = 1
) -> AsyncIterator[tuple[Exchange, Memory]]:
    """One exchange of the simulator, collected into memory."""
    memory = Memory()
    async with running((plan_of(name, mode, redundancy),), memory, sim.url) as (exchange,):
        yield exchange, memory


def is_synced(exchange: Exchange) -> bool:
    """Whether all that was asked for has been answered, and every book is right: from here on, what is missed is a gap."""
    state = exchange.state()
    is_asked = state.connections == state.connections_wanted and not state.pairs["requested"]
    return is_asked and state.books > 0 and state.books_synced == state.books


def numbers(rows: Any) -> list[tuple[Decimal, Decimal]]:
    """Levels as numbers: venues write the same amount in more than one way."""
    return [(Decimal(price), Decimal(amount)) for price, amount in rows]
