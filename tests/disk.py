"""A disk that does not take everything, for those who write in this process."""

import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from master.segments import SegmentWriter


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """No file of this process can grow above `size` meanwhile: a full disk, for those who write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class Disk:
    """The master's disk in the hands of a test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.may_sync = threading.Event()
        self.may_sync.set()
        self.is_full = False
        self.refused = 0
        write, sync = SegmentWriter.write, SegmentWriter.sync

        def careful_write(writer: SegmentWriter, records: list[bytes]) -> None:
            if self.is_full:
                self.refused += 1
                raise OSError(28, "No space left on device")
            write(writer, records)

        def slow_sync(writer: SegmentWriter) -> None:
            self.may_sync.wait(10)
            sync(writer)

        monkeypatch.setattr(SegmentWriter, "write", careful_write)
        monkeypatch.setattr(SegmentWriter, "sync", slow_sync)
