"""What an adapter asks its surroundings to do. An adapter never acts itself; it returns these beside its events."""

from collections.abc import Mapping
from enum import IntEnum

from msgspec import Struct


class Priority(IntEnum):
    """Order in which paced fetches are served; a broken book waits for nothing."""

    RESYNC = 0
    FIRST = 1
    BACKFILL = 2


class Request(Struct, frozen=True):
    url: str
    method: str = "GET"
    headers: Mapping[str, str] = {}


class Answer(Struct, frozen=True):
    """A REST answer. `received` is integer microseconds UTC, taken when the body was complete."""

    status: int
    body: bytes
    received: int


class Connect(Struct, frozen=True):
    """Open the connection. Answered by the input `connected`, or by `lost`."""

    url: str
    headers: Mapping[str, str] = {}


class Send(Struct, frozen=True):
    """Send one frame (str: text, bytes: binary), paced inside the venue's message limit, of which it takes `cost`."""

    frame: str | bytes
    cost: int = 1


class Fetch(Struct, frozen=True):
    """Ask the venue's REST. Answered by the input `fetched` under the same `key`. `weight` is in the venue's own units."""

    key: tuple[str, ...]
    request: Request
    weight: int = 1
    priority: Priority = Priority.FIRST


class Reconnect(Struct, frozen=True):
    """Give this connection up and make a new one, `after` seconds at the earliest. `overlap`: it still serves for a while, so
    that the new one is to be made first."""

    reason: str
    after: float = 0.0
    overlap: bool = False


Effect = Connect | Send | Fetch | Reconnect
