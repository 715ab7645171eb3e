"""`debug.raw`: every frame of a connection, in and out, in the format that `python -m adapters decode` reads."""

from base64 import b64encode
from pathlib import Path
from time import time

import orjson

MAX_BYTES = 256 << 20
"""A file that is larger becomes `<name>.1`, in place of the one before: recording never takes more than twice this."""


class Recorder:
    """Appends lines to one file. Buffered, and a debugging aid: what a crash cuts off is the last second."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._file = path.open("ab", buffering=1 << 16)

    def line(self, kind: str, data: bytes | str | None, *, url: str | None = None, status: int | None = None) -> None:
        """One line: `kind` is connect, send, recv or http."""
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
        self._file.write(orjson.dumps(entry) + b"\n")

    def flush(self) -> None:
        """Once a second, and at the end."""
        self._file.flush()
        if self._file.tell() > MAX_BYTES:
            self._file.close()
            self._path.replace(self._path.with_suffix(self._path.suffix + ".1"))
            self._file = self._path.open("ab", buffering=1 << 16)

    def close(self) -> None:
        self._file.close()
