"""The spool: batches on disk from before they are sent until the master has them, so that they outlive the process.

A folder of segments (master/segments.py) of one worker, written by a thread of its own: what the loop numbers is handed over,
and may be sent when it is written (wire.md, 5.2). It survives the process at once, and the machine after the next fsync. A
segment goes when all of it is acknowledged. A disk that refuses stops nothing: from then on batches wait in memory, under
streams of their own, and the spool is tried again.
"""

import asyncio
import fcntl
import os
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from errno import ENOENT
from functools import partial
from io import BufferedRandom
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryFile
from threading import Event as Flag
from threading import Lock, Thread
from time import time_ns

import msgspec
from msgspec import Struct

from adapters.backfill import LastTrade
from adapters.events import Event, Gap, Trade
from collector.hold import Entry, SpoolHold
from master.log import logger
from master.protocol import Batch, BatchError, Known, decode_events, new_stream, pack, unpack
from master.segments import Damage, SegmentWriter, path_of, scan, segments_in, sync_data

log = logger("spool")

SEGMENT_BYTES = 16 << 20
RETRY_AFTER = 10.0
"""Seconds between attempts at a disk that refused."""
_PROBE_BYTES = 1 << 20

_encoder = msgspec.json.Encoder()


class SpoolError(Exception):
    """The spool cannot be used here, and what to do about it."""


class SpoolTakenError(SpoolError):
    """Another process owns it."""


class SpoolPlan(Struct, frozen=True):
    """Where a worker's batches wait on disk: in a folder of its name below `folder`. `adopts`: folders there whose workers are
    no more, to be emptied by this one."""

    folder: Path
    max_bytes: int
    fsync_seconds: float
    adopts: tuple[str, ...] = ()


def planned(folder: Path, workers: list[str], max_bytes: int, fsync_seconds: float) -> dict[str, SpoolPlan]:
    """The spool of each worker; the first one takes over what others have left. Raises SpoolError for a useless folder."""
    if not max_bytes:
        return {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
        left = tuple(sorted(each.name for each in folder.iterdir() if each.name not in workers and segments_in(each)))
    except OSError as error:
        raise SpoolError(f"{folder} cannot be used ({error.strerror}); make it writable, or name another folder") from error
    return {name: SpoolPlan(folder, max_bytes, fsync_seconds, left if name == workers[0] else ()) for name in workers}


class Listener:
    """Who is told, in the loop, what becomes of a spool."""

    def ready(self, hold: SpoolHold) -> None:
        """More of this stream may be sent: it was written, or read back."""

    def failed(self) -> None:
        """The disk refuses; what was not written is to be withdrawn, and nothing more to be put."""

    def healed(self) -> None:
        """The disk takes again, under new streams."""


class Spool:
    """The folder of one worker. Opening it reads what earlier lives left: in `left` the streams of each, in `told` whose events
    each of their batches holds, in `known` what was told of each exchange; `damage`, what could not be read, as events to send.
    Every life writes to streams of its own, so that no number can ever be given twice, whatever became of the disk.
    `trouble`: why nothing can be written now.
    """

    def __init__(self, folder: Path, fsync_seconds: float = 0.5) -> None:
        """Raises SpoolError. `fsync_seconds` 0: a batch may be sent only when it is durable."""
        self.folder = folder
        self.left: list[list[SpoolHold]] = []
        self.told: dict[bytes, deque[Counter[str]]] = {}
        self.known: dict[str, Known] = {}
        self.damage: list[Event] = []
        self.trouble: str | None = None
        self._fsync_seconds = fsync_seconds
        self._own: list[SpoolHold] = []
        self._listener = Listener()
        self._held: Counter[int] = Counter()
        self._number = self._newest = 0
        self._writer: SegmentWriter | None = None
        self._writer_lock = Lock()
        self._is_dirty = False
        self._pending: list[tuple[SpoolHold, Entry]] = []
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._is_refusing = False
        self._is_ending = Flag()
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._threads: list[Thread] = []
        try:
            self._lock = _claim(folder)
            self._recover()
        except OSError as error:
            raise SpoolError(f"{folder} cannot be used ({error.strerror}); see spool.folder") from error

    @property
    def is_empty(self) -> bool:
        """Whether nothing on this disk is still wanted."""
        return not any(self._held.values())

    def new_hold(self) -> SpoolHold:
        """A stream of this life, to be written to."""
        hold = SpoolHold(self, new_stream())
        self._own.append(hold)
        return hold

    # What an earlier life left ------------------------------------------------------------------------------------------

    def _recover(self) -> None:
        holds: dict[bytes, SpoolHold] = {}
        lives: dict[int, list[SpoolHold]] = {}
        for path in segments_in(self.folder):
            self._number = self._newest = int(path.stem)
            found = scan(path.read_bytes(), self._number)
            known = set(holds)
            for stream, newest in found.marks.items():  # all of the life that wrote it: a new one is a new life's
                self._begin_at(holds, stream, newest + 1)
            for batch, offset in zip(found.batches, found.offsets, strict=True):
                self._find(self._begin_at(holds, batch.stream, batch.seq), batch, offset)
            self.damage += (_as_gap(path, each) for each in found.damage)
            lives[self._number] = [hold for stream, hold in holds.items() if stream not in known]
        left = ([hold for hold in life if hold.events] for life in lives.values())
        self.left = [life for life in left if life]

    def _begin_at(self, holds: dict[bytes, SpoolHold], stream: bytes, seq: int) -> SpoolHold:
        """The hold of a stream that goes on at `seq`. What should stand before it and does not is lost: a gap takes its place
        (which the master drops, if it has the batch)."""
        hold = holds.setdefault(stream, SpoolHold(self, stream, seq - 1))
        for missing in range(hold.newest + 1, seq):
            hold.keep(Entry(missing, 1, 0, batch=_instead(stream, missing, 0)))
            hold.ready = missing
            self._tell(hold, Counter({"": 1}))
        return hold

    def _find(self, hold: SpoolHold, batch: Batch, offset: int) -> None:
        if batch.seq == hold.newest + 1:
            self._held[self._number] += 1
            hold.keep(Entry(batch.seq, batch.count, batch.size, self._number, offset))
            hold.ready = batch.seq
            self._tell(hold, self._learn(batch))

    def _tell(self, hold: SpoolHold, whose: Counter[str]) -> None:
        self.told.setdefault(hold.stream, deque()).append(whose)

    def _learn(self, batch: Batch) -> Counter[str]:
        """Whose events these are, and which trades are the last."""
        told: Counter[str] = Counter()
        for event in decode_events(batch.body):
            told[event.exchange] += 1
            known = self.known.setdefault(event.exchange, Known())
            known.since = max(known.since, event.received)
            if isinstance(event, Trade) and event.source == "live":
                known.trades[event.symbol] = LastTrade(event.id, event.timestamp, event.received)
        return told

    # In the loop --------------------------------------------------------------------------------------------------------

    def start(self, listener: Listener) -> None:
        """Begin to read and write, for the running loop."""
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        for body in (self._serve, self._keep_durable) if self._fsync_seconds else (self._serve,):
            thread = Thread(target=body, name=f"spool {body.__name__.strip('_')}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def append(self, hold: SpoolHold, entry: Entry) -> None:
        self._pending.append((hold, entry))
        if self._is_idle.is_set():
            self._is_idle.clear()
            assert self._loop is not None
            self._loop.call_soon(self._submit)  # what other lanes flush at this moment goes with it

    def _submit(self) -> None:
        group, self._pending = self._pending, []
        marks = {hold.stream: hold.ready for hold in self._own}
        self._jobs.put(lambda: self._write(group, marks))

    def _was_written(self, group: list[tuple[SpoolHold, Entry]], segment: int, start: int) -> None:
        for hold, entry in group:
            entry.segment, entry.offset = segment, start
            start += entry.size
            if not entry.is_gone:
                self._held[segment] += 1
                hold.was_written(entry)
        if self._pending:
            self._submit()
        else:
            self._is_idle.set()
        for hold in {id(hold): hold for hold, _ in group}.values():
            self._listener.ready(hold)

    def let_go(self, entry: Entry) -> None:
        """The master has this one, or it goes on under another number."""
        if entry.segment:
            self._held[entry.segment] -= 1
            if not self._held[entry.segment] and entry.segment != self._number:
                self._remove(entry.segment)

    def _remove(self, segment: int) -> None:
        del self._held[segment]
        self._jobs.put(lambda: path_of(self.folder, segment).unlink(missing_ok=True))

    def _began(self, segment: int) -> None:
        """A new segment is written to; those before it that nobody wants can go."""
        before, self._number = self._number, segment
        for old in {before, *self._held}:
            if old != segment and not self._held[old]:
                self._remove(old)

    def read(self, hold: SpoolHold, entries: list[Entry]) -> None:
        """Bring these into memory again; `ready` is told when they are."""
        self._jobs.put(lambda: self._read(hold, entries))

    def _was_read(self, hold: SpoolHold, found: list[tuple[Entry, Batch]]) -> None:
        for entry, batch in found:
            if not entry.is_gone:
                entry.batch = batch
        hold.was_read()
        self._listener.ready(hold)

    def _refused(self, reason: str) -> None:
        self.trouble = reason
        log.critical("cannot write to the spool; what the master has not acknowledged is in memory only", reason=reason)
        self._pending.clear()
        self._is_idle.set()
        self._own.clear()
        self._listener.failed()
        self._try_later()

    def _try_later(self) -> None:
        assert self._loop is not None
        self._loop.call_later(RETRY_AFTER, self._jobs.put, self._probe)

    def _heal(self) -> None:
        self.trouble = None
        log.info("the spool takes again")
        self._listener.healed()

    async def close(self) -> None:
        """Make durable what is there, and end; a second time is no harm."""
        await self._is_idle.wait()
        if self._is_ending.is_set():
            return
        self._is_ending.set()
        self._jobs.put(None)
        await asyncio.to_thread(self._end)

    # In the threads: one writes and reads, one makes durable, so that no fsync holds up a batch -------------------------

    def _tell_loop(self, *call: object) -> None:
        assert self._loop is not None
        if not self._is_ending.is_set():
            self._loop.call_soon_threadsafe(*call)  # type: ignore[arg-type]

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except OSError as error:
                self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        """Only the serving thread comes here, so that the loop has heard of every write that was done before it hears of this,
        and nothing is written after it: what is withdrawn then stands on no disk."""
        if not self._is_refusing:
            self._is_refusing = True
            with self._writer_lock:
                writer, self._writer = self._writer, None
            if writer is not None:
                writer.close()
            self._tell_loop(self._refused, f"{self.folder}: {error.strerror or error}")

    def _write(self, group: list[tuple[SpoolHold, Entry]], marks: dict[bytes, int]) -> None:
        if self._is_refusing:
            return
        writer = self._writer
        if writer is None or writer.size >= SEGMENT_BYTES:
            writer = self._begin(marks)
        start = writer.size
        writer.write([entry.batch.data for _, entry in group if entry.batch is not None])
        self._is_dirty = True
        if not self._fsync_seconds:
            writer.sync()
        self._tell_loop(self._was_written, group, writer.number, start)

    def _begin(self, marks: dict[bytes, int]) -> SegmentWriter:
        """Raises OSError."""
        self._close_writer()
        self._newest += 1
        self._writer = writer = SegmentWriter(path_of(self.folder, self._newest), self._newest, marks)
        self._tell_loop(self._began, self._newest)
        return writer

    def _close_writer(self) -> None:
        with self._writer_lock:
            writer, self._writer = self._writer, None
        if writer is not None:
            writer.sync()
            writer.close()

    def _keep_durable(self) -> None:
        while not self._is_ending.wait(self._fsync_seconds):
            try:
                self._sync()
            except OSError as error:
                self._jobs.put(partial(self._give_up, error))

    def _sync(self) -> None:
        """Raises OSError, also where the folder is gone while we write to it."""
        with self._writer_lock:
            if self._writer is None or not self._is_dirty:
                return
            self._is_dirty = False
            fd = os.dup(self._writer.fileno())
        try:
            sync_data(fd)
            if os.fstat(fd).st_nlink == 0:
                raise FileNotFoundError(ENOENT, "the folder was removed")
        finally:
            os.close(fd)

    def _read(self, hold: SpoolHold, entries: list[Entry]) -> None:
        self._tell_loop(self._was_read, hold, [(entry, self.load(hold.stream, entry)) for entry in entries])

    def load(self, stream: bytes, entry: Entry) -> Batch:
        """The batch of an entry; what cannot be read any more is lost, and a gap takes its place."""
        try:
            with path_of(self.folder, entry.segment).open("rb") as file:
                file.seek(entry.offset)
                return unpack(file.read(entry.size))
        except (OSError, BatchError) as error:
            log.error("a batch of the spool cannot be read", seq=entry.seq, events=entry.count, reason=str(error))
            return _instead(stream, entry.seq, entry.count)

    def _probe(self) -> None:
        """Whether the disk takes as much as is wanted soon."""
        probe = self.folder / "probe"
        try:
            if not (self.folder / "lock").exists():  # the folder was removed, and what we own is no more
                self._lock.close()
                self._lock = _claim(self.folder)
            with probe.open("wb") as file:
                file.write(bytes(_PROBE_BYTES))
                file.flush()
                os.fsync(file.fileno())
            probe.unlink()
        except (OSError, SpoolTakenError):
            with suppress(OSError):
                probe.unlink(missing_ok=True)
            self._tell_loop(self._try_later)
        else:
            self._is_refusing = False
            self._tell_loop(self._heal)

    def _end(self) -> None:
        for thread in self._threads:
            thread.join()
        try:
            self._close_writer()
            if self.is_empty:
                for path in segments_in(self.folder):
                    path.unlink()
        except OSError as error:
            log.error("the spool could not be closed in order", folder=str(self.folder), reason=error.strerror)
        self._lock.close()


def _claim(folder: Path) -> BufferedRandom:
    """Make the folder this process's own. Raises SpoolTakenError, OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = (folder / "lock").open("a+b")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise SpoolTakenError(
            f"{folder}: another collector is using this spool; stop it, or give this one another `name` (COLLECTOR_NAME)"
        ) from error
    return lock


def _as_gap(path: Path, damage: Damage) -> Event:
    log.error("a part of the spool cannot be read", segment=path.name, bytes=damage.size, reason=damage.reason)
    return _gap(f"spool damaged: {damage.reason}, {damage.size} bytes", None)


def _instead(stream: bytes, seq: int, count: int) -> Batch:
    """What takes the place of a batch that is lost: its number must not be missing, and the hole must not be silent."""
    lost = f"{count} events" if count else "a batch"
    gap = _gap(f"spool damaged: {lost} of stream {stream.hex()}", str(seq))
    return pack(stream, seq, 1, _encoder.encode([gap]))


def _gap(reason: str, number: str | None) -> Gap:
    now = time_ns() // 1000
    return Gap("", None, None, now, "delivery", reason, number, number, None, now)
