"""Compressed frames: gzip, as some venues pack everything that they send."""

import zlib

from adapters.errors import UnreadableError

LARGEST = 64 * 2**20
"""Bytes that a frame may unpack to: far more than any message has, far less than would harm."""

_GZIP = 31
_MAGIC = b"\x1f\x8b"


def unzipped(frame: bytes) -> bytes:
    """The bytes of a gzip frame, all of them; a frame that is none (a recording of texts) as it is. Raises UnreadableError."""
    if not frame.startswith(_MAGIC):
        return frame
    machine = zlib.decompressobj(_GZIP)
    try:
        data = machine.decompress(frame, LARGEST)
    except zlib.error as error:
        raise UnreadableError(f"not gzip: {error}") from error
    if not machine.eof or machine.unused_data:
        raise UnreadableError("a gzip frame that is cut, too large, or goes on behind its end")
    return data
