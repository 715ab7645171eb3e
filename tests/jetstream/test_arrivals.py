"""What comes out of order, comes twice or never comes: by the real receiving rule, step by step and at random."""

from hypothesis import given
from hypothesis import strategies as st

from master.jetstream.consumer import Arrival, Arrivals
from master.protocol import Batch, Hello, Hole, Receiver, Verdict
from tests.master.making import STREAM, batch


class Master:
    """The rule of Ingest.offer without a journal: everything taken is durable at once."""

    def __init__(self) -> None:
        self.receiver = Receiver()
        self.taken: list[int] = []
        self.holes: list[tuple[int, int]] = []

    def offer(self, given: Batch, worker: str, oldest: int) -> Verdict:
        _, holes = self.receiver.hello(Hello(worker, 0, {given.stream.hex(): oldest}))
        self.holes += [(hole.first, hole.last) for hole in holes if isinstance(hole, Hole)]
        verdict = self.receiver.take(given)
        if verdict is Verdict.TAKE:
            self.taken.append(given.seq)
        return verdict

    def through(self, stream: bytes) -> int:
        return self.receiver.marks[stream].received


def came(*steps: tuple[int, int]) -> tuple[Master, list[int]]:
    """(seq, oldest) of each message; which seqs may be acknowledged at the end."""
    master = Master()
    arrivals = Arrivals(master.offer, master.through)
    acked = []
    for seq, oldest in steps:
        arrivals.came(Arrival(batch(seq, stream=STREAM), "w", f"reply {seq}"), oldest)
        acked += [each.batch.seq for each in arrivals.due()]
    return master, acked


def test_what_was_refused_at_first_and_comes_later_is_put_in_its_place() -> None:
    master, acked = came((1, 1), (3, 2), (4, 2), (2, 2), (5, 3))
    assert (master.taken, acked, master.holes) == ([1, 2, 3, 4, 5], [1, 2, 3, 4, 5], [])


def test_nothing_behind_a_hole_is_acknowledged_while_it_may_come() -> None:
    assert came((1, 1), (3, 2), (4, 2))[1] == [1]


def test_what_the_queue_has_lost_is_a_hole_around_what_it_has() -> None:
    """2, 3 and 5 are gone: when 7 was sent, everything before 6 was in the queue."""
    master, acked = came((1, 1), (4, 1), (6, 1), (7, 6))
    assert master.holes == [(2, 3), (5, 5)]
    assert (master.taken, acked) == ([1, 4, 6, 7], [1, 4, 6, 7])


def test_behind_what_is_lost_all_goes_on_as_far_as_it_can() -> None:
    """1 to 5 are gone; 8 was refused, and comes later."""
    assert came((6, 1), (7, 1), (9, 6))[0].taken == [6, 7]
    assert came((6, 1), (7, 1), (9, 6), (8, 8))[0].taken == [6, 7, 8, 9]


def test_what_comes_twice_is_acknowledged_twice_and_taken_once() -> None:
    master, acked = came((1, 1), (1, 1), (2, 1))
    assert (master.taken, acked) == ([1, 2], [1, 1, 2])


@given(st.permutations(range(1, 9)), st.sets(st.integers(1, 8)))
def test_any_order_within_a_window_ends_whole(order: list[int], lost: set[int]) -> None:
    """At the end a batch comes that was sent when all before it were in the queue: what did not come is a hole."""
    there = [seq for seq in order if seq not in lost]
    master, acked = came(*((seq, 1) for seq in there), (9, 9))
    assert master.taken == [*sorted(there), 9]
    assert sorted(acked) == [*sorted(there), 9]
    assert {seq for first, last in master.holes for seq in range(first, last + 1)} == lost
