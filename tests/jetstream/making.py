"""Trades of several exchanges and markets, and what must become of them."""

import asyncio
from pathlib import Path
from typing import Any

from collector.jetstream import JetStream
from tests.collector.making import trade
from tests.jetstream.nats import Server
from tests.master.running import ask
from tests.waiting import PATIENCE

SYMBOLS = ("BTC/USD", "ETH/USD", "SOL/USD", "XRP/USD", "ADA/USD")


class Source:
    """Trades with rising ids, by turns of exchanges and markets."""

    def __init__(self, to: JetStream, *exchanges: str, told: int = 0) -> None:
        self.exchanges = exchanges or ("kraken",)
        self.told = told
        self._to = to
        self._puts = [to.outbox.open(each, lambda _: None) for each in self.exchanges]

    def tell(self, count: int) -> None:
        for _ in range(count):
            self.told += 1
            turn = self.told % len(self.exchanges)
            self._puts[turn](trade(self.told, SYMBOLS[self.told // len(self.exchanges) % len(SYMBOLS)], self.exchanges[turn]))
        self._to.outbox.flush()


def acked(one: JetStream) -> int:
    return one.outbox.acked_events.total()


def sections(nats: Server, **more: Any) -> dict[str, Any]:
    """The configuration of a master on this server."""
    return {"jetstream": {"servers": [nats.url], **more}}


def stored(data: Path) -> list[int]:
    """Ids of the trades in this lake, as they were taken."""
    return [int(number) for (number,) in ask(data, "SELECT id FROM trades ORDER BY position")]


async def until_stored(count: int, *lakes: Path) -> None:
    """Until so many trades are there; to look is not cheap."""
    async with asyncio.timeout(PATIENCE):
        while sum(len(stored(data)) for data in lakes if data.exists()) < count:
            await asyncio.sleep(0.1)


def all_of(told: int, *lakes: Path) -> None:
    """Everything that was told is stored in these lakes together, once, and in order within each market."""
    rows = [row for data in lakes for row in ask(data, "SELECT id, exchange, symbol FROM trades ORDER BY position")]
    assert sorted(int(number) for number, *_ in rows) == list(range(1, told + 1))
    for data in lakes:
        last: dict[tuple[str, str], int] = {}
        for number, exchange, symbol in ask(data, "SELECT id, exchange, symbol FROM trades ORDER BY position"):
            assert int(number) > last.get((exchange, symbol), 0)
            last[exchange, symbol] = int(number)
