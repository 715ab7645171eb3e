"""A world of collectors and a master in one thread, without time: the real ends of a stream, and everything that can go wrong
between them in an order that a seed decides.

Real are `Sender`, `MemoryHold`, `Receiver` and every byte of the messages. Around them stand the plainest models that do what
the programs do: the journal is a list with a tail that a crash may lose; a connection is two queues, and what is under way on
it may arrive long after its sender has given it up.
"""

from collections import Counter, deque
from collections.abc import Callable, Mapping
from random import Random

from master.protocol import (
    Ack,
    Batch,
    BatchError,
    Held,
    Hello,
    MemoryHold,
    Nak,
    Receiver,
    Sender,
    Verdict,
    Welcome,
    decode_control,
    encode_control,
    unpack,
)

LANES = 3
LINKS = 3
WORKERS = 2
WINDOW = 4


class ViolationError(AssertionError):
    """The world has seen what must never be."""


class Connection:
    """Two queues. `gone`: the collector's side has ended, and hears no more; what it sent may still arrive."""

    def __init__(self) -> None:
        self.up: deque[bytes | str] = deque()
        self.down: deque[str] = deque()
        self.gone = False
        self.due: set[bytes] = set()
        self.missed: dict[bytes, int] = {}


class Link:
    """One connection after the other of one worker, and the lanes that it serves."""

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.is_live = False
        self.lanes: set[int] = set()


class Worker:
    """What MasterPool does. It dies with all it holds; the next one has streams of its own."""

    def __init__(self, name: str, make: Callable[[], Sender]) -> None:
        self.name = name
        self.senders = [make() for _ in range(LANES)]
        self.links = [Link() for _ in range(LINKS)]
        self.issued: dict[bytes, list[bytes]] = {sender.stream: [] for sender in self.senders}
        self.acked: dict[bytes, int] = {sender.stream: 0 for sender in self.senders}

    def assign(self) -> None:
        live = [link for link in self.links if link.is_live]
        for index, sender in enumerate(self.senders):
            own = self.links[index % LINKS]
            target = own if own.is_live else live[index % len(live)] if live else None
            holder = next((link for link in self.links if index in link.lanes), None)
            if holder is not target:
                self.move(index, holder, target)
            assert sender.is_attached == (target is not None)

    def move(self, index: int, holder: Link | None, target: Link | None) -> None:
        sender = self.senders[index]
        if holder is not None:
            holder.lanes.discard(index)
            sender.detach()
        if target is not None:
            target.lanes.add(index)
            sender.attach(sender.oldest - 1)

    def lose(self, link: Link) -> None:
        link.connection, link.is_live = None, False
        self.assign()

    @property
    def is_empty(self) -> bool:
        return all(sender.hold.events == 0 for sender in self.senders)


class Master:
    """What the ingest does around a Receiver. `disk` outlives a crash; of `tail` a crash leaves what it likes."""

    def __init__(self, receiver: Callable[[Mapping[bytes, int]], Receiver], seen: Counter[str]) -> None:
        self.disk: list[Batch] = []
        self.tail: list[Batch] = []
        self.connections: list[Connection] = []
        self.seen = seen
        self._make = receiver
        self.receiver = receiver({})
        self.sender_of: dict[bytes, Connection] = {}

    def take(self, connection: Connection, frame: bytes | str) -> None:
        if isinstance(frame, str):
            hello = decode_control(frame)
            assert isinstance(hello, Hello)
            welcome, holes = self.receiver.hello(hello)
            if holes:
                raise ViolationError(f"a hole was announced though nobody let go of anything: {holes}")
            connection.down.append(encode_control(welcome))
            return
        try:
            batch = unpack(frame)
        except BatchError:
            self.seen["damaged"] += 1
            self.say_nak(connection, stream_of(frame))
            return
        verdict = self.receiver.take(batch)
        self.seen[verdict.value] += 1
        self.sender_of[batch.stream] = connection
        if verdict is Verdict.TAKE:
            self.append(batch)
        elif verdict is Verdict.KNOWN:
            connection.due.add(batch.stream)
        elif connection.missed.get(batch.stream) != (want := self.receiver.nak(batch.stream).want):
            connection.missed[batch.stream] = want
            self.say_nak(connection, batch.stream)

    def append(self, batch: Batch) -> None:
        self.tail.append(batch)

    def say_nak(self, connection: Connection, stream: bytes) -> None:
        connection.down.append(encode_control(self.receiver.nak(stream)))

    def commit(self) -> None:
        committed, self.tail = self.tail, []
        self.disk += committed
        self.receiver.committed({batch.stream: batch.seq for batch in committed})
        for batch in committed:
            if batch.stream in self.sender_of:
                self.sender_of[batch.stream].due.add(batch.stream)

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
        for connection in self.connections:
            connection.up.clear()
            connection.down.append("")
        self.connections.clear()
        self.sender_of.clear()


def stream_of(frame: bytes) -> bytes:
    return frame[4:20]


class World:
    """One seed's story. `run` raises ViolationError where acked, stored and issued disagree, or where nothing moves."""

    def __init__(
        self,
        seed: int,
        *,
        receiver: Callable[[Mapping[bytes, int]], Receiver] = Receiver,
        sender: Callable[[MemoryHold, bytes, int], Sender] = Sender,
        master: type[Master] = Master,
    ) -> None:
        self.random = Random(seed)
        self.seen: Counter[str] = Counter()
        self.master = master(receiver, self.seen)
        self._sender = sender
        self.workers = [self.new_worker(f"worker-{index}") for index in range(WORKERS)]
        self.dead: list[Worker] = []

    def new_worker(self, name: str) -> Worker:
        return Worker(name, lambda: self._sender(MemoryHold(), self.random.randbytes(16), WINDOW))

    def run(self, steps: int = 4000) -> None:
        """`steps` things happen; the seed decides which, and how rough the weather is."""
        usual = [self.issue] * 3 + [self.connect] * 3 + [self.send] * 10 + [self.arrive] * 12 + [self.hear] * 10
        usual += [self.commit] * 2 + [self.acknowledge] * 4
        faults = [self.cut] * 6 + [self.damage] * 8 + [self.move_lane] * 6
        faults += [self.crash_master] * 2 + [self.kill_worker, self.disk_refuses]
        rough = self.random.choice([0.005, 0.02, 0.06])
        for _ in range(steps):
            self.random.choice(faults if self.random.random() < rough else usual)()
        self.settle()
        for worker in self.workers:  # a fresh one of each passes
            for index in range(LANES):
                self.issue_on(worker, index)
        self.settle()
        self.check()

    # What happens all the time.

    def issue(self) -> None:
        self.issue_on(self.random.choice(self.workers), self.random.randrange(LANES))

    def issue_on(self, worker: Worker, index: int) -> None:
        sender = worker.senders[index]
        issued = worker.issued[sender.stream]
        body = f'["{worker.name}",{index},{len(issued) + 1},{self.random.getrandbits(64)}]'.encode()
        issued.append(body)
        sender.add(body, 1)

    def connect(self) -> None:
        worker = self.random.choice(self.workers)
        self.connect_link(worker, self.random.choice(worker.links))

    def connect_link(self, worker: Worker, link: Link) -> None:
        if link.connection is None:
            link.connection = Connection()
            self.master.connections.append(link.connection)
            streams = {sender.name: sender.oldest for sender in worker.senders}
            link.connection.up.append(encode_control(Hello(worker.name, 1, streams)))

    def send(self) -> None:
        worker = self.random.choice(self.workers)
        self.send_on(worker, self.random.choice(worker.links))

    def send_on(self, worker: Worker, link: Link) -> bool:
        for index in sorted(link.lanes, key=lambda _: self.random.random()):
            batch = worker.senders[index].next_batch()
            if batch is not None:
                assert link.connection is not None
                link.connection.up.append(batch.data)
                return True
        return False

    def arrive(self) -> None:
        """The master reads one message of one connection, be it a dead one's."""
        if waiting := [each for each in self.master.connections if each.up]:
            connection = self.random.choice(waiting)
            self.master.take(connection, connection.up.popleft())
            self.forget_if_over(connection)

    def forget_if_over(self, connection: Connection) -> None:
        if connection.gone and not connection.up and connection in self.master.connections:
            self.master.connections.remove(connection)
            self.master.sender_of = {key: each for key, each in self.master.sender_of.items() if each is not connection}

    def hear(self) -> None:
        """A worker reads one message of one connection."""
        worker = self.random.choice(self.workers)
        self.hear_on(worker, self.random.choice(worker.links))

    def hear_on(self, worker: Worker, link: Link) -> None:
        if link.connection is None or not link.connection.down:
            return
        text = link.connection.down.popleft()
        if not text:  # the other side is gone
            worker.lose(link)
            return
        message = decode_control(text)
        senders = {sender.name: sender for sender in worker.senders}
        if isinstance(message, Welcome | Ack):
            for name, seq in message.streams.items():
                for released in senders[name].acked(seq):
                    self.released(worker, released)
        elif isinstance(message, Nak):
            senders[message.stream].nak(message.want)
        if isinstance(message, Welcome):
            link.is_live = True
            worker.assign()

    def released(self, worker: Worker, batch: Held) -> None:
        """The collector lets go of this: from now on the master's disk has the only copy."""
        assert isinstance(batch, Batch)
        worker.acked[batch.stream] = batch.seq
        self.seen["acked"] += 1
        if batch not in self.master.disk:
            raise ViolationError(f"acknowledged, and not on disk: batch {batch.seq} of {worker.name}")

    def commit(self) -> None:
        self.master.commit()

    def acknowledge(self) -> None:
        if owing := [each for each in self.master.connections if each.due]:
            self.master.acknowledge(self.random.choice(owing))

    # What goes wrong.

    def cut(self) -> None:
        """A worker gives a connection up. Some of what is under way on it arrives all the same, now or much later."""
        worker = self.random.choice(self.workers)
        link = self.random.choice(worker.links)
        if link.connection is not None:
            self.seen["cuts"] += 1
            self.abandon(link.connection)
            worker.lose(link)

    def abandon(self, connection: Connection) -> None:
        connection.gone = True
        for _ in range(self.random.randint(0, len(connection.up))):
            connection.up.pop()
        self.forget_if_over(connection)

    def damage(self) -> None:
        """A bit of a batch under way flips, behind its header, so that the master knows whose it is."""
        for connection in self.master.connections:
            for place, frame in enumerate(connection.up):
                if isinstance(frame, bytes) and self.random.random() < 0.3:
                    where = self.random.randrange(44, len(frame))
                    connection.up[place] = frame[:where] + bytes([frame[where] ^ 0x10]) + frame[where + 1 :]
                    return

    def move_lane(self) -> None:
        """A lane goes over to another live connection while its old one lives on, with bytes of it under way."""
        worker = self.random.choice(self.workers)
        live = [link for link in worker.links if link.is_live]
        index = self.random.randrange(LANES)
        holder = next((link for link in worker.links if index in link.lanes), None)
        if len(live) > 1 and holder is not None:
            self.seen["moves"] += 1
            worker.move(index, holder, self.random.choice([link for link in live if link is not holder]))

    def crash_master(self) -> None:
        self.seen["master crashes"] += 1
        self.seen["lost to a crash"] += len(self.master.tail)
        self.master.crash(survives=self.random.randint(0, len(self.master.tail)))

    def disk_refuses(self) -> None:
        self.seen["full disks"] += 1
        self.master.disk_refuses()

    def kill_worker(self) -> None:
        """Its connections are as any that are cut: what was under way may arrive beside its successor's."""
        index = self.random.randrange(WORKERS)
        worker = self.workers[index]
        for link in worker.links:
            if link.connection is not None:
                self.abandon(link.connection)
        self.seen["worker deaths"] += 1
        self.dead.append(worker)
        self.workers[index] = self.new_worker(worker.name)

    # The end of all faults, and what must be true then.

    def settle(self) -> None:
        """Everybody does what he can, by turns, until everything is acknowledged."""
        for _ in range(200):
            for worker in self.workers:
                for link in worker.links:
                    self.connect_link(worker, link)
                    while self.send_on(worker, link):
                        pass
            while any(connection.up for connection in self.master.connections):
                self.arrive()
            self.master.commit()
            for connection in [each for each in self.master.connections if each.due]:
                self.master.acknowledge(connection)
            for worker in self.workers:
                for link in worker.links:
                    while link.connection is not None and link.connection.down:
                        self.hear_on(worker, link)
            if all(worker.is_empty for worker in self.workers):
                return
        raise ViolationError("nothing moves any more, and not everything is acknowledged")

    def check(self) -> None:
        """Acked within stored within issued, the same bytes, once, in order; missing is only what died with its worker."""
        stored: dict[bytes, list[Batch]] = {}
        for batch in self.master.disk:
            stored.setdefault(batch.stream, []).append(batch)
        issued = {stream: bodies for worker in (*self.workers, *self.dead) for stream, bodies in worker.issued.items()}
        if not stored.keys() <= issued.keys():
            raise ViolationError("stored, and never issued")
        for stream, batches in stored.items():
            if [batch.seq for batch in batches] != list(range(1, len(batches) + 1)):
                raise ViolationError(f"twice, out of order, or with a hole: {[batch.seq for batch in batches]}")
            if [bytes(batch.body) for batch in batches] != issued[stream][: len(batches)]:
                raise ViolationError("stored is not what was issued")
        for worker in self.workers:
            for stream, bodies in worker.issued.items():
                if not worker.acked[stream] == len(stored.get(stream, [])) == len(bodies):
                    raise ViolationError("a living worker's batch is missing")
        for worker in self.dead:
            for stream, acked in worker.acked.items():
                if acked > len(stored.get(stream, [])):
                    raise ViolationError("a dead worker had an acknowledgement of what is missing")
                self.seen["died with a worker"] += len(worker.issued[stream]) - len(stored.get(stream, []))
