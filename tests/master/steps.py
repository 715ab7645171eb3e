"""A crash between any two steps: a copy of a folder before and after every system call that touches files.

Python's own profiling hook tells of each call into the operating system, so that the code under test needs no seams for this,
and a step that is added later is seen as well. What a copy holds is what a killed process leaves behind.
"""

import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

_STEPS = frozenset(
    {"open", "write", "writev", "fsync", "fdatasync", "close", "rename", "replace", "unlink", "ftruncate", "truncate"}
)

Contents = dict[str, bytes]


class Album:
    """`copies` of a folder, each different from the one before; with each goes whatever `beside` said at that moment."""

    def __init__(self, folder: Path, into: Path, beside: Callable[[], Any]) -> None:
        self.copies: list[tuple[Path, Any]] = []
        self._folder = folder
        self._into = into
        self._beside = beside
        self._last: tuple[Contents, Any] | None = None
        self._is_busy = threading.Lock()

    def look(self, _: FrameType, event: str, called: Any) -> None:
        if (
            event in ("c_call", "c_return")
            and getattr(called, "__name__", "") in _STEPS
            and self._is_busy.acquire(blocking=False)
        ):
            try:
                self.copy()
            finally:
                self._is_busy.release()

    def copy(self) -> None:
        seen = (contents(self._folder), self._beside())
        if seen != self._last:
            self._last = seen
            copied = self._into / f"{len(self.copies):04d}"
            shutil.copytree(self._folder, copied)
            self.copies.append((copied, seen[1]))


def contents(folder: Path) -> Contents:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@contextmanager
def copied_at_every_step(folder: Path, into: Path, beside: Callable[[], Any] = lambda: None) -> Iterator[Album]:
    """While this is open, in this thread and in threads begun meanwhile."""
    album = Album(folder, into, beside)
    threading.setprofile(album.look)
    sys.setprofile(album.look)
    try:
        yield album
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    album.copy()
