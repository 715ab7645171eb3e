"""One connection to NATS, from its login to its end. What ends it is said in words; to try again is for whoever asked.

The library's own reconnecting is off: it would buffer what it cannot send and resend it out of turn. A session that begins
anew knows what it has.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import TypeVar

import nats.errors
from nats.aio.client import Client
from nats.js.client import JetStreamContext
from nats.js.errors import APIError, NoStreamResponseError

from master.jetstream.access import Access
from master.log import logger
from master.tls import TlsError

log = logger("jetstream")

Answer = TypeVar("Answer")

CONNECT_WITHIN = 5
ANSWER_WITHIN = 5.0
PING_EVERY = 5
"""Seconds between pings; a server that leaves two unanswered is gone."""

NO_ROOM = {10023, 10025, 10047, 10077}
"""Codes of the server's errors that mean that a stream, an account or a disk is full."""


class LinkError(Exception):
    """No connection, or none any more: why, and what to change."""


class Link:
    """A live connection. `over` is set when it has ended, be it for `trouble` or in order."""

    def __init__(self) -> None:
        self.client = Client()
        self.js = JetStreamContext(self.client, timeout=ANSWER_WITHIN)
        self.over = asyncio.Event()
        self.trouble = "the server closed the connection"
        self._said: set[str] = set()

    async def was_closed(self) -> None:
        self.over.set()

    async def failed(self, error: Exception) -> None:
        """Something of the library went wrong in the background. What was dropped on the way in is not known by number:
        only to begin anew brings it back."""
        if isinstance(error, nats.errors.SlowConsumerError):
            self.end("messages came faster than they were taken")
        elif words := in_words(error):
            self.trouble = words
            if words not in self._said and "permissions violation" in words.lower():  # which nobody hears of otherwise
                self._said.add(words)
                log.error("the NATS server forbids something; see docs/jetstream.md, Keys and TLS", reason=words)

    def end(self, trouble: str) -> None:
        """No more of this connection, for this reason."""
        self.trouble = trouble
        self.over.set()

    async def while_up(self, work: Awaitable[Answer]) -> Answer:
        """The result of this, unless the connection ends before. Raises LinkError."""
        working, ending = asyncio.ensure_future(work), asyncio.create_task(self.over.wait())
        try:
            await asyncio.wait({working, ending}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise LinkError(self.trouble)
            return working.result()
        finally:
            ending.cancel()
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)


@asynccontextmanager
async def linked(access: Access, name: str) -> AsyncIterator[Link]:
    """A connection under this name. Raises LinkError, also for what NATS answers while it is open."""
    link = Link()
    where = ", ".join(access.servers)
    try:
        await link.client.connect(
            list(access.servers),
            name=name,
            error_cb=link.failed,
            closed_cb=link.was_closed,
            allow_reconnect=False,
            connect_timeout=CONNECT_WITHIN,
            ping_interval=PING_EVERY,
            max_outstanding_pings=2,
            tls=access.tls(),
            nkeys_seed=None if access.nkey is None else str(access.nkey),
        )
        try:
            yield link
        finally:
            await link.client.close()
    except (nats.errors.Error, OSError, TimeoutError, TlsError) as error:
        raise LinkError(f"{where}: {in_words(error)}") from error
    except LinkError as error:
        raise LinkError(f"{where}: {error}") from error


NO_STREAM = "no stream takes batches, or JetStream is off; a master makes the stream when it starts"
_WORDS: tuple[tuple[type[BaseException], str], ...] = (
    (NoStreamResponseError, NO_STREAM),
    (nats.errors.NoRespondersError, "JetStream is off on this server; start it with -js, or a section jetstream {}"),
    (nats.errors.MaxPayloadError, "a batch is larger than the server's max_payload; raise that"),
    (TimeoutError, "no answer in time"),
    (ConnectionRefusedError, "nobody listens there; is nats-server running?"),
)
_MAKE_ROOM = "; make room: a master that reads, jetstream.queue.max_gb, or the server's disk (after that it may need a restart)"


def in_words(error: BaseException) -> str:
    """What went wrong, for a person, and what to do about it."""
    if isinstance(error, APIError):
        number = f" ({error.err_code})" if error.err_code else ""
        return f"{error.description}{number}{_MAKE_ROOM if error.err_code in NO_ROOM else ''}"
    for kind, words in _WORDS:
        if isinstance(error, kind):
            return words
    words = str(error).removeprefix("nats: ")
    if "authorization violation" in words.lower():
        return "the server refuses the login; see jetstream.nkey"
    return words or type(error).__name__
