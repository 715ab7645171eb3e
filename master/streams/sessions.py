"""Sessions of consumers: what they ask for, from the login to the last words (docs/streams.md)."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import islice
from random import Random
from time import time_ns
from typing import TypeVar

from websockets.asyncio.server import ServerConnection

from master.door import Grant
from master.log import logger
from master.streams.consumers import (
    LONGEST_PAUSE_MS,
    MAX_COMMAND,
    MOST_TOPICS,
    CommandError,
    Error,
    Lost,
    Ping,
    Pong,
    Subscribe,
    Subscribed,
    Unsubscribe,
    Unsubscribed,
    decode_command,
    decode_cursor,
    encode_cursor,
    pack_snapshot,
    positioned,
)
from master.streams.fanout import Fanout
from master.streams.outlet import TRY_LATER, Outlet, framed
from master.streams.resume import Past, PastError, page
from master.streams.topics import Pattern, TopicError

log = logger("streams")

MOST_CLIENTS = 500
MOST_READING = 2
"""Consumers for whom the past is read at the same time."""
PAST_TRIES = 6
LONGEST_WAIT = 5.0
"""Seconds between two tries to read the past."""
GOING_AWAY = 1001

Found = TypeVar("Found")


class Streams:
    """All sessions of consumers, between the fan-out and the past."""

    def __init__(self, fanout: Fanout, past: Past) -> None:
        self._fanout = fanout
        self._past = past
        self._reading = asyncio.Semaphore(MOST_READING)
        self._writing: dict[Outlet, asyncio.Task[None]] = {}
        self._random = Random()  # noqa: S311 (jitter)

    async def serve(self, socket: ServerConnection, _: Grant) -> None:
        """One consumer that has logged in, until its end."""
        # Not an option of the library, but its documented field of the protocol: before the login less is allowed.
        socket.protocol.max_message_size = MAX_COMMAND
        fanout = self._fanout
        outlet = Outlet(socket, fanout.figures, self._renew_cursor)
        fanout.clients.add(outlet)
        writing = self._writing[outlet] = asyncio.create_task(outlet.run())
        if len(fanout.clients) > MOST_CLIENTS:
            outlet.leave(f"more than {MOST_CLIENTS} consumers; try later", TRY_LATER)
        try:
            async for frame in socket:
                try:
                    await self._obey(outlet, frame)
                except CommandError as error:
                    outlet.say(error.answer)
        finally:
            fanout.forget(outlet)
            del self._writing[outlet]
            writing.cancel()
            await asyncio.wait([writing])
            if not writing.cancelled():
                writing.result()

    async def close(self) -> None:
        """Tell all consumers where to go on."""
        self._fanout.flush()
        for outlet in self._writing:
            outlet.leave("the master ends", GOING_AWAY)
        await asyncio.gather(*self._writing.values(), return_exceptions=True)

    def _renew_cursor(self, outlet: Outlet) -> None:
        """So that one that listens to quiet streams need not have a long past read when it comes back."""
        self._fanout.flush()
        if outlet.is_current and outlet.position != self._fanout.position:
            outlet.put_events([], 0, self._fanout.position)

    async def _obey(self, outlet: Outlet, frame: str | bytes) -> None:
        """Raises CommandError, and has done nothing then."""
        command = decode_command(frame)
        if isinstance(command, Ping):
            outlet.say(Pong(command.id, time_ns() // 1000))
        elif isinstance(command, Unsubscribe):
            self._unsubscribe(outlet, command)
        else:
            await self._subscribe(outlet, command)

    def _unsubscribe(self, outlet: Outlet, command: Unsubscribe) -> None:
        if unknown := [each for each in command.topics if each not in outlet.patterns]:
            raise CommandError(Error(command.id, "not_subscribed", unknown[0], "a topic exactly as it was subscribed to"))
        self._fanout.stop_listening(outlet, dict.fromkeys(command.topics))
        outlet.say(Unsubscribed(command.id, command.topics))

    async def _subscribe(self, outlet: Outlet, command: Subscribe) -> None:
        patterns = _patterns(outlet, command)
        streams = [each for each in patterns if not each.channel.is_view]
        views = [each for each in patterns if each.channel.is_view]
        cursor = _cursor(outlet, command, streams)
        if command.conflate_ms is not None:
            outlet.conflate_seconds = command.conflate_ms / 1000
        shown = self._fanout.listen(outlet, views if cursor is not None else patterns)
        start = self._fanout.position if cursor is None else cursor
        answer = Subscribed(command.id, _texts(streams), _texts(views), encode_cursor(start))
        outlet.say(answer, start if streams else None)
        if views:
            _put_snapshot(outlet, command.id, shown)
        if cursor is not None:
            await self._resume(outlet, streams, cursor)

    # The past.

    async def _resume(self, outlet: Outlet, streams: list[Pattern], cursor: int) -> None:
        """Everything since the cursor, then what comes: old events until few are missing; then new ones are held back until
        the last old ones are put. No more commands are read meanwhile."""
        self._fanout.figures.resumed += 1
        try:
            cursor = await self._kept_since(outlet, cursor)
            while cursor < (here := self._fanout.position) and not outlet.is_leaving:
                cursor = await self._put_page(outlet, streams, cursor, here)
                if cursor == here:
                    break
            outlet.hold_back()
            self._fanout.listen(outlet, streams)
            here = self._fanout.position
            while cursor < here and not outlet.is_leaving:
                cursor = await self._put_page(outlet, streams, cursor, here)
            outlet.let_go()
        except PastError as error:
            log.error("what a consumer has missed cannot be read; it has to try again", reason=str(error))
            outlet.leave("what was cannot be read now; try later", TRY_LATER)

    async def _kept_since(self, outlet: Outlet, cursor: int) -> int:
        """Where there is something to go on from; a consumer is told where that is not its cursor. Raises PastError."""
        here = self._fanout.position
        if cursor > here:
            return _tell_lost(outlet, cursor, here, "the cursor is not of this master, or its data were lost")
        oldest = await self._read(self._past.oldest)
        if cursor < oldest:
            return _tell_lost(outlet, cursor, oldest, "older than what is kept")
        return cursor

    async def _put_page(self, outlet: Outlet, streams: list[Pattern], after: int, until: int) -> int:
        """The next old events, as messages each of which has a cursor of its own: how far they reach. Raises PastError."""
        found = await self._read(lambda: page(self._past, streams, after, until))
        positions = iter(at for at, _ in found.events)
        for parts in framed(positioned(event, at) for at, event in found.events):
            if not await outlet.room():
                break
            outlet.put_past(parts, max(islice(positions, len(parts))))
        outlet.put_past([], found.position)
        return found.position

    async def _read(self, read: Callable[[], Awaitable[Found]]) -> Found:
        """Raises PastError, after some tries."""
        for tried in range(PAST_TRIES):
            try:
                async with self._reading:
                    return await read()
            except PastError:
                if tried == PAST_TRIES - 1:
                    raise
            await asyncio.sleep(self._random.uniform(0.0, min(LONGEST_WAIT, 0.2 * 2**tried)))
        raise AssertionError("unreachable")


def _patterns(outlet: Outlet, command: Subscribe) -> list[Pattern]:
    """Those that are new. Raises CommandError."""
    if not command.topics:
        raise CommandError(Error(command.id, "topic", "no topics", "at least one, such as trades:*:BTC/USDT"))
    new = [each for each in dict.fromkeys(command.topics) if each not in outlet.patterns]
    if len(new) + len(outlet.patterns) > MOST_TOPICS:
        change = "patterns, such as trades:kraken:*, or a further connection"
        raise CommandError(Error(command.id, "too_many_topics", f"more than {MOST_TOPICS} of one connection", change))
    try:
        return [Pattern(text) for text in new]
    except TopicError as error:
        raise CommandError(Error(command.id, "topic", str(error), error.change)) from error


def _cursor(outlet: Outlet, command: Subscribe, streams: list[Pattern]) -> int | None:
    """Raises CommandError."""
    pause = command.conflate_ms
    if pause is not None and not 0 <= pause <= LONGEST_PAUSE_MS:
        raise CommandError(Error(command.id, "conflate_ms", f"{pause}", f"0 to {LONGEST_PAUSE_MS} milliseconds"))
    if command.cursor is None:
        return None
    if not streams or outlet.streams:
        detail = "a cursor is of streams, and goes with the first that a connection subscribes to"
        raise CommandError(Error(command.id, "cursor", detail, "all streams in one command, on a new connection"))
    return decode_cursor(command.cursor, command.id)


def _texts(patterns: list[Pattern]) -> list[str]:
    return [each.text for each in patterns]


def _put_snapshot(outlet: Outlet, command: int, parts: list[bytes]) -> None:
    frames = list(framed(parts)) or [[]]
    outlet.put(pack_snapshot(frame, command, more=frame is not frames[-1]) for frame in frames)


def _tell_lost(outlet: Outlet, after: int, until: int, reason: str) -> int:
    outlet.say(Lost(encode_cursor(after), encode_cursor(until), reason), until)
    return until
