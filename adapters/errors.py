"""Everything that can be wrong with what a venue says.

AdapterError
├── FrameError          one frame was not understood; it is counted, the stream goes on
│   └── UnreadableError     what it said is lost, whatever it was: a hole where nothing else would show one
│       └── NumberError     a number of the venue is not one
├── BookError           a book can no longer be trusted; it alone is asked for again
├── VenueError          the venue reports an error that names no subscription
├── FetchError          a REST answer was refused, late or unreadable; asked again with backoff
└── SymbolError         a symbol or pair cannot be understood (configuration, or a venue's instrument list)

Outside an adapter they are outputs, not exceptions: `scope` says what they touch, `retry` whether trying again helps.
"""

from typing import ClassVar, Literal

Scope = Literal["frame", "connection", "book", "symbol"]


class AdapterError(Exception):
    scope: ClassVar[Scope] = "connection"
    retry: ClassVar[bool] = True


class FrameError(AdapterError):
    scope = "frame"
    retry = False


class UnreadableError(FrameError):
    pass


class NumberError(UnreadableError):
    pass


class BookError(AdapterError):
    """`reason`: sequence, checksum, crossed, stale snapshot or malformed; the missing sequence numbers where there are any."""

    scope = "book"

    def __init__(self, reason: str, first_missing: str | None = None, last_missing: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.first_missing = first_missing
        self.last_missing = last_missing


class VenueError(AdapterError):
    scope = "connection"


class FetchError(AdapterError):
    scope = "book"


class SymbolError(AdapterError):
    scope = "symbol"
    retry = False
