"""Nothing acknowledged is lost, nothing is stored twice, and everything arrives: hundreds of crashes, cuts and moves a second.

The second half breaks the rules one by one, to show that the first half would see it.
"""

from collections import Counter, deque
from collections.abc import Iterable, Sequence

import pytest

from master.protocol import Ack, Batch, ControlError, Held, Receiver, Sender, Verdict
from tests.master.actors import WINDOW, Connection, Disk, DiskHold, Master, ViolationError, Worker
from tests.master.world import World

SEEDS = range(200)


@pytest.mark.parametrize("seed", SEEDS)
def test_acked_is_stored_and_stored_is_issued(seed: int) -> None:
    World(seed).run()


def test_the_seeds_see_every_fault() -> None:
    """A story in which nothing happens proves nothing."""
    seen: Counter[str] = Counter()
    for seed in range(0, 200, 5):
        world = World(seed)
        world.run()
        seen += world.seen
    assert seen["acked"] > 1000
    for fault in ("cuts", "moves", "master crashes", "worker deaths", "full disks", "damaged", "known", "hole"):
        assert seen[fault] > 10, fault
    for what in ("lost to a crash", "lost to a power cut", "left on a disk", "fenced"):
        assert seen[what] > 5, what
    assert seen["died with a worker"] > 10


# Each rule of the contract, broken ----------------------------------------------------------------------------------------


class AcknowledgesTheReceived(Receiver):
    """Says how far it has taken, instead of how far it is durable: what is known is not yet safe."""

    def durable(self, streams: Iterable[bytes]) -> Ack:
        return Ack({stream.hex(): self.marks[stream].received for stream in streams})


class WelcomesWithTheReceived(Master):
    """The same mistake where it is rarer: only in the answer to a HELLO, before which nothing is made durable."""

    def settle(self) -> None:
        self.receiver.committed({stream: mark.received for stream, mark in self.receiver.marks.items()})


class AcknowledgesBeforeTheCommit(Master):
    """Tells the sender as soon as a batch is in the queue of the journal."""

    def append(self, batch: Batch) -> None:
        super().append(batch)
        self.receiver.committed({batch.stream: batch.seq})
        for carrier in self.carriers[batch.stream]:
            carrier.due.add(batch.stream)


class SkipsTheSequenceCheck(Receiver):
    """Takes whatever comes."""

    def take(self, batch: Batch) -> Verdict:
        mark = self.marks[batch.stream]
        mark.received = max(mark.received, batch.seq)
        return Verdict.TAKE


class JumpsOverHoles(Receiver):
    """Drops what it knows, but takes what is too new."""

    def take(self, batch: Batch) -> Verdict:
        verdict = super().take(batch)
        if verdict is Verdict.HOLE:
            self.marks[batch.stream].received = batch.seq
            return Verdict.TAKE
        return verdict


class ForgetsItsMarks(Receiver):
    """Begins at nothing after a crash, whatever the journal says."""

    def __init__(self, _: object) -> None:
        super().__init__()


class KeepsTheReceivedAfterAFailure(Receiver):
    """Does not ask again for what the disk refused."""

    def rolled_back(self) -> None:
        pass


class NeverComplains(Master):
    """Passes over a hole in silence."""

    def say_nak(self, connection: Connection, stream: bytes) -> None:
        pass


class GoesOnWhereItWas(Sender):
    """Does not send again, on a new connection, what the old one carried."""

    reached = 1

    def attach(self, durable: int) -> Sequence[Held]:
        released = super().attach(durable)
        self._next = max(self.reached, self.oldest)
        return released

    def next_batch(self) -> Batch | None:
        batch = super().next_batch()
        if batch is not None:
            self.reached = batch.seq + 1
        return batch


class NeverFences(Master):
    """Lets an older boot of a worker go on beside its successor."""

    def fence(self, connection: Connection) -> None:
        pass


class WaitsForNobody(Worker):
    """Sends what an earlier life left and what is new side by side."""

    @property
    def due(self) -> Sequence[Sender]:
        return self.streams


class MixesLives(Disk):
    """Sends what several earlier lives left side by side."""

    def left(self) -> list[list[DiskHold]]:
        together = [hold for generation in super().left() for hold in generation]
        return [together] if together else []


class DropsWhatIsNotAcknowledged(Disk):
    """Lets go of a segment because it was sent."""

    def tidy(self) -> None:
        del self.written[:4]
        self.synced = max(0, self.synced - 4)


class ForgetsWhatItHolds(Disk):
    """Begins at nothing after a crash, whatever is on the disk."""

    def left(self) -> list[list[DiskHold]]:
        return []


class GivesNumbersTwice(World):
    """Goes on with the streams of the life before, from what the disk has kept of them: what was sent and lost gives its number
    to something else."""

    def new_lane(self, disk: Disk | None, lane: int) -> Sender:
        if disk is None or not disk.lives:
            return super().new_lane(disk, lane)
        stream = disk.lives[-1][lane]
        found = [batch for batch in disk.written if batch.stream == stream]
        del self.issued[stream][found[-1].seq if found else 0 :]
        return self._sender(DiskHold(disk, stream, found), stream, WINDOW)

    def new_worker(self, index: int, boot: int) -> Worker:
        worker = super().new_worker(index, boot)
        own = [sender.stream for sender in worker.lanes]
        others = ([each for each in life if each.stream not in own] for life in worker.backlog)
        worker.backlog = deque(life for life in others if life)
        return worker


PARTS = (("receiver", Receiver), ("sender", Sender), ("master", Master), ("worker", Worker), ("disk", Disk))


def worlds_with(broken: type) -> Iterable[World]:
    part = next((part for part, base in PARTS if issubclass(broken, base)), None)
    for seed in SEEDS:
        yield broken(seed) if part is None else World(seed, **{part: broken})


def sees_a_violation(world: World) -> bool:
    try:
        world.run()
    except (ViolationError, ControlError):  # the ends see some of it themselves
        return True
    return False


@pytest.mark.parametrize(
    "broken",
    [
        AcknowledgesTheReceived,
        WelcomesWithTheReceived,
        AcknowledgesBeforeTheCommit,
        SkipsTheSequenceCheck,
        JumpsOverHoles,
        ForgetsItsMarks,
        KeepsTheReceivedAfterAFailure,
        NeverComplains,
        GoesOnWhereItWas,
        NeverFences,
        WaitsForNobody,
        MixesLives,
        DropsWhatIsNotAcknowledged,
        ForgetsWhatItHolds,
        GivesNumbersTwice,
    ],
)
def test_a_broken_rule_is_seen(broken: type) -> None:
    assert any(sees_a_violation(world) for world in worlds_with(broken))
