"""A master's way over NATS: its connection and the exchanges that it reads, tried for ever."""

import asyncio
from hashlib import blake2b
from pathlib import Path
from random import Random
from socket import gethostname
from time import monotonic, time_ns

import nats.errors
from nats.js.errors import Error as JetStreamError

from master.backoff import Backoff
from master.ingest import Ingest
from master.jetstream.claims import Board, Bucket, LostError
from master.jetstream.consumer import Reader, ReadError
from master.jetstream.link import Link, LinkError, in_words, linked
from master.jetstream.republish import Republisher
from master.jetstream.settings import JetStreamSettings
from master.jetstream.state import NatsState
from master.jetstream.streams import StreamError, reconcile
from master.jetstream.subjects import QUEUE, exchange_of
from master.journal import JournalError
from master.log import logger

log = logger("jetstream")

RENEW_EVERY = 1.0
SLOWEST_RETRY = 15.0


class TwinError(Exception):
    """Another process uses our name."""


def name_of(settings: JetStreamSettings, data: Path) -> str:
    """What this master is called among others: as configured, else after its machine and where its data is."""
    place = blake2b(str(data.resolve()).encode(), digest_size=3).hexdigest()
    host = "".join(each if each.isalnum() or each == "-" else "_" for each in gethostname())
    return settings.name or f"{host}-{place}"


class Intake:
    """Reads the exchanges that are this master's, and publishes again what is stored."""

    def __init__(self, settings: JetStreamSettings, data: Path, ingest: Ingest, ending: asyncio.Event) -> None:
        self._trouble: str | None = "not connected yet"
        ingest.nats = self._state
        self._settings = settings
        self._ingest = ingest
        self._board = Board(name_of(settings, data), time_ns() // 1000)
        self._readers: dict[str, Reader] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._republishing: asyncio.Task[None]
        self._random = Random()  # noqa: S311 (jitter)
        self._ending = ending
        self.republisher = Republisher(settings.republish) if settings.republish is not None else None
        if self.republisher is not None:
            ingest.batch_audience.append(self.republisher.hear)

    def _state(self) -> NatsState:
        out = self.republisher
        figures = (out.published, out.left_out) if out is not None else (0, 0)
        return NatsState(self._trouble, sorted(self._readers), *figures)

    async def run(self) -> None:
        """Until `ending` is set, and what was taken is acknowledged."""
        backoff = Backoff(self._random, base=0.1, cap=SLOWEST_RETRY, stable=10.0)
        while not self._ending.is_set():
            began = monotonic()
            self._say(await self._session())
            await self._pause(backoff.after_failure(monotonic() - began))

    async def _pause(self, seconds: float) -> None:
        """Unless the end comes before."""
        try:
            async with asyncio.timeout(seconds):
                await self._ending.wait()
        except TimeoutError:
            pass

    def _say(self, trouble: str | None) -> None:
        """Once for each reason, and once that it is over."""
        if trouble == self._trouble:
            return
        if trouble is None:
            log.info("reading from NATS", master=self._board.name)
        else:
            log.error("cannot read from NATS", reason=trouble)
        self._trouble = trouble

    async def _session(self) -> str | None:
        """One connection, from its beginning to its end: why it ended."""
        try:
            async with linked(self._settings.access, f"master {self._board.name}") as link:
                self._republishing = asyncio.create_task(self._republish(link))
                try:
                    await link.while_up(self._share(link))
                finally:
                    await self._stop(list(self._tasks))
                    self._republishing.cancel()
        except (LinkError, StreamError, TwinError) as error:
            return str(error)
        return None

    async def _republish(self, link: Link) -> None:
        if self.republisher is None:
            await link.over.wait()
            return
        try:
            await self.republisher.run(link)
        except (nats.errors.Error, OSError) as error:
            link.end(in_words(error))

    # Sharing ------------------------------------------------------------------------------------------------------------

    async def _share(self, link: Link) -> None:
        """Take and leave exchanges until the end. Raises StreamError, TwinError, and what the library does."""
        await reconcile(link.js, self._settings)
        bucket = Bucket(link.js, self._board)
        await bucket.read(monotonic())
        while not self._ending.is_set():
            await self._look(link, bucket)
            await self._pause(RENEW_EVERY * self._random.uniform(0.8, 1.2))
        await self._leave(list(self._tasks))

    async def _look(self, link: Link, bucket: Bucket) -> None:
        """Renew what says that we live, and come to terms with the others."""
        if self._board.has_twin(monotonic()):
            raise TwinError(f"another master calls itself {self._board.name} too; give each its own jetstream.name")
        for task in (self._republishing, *self._tasks.values()):
            if task.done():
                task.result()  # an error of the program: those of the network are no results
        await bucket.show_alive(monotonic())
        await bucket.read(monotonic())
        info = await link.js.stream_info(QUEUE, subjects_filter=">")
        there = {exchange_of(subject) for subject in info.state.subjects or {}} | self._board.exchanges
        wanted = self._board.wanted(there, monotonic())
        await self._leave([each for each in self._tasks if self._board.meant(each, monotonic()) != self._board.name])
        for exchange in sorted(wanted - self._tasks.keys()):
            try:
                claim = await bucket.claim(exchange, monotonic())
            except LostError:
                continue
            self._readers[exchange] = Reader(link, self._ingest, claim, self.republisher)
            self._tasks[exchange] = asyncio.create_task(self._read(exchange))
        self._say(None)

    async def _read(self, exchange: str) -> None:
        """Read an exchange until that fails; while it is ours, it is then begun anew by the next look."""
        try:
            await self._readers[exchange].run()
        except (ReadError, JournalError, LostError) as error:
            log.warning("reading begins anew", exchange=exchange, reason=str(error))
        except (nats.errors.Error, JetStreamError, OSError, TimeoutError) as error:
            log.warning("reading begins anew", exchange=exchange, reason=in_words(error))
        del self._readers[exchange], self._tasks[exchange]

    async def _stop(self, exchanges: list[str]) -> None:
        tasks = [self._tasks[each] for each in exchanges]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for each in exchanges:
            self._readers.pop(each, None)
            self._tasks.pop(each, None)

    async def _leave(self, exchanges: list[str]) -> None:
        """Take no more of these, acknowledge what is durable, and leave them to others."""
        readers = [self._readers[each] for each in exchanges]
        await self._stop(exchanges)
        for reader in readers:
            try:
                await self._ingest.settled()
                await reader.settle()
                await reader.claim.release(monotonic())
            except (LostError, JournalError) as error:
                log.warning("left as it was", exchange=reader.claim.exchange, reason=str(error))
