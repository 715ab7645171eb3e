"""All that a worker has on disk: its own spool, and those that it empties for workers that are no more."""

import asyncio
from collections.abc import Iterable

from collector.outbox import Outbox
from collector.spool import Spool
from master.protocol import Known


class Spools:
    """Begun, asked and closed together; one that was taken over is closed as soon as it is empty."""

    def __init__(self, own: Spool | None, adopted: tuple[Spool, ...]) -> None:
        self._all = [*adopted, *((own,) if own is not None else ())]
        self._adopted = list(adopted)
        self._closing: set[asyncio.Task[None]] = set()

    def start(self, outbox: Outbox) -> None:
        """What of them could not be read goes out as events."""
        for spool in self._all:
            spool.start(outbox)
            outbox.tell(spool.damage)

    def let_go(self) -> None:
        """Close those that were emptied: whose it was may come back, and wants it."""
        for spool in [each for each in self._adopted if each.is_empty]:
            self._adopted.remove(spool)
            task = asyncio.create_task(spool.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """What is held stays there for the next life."""
        await asyncio.gather(*self._closing)
        for spool in self._all:
            await spool.close()

    @property
    def trouble(self) -> str | None:
        """Why a disk does not take what waits for the master."""
        return next((spool.trouble for spool in self._all if spool.trouble), None)

    def known_of(self, exchange: str, others: Iterable[dict[str, Known]] = ()) -> Known:
        """The newest that is known of an exchange: here, and by `others`."""
        found = Known()
        for known in [each[exchange] for each in (*(spool.known for spool in self._all), *others) if exchange in each]:
            found.since = max(found.since, known.since)
            for symbol, last in known.trades.items():
                if symbol not in found.trades or last.received > found.trades[symbol].received:
                    found.trades[symbol] = last
        return found
