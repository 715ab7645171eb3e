"""cm.v1, the wire between collectors and the master: frames, and both ends of a stream as machines without I/O.

A batch is one binary message; the same bytes are spool record, WebSocket frame and journal record. A stream is a random
128-bit id whose batches are numbered from 1; the receiver takes each number once, in order, and acknowledges what is durable.
docs/wire.md is the contract; the clause numbers in comments are its own.
"""

import re
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from secrets import token_bytes
from struct import Struct as Layout
from typing import Protocol
from zlib import crc32

import msgspec
from msgspec import Struct

from adapters.backfill import LastTrade
from adapters.events import Event

VERSION = 1
MAX_BATCH = 16 << 20
"""Bytes of the largest message either side sends or takes after login."""
MAX_BEFORE_LOGIN = 4096
WINDOW = 32
"""Batches of a stream that are on their way beyond the last acknowledgement (5.4)."""

_MAGIC = b"CM"
_FIELDS = Layout("<2sBx16sQIII")
_CHECK = Layout("<I")
HEADER_SIZE = _FIELDS.size + _CHECK.size


class BatchError(Exception):
    """These bytes are no batch: cut short, damaged, or of another protocol."""


class Batch(Struct, frozen=True, gc=False):
    """`data` is the whole message, header included; the body is a JSON array of `count` events."""

    stream: bytes
    seq: int
    count: int
    data: bytes

    @property
    def body(self) -> memoryview:
        return memoryview(self.data)[HEADER_SIZE:]

    @property
    def size(self) -> int:
        """Bytes of the whole message."""
        return len(self.data)


def new_stream() -> bytes:
    return token_bytes(16)


decode_events = msgspec.json.Decoder(list[Event]).decode
"""The events of a batch's body (2.2). Raises MsgspecError."""


def pack(stream: bytes, seq: int, count: int, body: bytes) -> Batch:
    """The message for one batch: header (2.1) and body."""
    fields = _FIELDS.pack(_MAGIC, VERSION, stream, seq, count, len(body), crc32(body))
    return Batch(stream, seq, count, b"".join((fields, _CHECK.pack(crc32(fields)), body)))


class Header(Struct, frozen=True, gc=False):
    stream: bytes
    seq: int
    count: int
    length: int
    checksum: int

    @property
    def size(self) -> int:
        """Bytes of the whole message."""
        return HEADER_SIZE + self.length


def read_header(data: bytes | memoryview) -> Header:
    """The header at the beginning of `data`, checked (2.1). Raises BatchError."""
    fields = bytes(data[: _FIELDS.size])
    if len(data) < HEADER_SIZE or _CHECK.unpack_from(data, _FIELDS.size)[0] != crc32(fields):
        raise BatchError("damaged header")
    magic, version, *rest = _FIELDS.unpack(fields)
    if magic != _MAGIC or version != VERSION:
        raise BatchError(f"not a version {VERSION} batch")
    return Header(*rest)


def unpack(data: bytes) -> Batch:
    """Check every byte of one message (2.2). Raises BatchError."""
    header = read_header(data)
    if len(data) != header.size:
        raise BatchError(f"{len(data)} bytes where {header.size} were announced")
    if crc32(memoryview(data)[HEADER_SIZE:]) != header.checksum:
        raise BatchError("damaged body")
    return Batch(header.stream, header.seq, header.count, data)


# Control messages: a checksum and JSON text, told apart by "op" (3). Streams are named by 32 hex digits.


class Challenge(Struct, tag_field="op", tag="challenge"):
    nonce: str


class Login(Struct, tag_field="op", tag="login"):
    proof: str


class Accepted(Struct, tag_field="op", tag="accepted"):
    proof: str


class Refused(Struct, tag_field="op", tag="refused"):
    """`retry`: whether the same thing may succeed later, after at least `after` seconds."""

    reason: str
    retry: bool
    after: float = 0.0


class Hello(Struct, tag_field="op", tag="hello", omit_defaults=True):
    """`streams`: for each, the oldest seq that is still held (the next one to be given, where none is). `exchanges`: those of
    which WELCOME is to tell what is kept; a worker asks once, when it begins."""

    worker: str
    boot: int
    streams: dict[str, int]
    exchanges: list[str] = []


class Known(Struct):
    """What is kept of an exchange: the receive time of its newest event, and the last trade of each symbol."""

    since: int = 0
    trades: dict[str, LastTrade] = {}


class Welcome(Struct, tag_field="op", tag="welcome", omit_defaults=True):
    """`streams`: for each, the highest seq that is durable. `known`: of the exchanges that HELLO asked for."""

    streams: dict[str, int]
    known: dict[str, Known] = {}


class Fenced(Struct, tag_field="op", tag="fenced"):
    """A newer boot of this worker has a session: whoever hears this is no longer the one, and must end."""

    boot: int


class Slow(Struct, tag_field="op", tag="slow"):
    """The journal cannot keep up: send nothing for so many seconds."""

    seconds: float


class Ack(Struct, tag_field="op", tag="ack"):
    """Cumulative: everything up to these seqs is on the master's disk."""

    streams: dict[str, int]


class Nak(Struct, tag_field="op", tag="nak"):
    """A hole: send again from `want`."""

    stream: str
    want: int


Control = Challenge | Login | Accepted | Refused | Hello | Welcome | Fenced | Slow | Ack | Nak

_control: msgspec.json.Decoder[Control] = msgspec.json.Decoder(Control)
_encoder = msgspec.json.Encoder()


class ControlError(Exception):
    """A control message that cannot be read, or comes at the wrong time."""


_CHECKED = re.compile(rb',"crc":"([0-9a-f]{8})"}\Z')


def encode_control(message: Control) -> str:
    body = _encoder.encode(message)
    return f'{body[:-1].decode()},"crc":"{crc32(body):08x}"}}'


def decode_control(text: str | bytes) -> Control:
    """Raises ControlError."""
    data = text.encode() if isinstance(text, str) else text
    if checked := _CHECKED.search(data):
        data = data[: checked.start()] + b"}"
        # 3.1: one digit of `boot` or of a mark that is read as another would fence the living or let go of what is not durable.
        if crc32(data) != int(checked[1], 16):
            raise ControlError("a damaged control message")
    try:
        return _control.decode(data)
    except msgspec.MsgspecError as error:
        raise ControlError(str(error)) from error  # without the text: it may be a login at the wrong place


# The sender's end.


class Held(Protocol):
    """What is known of a batch that is held, wherever its bytes are."""

    @property
    def seq(self) -> int: ...
    @property
    def count(self) -> int: ...
    @property
    def size(self) -> int: ...


class Hold(Protocol):
    """Where batches wait until they are durable at the master: in memory, or on disk."""

    @property
    def oldest(self) -> int:
        """The lowest seq held; the next one to come, where none is."""

    @property
    def newest(self) -> int:
        """The highest seq ever held; 0 before the first."""

    @property
    def ready(self) -> int:
        """The highest seq that may be sent: what is on its way to the disk may not (5.2)."""

    @property
    def events(self) -> int: ...
    @property
    def bytes(self) -> int: ...

    def put(self, batch: Batch) -> None: ...

    def get(self, seq: int) -> Batch | None:
        """None: it is being read, and whoever wants it will be woken."""

    def release(self, through: int) -> Sequence[Held]:
        """Let go of everything up to and with `through`, and return it."""


class MemoryHold:
    """Implements Hold; what it holds dies with the process."""

    def __init__(self) -> None:
        self._batches: deque[Batch] = deque()
        self.newest = 0
        self.events = 0
        self.bytes = 0

    @property
    def oldest(self) -> int:
        return self._batches[0].seq if self._batches else self.newest + 1

    @property
    def ready(self) -> int:
        return self.newest

    def put(self, batch: Batch) -> None:
        self._batches.append(batch)
        self.newest = batch.seq
        self.events += batch.count
        self.bytes += batch.size

    def get(self, seq: int) -> Batch:
        return self._batches[seq - self.oldest]

    def release(self, through: int) -> list[Batch]:
        released = []
        while self._batches and self._batches[0].seq <= through:
            batch = self._batches.popleft()
            self.events -= batch.count
            self.bytes -= batch.size
            released.append(batch)
        return released


class Sender:
    """One stream: numbers its batches, holds them until they are acknowledged, and says which is to be sent next (5).

    It is attached to at most one session at a time. Without one it only numbers and holds. A hold that is not new is that of an
    earlier life, which may have sent more than its disk has kept.
    """

    def __init__(self, hold: Hold, stream: bytes | None = None, window: int = WINDOW) -> None:
        self.stream = stream or new_stream()
        self.name = self.stream.hex()
        self.hold = hold
        self._is_of_earlier_life = hold.newest > 0
        self._window = window
        self._next: int | None = None

    @property
    def oldest(self) -> int:
        return self.hold.oldest

    @property
    def is_attached(self) -> bool:
        return self._next is not None

    def add(self, body: bytes, count: int) -> None:
        """Number a batch of `count` events and hold it."""
        self.hold.put(pack(self.stream, self.hold.newest + 1, count, body))

    def attach(self, durable: int) -> Sequence[Held]:
        """A session begins, and its master has everything up to `durable`: returns what may be let go."""
        released = self.acked(durable)
        self._next = self.hold.oldest
        return released

    def detach(self) -> None:
        """The session is gone; whatever it carried is sent again by the next one."""
        self._next = None

    def next_batch(self) -> Batch | None:
        """What is to be sent now, at most a window ahead of the last acknowledgement; None for nothing."""
        seq = self._next
        if seq is None or seq > self.hold.ready or seq >= self.hold.oldest + self._window:
            return None
        batch = self.hold.get(seq)
        if batch is not None:
            self._next = seq + 1
        return batch

    def acked(self, through: int) -> Sequence[Held]:
        """Everything up to `through` is durable: returns what was let go. More than was ever sent is refused."""
        if through > self.hold.newest and not self._is_of_earlier_life:
            raise ControlError(f"{through} acknowledged, {self.hold.newest} sent")
        released = self.hold.release(min(through, self.hold.newest))
        if self._next is not None:
            self._next = max(self._next, self.hold.oldest)
        return released

    def nak(self, want: int) -> None:
        """The receiver misses `want`: go on from there."""
        if self._next is not None:
            self._next = min(self._next, max(want, self.hold.oldest))


# The receiver's end.


class Verdict(Enum):
    TAKE = "take"
    KNOWN = "known"
    HOLE = "hole"


class Mark(Struct):
    """How far a stream is: taken, and (later) durable. `worker` names who sends it."""

    received: int = 0
    durable: int = 0
    worker: str = ""


class Hole(Struct, frozen=True):
    """Batches that the sender no longer holds and the receiver never had."""

    worker: str
    stream: str
    first: int
    last: int


class Receiver:
    """Every stream of every collector: which batch is the next one, and what may be acknowledged (6).

    State is one Mark a stream, without a time window, so that a week's outage is no different from a second's.
    """

    def __init__(self, marks: Mapping[bytes, int] | None = None) -> None:
        self.marks = {stream: Mark(seq, seq) for stream, seq in (marks or {}).items()}

    def hello(self, hello: Hello) -> tuple[Welcome, list[Hole]]:
        """A session begins: what is durable of its streams, and the holes that will never be filled."""
        holes = []
        for name, oldest in hello.streams.items():
            mark = self.marks.setdefault(stream_id(name), Mark())
            mark.worker = hello.worker
            if oldest > mark.received + 1:
                holes.append(Hole(hello.worker, name, mark.received + 1, oldest - 1))
                # Taken as read, so that the stream goes on; durable once the record of the hole is.
                mark.received = oldest - 1
        return Welcome({name: self.marks[stream_id(name)].durable for name in hello.streams}), holes

    def take(self, batch: Batch) -> Verdict:
        """Whether this batch is to be appended (TAKE), was before (KNOWN), or leaves something out (HOLE)."""
        mark = self.marks.get(batch.stream)
        if mark is None:
            raise ControlError("a batch of a stream that was not announced")
        if batch.seq <= mark.received:
            return Verdict.KNOWN
        if batch.seq > mark.received + 1:
            return Verdict.HOLE
        mark.received = batch.seq
        return Verdict.TAKE

    def committed(self, marks: Mapping[bytes, int]) -> None:
        """These seqs, and all before them, are on disk."""
        for stream, seq in marks.items():
            mark = self.marks[stream]
            mark.durable = max(mark.durable, seq)

    def rolled_back(self) -> None:
        """What was taken since the last commit could not be kept: it will be wanted again."""
        for mark in self.marks.values():
            mark.received = mark.durable

    def durable(self, streams: Iterable[bytes]) -> Ack:
        """6.3: only what is durable is ever acknowledged, also for a batch that is known."""
        return Ack({stream.hex(): self.marks[stream].durable for stream in streams})

    def nak(self, stream: bytes) -> Nak:
        return Nak(stream.hex(), self.marks[stream].received + 1)


def stream_id(name: str) -> bytes:
    """The 16 bytes of a stream's name; all zero is the head of a segment, and no stream. Raises ControlError."""
    try:
        stream = bytes.fromhex(name)
    except ValueError as error:
        raise ControlError(f"no stream: {name[:40]!r}") from error
    if len(name) != 32 or len(stream) != 16 or not any(stream):
        raise ControlError(f"no stream: {name[:40]!r}")
    return stream
