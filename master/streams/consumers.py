"""What consumers and the master say to each other after the login: JSON text messages, told apart by "op" (docs/streams.md)."""

from typing import Literal

import msgspec
from msgspec import Struct

from adapters.events import Event
from master.protocol import Refused

MAX_COMMAND = 64 << 10
"""Bytes of the largest message of a consumer."""
MOST_TOPICS = 256
LONGEST_PAUSE_MS = 60_000


class Subscribe(Struct, tag_field="op", tag="subscribe", omit_defaults=True, forbid_unknown_fields=True):
    """`cursor`: hear first what streams carried since then. `conflate_ms`: time between two messages with views, of all views
    of the connection."""

    id: int
    topics: list[str]
    cursor: str | None = None
    conflate_ms: int | None = None


class Unsubscribe(Struct, tag_field="op", tag="unsubscribe", forbid_unknown_fields=True):
    id: int
    topics: list[str]


class Ping(Struct, tag_field="op", tag="ping", forbid_unknown_fields=True):
    id: int


class Subscribed(Struct, tag_field="op", tag="subscribed"):
    """`streams` bring every event; `views` are conflated: of each market the newest state alone."""

    id: int
    streams: list[str]
    views: list[str]
    cursor: str


class Unsubscribed(Struct, tag_field="op", tag="unsubscribed"):
    id: int
    topics: list[str]


class Pong(Struct, tag_field="op", tag="pong"):
    id: int
    time: int


class Snapshot(Struct, tag_field="op", tag="snapshot"):
    """The present state of views that were subscribed to; `more`: the next message goes on with it."""

    id: int
    more: bool
    events: list[Event]


class Views(Struct, tag_field="op", tag="views"):
    """New states of views, and how many others they have replaced since the last such message."""

    conflated: int
    events: list[Event]


class Events(Struct, tag_field="op", tag="events"):
    """Of streams; whoever has all up to here may go on from `cursor` on another connection."""

    cursor: str
    events: list[Event]


class Lost(Struct, tag_field="op", tag="gap"):
    """What lay between these cursors is no longer had, or may not be."""

    after: str
    until: str
    reason: str


class Error(Struct, tag_field="op", tag="error"):
    """A command that was not done, and nothing of it. `id` is null where it could not be read."""

    id: int | None
    code: Literal["malformed", "topic", "too_many_topics", "not_subscribed", "cursor", "conflate_ms"]
    detail: str
    change: str


class Bye(Struct, tag_field="op", tag="bye"):
    """The connection ends. `cursor`: of the last event message before; null where there was no stream."""

    reason: str
    cursor: str | None


Command = Subscribe | Unsubscribe | Ping
Answer = Subscribed | Unsubscribed | Pong | Snapshot | Views | Events | Lost | Error | Bye | Refused

_commands: msgspec.json.Decoder[Command] = msgspec.json.Decoder(Command)
_answers: msgspec.json.Decoder[Answer] = msgspec.json.Decoder(Answer)
encode = msgspec.json.Encoder().encode


class CommandError(Exception):
    """What a consumer asks for cannot be done; `answer` tells it why."""

    def __init__(self, answer: Error) -> None:
        super().__init__(f"{answer.code}: {answer.detail}")
        self.answer = answer


def decode_command(frame: str | bytes) -> Command:
    """Raises CommandError."""
    try:
        return _commands.decode(frame)
    except msgspec.MsgspecError as error:
        raise CommandError(Error(None, "malformed", str(error), "a JSON object as in docs/streams.md")) from error


def decode_answer(frame: str | bytes) -> Answer:
    """Raises msgspec.MsgspecError."""
    return _answers.decode(frame)


def encode_cursor(position: int) -> str:
    return str(position)


def decode_cursor(text: str, command: int) -> int:
    """Raises CommandError."""
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise CommandError(Error(command, "cursor", f"{text[:40]!r} is no cursor", "one of an earlier message, or null"))
    return int(text)


# Messages with events are put together from events that were encoded once for all who hear them.


def positioned(event: Event, position: int) -> bytes:
    """The JSON of an event, and where it stands among all (segments.position)."""
    return b'%b,"position":%d}' % (encode(event)[:-1], position)


def pack_events(parts: list[bytes], position: int) -> bytes:
    return b'{"op":"events","cursor":"%d","events":[%b]}' % (position, b",".join(parts))


def pack_views(parts: list[bytes], conflated: int) -> bytes:
    return b'{"op":"views","conflated":%d,"events":[%b]}' % (conflated, b",".join(parts))


def pack_snapshot(parts: list[bytes], command: int, *, more: bool) -> bytes:
    return b'{"op":"snapshot","id":%d,"more":%b,"events":[%b]}' % (command, b"true" if more else b"false", b",".join(parts))
