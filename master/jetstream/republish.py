"""What is stored goes out again to NATS, one event a message, by market and type, for any NATS client.

A bounded queue between ingest, which never waits for it, and the connection. What the server has not confirmed is published
again, also by the next life of this master, and its id tells that it is the same. When there is no room, batches are left out:
counted, and told in the place where they are missing.
"""

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from time import time_ns

from msgspec import Struct
from nats.errors import MaxPayloadError

from adapters.events import Event, Gap
from master.jetstream.envelope import encoder
from master.jetstream.link import Link
from master.jetstream.settings import Republish
from master.jetstream.subjects import MESSAGE_ID, POSITION, message_id, of_event
from master.log import logger
from master.protocol import Batch, decode_events

log = logger("jetstream")

MOST_WAITING = 200_000
"""Events that may wait."""
GROUP = 256
"""Events, about, after which the server is asked whether it has them."""
CONFIRM_WITHIN = 10
BREATH = 64
"""Events after which others of the loop have their turn."""


class _Waiting(Struct):
    """Events of a batch. `position`: of the first among all that is stored, 0 where nobody knows it any more; `marks`: by
    stream, the seqs that are done with when these events are; `gap`: what was left out before them."""

    stream: str
    seq: int
    events: list[Event]
    position: int
    marks: dict[bytes, int]
    gap: Gap | None = None

    def messages(self) -> Iterator[tuple[Event, dict[str, str]]]:
        """Events with their headers."""
        name = message_id(self.stream, self.seq)
        if self.gap is not None:
            yield self.gap, {MESSAGE_ID: f"{name}:gap"}
        for index, event in enumerate(self.events):
            headers = {MESSAGE_ID: f"{name}:{index}"}
            if self.position:
                headers[POSITION] = str(self.position + index)
            yield event, headers


class Republisher:
    """`published`, `left_out`: events since the start."""

    def __init__(self, settings: Republish) -> None:
        self.published = 0
        self.left_out = 0
        self._encode = encoder(settings.envelope)
        self._is_kept = settings.keep is not None
        self._queue: deque[_Waiting] = deque()
        self._wake = asyncio.Event()
        self._size = 0
        self._heard: dict[bytes, int] = {}
        self._done: dict[bytes, int] = {}
        self._missing: Gap | None = None
        self._too_large: set[str] = set()

    # By ingest and readers ----------------------------------------------------------------------------------------------

    def hear(self, batch: Batch, events: Sequence[Event], position: int) -> None:
        """A batch is durable."""
        self._heard[batch.stream] = batch.seq
        if self._queue and self._size + len(events) > MOST_WAITING:
            self._leave_out(batch, position)
            return
        gap, self._missing = self._missing, None
        self._size += len(events)
        self._queue.append(_Waiting(batch.stream.hex(), batch.seq, list(events), position, {batch.stream: batch.seq}, gap))
        self._wake.set()

    def again(self, batch: Batch) -> None:
        """A batch that is stored was given again: an earlier life may have had no time for it."""
        if batch.seq > self._heard.get(batch.stream, 0):
            self.hear(batch, decode_events(batch.body), 0)

    def through(self, stream: bytes) -> int:
        """The seq up to which nothing of a stream waits here."""
        return self._done.get(stream, 0)

    def _leave_out(self, batch: Batch, position: int) -> None:
        now = time_ns() // 1000
        if self._missing is None:
            log.error("republishing is too slow; events are left out until there is room", waiting=self._size)
            self._missing = Gap("", None, None, now, "republish", "left out: these positions", str(position), None, now)
        self._missing.last_missing, self._missing.until = str(position + batch.count - 1), now
        self.left_out += batch.count
        self._queue[-1].marks[batch.stream] = batch.seq

    # By the connection --------------------------------------------------------------------------------------------------

    async def run(self, link: Link) -> None:
        """Publish until cancelled, from the oldest that was not confirmed. Raises what the library does."""
        while True:
            while not self._queue:
                self._wake.clear()
                await self._wake.wait()
            group = self._group()
            *messages, last = [message for each in group for message in each.messages()]
            for index, message in enumerate(messages):
                await self._publish(link, *message)
                if not index % BREATH:
                    await asyncio.sleep(0)
            await self._publish(link, *last, asks=True)
            for each in group:
                self._queue.popleft()
                self._size -= len(each.events)
                self.published += len(each.events)
                self._done.update(each.marks)

    def _group(self) -> list[_Waiting]:
        group, size = [], 0
        for each in self._queue:
            group.append(each)
            size += len(each.events)
            if size >= GROUP:
                break
        return group

    async def _publish(self, link: Link, event: Event, headers: dict[str, str], *, asks: bool = False) -> None:
        """`asks`: return when this and all before it are where they should be. A stream takes messages in their order, so that
        one answer of it is enough; without a stream the server's is."""
        subject, payload = of_event(event), self._encode(event)
        try:
            if asks and self._is_kept:
                await link.js.publish(subject, payload, timeout=CONFIRM_WITHIN, headers=headers)
            else:
                await link.client.publish(subject, payload, headers=headers)
        except MaxPayloadError:
            self.left_out += 1
            if subject not in self._too_large:
                self._too_large.add(subject)
                log.error("too large to be republished; raise max_payload of the server", subject=subject)
        if asks and not self._is_kept:
            await link.client.flush(CONFIRM_WITHIN)
