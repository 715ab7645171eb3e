"""The wire, byte for byte, and both ends of a stream.

The first part is written as by somebody who makes a collector in another language: with nothing of ours but the bytes.
"""

from contextlib import suppress
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from master.protocol import (
    HEADER_SIZE,
    Accepted,
    Ack,
    Batch,
    BatchError,
    Challenge,
    Control,
    ControlError,
    Hello,
    Hole,
    Login,
    MemoryHold,
    Nak,
    Receiver,
    Refused,
    Sender,
    Verdict,
    Welcome,
    decode_control,
    encode_control,
    new_stream,
    pack,
    read_header,
    stream_id,
    unpack,
)
from tests.master.making import STREAM, batch, streams

BODY = b'[{"type":"trade"},{"type":"trade"}]'
SEQ = 0x0102030405060708

# The bytes of a batch -----------------------------------------------------------------------------------------------------


def crc32(data: bytes) -> int:
    """CRC-32 as in Ethernet, gzip and PNG, from its definition: reflected polynomial 0xEDB88320, all ones before and after."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xEDB88320 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def by_hand(
    stream: bytes, seq: int, count: int, body: bytes, *, magic: bytes = b"CM", version: int = 1, spare: int = 0
) -> bytes:
    """A batch from the table in the contract: every number little-endian, 44 bytes before the body."""
    fields = magic + bytes([version, spare]) + stream
    fields += seq.to_bytes(8, "little") + count.to_bytes(4, "little")
    fields += len(body).to_bytes(4, "little") + crc32(body).to_bytes(4, "little")
    return fields + crc32(fields).to_bytes(4, "little") + body


class TestLayout:
    def test_every_field_has_its_place(self) -> None:
        data = pack(STREAM, SEQ, 2, BODY).data
        assert data[0:2] == b"CM"
        assert data[2] == 1, "version"
        assert data[3] == 0, "spare"
        assert data[4:20] == STREAM
        assert int.from_bytes(data[20:28], "little") == SEQ
        assert int.from_bytes(data[28:32], "little") == 2, "events"
        assert int.from_bytes(data[32:36], "little") == len(BODY), "bytes of the body"
        assert int.from_bytes(data[36:40], "little") == crc32(BODY)
        assert int.from_bytes(data[40:44], "little") == crc32(data[:40])
        assert data[44:] == BODY

    def test_a_batch_as_it_was_recorded(self) -> None:
        """Bytes that were written down once: whatever changes them changes the wire, and needs another version."""
        recorded = "434d0100" + STREAM.hex() + "0807060504030201" + "02000000" + "07000000" + "8a0612e1" + "a3ce72b1"
        assert pack(STREAM, SEQ, 2, b"[{},{}]").data == bytes.fromhex(recorded) + b"[{},{}]"

    @given(st.binary(min_size=16, max_size=16), st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), st.binary(max_size=300))
    def test_another_writer_makes_the_same_bytes_and_they_are_read_back(
        self, stream: bytes, seq: int, count: int, body: bytes
    ) -> None:
        data = by_hand(stream, seq, count, body)
        assert pack(stream, seq, count, body).data == data
        read = unpack(data)
        assert (read.stream, read.seq, read.count, bytes(read.body), read.data) == (stream, seq, count, body, data)

    def test_the_header_alone_tells_the_size_of_the_message(self) -> None:
        data = pack(STREAM, SEQ, 2, BODY).data
        assert read_header(data[:HEADER_SIZE]).size == len(data)
        assert read_header(memoryview(data)).size == len(data)

    @pytest.mark.parametrize("changed", [{"magic": b"XM"}, {"version": 2}, {"version": 0}])
    def test_another_protocol_is_refused_though_its_checksums_are_right(self, changed: dict[str, int]) -> None:
        with pytest.raises(BatchError, match="not a version 1 batch"):
            unpack(by_hand(STREAM, 1, 0, b"[]", **changed))  # type: ignore[arg-type]

    def test_streams_are_random(self) -> None:
        assert len({new_stream() for _ in range(100)}) == 100
        assert len(new_stream()) == 16


class TestDamage:
    """A batch that is not the one that was sent is never taken for one."""

    def test_every_single_bit(self) -> None:
        data = pack(STREAM, SEQ, 2, BODY).data
        for bit in range(len(data) * 8):
            with pytest.raises(BatchError):
                unpack(flip(data, bit))

    def test_every_length(self) -> None:
        data = pack(STREAM, SEQ, 2, BODY).data
        for length in range(len(data)):
            with pytest.raises(BatchError):
                unpack(data[:length])
        with pytest.raises(BatchError, match=f"{len(data) + 1} bytes where {len(data)} were announced"):
            unpack(data + b"]")

    @given(st.binary(max_size=200), st.data())
    def test_bursts_of_up_to_32_bits(self, body: bytes, data: st.DataObject) -> None:
        """A CRC-32 finds every burst no longer than itself; each of the two covers its part of the message."""
        whole = pack(STREAM, 7, 1, body).data
        first = data.draw(st.integers(0, len(whole) * 8 - 1))
        pattern = data.draw(st.integers(1, 2**32 - 1))
        damaged = whole
        for offset in range(32):
            if pattern >> offset & 1 and first + offset < len(whole) * 8:
                damaged = flip(damaged, first + offset)
        if damaged != whole:
            with pytest.raises(BatchError):
                unpack(damaged)

    @given(st.binary(max_size=200))
    def test_noise(self, noise: bytes) -> None:
        with pytest.raises(BatchError):
            unpack(noise)

    def test_bodies_of_two_batches_exchanged(self) -> None:
        one, other = pack(STREAM, 1, 1, b"[1]").data, pack(STREAM, 2, 1, b"[2]").data
        with pytest.raises(BatchError, match="damaged body"):
            unpack(one[:HEADER_SIZE] + other[HEADER_SIZE:])


def flip(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


# Control messages ---------------------------------------------------------------------------------------------------------

NAME = "00112233445566778899aabbccddeeff"

CONTROL: list[tuple[Control, str]] = [
    (Challenge("f00d"), '{"op":"challenge","nonce":"f00d"}'),
    (Login("beef"), '{"op":"login","proof":"beef"}'),
    (Accepted("cafe"), '{"op":"accepted","proof":"cafe"}'),
    (Refused("disk full", retry=True, after=5.0), '{"op":"refused","reason":"disk full","retry":true,"after":5.0}'),
    (Hello("host-0", 17, {NAME: 3}), f'{{"op":"hello","worker":"host-0","boot":17,"streams":{{"{NAME}":3}}}}'),
    (Welcome({NAME: 2}), f'{{"op":"welcome","streams":{{"{NAME}":2}}}}'),
    (Ack({NAME: 9}), f'{{"op":"ack","streams":{{"{NAME}":9}}}}'),
    (Nak(NAME, 4), f'{{"op":"nak","stream":"{NAME}","want":4}}'),
]


def checked(text: str) -> str:
    """With its checksum as the last member."""
    return f'{text[:-1]},"crc":"{crc32(text.encode()):08x}"}}'


class TestControl:
    @pytest.mark.parametrize(("message", "text"), CONTROL)
    def test_as_written_in_the_contract(self, message: Control, text: str) -> None:
        assert encode_control(message) == checked(text)
        assert decode_control(checked(text)) == message
        assert decode_control(encode_control(message).encode()) == message

    @pytest.mark.parametrize(("message", "text"), CONTROL)
    def test_one_without_a_checksum_is_read_too(self, message: Control, text: str) -> None:
        assert decode_control(text) == message

    def test_the_checksum_goes_last(self) -> None:
        assert encode_control(Ack({NAME: 9})) == f'{{"op":"ack","streams":{{"{NAME}":9}},"crc":"1984e52a"}}'

    @pytest.mark.parametrize("message", [message for message, _ in CONTROL])
    def test_no_flipped_bit_makes_another_message_of_it(self, message: Control) -> None:
        """A digit of a number, for one, that would be as good as any other."""
        data = encode_control(message).encode()
        for bit in range(8 * len(data)):
            with suppress(ControlError):  # one in the checksum's own name only makes it a member that nobody knows
                assert decode_control(flip(data, bit)) == message

    def test_what_a_later_version_adds_is_passed_over(self) -> None:
        assert decode_control(checked('{"op":"nak","stream":"ab","want":4,"why":"damaged"}')) == Nak("ab", 4)

    def test_a_refusal_is_final_unless_it_says_otherwise(self) -> None:
        assert decode_control(checked('{"op":"refused","reason":"no","retry":false}')) == Refused("no", retry=False, after=0.0)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "null",
            "[]",
            "{}",
            '{"op":"dance"}',
            '{"op":"nak","stream":"ab"}',
            '{"op":"ack","streams":[1]}',
            b"\xff\xfe",
            "{",
        ],
    )
    def test_anything_else_is_one_kind_of_error(self, text: str | bytes) -> None:
        with pytest.raises(ControlError):
            decode_control(text)
        with pytest.raises(ControlError):
            decode_control(text)

    def test_an_error_does_not_repeat_a_message_of_megabytes(self) -> None:
        with pytest.raises(ControlError) as caught:
            decode_control("x" * 1_000_000)
        assert len(str(caught.value)) < 300

    def test_a_stream_is_named_by_32_hex_digits(self) -> None:
        assert stream_id(NAME) == bytes.fromhex(NAME)
        assert stream_id(STREAM.hex()) == STREAM

    @pytest.mark.parametrize("name", ["", NAME[:-2], NAME + "00", NAME[:-1] + "g", "é" * 32, " ".join([NAME[:16], NAME[16:]])])
    def test_and_by_nothing_else(self, name: str) -> None:
        with pytest.raises(ControlError, match="no stream"):
            stream_id(name)

    def test_the_stream_that_heads_a_segment_cannot_be_announced(self) -> None:
        """It would be read as a head when the journal is recovered."""
        with pytest.raises(ControlError):
            Receiver().hello(Hello("host-0", 1, {"00" * 16: 1}))


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


def test_a_batch_is_plain_data() -> None:
    """It can be handed to a thread or a process as it is."""
    assert msgspec.structs.astuple(batch(3))[:3] == (STREAM, 3, 1)
    assert isinstance(batch(3), Batch)
