"""Who plays in tests/master/world.py: the plainest models of what the programs do around the real ends of a stream.

The journal is a list with a tail that a crash may lose; a spool is a list whose end a power cut may lose; a connection is two
queues, and what is under way on it may arrive long after its sender has given it up.
"""

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from random import Random

from master.protocol import (
    Batch,
    BatchError,
    Hello,
    Receiver,
    Sender,
    Verdict,
    decode_control,
    encode_control,
    unpack,
)

LANES = 3
LINKS = 3
WINDOW = 4


class ViolationError(AssertionError):
    """The world has seen what must never be."""


class Connection:
    """Two queues. `gone`: the collector's side has ended, and hears no more; what it sent may still arrive. `is_over`: the
    master's side has ended, and takes no more. `boot`: of whom HELLO was; 0 before it."""

    def __init__(self) -> None:
        self.up: deque[bytes | str] = deque()
        self.down: deque[str] = deque()
        self.gone = False
        self.is_over = False
        self.worker = ""
        self.boot = 0
        self.due: set[bytes] = set()
        self.missed: dict[bytes, int] = {}


class Link:
    """One connection after the other of one worker, and the streams that it serves."""

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.is_live = False
        self.streams: list[Sender] = []


# The worker's disk.


class Disk:
    """The spool of one worker. `written` outlives the process, the first `synced` of it the machine; `waiting` is on its way to
    the disk. `lives`: the streams of each life, in order; `gone`: what the master has acknowledged."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.waiting: list[tuple[DiskHold, Batch]] = []
        self.written: list[Batch] = []
        self.synced = 0
        self.lives: list[list[bytes]] = []
        self.gone: set[tuple[bytes, int]] = set()

    def write(self) -> None:
        waiting, self.waiting = self.waiting, []
        for hold, batch in waiting:
            self.written.append(batch)
            hold.ready = batch.seq

    def sync(self) -> None:
        self.synced = len(self.written)

    def tidy(self) -> None:
        """What is acknowledged goes from the front, a segment at a time and not at once."""
        segment = self.written[:4]
        if len(segment) == 4 and all((batch.stream, batch.seq) in self.gone for batch in segment):
            del self.written[:4]
            self.synced = max(0, self.synced - 4)

    def lose_process(self) -> None:
        self.waiting.clear()

    def lose_power(self) -> list[Batch]:
        """Some of what was not synced is gone: which."""
        self.waiting.clear()
        survives = self.random.randint(self.synced, len(self.written))
        lost = self.written[survives:]
        del self.written[survives:]
        self.synced = survives
        return lost

    def left(self) -> list[list["DiskHold"]]:
        """The streams of earlier lives that hold something, one generation a life."""
        found: dict[bytes, list[Batch]] = {}
        for batch in self.written:
            found.setdefault(batch.stream, []).append(batch)
        generations = [[DiskHold(self, each, found[each]) for each in life if each in found] for life in self.lives]
        return [generation for generation in generations if generation]


class DiskHold:
    """Implements Hold for one stream on a Disk."""

    def __init__(self, disk: Disk, stream: bytes, found: Sequence[Batch] = ()) -> None:
        self.stream = stream
        self.newest = self.ready = found[-1].seq if found else 0
        self._disk = disk
        self._batches = deque(found)

    @property
    def oldest(self) -> int:
        return self._batches[0].seq if self._batches else self.newest + 1

    @property
    def events(self) -> int:
        return len(self._batches)

    @property
    def bytes(self) -> int:
        return sum(batch.size for batch in self._batches)

    def put(self, batch: Batch) -> None:
        self._batches.append(batch)
        self._disk.waiting.append((self, batch))
        self.newest = batch.seq

    def get(self, seq: int) -> Batch | None:
        """Now and then it must be read first."""
        return None if self._disk.random.random() < 0.1 else self._batches[seq - self.oldest]

    def release(self, through: int) -> list[Batch]:
        released = []
        while self._batches and self._batches[0].seq <= through:
            released.append(self._batches.popleft())
        self._disk.gone.update((batch.stream, batch.seq) for batch in released)
        return released


# The programs.


class Worker:
    """What a worker process does with its MasterPool and Outbox. `backlog`: generations of streams that earlier lives left."""

    def __init__(self, name: str, boot: int, lanes: Sequence[Sender], backlog: Sequence[Sequence[Sender]] = ()) -> None:
        self.name = name
        self.boot = boot
        self.lanes = list(lanes)
        self.backlog = deque(backlog)
        self.links = [Link() for _ in range(LINKS)]
        self.acked: Counter[bytes] = Counter()

    @property
    def streams(self) -> list[Sender]:
        return [sender for generation in self.backlog for sender in generation] + self.lanes

    @property
    def due(self) -> Sequence[Sender]:
        """The oldest generation goes first, and the others wait for it."""
        return self.backlog[0] if self.backlog else self.lanes

    def assign(self) -> None:
        live = [link for link in self.links if link.is_live]
        due = self.due
        for link in self.links:
            for sender in [each for each in link.streams if each not in due]:
                self.move(sender, None)
        for index, sender in enumerate(due):
            own = self.links[index % LINKS]
            target = own if own.is_live else live[index % len(live)] if live else None
            if self.holder(sender) is not target:
                self.move(sender, target)
            assert sender.is_attached == (target is not None)

    def holder(self, sender: Sender) -> Link | None:
        return next((link for link in self.links if sender in link.streams), None)

    def move(self, sender: Sender, target: Link | None) -> None:
        if (holder := self.holder(sender)) is not None:
            holder.streams.remove(sender)
            sender.detach()
        if target is not None:
            target.streams.append(sender)
            sender.attach(sender.oldest - 1)

    def lose(self, link: Link) -> None:
        link.connection, link.is_live = None, False
        self.assign()

    def settle_backlog(self) -> None:
        while self.backlog and all(sender.hold.events == 0 for sender in self.backlog[0]):
            self.backlog.popleft()
            self.assign()

    @property
    def is_empty(self) -> bool:
        return all(sender.hold.events == 0 for sender in self.streams)


class Master:
    """What the ingest does around a Receiver. `disk` outlives a crash; of `tail` a crash leaves what it likes."""

    def __init__(self, receiver: Callable[[Mapping[bytes, int]], Receiver], seen: Counter[str]) -> None:
        self.disk: list[Batch] = []
        self.tail: list[Batch] = []
        self.connections: list[Connection] = []
        self.seen = seen
        self._make = receiver
        self.receiver = receiver({})
        self.carriers: dict[bytes, list[Connection]] = {}

    def take(self, connection: Connection, frame: bytes | str) -> None:
        if isinstance(frame, str):
            hello = decode_control(frame)
            assert isinstance(hello, Hello)
            self.greet(connection, hello)
            return
        try:
            batch = unpack(frame)
        except BatchError:
            self.seen["damaged"] += 1
            self.say_nak(connection, stream_of(frame))
            return
        verdict = self.receiver.take(batch)
        self.seen[verdict.value] += 1
        carriers = self.carriers.setdefault(batch.stream, [])
        if connection not in carriers:
            carriers.append(connection)
        if verdict is Verdict.TAKE:
            self.append(batch)
        elif verdict is Verdict.KNOWN:
            connection.due.add(batch.stream)
        elif connection.missed.get(batch.stream) != (want := self.receiver.nak(batch.stream).want):
            connection.missed[batch.stream] = want
            self.say_nak(connection, batch.stream)

    def greet(self, connection: Connection, hello: Hello) -> None:
        connection.worker, connection.boot = hello.worker, hello.boot
        self.fence(connection)
        if connection.is_over:
            return
        self.settle()
        welcome, holes = self.receiver.hello(hello)
        if holes:
            raise ViolationError(f"a hole was announced though nobody let go of anything: {holes}")
        connection.down.append(encode_control(welcome))

    def settle(self) -> None:
        """6.8: what WELCOME says is durable."""
        self.commit()

    def fence(self, connection: Connection) -> None:
        """6.7: of the boots of a worker that have a session only the newest keeps it."""
        same = [each for each in self.connections if each.worker == connection.worker and each.boot]
        newest = max(each.boot for each in same)
        for each in same:
            if each.boot < newest:
                self.seen["fenced"] += 1
                self.end(each)

    def end(self, connection: Connection) -> None:
        connection.is_over = True
        connection.up.clear()
        connection.down.append("")
        self.connections.remove(connection)
        for carriers in self.carriers.values():
            if connection in carriers:
                carriers.remove(connection)

    def append(self, batch: Batch) -> None:
        self.tail.append(batch)

    def say_nak(self, connection: Connection, stream: bytes) -> None:
        connection.down.append(encode_control(self.receiver.nak(stream)))

    def commit(self) -> None:
        committed, self.tail = self.tail, []
        self.disk += committed
        self.receiver.committed({batch.stream: batch.seq for batch in committed})
        for batch in committed:
            for carrier in self.carriers.get(batch.stream, ()):
                carrier.due.add(batch.stream)

    def acknowledge(self, connection: Connection) -> None:
        due, connection.due = connection.due, set()
        connection.down.append(encode_control(self.receiver.durable(due)))

    def disk_refuses(self) -> None:
        """Nothing of the write remains, and all sessions end."""
        self.tail.clear()
        self.receiver.rolled_back()
        self.hang_up()

    def crash(self, survives: int) -> None:
        """What was not synced may have reached the disk or not, in the order in which it was written."""
        self.disk += self.tail[:survives]
        self.tail.clear()
        self.hang_up()
        marks: dict[bytes, int] = {}
        for batch in self.disk:
            marks[batch.stream] = max(batch.seq, marks.get(batch.stream, 0))
        self.receiver = self._make(marks)

    def hang_up(self) -> None:
        """What was sent before may still be read by collectors; what they send goes nowhere."""
        for connection in list(self.connections):
            self.end(connection)


def stream_of(frame: bytes) -> bytes:
    return frame[4:20]
