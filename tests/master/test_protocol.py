"""The wire, byte for byte.

The first part is written as by somebody who makes a collector in another language: with nothing of ours but the bytes.
"""

from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    Login,
    Nak,
    Receiver,
    Refused,
    Welcome,
    decode_control,
    encode_control,
    new_stream,
    pack,
    read_header,
    stream_id,
    unpack,
)
from tests.master.making import STREAM, batch

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


def test_a_batch_is_plain_data() -> None:
    """It can be handed to a thread or a process as it is."""
    assert msgspec.structs.astuple(batch(3))[:3] == (STREAM, 3, 1)
    assert isinstance(batch(3), Batch)
