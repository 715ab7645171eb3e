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
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.errors import APIError

from collector.engine import FencedError
from collector.outbox import IN_MEMORY, Outbox, Stream
from collector.spool import Spool
from collector.spools import Spools
from master.backoff import Backoff
from master.jetstream.access import Access
from master.jetstream.link import NO_STREAM, Link, LinkError, in_words, linked
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
CALM = 10.0
"""Seconds without a refusal after which the next one is news."""
SLOWEST_RETRY = 15.0


class _Refusal(Struct):
    code: int
    err_code: int = 0
    description: str = ""


class _Answer(Struct):
    """What the server says to a publish. (The library's own reading of it raises where it should tell, in nats-py 2.16.)"""

    error: _Refusal | None = None
    duplicate: bool = False


_answer = msgspec.json.Decoder(_Answer)


class _Flight:
    """What of one stream is on its way: publishes without an answer yet, oldest first.

    An answer's subject ends in `<number>.<turn>.<seq>`; a turn ends with whatever makes the stream begin anew.
    """

    def __init__(self, engine: "JetStream", stream: Stream, subject: str, number: int) -> None:
        self.stream = stream
        self._engine = engine
        self._subject = subject
        self.number = number
        self._turn = 0
        self._sent: deque[tuple[int, float]] = deque()
        self._early: dict[int, bool] = {}
        self._backoff = Backoff(Random(), base=0.1, cap=SLOWEST_RETRY, stable=10.0)  # noqa: S311 (jitter)
        self._began = monotonic()
        self._again: asyncio.TimerHandle | None = None

    @property
    def is_over(self) -> bool:
        """Neither under way nor waiting to try again."""
        return not (self.stream.sender.is_attached or self.is_waiting)

    @property
    def is_waiting(self) -> bool:
        """Whether it was refused, and will try again."""
        return self._again is not None

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
        self._sent.clear()
        self._early.clear()
        if self._again is not None:
            self._again.cancel()
            self._again = None

    async def send(self, client: Client, inbox: str) -> None:
        """Everything that may go now."""
        sender = self.stream.sender
        while (batch := sender.next_batch()) is not None:
            self._sent.append((batch.seq, monotonic()))
            headers = {MESSAGE_ID: message_id(sender.name, batch.seq), WORKER: self._engine.worker, OLDEST: str(sender.oldest)}
            reply = f"{inbox}.{self.number}.{self._turn}.{batch.seq}"
            try:
                await client.publish(self._subject, batch.data, reply, headers)
            except nats.errors.MaxPayloadError as error:
                self._refused(in_words(error))

    def answered(self, turn: int, seq: int, answer: _Answer) -> None:
        """Only the oldest lets go, so that what is let go of has no hole."""
        if turn != self._turn:
            return
        if (error := answer.error) is not None:
            self._refused(in_words(APIError(error.code, error.description, error.err_code)))
            return
        self._early[seq] = answer.duplicate
        while self._sent and (oldest := self._sent[0][0]) in self._early:
            self._sent.popleft()
            self._engine.stored(self.stream, oldest, was_known=self._early.pop(oldest))

    def _refused(self, reason: str) -> None:
        self.end()
        pause = self._backoff.after_failure(monotonic() - self._began)
        self._engine.refused(reason)
        self._again = asyncio.get_running_loop().call_later(pause, self.begin)

    def look(self) -> None:
        """Whether an answer is overdue."""
        if self._sent and monotonic() - self._sent[0][1] > ANSWER_WITHIN:
            self._refused(
                "the server does not answer what is published; if its disk was full, it needs room and then a restart"
            )


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
        self._numbered: dict[int, _Flight] = {}
        self._count = 0
        self._inbox = ""
        self._link: Link | None = None
        self._wake = asyncio.Event()
        self._newer: int | None = None
        self._refusal: str | None = None
        self._refused_at = 0.0
        self._said: set[str] = set()

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
        self._inbox = link.client.new_inbox()
        await link.client.subscribe(f"{self._inbox}.>", cb=self._hear)
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

    async def _hear(self, message: Msg) -> None:
        """An answer to a publish; without a stream it is an empty one of the connection itself."""
        number, turn, seq = map(int, message.subject.rsplit(".", 3)[1:])
        flight = self._numbered.get(number)
        if flight is not None:
            answer = _answer.decode(message.data) if message.data else _Answer(_Refusal(503, description=NO_STREAM))
            flight.answered(turn, seq, answer)

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
                    await flight.send(link.client, self._inbox)
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
                self._count += 1
                self._flights[name] = _Flight(self, stream, self._subject(stream), self._count)
            if self._flights[name].is_over:
                self._flights[name].begin()
        self._numbered = {flight.number: flight for flight in self._flights.values()}

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
        if self._refusal is not None and not any(flight.is_waiting for flight in self._flights.values()):
            self._refusal = None
        if self._said and monotonic() - self._refused_at > CALM:
            log.info("the NATS server takes batches")
            self._said.clear()

    def refused(self, reason: str) -> None:
        """Told to a person once, for each reason, until all went through for a while."""
        self._refusal = reason
        self._refused_at = monotonic()
        if reason not in self._said:
            self._said.add(reason)
            log.error("batches wait", reason=reason)
