"""Both ends of a stream, whatever order their inputs come in."""

from itertools import pairwise

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from master.protocol import (
    HEADER_SIZE,
    Ack,
    ControlError,
    Hello,
    Hole,
    MemoryHold,
    Nak,
    Receiver,
    Sender,
    Verdict,
    Welcome,
    pack,
    unpack,
)
from tests.master.making import STREAM, batch, streams

# The sender ---------------------------------------------------------------------------------------------------------------


def sender(batches: int = 0, *, window: int = 4) -> Sender:
    made = Sender(MemoryHold(), STREAM, window)
    for _ in range(batches):
        made.add(b"[]", 2)
    return made


def sendable(one: Sender) -> list[int]:
    """The numbers of what it would send now, one after the other."""
    numbers = []
    while (each := one.next_batch()) is not None:
        numbers.append(each.seq)
    return numbers


class TestSender:
    def test_numbers_from_one_and_without_a_break(self) -> None:
        one = sender(3)
        one.attach(0)
        assert sendable(one) == [1, 2, 3]
        one.add(b"[]", 2)
        assert sendable(one) == [4]

    def test_what_it_sends_is_a_batch_of_its_stream(self) -> None:
        one = sender()
        one.add(b"[1,2,3]", 3)
        one.attach(0)
        sent = one.next_batch()
        assert sent is not None
        assert unpack(sent.data) == pack(STREAM, 1, 3, b"[1,2,3]")
        assert one.name == STREAM.hex()

    def test_without_a_session_it_only_holds(self) -> None:
        one = sender(3)
        assert one.next_batch() is None
        assert not one.is_attached
        assert (one.oldest, one.hold.events, one.hold.bytes) == (1, 6, 3 * (HEADER_SIZE + 2))

    def test_a_window_ahead_of_the_acknowledged_and_no_further(self) -> None:
        one = sender(10, window=4)
        one.attach(0)
        assert sendable(one) == [1, 2, 3, 4]
        one.acked(1)
        assert sendable(one) == [5]
        one.acked(5)
        assert sendable(one) == [6, 7, 8, 9]

    def test_an_acknowledgement_is_cumulative_and_lets_go(self) -> None:
        one = sender(5)
        assert [each.seq for each in one.acked(3)] == [1, 2, 3]
        assert one.acked(2) == [], "an old one changes nothing"
        assert (one.oldest, one.hold.events, one.hold.bytes) == (4, 4, 2 * (HEADER_SIZE + 2))

    def test_more_than_was_ever_sent_cannot_be_acknowledged(self) -> None:
        one = sender(2)
        with pytest.raises(ControlError, match="3 acknowledged, 2 sent"):
            one.acked(3)
        with pytest.raises(ControlError):
            one.attach(3)
        assert one.oldest == 1, "and nothing was let go"

    def test_a_new_session_gets_again_what_the_old_one_carried(self) -> None:
        one = sender(4)
        one.attach(0)
        assert sendable(one) == [1, 2, 3, 4]
        one.detach()
        assert sendable(one) == []
        assert [each.seq for each in one.attach(2)] == [1, 2], "what the master has is let go"
        assert sendable(one) == [3, 4]

    def test_the_same_bytes_are_sent_again(self) -> None:
        one = sender(1)
        one.attach(0)
        first = one.next_batch()
        one.attach(0)
        again = one.next_batch()
        assert first is not None
        assert again is not None
        assert first.data == again.data

    def test_a_nak_rewinds(self) -> None:
        one = sender(4)
        one.attach(0)
        sendable(one)
        one.nak(3)
        assert sendable(one) == [3, 4]

    def test_a_nak_of_what_is_acknowledged_goes_on_with_the_oldest_held(self) -> None:
        one = sender(4)
        one.attach(0)
        sendable(one)
        one.acked(2)
        one.nak(1)
        assert sendable(one) == [3, 4]

    def test_a_nak_never_jumps_ahead(self) -> None:
        one = sender(4)
        one.attach(0)
        one.nak(4)
        assert sendable(one) == [1, 2, 3, 4]

    def test_a_late_nak_does_not_attach(self) -> None:
        one = sender(2)
        one.attach(0)
        sendable(one)
        one.detach()
        one.nak(1)
        assert sendable(one) == []

    def test_an_acknowledgement_in_the_middle_of_a_rewind_is_not_sent_again(self) -> None:
        one = sender(4)
        one.attach(0)
        sendable(one)
        one.nak(1)
        one.acked(3)
        assert sendable(one) == [4]


class SenderMachine(RuleBasedStateMachine):
    """A sender, whatever order its inputs come in: against a list of what was added and how far that is acknowledged."""

    def __init__(self) -> None:
        super().__init__()
        self.window = 3
        self.one = Sender(MemoryHold(), STREAM, self.window)
        self.added: list[int] = []
        self.through = 0
        self.expected: int | None = None

    @rule(size=st.integers(0, 50), count=st.integers(0, 9))
    def add(self, size: int, count: int) -> None:
        self.one.add(b"x" * size, count)
        self.added.append(size)

    @rule(data=st.data())
    def attach(self, data: st.DataObject) -> None:
        self.through = data.draw(st.integers(self.through, len(self.added)))
        self.one.attach(self.through)
        self.expected = self.through + 1

    @rule()
    def detach(self) -> None:
        self.one.detach()
        self.expected = None

    @rule()
    def send(self) -> None:
        sent = self.one.next_batch()
        may = self.expected is not None and self.expected <= min(len(self.added), self.through + self.window)
        assert (sent is not None) == may
        if sent is not None:
            assert self.expected is not None
            assert (sent.seq, len(sent.body)) == (self.expected, self.added[self.expected - 1])
            self.expected += 1

    @rule(data=st.data())
    def ack(self, data: st.DataObject) -> None:
        through = data.draw(st.integers(0, len(self.added)))
        released = [each.seq for each in self.one.acked(through)]
        assert released == list(range(self.through + 1, through + 1))
        self.through = max(self.through, through)
        if self.expected is not None:
            self.expected = max(self.expected, self.through + 1)

    @precondition(lambda self: self.expected is not None)
    @rule(want=st.integers(0, 60))
    def nak(self, want: int) -> None:
        assert self.expected is not None
        self.one.nak(want)
        self.expected = min(self.expected, max(want, self.through + 1))

    @invariant()
    def holds_exactly_what_is_not_acknowledged(self) -> None:
        held = self.added[self.through :]
        assert self.one.oldest == self.through + 1
        assert self.one.hold.bytes == sum(held) + HEADER_SIZE * len(held)


TestSenderMachine = SenderMachine.TestCase


class TestMemoryHold:
    def test_empty_it_names_the_next_to_come(self) -> None:
        hold = MemoryHold()
        assert (hold.oldest, hold.newest) == (1, 0)
        hold.put(batch(1))
        hold.put(batch(2))
        assert (hold.oldest, hold.newest) == (1, 2)
        assert hold.release(2) == [batch(1), batch(2)]
        assert (hold.oldest, hold.newest) == (3, 2), "numbers are never given twice"

    def test_what_is_held_is_found_by_number(self) -> None:
        hold = MemoryHold()
        for seq in range(1, 6):
            hold.put(batch(seq))
        hold.release(2)
        assert [hold.get(seq) for seq in (3, 4, 5)] == [batch(3), batch(4), batch(5)]


# The receiver -------------------------------------------------------------------------------------------------------------


def greeted(*, marks: dict[bytes, int] | None = None, oldest: int = 1) -> Receiver:
    receiver = Receiver(marks)
    receiver.hello(Hello("host-0", 1, {STREAM.hex(): oldest}))
    return receiver


class TestReceiver:
    def test_each_number_once_and_in_order(self) -> None:
        receiver = greeted()
        assert receiver.take(batch(2)) is Verdict.HOLE
        assert receiver.take(batch(1)) is Verdict.TAKE
        assert receiver.take(batch(1)) is Verdict.KNOWN
        assert receiver.take(batch(3)) is Verdict.HOLE
        assert receiver.take(batch(2)) is Verdict.TAKE
        assert receiver.nak(STREAM) == Nak(STREAM.hex(), 3)

    def test_streams_know_nothing_of_each_other(self) -> None:
        one, other = streams(2)
        receiver = Receiver()
        receiver.hello(Hello("host-0", 1, {one.hex(): 1, other.hex(): 1}))
        assert receiver.take(batch(1, stream=one)) is Verdict.TAKE
        assert receiver.take(batch(1, stream=other)) is Verdict.TAKE
        assert receiver.take(batch(2, stream=one)) is Verdict.TAKE
        assert receiver.take(batch(3, stream=other)) is Verdict.HOLE

    def test_a_stream_that_was_not_announced_is_refused(self) -> None:
        with pytest.raises(ControlError, match="not announced"):
            Receiver().take(batch(1))

    def test_only_what_is_durable_is_acknowledged(self) -> None:
        receiver = greeted()
        receiver.take(batch(1))
        receiver.take(batch(2))
        assert receiver.durable([STREAM]) == Ack({STREAM.hex(): 0})
        receiver.committed({STREAM: 1})
        assert receiver.durable([STREAM]) == Ack({STREAM.hex(): 1})

    def test_also_of_a_batch_that_is_known(self) -> None:
        """The subtle one: it was taken before, but it may not be on disk yet."""
        receiver = greeted()
        receiver.take(batch(1))
        assert receiver.take(batch(1)) is Verdict.KNOWN
        assert receiver.durable([STREAM]) == Ack({STREAM.hex(): 0})

    def test_a_welcome_says_what_is_durable_not_what_was_received(self) -> None:
        receiver = greeted()
        receiver.take(batch(1))
        receiver.take(batch(2))
        receiver.committed({STREAM: 1})
        welcome, holes = receiver.hello(Hello("host-0", 1, {STREAM.hex(): 2}))
        assert (welcome, holes) == (Welcome({STREAM.hex(): 1}), [])
        assert receiver.take(batch(2)) is Verdict.KNOWN

    def test_marks_go_on_after_a_restart(self) -> None:
        receiver = greeted(marks={STREAM: 41}, oldest=40)
        assert receiver.take(batch(41)) is Verdict.KNOWN
        assert receiver.take(batch(42)) is Verdict.TAKE

    def test_what_could_not_be_kept_is_wanted_again(self) -> None:
        receiver = greeted()
        for seq in (1, 2, 3):
            receiver.take(batch(seq))
        receiver.committed({STREAM: 1})
        receiver.rolled_back()
        assert receiver.take(batch(3)) is Verdict.HOLE
        assert receiver.nak(STREAM) == Nak(STREAM.hex(), 2)
        assert receiver.take(batch(2)) is Verdict.TAKE

    def test_a_commit_that_is_told_late_takes_nothing_back(self) -> None:
        receiver = greeted()
        for seq in (1, 2, 3):
            receiver.take(batch(seq))
        receiver.committed({STREAM: 3})
        receiver.committed({STREAM: 2})
        assert receiver.durable([STREAM]) == Ack({STREAM.hex(): 3})


class TestHoles:
    """Batches that the sender no longer has, and the master never had: told once, then the stream goes on."""

    def test_told_with_its_bounds(self) -> None:
        receiver = Receiver({STREAM: 4})
        _, holes = receiver.hello(Hello("host-0", 1, {STREAM.hex(): 9}))
        assert holes == [Hole("host-0", STREAM.hex(), 5, 8)]
        assert receiver.take(batch(9)) is Verdict.TAKE

    def test_told_once(self) -> None:
        receiver = Receiver({STREAM: 4})
        hello = Hello("host-0", 1, {STREAM.hex(): 9})
        assert len(receiver.hello(hello)[1]) == 1
        assert receiver.hello(hello)[1] == []

    def test_not_acknowledged_before_the_record_of_it_is_durable(self) -> None:
        receiver = Receiver({STREAM: 4})
        welcome, _ = receiver.hello(Hello("host-0", 1, {STREAM.hex(): 9}))
        assert welcome == Welcome({STREAM.hex(): 4})

    def test_told_again_if_its_record_could_not_be_kept(self) -> None:
        receiver = Receiver({STREAM: 4})
        hello = Hello("host-0", 1, {STREAM.hex(): 9})
        receiver.hello(hello)
        receiver.rolled_back()
        assert receiver.hello(hello)[1] == [Hole("host-0", STREAM.hex(), 5, 8)]

    def test_none_where_the_sender_begins_or_goes_on(self) -> None:
        assert Receiver().hello(Hello("host-0", 1, {STREAM.hex(): 1}))[1] == []
        assert Receiver({STREAM: 4}).hello(Hello("host-0", 1, {STREAM.hex(): 5}))[1] == []
        assert Receiver({STREAM: 4}).hello(Hello("host-0", 1, {STREAM.hex(): 2}))[1] == []


class ReceiverMachine(RuleBasedStateMachine):
    """One stream, whatever arrives: against the list of what a reader of the journal would find."""

    def __init__(self) -> None:
        super().__init__()
        self.receiver = greeted()
        self.kept: list[int] = []
        self.safe = 0

    @rule(ahead=st.integers(-3, 3))
    def arrive(self, ahead: int) -> None:
        seq = max(1, len(self.kept) + 1 + ahead)
        verdict = self.receiver.take(batch(seq))
        assert verdict is (
            Verdict.KNOWN if seq <= len(self.kept) else Verdict.HOLE if seq > len(self.kept) + 1 else Verdict.TAKE
        )
        if verdict is Verdict.TAKE:
            self.kept.append(seq)

    @rule()
    def commit(self) -> None:
        if self.kept:
            self.receiver.committed({STREAM: self.kept[-1]})
        self.safe = len(self.kept)

    @rule()
    def fail(self) -> None:
        self.receiver.rolled_back()
        del self.kept[self.safe :]

    @rule()
    def restart(self) -> None:
        del self.kept[self.safe :]
        self.receiver = greeted(marks={STREAM: self.safe})

    @invariant()
    def numbers_have_no_break_and_what_is_said_is_safe(self) -> None:
        assert all(after == before + 1 for before, after in pairwise(self.kept))
        assert self.receiver.durable([STREAM]).streams[STREAM.hex()] == self.safe


TestReceiverMachine = ReceiverMachine.TestCase
