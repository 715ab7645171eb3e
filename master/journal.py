"""The journal: batches in the order they were taken, durable before they are acknowledged, in segments that end up sealed.

Data and dedupe state are one write: the marks that say how far each stream is are rebuilt from the batches themselves, so that
they cannot disagree. Writing and fsync run in one thread of their own; the loop only hands over what has gathered meanwhile.
"""

import asyncio
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic
from typing import Any

from msgspec import Struct

from master.log import logger
from master.protocol import Batch
from master.segments import Damage, Scan, SegmentWriter, cut_torn_tail, path_of, position, scan, segments_in

log = logger("journal")

Committed = Callable[[list[Batch], int], None]
"""Told what has become durable, in order, and the position (segments.position) of its first event."""
Heading = Callable[[], Mapping[str, Any]]
"""What the head of a segment is to hold beside the marks."""


ROOM_WANTED = 4 << 20
"""Bytes that must be free, beside what was refused, for a full disk to count as one that takes again."""


class JournalError(Exception):
    """The journal cannot keep what was taken: the disk is full or refuses. Nothing of the write remains; try again later."""


class Recovery(Struct):
    """What an earlier life left: marks and the segments to seal, and what of it is damaged; of the newest segment the head and
    the batches."""

    marks: dict[bytes, int]
    segments: list[Path]
    damage: list[Damage]
    events: int
    next_number: int
    newest: Scan | None = None


def recover(folder: Path) -> Recovery:
    """Read the journal of an earlier life and cut its torn tail. Raises OSError.

    Only the newest segment has one: an older one was whole when the next was begun, and what became of it since is damage.
    """
    recovery = Recovery({}, segments_in(folder), [], 0, 1)
    for path in recovery.segments:
        number = int(path.stem)
        recovery.next_number = number + 1
        try:
            found = scan(path.read_bytes(), number)
        except FileNotFoundError:  # sealed since it was listed, by a child that outlived its master
            continue
        recovery.newest = found
        recovery.damage += found.damage
        for stream, seq in found.marks.items():
            recovery.marks[stream] = max(seq, recovery.marks.get(stream, 0))
        for batch in found.batches:
            recovery.marks[batch.stream] = max(batch.seq, recovery.marks.get(batch.stream, 0))
            recovery.events += batch.count
        if found.torn_bytes and path is recovery.segments[-1]:
            log.warning("torn tail cut", segment=path.name, bytes=found.torn_bytes)
            cut_torn_tail(path, found.end)
    return recovery


class Journal:
    """Group commit: everything appended while a write is under way goes out with the next, under one fsync.

    `committed` is told, in order, what has become durable. A segment is closed when it is `roll_bytes` large or `roll_seconds`
    old, and then handed to `closed`.
    """

    def __init__(
        self,
        folder: Path,
        recovery: Recovery,
        committed: Committed,
        closed: Callable[[Path], None],
        *,
        roll_bytes: int,
        roll_seconds: float,
        gather_seconds: float = 0.002,
        heading: Heading = dict,
    ) -> None:
        self.marks = dict(recovery.marks)
        self.bytes_written = 0
        self.pending_bytes = 0
        self._refused_bytes = 0
        self._heading = heading
        self._settled: list[asyncio.Future[None]] = []
        self.folder = folder
        self._committed = committed
        self._closed = closed
        self._roll_bytes = roll_bytes
        self._roll_seconds = roll_seconds
        self._gather_seconds = gather_seconds
        self._pending: list[Batch] = []
        self._stopping = self._is_over = False
        self._wake = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")
        number = recovery.next_number
        self._writer = SegmentWriter(path_of(folder, number), number, self.marks, heading())
        self._events = 0
        self._opened_at = monotonic()

    @property
    def pending(self) -> int:
        """Batches that are taken, and not yet durable."""
        return len(self._pending)

    def append(self, batch: Batch) -> None:
        self._pending.append(batch)
        self.pending_bytes += batch.size
        self._wake.set()

    async def settled(self) -> None:
        """Return when everything appended so far is durable. Raises JournalError where it could not be kept."""
        if self._is_over:
            raise JournalError(f"{self.folder}: the journal is closed")
        if self.pending_bytes:
            settled = asyncio.get_running_loop().create_future()
            self._settled.append(settled)
            await settled

    async def run(self) -> None:
        """Commit until `stop`, and everything is durable. Raises JournalError where a write fails, and may be called again;
        a failed fsync ends the process. What is appended after the end is never durable, and nobody is told that it were."""
        while self._pending or not self._stopping:
            if not self._pending:
                await self._idle()
                continue
            await asyncio.sleep(self._gather_seconds)  # a few more batches share the fsync
            # What is taken from here on may be lost to a crash that the next segment survives: its head must not know of it.
            head = self._heading() if self._is_due(self.bytes_written + self.pending_bytes) else None
            await self._commit()
            if head is not None:
                await self.roll(head)
        self._is_over = True
        self._fail_settled(JournalError(f"{self.folder}: the journal is closed"))

    def stop(self) -> None:
        """Nothing more will be appended."""
        self._stopping = True
        self._wake.set()

    async def _idle(self) -> None:
        self._wake.clear()
        if self._stopping:
            return
        try:
            async with asyncio.timeout(max(0.0, self._opened_at + self._roll_seconds - monotonic())):
                await self._wake.wait()
        except TimeoutError:
            if self._is_due(self.bytes_written):
                await self.roll(self._heading())
            elif not self.bytes_written:
                self._opened_at = monotonic()

    async def _commit(self) -> None:
        batches, self._pending = self._pending, []
        settled, self._settled = self._settled, []
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._write, batches)
        except OSError as error:
            self._settled += settled
            raise self._refused(error) from error
        for batch in batches:
            self.marks[batch.stream] = batch.seq
            self.pending_bytes -= batch.size
        first = position(self._writer.number, self._events + 1)
        self._events += sum(batch.count for batch in batches)
        self._committed(batches, first)
        if not self._pending:  # those who came during the write wait for nothing else either
            settled += self._settled
            self._settled.clear()
        for each in settled:
            if not each.done():
                each.set_result(None)

    async def has_room(self) -> bool:
        """Whether what was refused could be written now, and some more: what comes back is more than one batch."""
        try:
            size = self._refused_bytes + ROOM_WANTED
            await asyncio.get_running_loop().run_in_executor(self._thread, self._writer.check_room, size)
        except OSError:
            return False
        return True

    def _refused(self, error: OSError) -> JournalError:
        """What came meanwhile is forgotten too: it follows what was refused, and will be asked for again."""
        self._refused_bytes = self.pending_bytes
        self._pending.clear()
        self.pending_bytes = 0
        trouble = JournalError(f"{self.folder}: {error.strerror or error}")
        self._fail_settled(trouble)
        return trouble

    def _fail_settled(self, trouble: JournalError) -> None:
        for each in self._settled:
            if not each.done():
                each.set_exception(trouble)
        self._settled.clear()

    def _write(self, batches: list[Batch]) -> None:
        self._writer.write([batch.data for batch in batches])
        self.bytes_written = self._writer.size
        try:
            self._writer.sync()
        except OSError as error:
            # After a failed fsync nobody can say what is on disk: to go on would be to acknowledge what may be lost.
            log.critical("fsync failed; the master ends, so that it acknowledges nothing it may not have", error=str(error))
            os._exit(74)

    def _is_due(self, size: int) -> bool:
        """Whether a segment of this size is to be closed: it is large, or old and not empty."""
        is_old = monotonic() - self._opened_at >= self._roll_seconds
        return size >= self._roll_bytes or (is_old and size > 0)

    async def roll(self, head: Mapping[str, Any]) -> None:
        """Close the segment and begin the next, in whose head `head` stands beside the marks. Raises JournalError."""
        number = self._writer.number + 1
        loop = asyncio.get_running_loop()
        about = (path_of(self.folder, number), number, dict(self.marks), head)
        try:
            begun = await loop.run_in_executor(self._thread, SegmentWriter, *about)
        except OSError as error:
            raise self._refused(error) from error
        finished, self._writer = self._writer, begun
        finished.close()
        self.bytes_written, self._events, self._opened_at = 0, 0, monotonic()
        self._closed(finished.path)

    def close(self) -> None:
        """After `run` has ended."""
        self._writer.close()
        self._thread.shutdown()
