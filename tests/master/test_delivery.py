"""Nothing acknowledged is lost, nothing is stored twice, and everything arrives: hundreds of crashes, cuts and moves a second.

The second half breaks the rules one by one, to show that the first half would see it.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

import pytest

from master.protocol import Ack, Batch, Held, Hello, Hole, Receiver, Sender, Verdict, Welcome
from tests.master.world import Connection, Master, ViolationError, World

SEEDS = range(100)


@pytest.mark.parametrize("seed", SEEDS)
def test_acked_is_stored_and_stored_is_issued(seed: int) -> None:
    World(seed).run()


def test_the_seeds_see_every_fault() -> None:
    """A story in which nothing happens proves nothing."""
    seen: Counter[str] = Counter()
    for seed in range(0, 100, 4):
        world = World(seed)
        world.run()
        seen += world.seen
    assert seen["acked"] > 1000
    for fault in ("cuts", "moves", "master crashes", "worker deaths", "full disks", "damaged", "known", "hole"):
        assert seen[fault] > 10, fault
    assert seen["lost to a crash"] > 10
    assert seen["died with a worker"] > 10


# Each rule of the contract, broken ----------------------------------------------------------------------------------------


class AcknowledgesTheReceived(Receiver):
    """Says how far it has taken, instead of how far it is durable: what is known is not yet safe."""

    def durable(self, streams: Iterable[bytes]) -> Ack:
        return Ack({stream.hex(): self.marks[stream].received for stream in streams})


class WelcomesWithTheReceived(Receiver):
    """The same mistake where it is rarer: only in the answer to a HELLO."""

    def hello(self, hello: Hello) -> tuple[Welcome, list[Hole]]:
        _, holes = super().hello(hello)
        return Welcome({name: self.marks[bytes.fromhex(name)].received for name in hello.streams}), holes


class AcknowledgesBeforeTheCommit(Master):
    """Tells the sender as soon as a batch is in the queue of the journal."""

    def append(self, batch: Batch) -> None:
        super().append(batch)
        self.receiver.committed({batch.stream: batch.seq})
        self.sender_of[batch.stream].due.add(batch.stream)


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


def worlds_with(broken: type) -> Iterable[World]:
    part = next(
        part for part, base in (("receiver", Receiver), ("sender", Sender), ("master", Master)) if issubclass(broken, base)
    )
    for seed in SEEDS:
        yield World(seed, **{part: broken})


def sees_a_violation(world: World) -> bool:
    try:
        world.run()
    except ViolationError:
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
    ],
)
def test_a_broken_rule_is_seen(broken: type) -> None:
    assert any(sees_a_violation(world) for world in worlds_with(broken))
