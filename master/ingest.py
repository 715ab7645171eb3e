"""Sessions of collectors: batches in order into the journal, acknowledgements of what is durable.

A session is one WebSocket connection that door.Door has let in. What makes delivery right is in protocol.Receiver; this is its
I/O, and the old wire.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from time import monotonic, time_ns
from typing import Any

import msgspec
from msgspec.structs import replace
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from adapters.events import Event, Gap, Price
from master import legacy
from master.door import Door, Grant, address_of
from master.jetstream.state import NatsState
from master.journal import Journal, JournalError
from master.log import logger
from master.protocol import (
    MAX_BATCH,
    Batch,
    BatchError,
    Control,
    ControlError,
    Fenced,
    Hello,
    Hole,
    Mark,
    Receiver,
    Refused,
    Slow,
    Verdict,
    Welcome,
    decode_control,
    decode_events,
    encode_control,
    new_stream,
    pack,
    read_header,
    unpack,
)
from master.segments import Scan
from master.tally import count, tallies

log = logger("ingest")

NAK_EVERY = 0.5
JOURNAL_RETRY = 5.0
MOST_PENDING = 64 << 20
"""Bytes taken and not yet durable above which no more is read."""
SLOW_SECONDS = 0.25
FENCED = 4409
POLICY = 1008
TRY_LATER = 1013

_encoder = msgspec.json.Encoder()


Audience = Callable[[Sequence[Event], int], None]
"""Hears events once they are durable: those of one batch, and the position (segments.position) of the first. Must not wait."""
BatchAudience = Callable[[Batch, Sequence[Event], int], None]
"""The same, with the batch that they came in."""
Consumers = Callable[[ServerConnection, Grant], Awaitable[None]]
"""Serves one consumer until its end."""


class FencedError(Exception):
    """A session of an older boot than the newest that is here."""

    def __init__(self, boot: int) -> None:
        super().__init__(boot)
        self.boot = boot


class Session:
    """One logged-in connection, and the streams that it is to hear an acknowledgement of."""

    def __init__(self, socket: ServerConnection, worker: str) -> None:
        self.socket = socket
        self.worker = worker
        self.boot = 0
        self.is_over = False
        self.due: set[bytes] = set()
        self.has_due = asyncio.Event()
        self.missed: dict[bytes, tuple[int, float]] = {}

    def owe(self, stream: bytes) -> None:
        self.due.add(stream)
        self.has_due.set()

    def may_nak(self, stream: bytes, want: int) -> bool:
        """A window of batches behind one hole is one hole: whether it is time to say so (again)."""
        said, at = self.missed.get(stream, (0, 0.0))
        now = monotonic()
        if said == want and now - at < NAK_EVERY:
            return False
        self.missed[stream] = (want, now)
        return True


class Ingest:
    """All sessions, the marks of all streams, and the way into the journal."""

    def __init__(self, door: Door, receiver: Receiver, dead_letters: Path, newest: Scan | None = None) -> None:
        self.consumers: Consumers = _send_nothing
        self.stored = 0
        self.exchanges = tallies(newest)
        self.refused = door.refused
        self.logins = door.logins
        self.sessions: set[Session] = set()
        self.trouble: str | None = None
        self.rollbacks = 0
        """How often the disk has refused what was taken."""
        self._door = door
        self._receiver = receiver
        self._dead_letters = dead_letters
        self._journal: Journal | None = None
        self._carriers: dict[bytes, set[Session]] = {}
        self._own = new_stream()
        self._own_seq = 0
        self._own_events: list[Event] = []
        self._own_held: dict[int, list[Event]] = {}
        self._is_ending = False
        self._turnstile = asyncio.Lock()
        self._taken: deque[list[Event]] = deque()
        self.audience: list[Audience] = []
        self.batch_audience: list[BatchAudience] = []
        self.nats: Callable[[], NatsState] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        receiver.marks[self._own] = Mark(worker="master")

    async def run(self, journal: Journal) -> None:
        """Commit until the journal is stopped. A disk that refuses ends all sessions, and is tried again for ever."""
        self._journal = journal
        while True:
            try:
                return await journal.run()
            except JournalError as error:
                await self._pause(journal, str(error))

    async def _pause(self, journal: Journal, trouble: str) -> None:
        """What could not be kept was not acknowledged: it will be sent again when there is room."""
        if self.trouble is None:
            log.critical("cannot write; nothing is acknowledged until there is room", reason=trouble)
        self.trouble = trouble
        self.rollbacks += 1
        self._receiver.rolled_back()
        self._taken.clear()
        self._take_back_own()
        await asyncio.gather(*(self._refuse(each.socket, trouble, retry=True) for each in list(self.sessions)))
        await asyncio.sleep(JOURNAL_RETRY)
        while not self._is_ending and not await journal.has_room():
            await asyncio.sleep(JOURNAL_RETRY)
        if not self._is_ending:
            events, self._own_events = self._own_events, []
            self._append_own(events)  # be there none: nobody else may try whether there is room again

    def committed(self, batches: list[Batch], position: int) -> None:
        """The journal has these on disk, the first event at this position: to be acknowledged, and told to the audience."""
        if self.trouble is not None:
            self.trouble = None
            log.info("writing again")
        self._receiver.committed({batch.stream: batch.seq for batch in batches})
        for batch in batches:
            events = self._taken.popleft()
            self.stored += batch.count
            if batch.stream == self._own:
                self._own_held.pop(batch.seq, None)
                self.stored -= sum(type(event) is Price for event in events)  # made here, of what is counted already
            for session in self._carriers.get(batch.stream, ()):
                session.owe(batch.stream)
            for hear in self.audience:
                hear(events, position)
            for hear_batch in self.batch_audience:
                hear_batch(batch, events, position)
            position += batch.count

    async def close(self) -> None:
        """End all sessions; what they sent and was not acknowledged, they keep."""
        self._is_ending = True
        self._flush_own()
        await asyncio.gather(*(each.socket.close(1001, "the master ends") for each in list(self.sessions)))

    # Sessions.

    async def serve(self, socket: ServerConnection) -> None:
        """One connection, from its login to its end."""
        grant = await self._door.admit(socket)
        if grant is None:
            return
        try:
            await self._serve_as(grant, socket)
        except ControlError as error:
            self.refused["protocol"] += 1
            log.warning("session ended", address=address_of(socket), reason=str(error))
            await self._refuse(socket, str(error), code=POLICY)
        except FencedError as error:
            await self._end(socket, Fenced(error.boot), FENCED, "a newer boot is here")
        except (ConnectionClosed, JournalError):  # a journal that refuses has `_pause` end all sessions, with the reason
            pass
        finally:
            self._door.left(socket)

    async def _serve_as(self, grant: Grant, socket: ServerConnection) -> None:
        """What a role may do; nothing else."""
        if grant.role != "collector":
            await self.consumers(socket, grant)
            return
        # Not an option of the library, but its documented field of the protocol: large frames are for collectors.
        socket.protocol.max_message_size = MAX_BATCH
        if grant.method == "legacy":
            await self._serve_legacy(socket)
        else:
            await self._serve_collector(socket, grant.id)

    async def _serve_collector(self, socket: ServerConnection, worker: str) -> None:
        journal = self._journal
        assert journal is not None
        if self.trouble is not None:
            await self._refuse(socket, self.trouble, retry=True)
            return
        session = Session(socket, worker)
        self.sessions.add(session)
        acknowledging = asyncio.create_task(self._acknowledge(session))
        try:
            async for frame in socket:
                async with self._turnstile:  # what has gathered in all sockets comes one frame a turn of the loop
                    await asyncio.sleep(0)
                if session.is_over:
                    return
                if isinstance(frame, bytes):
                    await self._take(session, frame)
                else:
                    await self._hello(session, decode_control(frame))
                if journal.pending_bytes > MOST_PENDING:  # 6.9: memory is bounded; the socket is read again when there is room
                    await socket.send(encode_control(Slow(SLOW_SECONDS)))
                    await journal.settled()
        finally:
            acknowledging.cancel()
            await asyncio.gather(acknowledging, return_exceptions=True)
            self._forget(session)

    def _forget(self, session: Session) -> None:
        self.sessions.discard(session)
        for stream, carriers in list(self._carriers.items()):
            carriers.discard(session)
            if not carriers:
                del self._carriers[stream]

    async def _hello(self, session: Session, message: Control) -> None:
        if not isinstance(message, Hello):
            raise ControlError(f"{type(message).__name__} from a collector")
        assert self._journal is not None
        session.boot = message.boot
        self._fence(session)
        # 6.8: nothing of an older boot is under way, and what WELCOME says of streams and trades is durable.
        await self._journal.settled()
        welcome = self._announced(message)
        known = {name: self.exchanges[name].known for name in message.exchanges if name in self.exchanges}
        await session.socket.send(encode_control(replace(welcome, known=known)))

    def _announced(self, hello: Hello, why: str = "no longer held by worker {worker}") -> Welcome:
        """What of these streams is durable; a hole that will never be filled is recorded, and `why` it is one."""
        welcome, holes = self._receiver.hello(hello)
        for hole in holes:
            log.error("batches are gone for good", worker=hole.worker, stream=hole.stream, first=hole.first, last=hole.last)
            self.record([_lost(hole, why)])
        if holes:
            self._flush_own()  # in the journal before what follows the hole: no crash leaves the one without the other
        return welcome

    def _fence(self, session: Session) -> None:
        """6.7: one boot of a worker at a time, the newest of those that have a session. Raises FencedError for an older one."""
        boots = {each: each.boot for each in self.sessions if each.worker == session.worker and each.boot}
        newest = max(boots.values())
        for each in [each for each, boot in boots.items() if boot < newest]:
            self.refused["fenced"] += 1
            self.sessions.discard(each)
            each.is_over = True  # whatever it still sends is not taken
            log.warning("a newer boot of this worker is here; the older one's session ends", worker=each.worker, boot=each.boot)
            if each is not session:
                self._in_background(self._end(each.socket, Fenced(newest), FENCED, "a newer boot is here"))
        if session.is_over:
            raise FencedError(newest)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _take(self, session: Session, frame: bytes) -> None:
        try:
            batch = unpack(frame)
        except BatchError as error:
            await self._damaged(session, frame, error)
            return
        verdict = self._receiver.take(batch)
        # Also of a batch that came twice: which of its carriers is dead, and which waits to hear, is not known here.
        self._carriers.setdefault(batch.stream, set()).add(session)
        if verdict is Verdict.TAKE:
            self._append(batch)
        elif verdict is Verdict.KNOWN:
            session.owe(batch.stream)
        elif session.may_nak(batch.stream, (nak := self._receiver.nak(batch.stream)).want):
            await session.socket.send(encode_control(nak))

    async def _damaged(self, session: Session, frame: bytes, error: BatchError) -> None:
        """A frame that was altered on its way is wanted again; one that never was a batch ends the session."""
        self.refused["damaged"] += 1
        try:
            header = read_header(frame)
            nak = self._receiver.nak(header.stream)
        except (BatchError, KeyError):
            raise ControlError(str(error)) from error
        await session.socket.send(encode_control(nak))

    def _append(self, batch: Batch) -> None:
        """Into the journal, once it is known that what it says can be stored; else its place is taken by a gap."""
        assert self._journal is not None
        try:
            events = decode_events(batch.body)
            if len(events) != batch.count:
                raise msgspec.ValidationError(f"{len(events)} events, {batch.count} announced")
        except msgspec.MsgspecError as error:
            batch, events = self._bury(batch, error)
        received = events if batch.stream != self._own else [each for each in events if type(each) is not Price]
        count(self.exchanges, received)
        self._taken.append(events)
        self._journal.append(batch)

    def heading(self) -> dict[str, Any]:
        """What the head of a segment holds beside the marks."""
        return {"known": {name: msgspec.to_builtins(tally.known) for name, tally in self.exchanges.items() if name}}

    def _bury(self, batch: Batch, error: msgspec.MsgspecError) -> tuple[Batch, list[Event]]:
        """A batch that can never be stored is kept aside for a person, and must not stop the stream."""
        self.refused["unreadable"] += 1
        name = f"{batch.stream.hex()}-{batch.seq}.batch"
        log.error("a batch cannot be read; kept aside", file=name, error=str(error), folder=str(self._dead_letters))
        try:
            self._dead_letters.mkdir(exist_ok=True)
            (self._dead_letters / name).write_bytes(batch.data)
        except OSError as trouble:
            log.error("and cannot be kept aside either", file=name, error=str(trouble))
        now = time_ns() // 1000
        gap = Gap("", None, None, now, "delivery", f"unreadable batch {name}", str(batch.seq), str(batch.seq), None, now)
        return pack(batch.stream, batch.seq, 1, _encoder.encode([gap])), [gap]

    async def _acknowledge(self, session: Session) -> None:
        """6.3: what is durable, as soon as it is; a commit acknowledges all its batches at once."""
        while True:
            await session.has_due.wait()
            session.has_due.clear()
            due, session.due = session.due, set()
            await session.socket.send(encode_control(self._receiver.durable(due)))

    async def _refuse(self, socket: ServerConnection, reason: str, *, retry: bool = False, code: int = TRY_LATER) -> None:
        await self._end(socket, Refused(reason, retry, JOURNAL_RETRY if retry else 0.0), code, reason[:120])

    @staticmethod
    async def _end(socket: ServerConnection, word: Control, code: int, reason: str) -> None:
        """Say why, and close."""
        try:
            await socket.send(encode_control(word))
            await socket.close(code, reason)
        except ConnectionClosed:
            pass

    # Batches that come by another way than a session of their worker (jetstream/).

    @property
    def is_behind(self) -> bool:
        """6.9: so much waits for the disk that nothing more should be taken."""
        return self._journal is not None and self._journal.pending_bytes > MOST_PENDING

    def offer(self, batch: Batch, worker: str, oldest: int) -> Verdict:
        """Take a batch if it is the next of its stream, of which nothing before `oldest` comes any more. Raises JournalError
        while nothing can be kept: what was taken and is not durable will be wanted again."""
        if self.trouble is not None or self._journal is None:
            raise JournalError(self.trouble or "the journal is not open yet")
        mark = self._receiver.marks.get(batch.stream)
        if mark is None or oldest > mark.received + 1:
            self._announced(Hello(worker, 0, {batch.stream.hex(): oldest}))
        verdict = self._receiver.take(batch)
        if verdict is Verdict.TAKE:
            self._append(batch)
        return verdict

    async def taken_elsewhere(self, marks: Mapping[bytes, int]) -> None:
        """Another master has these streams up to these seqs, and we begin behind them. Raises JournalError."""
        streams = {stream.hex(): seq + 1 for stream, seq in marks.items()}
        self._announced(Hello("", 0, streams), "stored by another master")
        await self.settled()
        assert self._journal is not None
        self._receiver.committed(marks)
        self._journal.marks.update({stream: self._receiver.marks[stream].durable for stream in marks})

    def durable(self, stream: bytes) -> int:
        """The seq up to which this stream is on disk."""
        return self._receiver.marks[stream].durable

    async def settled(self) -> None:
        """Return when everything taken so far is durable. Raises JournalError."""
        if self._journal is not None:
            await self._journal.settled()

    # What the master itself has to say, and the old wire, go into the journal as a stream of its own.

    def record(self, events: list[Event]) -> None:
        """Store events of the master's own making, soon."""
        if not self._own_events:
            asyncio.get_running_loop().call_later(0.005, self._flush_own)
        self._own_events += events

    def _flush_own(self) -> None:
        events, self._own_events = self._own_events, []
        if events:
            self._append_own(events)

    def _append_own(self, events: list[Event]) -> None:
        self._own_seq += 1
        self._own_held[self._own_seq] = events
        batch = pack(self._own, self._own_seq, len(events), _encoder.encode(events))
        self._receiver.take(batch)
        self._append(batch)

    def _take_back_own(self) -> None:
        """What could not be written of our own is written later: nobody will send it again. (A hole will be found again.)"""
        kept: list[Event] = [event for events in self._own_held.values() for event in events if not isinstance(event, Gap)]
        self._own_events = kept + self._own_events
        self._own_held.clear()
        self._own_seq = self._receiver.marks[self._own].durable

    async def _serve_legacy(self, socket: ServerConnection) -> None:
        log.warning("a collector uses the old login, which sends the key in plain text", address=address_of(socket))
        async for frame in socket:
            if self.trouble is not None:
                await self._refuse(socket, self.trouble, retry=True)
                return
            try:
                event = legacy.decode(frame, time_ns() // 1000)
            except legacy.LegacyError as error:
                self.refused["legacy"] += 1
                log.warning("unreadable frame", address=address_of(socket), error=str(error)[:200])
                continue
            if event is not None:
                self.record([event])


async def _send_nothing(socket: ServerConnection, grant: Grant) -> None:
    async for _ in socket:
        raise ControlError(f"role {grant.role} sends nothing here")


def _lost(hole: Hole, why: str) -> Gap:
    now = time_ns() // 1000
    reason = f"{why.format(worker=hole.worker)}: stream {hole.stream}"
    return Gap("", None, None, now, "delivery", reason, str(hole.first), str(hole.last), None, now)
