"""A world of collectors and a master in one thread, without time: the real ends of a stream, and everything that can go wrong
between them in an order that a seed decides.

Real are `Sender`, `MemoryHold`, `Receiver` and every byte of the messages; what stands around them is in actors.py. Some
workers have a spool, others keep what they send in memory only.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from random import Random

from master.protocol import Ack, Batch, Held, Hello, MemoryHold, Nak, Receiver, Sender, Welcome, decode_control, encode_control
from tests.master.actors import LANES, WINDOW, Connection, Disk, DiskHold, Link, Master, ViolationError, Worker

SPOOLED = (True, True, False)
"""For each worker, whether it has a spool."""


class World:
    """One seed's story. `run` raises ViolationError where acked, stored and issued disagree, or where nothing moves."""

    def __init__(
        self,
        seed: int,
        *,
        receiver: Callable[[Mapping[bytes, int]], Receiver] = Receiver,
        sender: type[Sender] = Sender,
        master: type[Master] = Master,
        worker: type[Worker] = Worker,
        disk: type[Disk] = Disk,
    ) -> None:
        self.random = Random(seed)
        self.late = self.random.choice([0.02, 0.1, 0.5])
        self.seen: Counter[str] = Counter()
        self.master = master(receiver, self.seen)
        self.disks = [disk(self.random) if is_spooled else None for is_spooled in SPOOLED]
        self.issued: dict[bytes, list[bytes]] = {}
        self.numbers: Counter[tuple[str, int]] = Counter()
        self.promised: set[tuple[bytes, int]] = set()
        self.dead: list[Worker] = []
        self._sender = sender
        self._worker = worker
        self.workers = [self.new_worker(index, 1) for index in range(len(SPOOLED))]

    def new_worker(self, index: int, boot: int) -> Worker:
        """With what its disk holds, if it has one; its own streams are new."""
        disk = self.disks[index]
        backlog: list[list[Sender]] = []
        if disk is not None:
            self.promised.update((batch.stream, batch.seq) for batch in disk.written)
            backlog = [[self._sender(hold, hold.stream, WINDOW) for hold in generation] for generation in disk.left()]
        lanes = [self.new_lane(disk, lane) for lane in range(LANES)]
        if disk is not None:
            disk.lives.append([sender.stream for sender in lanes])
        self.seen["left on a disk"] += sum(map(len, backlog))
        return self._worker(f"worker-{index}", boot, lanes, backlog)

    def new_lane(self, disk: Disk | None, _: int) -> Sender:
        stream = self.random.randbytes(16)
        self.issued[stream] = []
        return self._sender(MemoryHold() if disk is None else DiskHold(disk, stream), stream, WINDOW)

    def run(self, steps: int = 4000) -> None:
        """`steps` things happen; the seed decides which, and how rough the weather is."""
        usual = [self.issue] * 3 + [self.connect] * 3 + [self.send] * 10 + [self.hear] * 10
        usual += [self.arrive] * self.random.choice([4, 12])
        usual += [self.commit] * 2 + [self.acknowledge] * 4 + [self.write] * 6 + [self.sync, self.tidy]
        faults = [self.cut] * 6 + [self.damage] * 8 + [self.move_stream] * 6
        faults += [self.crash_master] * 2 + [self.kill_worker] * 2 + [self.cut_power, self.disk_refuses]
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
        """One event of the market that this lane carries; its number goes on over all lives."""
        self.numbers[worker.name, index] += 1
        body = f'["{worker.name}",{index},{self.numbers[worker.name, index]},{self.random.getrandbits(64)}]'.encode()
        sender = worker.lanes[index]
        self.issued[sender.stream].append(body)
        sender.add(body, 1)

    def write(self) -> None:
        if (disk := self.random.choice(self.disks)) is not None:
            disk.write()

    def sync(self) -> None:
        if (disk := self.random.choice(self.disks)) is not None:
            disk.sync()

    def tidy(self) -> None:
        if (disk := self.random.choice(self.disks)) is not None:
            disk.tidy()

    def connect(self) -> None:
        worker = self.random.choice(self.workers)
        self.connect_link(worker, self.random.choice(worker.links))

    def connect_link(self, worker: Worker, link: Link) -> None:
        if link.connection is None:
            link.connection = Connection()
            self.master.connections.append(link.connection)
            streams = {sender.name: sender.oldest for sender in worker.streams}
            link.connection.up.append(encode_control(Hello(worker.name, worker.boot, streams)))

    def send(self) -> None:
        worker = self.random.choice(self.workers)
        self.send_on(self.random.choice(worker.links))

    def send_on(self, link: Link) -> bool:
        for sender in sorted(link.streams, key=lambda _: self.random.random()):
            batch = sender.next_batch()
            if batch is not None:
                assert link.connection is not None
                link.connection.up.append(batch.data)
                return True
        return False

    def arrive(self) -> None:
        """The master reads one message of one connection; those of the dead come late."""
        waiting = [each for each in self.master.connections if each.up]
        waiting = [each for each in waiting if not each.gone or self.random.random() < self.late]
        if waiting:
            connection = self.random.choice(waiting)
            self.master.take(connection, connection.up.popleft())
            self.forget_if_over(connection)

    def forget_if_over(self, connection: Connection) -> None:
        if connection.gone and not connection.up and connection in self.master.connections:
            self.master.end(connection)

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
        senders = {sender.name: sender for sender in worker.streams}
        if isinstance(message, Welcome | Ack):
            for name, seq in message.streams.items():
                if name in senders:
                    for released in senders[name].acked(seq):
                        self.released(worker, senders[name], released)
            worker.settle_backlog()
        elif isinstance(message, Nak) and message.stream in senders:
            senders[message.stream].nak(message.want)
        if isinstance(message, Welcome):
            link.is_live = True
            worker.assign()

    def released(self, worker: Worker, sender: Sender, batch: Held) -> None:
        """The collector lets go of this: from now on the master's disk has the only copy."""
        worker.acked[sender.stream] = batch.seq
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

    def move_stream(self) -> None:
        """A stream goes over to another live connection while its old one lives on, with bytes of it under way."""
        worker = self.random.choice(self.workers)
        live = [link for link in worker.links if link.is_live]
        sender = self.random.choice(worker.due)
        holder = worker.holder(sender)
        if len(live) > 1 and holder is not None:
            self.seen["moves"] += 1
            worker.move(sender, self.random.choice([link for link in live if link is not holder]))

    def crash_master(self) -> None:
        self.seen["master crashes"] += 1
        self.seen["lost to a crash"] += len(self.master.tail)
        self.master.crash(survives=self.random.randint(0, len(self.master.tail)))

    def disk_refuses(self) -> None:
        self.seen["full disks"] += 1
        self.master.disk_refuses()

    def kill_worker(self) -> None:
        self.seen["worker deaths"] += 1
        index = self.random.randrange(len(self.workers))
        if (disk := self.disks[index]) is not None:
            disk.lose_process()
        self.replace(index)

    def cut_power(self) -> None:
        """Of a worker's machine, whose disk loses what was not synced; the network may still bring it."""
        self.seen["power cuts"] += 1
        index = self.random.randrange(len(self.workers))
        if (disk := self.disks[index]) is not None:
            lost = disk.lose_power()
            self.promised.difference_update((batch.stream, batch.seq) for batch in lost)
            self.seen["lost to a power cut"] += len(lost)
        self.replace(index)

    def replace(self, index: int) -> None:
        """Its connections are as any that are cut: what was under way may arrive beside its successor's."""
        worker = self.workers[index]
        for link in worker.links:
            if link.connection is not None:
                self.abandon(link.connection)
        self.dead.append(worker)
        self.workers[index] = self.new_worker(index, worker.boot + 1)

    # The end of all faults, and what must be true then.

    def settle(self) -> None:
        """Everybody does what he can, by turns, until everything is acknowledged."""
        for _ in range(200):
            for disk in self.disks:
                if disk is not None:
                    disk.write()
            for worker in self.workers:
                for link in worker.links:
                    self.connect_link(worker, link)
                    while self.send_on(link):
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
        """Acked within stored within issued, the same bytes, once, in order; missing is only what no disk has had."""
        stored: dict[bytes, list[Batch]] = {}
        for batch in self.master.disk:
            stored.setdefault(batch.stream, []).append(batch)
        if not stored.keys() <= self.issued.keys():
            raise ViolationError("stored, and never issued")
        for stream, batches in stored.items():
            if [batch.seq for batch in batches] != list(range(1, len(batches) + 1)):
                raise ViolationError(f"twice, out of order, or with a hole: {[batch.seq for batch in batches]}")
            if [bytes(batch.body) for batch in batches] != self.issued[stream][: len(batches)]:
                raise ViolationError("stored is not what was issued")
        for worker in self.workers:
            for stream in (sender.stream for sender in worker.lanes):
                if not worker.acked[stream] == len(stored.get(stream, [])) == len(self.issued[stream]):
                    raise ViolationError("a living worker's batch is missing")
        for worker in self.dead:
            for stream, acked in worker.acked.items():
                if acked > len(stored.get(stream, [])):
                    raise ViolationError("a dead worker had an acknowledgement of what is missing")
            for stream in (sender.stream for sender in worker.lanes):
                self.seen["died with a worker"] += len(self.issued[stream]) - len(stored.get(stream, []))
        if any(seq > len(stored.get(stream, [])) for stream, seq in self.promised):
            raise ViolationError("a batch that a spool handed on is missing")
        self.check_order()

    def check_order(self) -> None:
        """A market's events are stored in the order in which they were issued, over all lives of its worker."""
        reached: Counter[tuple[str, int]] = Counter()
        for batch in self.master.disk:
            name, lane, number, _ = json.loads(bytes(batch.body))
            if number <= reached[name, lane]:
                raise ViolationError(f"{name}, lane {lane}: {number} is stored behind {reached[name, lane]}")
            reached[name, lane] = number
