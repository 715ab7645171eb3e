"""Which master takes which exchange: a board of entries that all masters read, and change only as they last read it.

Every master renews an entry of its own. Who does so is live, and of the live ones a hash of both names chooses one for each
exchange, so that all come to the same answer and an exchange moves only where a master came or went. The entry of an exchange
names its owner and how far each stream is on the owner's disk: it is written before anything is acknowledged, so that whoever
takes over knows what is stored already, and an owner that was replaced can acknowledge nothing more.
"""

from collections.abc import Iterable
from hashlib import blake2b

import msgspec
from msgspec import Struct
from nats.js.client import JetStreamContext
from nats.js.errors import KeyNotFoundError, KeyWrongLastSequenceError
from nats.js.kv import KeyValue

from master.jetstream.streams import BUCKET_STREAM
from master.jetstream.subjects import CLAIMS

LEASE = 5.0
"""Seconds without a renewal after which a master counts as gone."""
FORGOTTEN = 3600.0
"""Seconds after which the server removes the entry of one that is gone."""
REMEMBERED = 128
"""Streams of an exchange whose marks its entry holds, the latest: 64 lives of a worker with two lanes."""

_PREFIX = f"$KV.{CLAIMS}."
_MASTER, _EXCHANGE = "master.", "exchange."


class LostError(Exception):
    """Another master has taken this over."""


class Entry(Struct):
    """`master`: who has it (of an exchange: "" for nobody); `marks`: by stream, the seq up to which the master has it."""

    master: str
    boot: int
    marks: dict[str, int] = {}


class Seen(Struct):
    """An entry, and since when (monotonic seconds) it stands as it is."""

    entry: Entry
    revision: int
    since: float


class Board:
    """What was read last, and what follows from it. Pure. Clocks of others play no part: an entry that changes is alive."""

    def __init__(self, name: str, boot: int) -> None:
        self.name = name
        self.boot = boot
        self._seen: dict[str, Seen] = {}

    def saw(self, key: str, entry: Entry, revision: int, now: float) -> None:
        before = self._seen.get(key)
        if before is None or before.revision != revision:
            self._seen[key] = Seen(entry, revision, now)

    def revision(self, key: str) -> int:
        """0 where there is none."""
        return self._seen[key].revision if key in self._seen else 0

    def entry(self, exchange: str) -> Entry:
        seen = self._seen.get(_EXCHANGE + exchange)
        return seen.entry if seen is not None else Entry("", 0)

    @property
    def exchanges(self) -> set[str]:
        return {key.removeprefix(_EXCHANGE) for key in self._seen if key.startswith(_EXCHANGE)}

    def live(self, now: float) -> set[str]:
        """The masters that are there, and we."""
        heard = {
            key.removeprefix(_MASTER)
            for key, seen in self._seen.items()
            if key.startswith(_MASTER) and now - seen.since < LEASE
        }
        return heard | {self.name}

    def has_twin(self, now: float) -> bool:
        """Whether a process that began after us uses our name."""
        seen = self._seen.get(_MASTER + self.name)
        return seen is not None and seen.entry.boot > self.boot and now - seen.since < LEASE

    def meant(self, exchange: str, now: float) -> str:
        """The master that is to have an exchange."""
        return max(self.live(now), key=lambda name: blake2b(f"{name}|{exchange}".encode(), digest_size=8).digest())

    def wanted(self, exchanges: Iterable[str], now: float) -> set[str]:
        """Those of the exchanges that we should have and may take: nobody has them, or one who is gone, or we have them."""
        live = self.live(now) - {self.name}
        return {each for each in exchanges if self.meant(each, now) == self.name and self.entry(each).master not in live}


class Bucket:
    """The board on the server."""

    def __init__(self, js: JetStreamContext, board: Board) -> None:
        self.board = board
        self._js = js
        self._kv = KeyValue(name=CLAIMS, stream=BUCKET_STREAM, pre=_PREFIX, js=js, direct=True)

    async def read(self, now: float) -> None:
        """Look at all entries."""
        info = await self._js.stream_info(BUCKET_STREAM, subjects_filter=f"{_PREFIX}>")
        for subject in info.state.subjects or {}:
            key = subject.removeprefix(_PREFIX)
            try:
                found = await self._kv.get(key)
            except KeyNotFoundError:  # removed since it was listed
                continue
            self.board.saw(key, msgspec.json.decode(found.value or b"", type=Entry), found.revision or 0, now)

    async def show_alive(self, now: float) -> None:
        key = _MASTER + self.board.name
        entry = Entry(self.board.name, self.board.boot)
        ack = await self._js.publish(f"{_PREFIX}{key}", msgspec.json.encode(entry), msg_ttl=FORGOTTEN)
        self.board.saw(key, entry, ack.seq, now)

    async def claim(self, exchange: str, now: float) -> "Claim":
        """Take an exchange, as it was read last. Raises LostError where another was faster."""
        before = self.board.entry(exchange)
        claim = Claim(self, exchange, dict(before.marks), self.board.revision(_EXCHANGE + exchange))
        await claim.renew(now)
        return claim

    async def write(self, exchange: str, entry: Entry, revision: int, now: float) -> int:
        """The new revision. Raises LostError."""
        key = _EXCHANGE + exchange
        try:
            revision = await self._kv.update(key, msgspec.json.encode(entry), last=revision)
        except KeyWrongLastSequenceError as error:
            raise LostError(f"another master has taken {exchange}") from error
        self.board.saw(key, entry, revision, now)
        return revision


class Claim:
    """That an exchange is ours. `marks`: how far its streams are on our disk, or on that of who had it before."""

    def __init__(self, bucket: Bucket, exchange: str, marks: dict[str, int], revision: int) -> None:
        self.exchange = exchange
        self.marks = marks
        self._bucket = bucket
        self._revision = revision

    def reached(self, stream: str, seq: int) -> None:
        self.marks[stream] = max(seq, self.marks.pop(stream, 0))
        while len(self.marks) > REMEMBERED:
            del self.marks[next(iter(self.marks))]

    async def renew(self, now: float) -> None:
        """Write it down, which only the owner can. Raises LostError."""
        await self._write(self._bucket.board.name, now)

    async def release(self, now: float) -> None:
        """Leave it to others. Raises LostError."""
        await self._write("", now)

    async def _write(self, owner: str, now: float) -> None:
        entry = Entry(owner, self._bucket.board.boot, dict(self.marks))
        self._revision = await self._bucket.write(self.exchange, entry, self._revision, now)
