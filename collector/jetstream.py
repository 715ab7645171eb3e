"""JetStream in the place of MasterPool: the lanes of this process are published to a NATS server, and masters take them there.

Each exchange has lanes of its own, each a subject. An acknowledgement of the server takes the place of the master's: the batch
is in its stream (docs/jetstream.md says what that is worth). Publishes of a lane are a window deep and stay in order: where one
is refused, or no answer comes, all from the oldest on are sent again, and the server drops what it has already.
"""

import asyncio
from collections import deque
from random import Random
from time import monotonic, time_ns

import msgspec
import nats.errors
from msgspec import Struct
from nats.aio.msg import Msg
from nats.js.api import PubAck
from nats.js.client import JetStreamContext

from collector.engine import FencedError
from collector.outbox import IN_MEMORY, Outbox, Stream
from collector.spool import Spool
from collector.spools import Spools
from master.backoff import Backoff
from master.jetstream.access import Access
from master.jetstream.link import Link, LinkError, in_words, linked
from master.jetstream.subjects import MESSAGE_ID, MIXED, OLDEST, WORKER, boots_of, known_of, message_id, of_batch
from master.log import logger
from master.protocol import Known

log = logger("jetstream")

LARGEST = 512 << 10
"""Bytes of a body, so that a message has room in the megabyte that a server takes as it comes."""
ANSWER_WITHIN = 10.0
"""Seconds after which a publish without an answer counts as lost."""
KNOWN_WITHIN = 1.5
LOOK_EVERY = 1.0
SLOWEST_RETRY = 15.0


class _Sent(Struct, gc=False):
    seq: int
    at: float
    answer: asyncio.Future[PubAck]


class _Flight:
    """What of one stream is on its way: publishes without an answer yet, oldest first."""

    def __init__(self, engine: "JetStream", stream: Stream, subject: str) -> None:
        self.stream = stream
        self._engine = engine
        self._subject = subject
        self._sent: deque[_Sent] = deque()
        self._backoff = Backoff(Random(), base=0.1, cap=SLOWEST_RETRY, stable=10.0)  # noqa: S311 (jitter)
        self._began = monotonic()
        self._turn = 0
        self._again: asyncio.TimerHandle | None = None

    @property
    def is_over(self) -> bool:
        """Neither under way nor waiting to try again."""
        return not self.stream.sender.is_attached and self._again is None

    def begin(self) -> None:
        """(Again) from the oldest that is held."""
        self.end()
        self._began = monotonic()
        self.stream.sender.attach(self.stream.sender.oldest - 1)
        self._engine.wake(self.stream)

    def end(self) -> None:
        """Whatever is on its way may arrive or not; no answer to it counts any more."""
        self._turn += 1
        self.stream.sender.detach()
        sent, self._sent = self._sent, deque()
        for each in sent:
            if not each.answer.cancel():
                each.answer.exception()
        if self._again is not None:
            self._again.cancel()
            self._again = None

    async def send(self, js: JetStreamContext) -> None:
        """Everything that may go now."""
        sender = self.stream.sender
        while (batch := sender.next_batch()) is not None:
            turn = self._turn
            headers = {MESSAGE_ID: message_id(sender.name, batch.seq), WORKER: self._engine.worker, OLDEST: str(sender.oldest)}
            answer = await js.publish_async(self._subject, batch.data, headers=headers)
            if turn != self._turn:  # begun anew meanwhile: this one is sent again in its turn
                answer.cancel()
                return
            self._sent.append(_Sent(batch.seq, monotonic(), answer))
            answer.add_done_callback(self._answered)

    def _answered(self, answer: asyncio.Future[PubAck]) -> None:
        """Only the oldest counts, so that what is let go of has no hole."""
        if answer.cancelled():
            return
        while self._sent and self._sent[0].answer.done():
            oldest = self._sent[0]
            if (error := oldest.answer.exception()) is not None:
                self._refused(error)
                return
            self._sent.popleft()
            self._engine.stored(self.stream, oldest.seq, was_known=bool(oldest.answer.result().duplicate))

    def _refused(self, error: BaseException) -> None:
        self.end()
        pause = self._backoff.after_failure(monotonic() - self._began)
        self._engine.refused(in_words(error))
        self._again = asyncio.get_running_loop().call_later(pause, self.begin)

    def look(self) -> None:
        """Whether an answer is overdue."""
        if self._sent and monotonic() - self._sent[0].at > ANSWER_WITHIN:
            self._refused(TimeoutError())


class JetStream:
    """Owns the Outbox of this process and gets it to the server. The same to a worker as MasterPool.

    `exchanges` have lanes of their own, and a master is asked what is stored of them; `known` is the answer.
    """

    def __init__(
        self,
        access: Access,
        lanes: int,
        worker: str,
        exchanges: tuple[str, ...],
        *,
        spool: Spool | None = None,
        adopted: tuple[Spool, ...] = (),
        quota: int = IN_MEMORY,
    ) -> None:
        self.outbox = Outbox(lanes, self.wake, self._changed, spool, adopted, quota, apart=exchanges, largest=LARGEST)
        self.known: asyncio.Future[dict[str, Known]] = asyncio.Future()
        self.worker = worker
        self.boot = time_ns() // 1000
        self.live = 0
        self._access = access
        self._lanes = lanes
        self._exchanges = exchanges
        self._spools = Spools(spool, adopted)
        self._of_others = {stream.sender.name for life in self.outbox.backlog for stream in life}
        self._flights: dict[str, _Flight] = {}
        self._link: Link | None = None
        self._wake = asyncio.Event()
        self._newer: int | None = None
        self._refusal: str | None = None
        self._said: str | None = None

    async def run(self) -> None:
        """Until cancelled. Raises FencedError."""
        self._spools.start(self.outbox)
        backoff = Backoff(Random(), base=0.1, cap=SLOWEST_RETRY, stable=10.0)  # noqa: S311 (jitter)
        while True:
            began = monotonic()
            self.refused(await self._session())
            await asyncio.sleep(backoff.after_failure(monotonic() - began))

    async def close(self) -> None:
        """After `run` has ended: what is held and on disk stays there for the next life."""
        await self._spools.close()

    @property
    def trouble(self) -> str | None:
        """Why a disk does not take what waits, or the server does not."""
        return self._spools.trouble or self._refusal

    def known_of(self, exchange: str) -> Known:
        """What is kept of an exchange, on our disk or by a master, as far as we know by now."""
        return self._spools.known_of(exchange, [self.known.result()] if self.known.done() else [])

    # Sessions -----------------------------------------------------------------------------------------------------------

    async def _session(self) -> str:
        """Connect and publish: why it ended. Raises FencedError."""
        try:
            async with linked(self._access, self.worker) as link:
                await link.while_up(self._greet(link))
                await link.while_up(self._serve(link))
        except LinkError as error:
            return str(error)
        finally:
            self.live, self._link = 0, None
            for flight in self._flights.values():
                flight.end()
        return "ended"

    async def _greet(self, link: Link) -> None:
        """Who else has our name, and what is stored; before anything is sent, since the answer would tell of that too."""
        subject = boots_of(self.worker)

        async def hear(message: Msg) -> None:
            boot = int(message.data)
            if boot > self.boot:
                self._newer = boot
                self._wake.set()
            elif boot < self.boot:
                await link.client.publish(subject, str(self.boot).encode())

        await link.client.subscribe(subject, cb=hear)
        await link.client.publish(subject, str(self.boot).encode())
        if not self.known.done():
            answers = await asyncio.gather(*(self._ask(link, each) for each in self._exchanges))
            self.known.set_result({name: known for name, known in zip(self._exchanges, answers, strict=True) if known})

    async def _ask(self, link: Link, exchange: str) -> Known | None:
        try:
            answer = await link.client.request(known_of(exchange), timeout=KNOWN_WITHIN)
            return msgspec.json.decode(answer.data, type=Known)
        except (nats.errors.NoRespondersError, nats.errors.TimeoutError):
            log.warning("no master says what is stored; holes before now are told by time alone", exchange=exchange)
        except msgspec.MsgspecError as error:
            log.error("what is stored cannot be read", exchange=exchange, reason=str(error))
        return None

    async def _serve(self, link: Link) -> None:
        """Publish whatever may go. Raises FencedError, and what the library does where the connection is gone."""
        self.live, self._link = 1, link
        self._assign()
        looking = asyncio.create_task(self._look())
        try:
            while True:
                self._wake.clear()
                if self._newer is not None:
                    raise FencedError(
                        f"a newer process has taken the place of worker {self.worker}; does another collector use this `name`?"
                    )
                for flight in list(self._flights.values()):
                    await flight.send(link.js)
                await self._wake.wait()
        finally:
            looking.cancel()

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            for flight in list(self._flights.values()):
                flight.look()

    # Streams ------------------------------------------------------------------------------------------------------------

    def wake(self, stream: Stream) -> None:
        """This stream may have something to send."""
        self._wake.set()

    def _changed(self) -> None:
        """Other streams are due than before."""
        self._spools.let_go()
        if self._link is not None:
            self._assign()

    def _assign(self) -> None:
        """A flight for each stream that is due, and for no other."""
        due = {stream.sender.name: stream for stream in self.outbox.due}
        for name in [each for each in self._flights if each not in due]:
            self._flights.pop(name).end()
        for name, stream in due.items():
            if name not in self._flights:
                self._flights[name] = _Flight(self, stream, self._subject(stream))
            if self._flights[name].is_over:
                self._flights[name].begin()

    def _subject(self, stream: Stream) -> str:
        """That of its lane; what another life has left may be of several exchanges, if its engine was another."""
        lanes = self._lanes
        if stream.sender.name not in self._of_others:
            return of_batch(self._exchanges[stream.lane // lanes], stream.lane % lanes)
        exchanges = stream.exchanges
        return of_batch(exchanges.pop() if len(exchanges) == 1 else MIXED, stream.lane % lanes)

    def stored(self, stream: Stream, seq: int, *, was_known: bool) -> None:
        """The server has everything of the stream up to this. What it has of an earlier life, that life has counted."""
        is_counted = was_known and stream.sender.name in self._of_others
        acked = self.outbox.was_acked if is_counted else self.outbox.acked
        acked(stream, len(stream.sender.acked(seq)))
        self._wake.set()
        if self._refusal is not None:
            log.info("the NATS server takes batches")
            self._refusal = self._said = None

    def refused(self, reason: str) -> None:
        """Told to a person once, for each reason, until something goes through again."""
        self._refusal = reason
        if reason != self._said:
            self._said = reason
            log.error("batches wait", reason=reason)
