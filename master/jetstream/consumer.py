"""One exchange of the queue: its batches, in order, into ingest, and acknowledgements of what is durable.

A durable pull consumer that is made anew whenever reading begins: the queue holds only what nobody has acknowledged, so that
it then gives all of that again, the oldest first. Within one reading nothing is ever skipped (a jump in the consumer's own
numbers ends it), and so a hole in a stream is one of two things: its batches were refused at first and come later, or the queue
has lost them. Which one, the oldest seq that the worker still held says.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from time import monotonic

import msgspec
from msgspec import Struct
from nats.aio.msg import Msg
from nats.js import api
from nats.js.errors import NotFoundError

from master.ingest import Ingest
from master.jetstream.claims import Claim
from master.jetstream.link import Link
from master.jetstream.republish import Republisher
from master.jetstream.subjects import OLDEST, QUEUE, WORKER, batches_of, known_of
from master.journal import JournalError
from master.log import logger
from master.protocol import Batch, BatchError, ControlError, Known, Verdict, unpack

log = logger("jetstream")

PULL = 128
"""Messages that are asked for at once."""
PULL_SECONDS = 10.0
SILENT = 2 * PULL_SECONDS
"""Seconds without a word, after which a consumer counts as gone."""
MOST_UNACKED = 4096
"""Messages that the server gives beyond the last acknowledgement."""
ACK_WAIT = 120.0
SETTLE_EVERY = 0.25
"""Seconds between acknowledgements, each of which costs a write of the claim."""
LOOK_EVERY = 0.01


class ReadError(Exception):
    """Reading must begin anew, and why."""


class Arrival(Struct, gc=False):
    """A batch that came and is not acknowledged."""

    batch: Batch
    worker: str
    reply: str


class Arrivals:
    """Puts what came in order, and says what may be acknowledged. `offer` is that of Ingest; `through`: the seq up to which
    a stream is done with."""

    def __init__(self, offer: Callable[[Batch, str, int], Verdict], through: Callable[[bytes], int]) -> None:
        self._offer = offer
        self._through = through
        self._owed: deque[Arrival] = deque()
        self._parked: dict[bytes, dict[int, Arrival]] = {}

    def came(self, arrival: Arrival, oldest: int) -> None:
        """`oldest`: what was before it in its stream came before this, or is lost. Raises JournalError."""
        parked = self._parked.get(arrival.batch.stream, {})
        for seq in sorted(seq for seq in parked if seq <= oldest):
            if seq in parked:  # else it followed one before
                self._take(parked.pop(seq), seq)
        self._take(arrival, oldest)

    def _take(self, arrival: Arrival, oldest: int) -> None:
        """With what waited behind it; or it waits itself."""
        following: Arrival | None = arrival
        while following is not None:
            batch = following.batch
            if self._offer(batch, following.worker, oldest) is Verdict.HOLE:
                self._parked.setdefault(batch.stream, {})[batch.seq] = following
                return
            self._owed.append(following)
            following, oldest = self._parked.get(batch.stream, {}).pop(batch.seq + 1, None), 0

    def due(self) -> list[Arrival]:
        """What is done with, and was not given here before."""
        found = []
        while self._owed and self._owed[0].batch.seq <= self._through(self._owed[0].batch.stream):
            found.append(self._owed.popleft())
        return found


class Reader:
    """Reads while it runs; the claim is its right to acknowledge."""

    def __init__(self, link: Link, ingest: Ingest, claim: Claim, republisher: Republisher | None = None) -> None:
        self._link = link
        self._ingest = ingest
        self.claim = claim
        self._rollbacks = ingest.rollbacks
        self._republisher = republisher
        self._arrivals = Arrivals(self._offer, self._through)
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._expected = 1
        self._seen = 0
        self._asked = 0
        self._heard = monotonic()
        self._settling = asyncio.Lock()
        self._inbox = link.client.new_inbox()
        self._consumer = f"master-{claim.exchange}"

    async def run(self) -> None:
        """Until cancelled. Raises ReadError, JournalError, LostError, and what the library does."""
        exchange, client = self.claim.exchange, self._link.client
        streams = {bytes.fromhex(name): seq for name, seq in self.claim.marks.items()}
        await self._ingest.taken_elsewhere(streams)
        await self._make_consumer()
        arriving = await client.subscribe(self._inbox, cb=self._came, pending_bytes_limit=0)  # what was asked for bounds it
        asked = await client.subscribe(known_of(exchange), cb=self._tell_known)
        settling = asyncio.create_task(self._settle_for_ever())
        try:
            await self._pull()
            await asyncio.wait({self._over, settling}, return_when=asyncio.FIRST_COMPLETED)
            for ended in (self._over, settling):
                if ended.done():
                    ended.result()
        finally:
            self._over.cancel()
            settling.cancel()
            if not client.is_closed:
                await arriving.unsubscribe()
                await asked.unsubscribe()

    def _offer(self, batch: Batch, worker: str, oldest: int) -> Verdict:
        self._ensure_all_is_kept()
        verdict = self._ingest.offer(batch, worker, oldest)
        if verdict is Verdict.KNOWN and self._republisher is not None and batch.seq <= self._ingest.durable(batch.stream):
            self._republisher.again(batch)
        return verdict

    def _ensure_all_is_kept(self) -> None:
        """A disk may refuse and be well again between two looks at it: what it refused would pass for lost by the queue."""
        if self._ingest.rollbacks != self._rollbacks:
            raise ReadError(self._ingest.trouble or "the disk refused what was taken")

    def _through(self, stream: bytes) -> int:
        """How far a stream is on disk, and out again: what a crash takes from the one, the queue gives again for the other."""
        durable = self._ingest.durable(stream)
        return durable if self._republisher is None else min(durable, self._republisher.through(stream))

    async def _make_consumer(self) -> None:
        js = self._link.js
        with suppress(NotFoundError):
            await js.delete_consumer(QUEUE, self._consumer)
        await js.add_consumer(
            QUEUE,
            durable_name=self._consumer,
            name=self._consumer,
            filter_subject=batches_of(self.claim.exchange),
            ack_policy=api.AckPolicy.EXPLICIT,
            ack_wait=ACK_WAIT,
            max_ack_pending=MOST_UNACKED,
        )

    async def _pull(self) -> None:
        if self._ingest.is_behind:
            await self._ingest.settled()
        self._asked = PULL
        request = msgspec.json.encode({"batch": PULL, "expires": int(PULL_SECONDS * 1e9)})
        await self._link.client.publish(f"$JS.API.CONSUMER.MSG.NEXT.{QUEUE}.{self._consumer}", request, self._inbox)

    async def _came(self, message: Msg) -> None:
        """A batch, or word of the consumer."""
        self._heard = monotonic()
        if self._over.done():
            return
        try:
            if message.reply:
                await self._take(message)
                self._asked -= 1
            else:
                self._heed(message)
                self._asked = 0
            if not self._asked:
                await self._pull()
        except (ReadError, JournalError, ControlError) as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        if not self._over.done():
            self._over.set_exception(error)

    @staticmethod
    def _heed(message: Msg) -> None:
        status = (message.headers or {}).get(api.Header.STATUS, "")
        if status not in (api.StatusCode.REQUEST_TIMEOUT, api.StatusCode.NO_MESSAGES):
            raise ReadError((message.headers or {}).get(api.Header.DESCRIPTION) or f"status {status}")

    async def _take(self, message: Msg) -> None:
        numbers, headers = message.metadata.sequence, message.headers or {}
        if numbers.consumer != self._expected:
            raise ReadError(f"message {numbers.consumer} of the consumer where {self._expected} was expected")
        self._expected += 1
        try:
            arrival = Arrival(unpack(message.data), headers.get(WORKER, ""), message.reply)
            self._arrivals.came(arrival, int(headers.get(OLDEST, "0")))
        except (BatchError, ValueError) as error:  # its number is missing in its stream then, which the next one shows
            log.error(
                "a message of the queue is no batch; dropped", subject=message.subject, seq=numbers.stream, reason=str(error)
            )
            self._ingest.refused["damaged"] += 1
            await self._link.client.publish(message.reply, b"+TERM")
        self._seen = numbers.stream

    async def _settle_for_ever(self) -> None:
        while True:
            await asyncio.sleep(SETTLE_EVERY)
            self._ensure_all_is_kept()
            if monotonic() - self._heard > SILENT:
                raise ReadError("the consumer says nothing")
            await self.settle()

    async def settle(self) -> None:
        """Acknowledge what is durable, once the claim says so. Raises LostError."""
        async with self._settling:
            due = self._arrivals.due()
            if not due:
                return
            for each in due:
                self.claim.reached(each.batch.stream.hex(), each.batch.seq)
            await self.claim.renew(monotonic())
            for each in due:
                await self._link.client.publish(each.reply, b"+ACK")

    async def _tell_known(self, message: Msg) -> None:
        """What is stored of this exchange, once all that was published before the question is."""
        last = await self._last()
        while self._seen < last and not self._over.done():
            await asyncio.sleep(LOOK_EVERY)
        try:
            await self._ingest.settled()
        except JournalError as error:
            self._fail(error)
            return
        tally = self._ingest.exchanges.get(self.claim.exchange)
        await message.respond(msgspec.json.encode(tally.known if tally is not None else Known()))

    async def _last(self) -> int:
        try:
            last = await self._link.js.get_last_msg(QUEUE, batches_of(self.claim.exchange))
        except NotFoundError:
            return 0
        return last.seq or 0
