"""`debug.raw`: every frame of a connection, in and out, in the format that `python -m adapters decode` reads."""

from base64 import b64encode
from contextlib import suppress
from pathlib import Path
from time import time
from typing import BinaryIO

import orjson

from master.log import logger

log = logger("recorder")

MAX_BYTES = 256 << 20
"""A file that is larger becomes `<name>.1`, in place of the one before: recording never takes more than twice this."""


class Recorder:
    """Appends lines to one file. Buffered, and a debugging aid: what a crash cuts off is the last second, and a disk that
    refuses ends the recording, not the connection."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._open()
        except OSError as error:
            self._give_up(error)

    def _open(self) -> None:
        self._file = self._path.open("ab", buffering=1 << 16)

    def _give_up(self, error: OSError) -> None:
        file, self._file = self._file, None
        log.error("nothing more is recorded of this connection", file=str(self._path), reason=error.strerror or str(error))
        if file is not None:
            with suppress(OSError):  # it tries once more to write what is buffered
                file.close()

    def line(self, kind: str, data: bytes | str | None, *, url: str | None = None, status: int | None = None) -> None:
        """One line: `kind` is connect, send, recv or http."""
        if self._file is None:
            return
        entry: dict[str, object] = {"ts": time(), "kind": kind, "url": url}
        if status is not None:
            entry["status"] = status
        if isinstance(data, bytes):
            try:
                entry["raw"] = data.decode()
            except UnicodeDecodeError:
                entry["b64"] = b64encode(data).decode()
        elif data is not None:
            entry["raw"] = data
        try:
            self._file.write(orjson.dumps(entry) + b"\n")
        except OSError as error:
            self._give_up(error)

    def flush(self) -> None:
        """Once a second, and at the end."""
        if self._file is None:
            return
        try:
            self._file.flush()
            if self._file.tell() > MAX_BYTES:
                self._file.close()
                self._path.replace(self._path.with_suffix(self._path.suffix + ".1"))
                self._open()
        except OSError as error:
            self._give_up(error)

    def close(self) -> None:
        self.flush()
        if self._file is not None:
            self._file.close()
