"""MasterPool: authenticated WebSocket connections to the master, over which the lanes of this process are sent.

Lane i prefers connection i, and moves to a live one when that dies. Safety does not depend on where a lane is (its numbers see
to that), only efficiency does. A master that is away stalls nothing here: batches wait in their lanes, connections try again.
"""

import asyncio
from http import HTTPStatus
from pathlib import Path
from random import Random
from ssl import SSLContext, SSLError
from time import monotonic, time_ns

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from collector.engine import FencedError
from collector.outbox import IN_MEMORY, Outbox, Stream
from collector.spool import Spool
from collector.spools import Spools
from master.backoff import Backoff
from master.log import logger
from master.login import Expected, log_in
from master.protocol import (
    MAX_BATCH,
    Ack,
    Control,
    ControlError,
    Fenced,
    Hello,
    Known,
    Nak,
    Refused,
    Slow,
    Welcome,
    decode_control,
    encode_control,
)
from master.tls import trusting

log = logger("master_pool")

LOGIN_WITHIN = 10.0
PING_EVERY = 10.0
PONG_WITHIN = 10.0
SLOWEST_RETRY = 15.0
LONGEST_WAIT = 120.0


class LoginRefusedError(Exception):
    """The master does not take us, and why; trying again at once is no use."""


class MasterPool:
    """Owns the Outbox of this process and gets it to the master.

    `exchanges` are those whose last stored trades are asked for; `known` is the answer, of the first WELCOME.
    """

    def __init__(
        self,
        url: str,
        key: str,
        worker: str,
        connections: int,
        *,
        ca: Path | None = None,
        spool: Spool | None = None,
        adopted: tuple[Spool, ...] = (),
        quota: int = IN_MEMORY,
        exchanges: tuple[str, ...] = (),
    ) -> None:
        """`ca`: whom wss:// believes, instead of the system's authorities. Raises TlsError."""
        tls = trusting(ca) if url.startswith("wss:") else None
        self.outbox = Outbox(connections, self.wake, self._changed, spool, adopted, quota)
        self.known: asyncio.Future[dict[str, Known]] = asyncio.Future()
        self.exchanges = list(exchanges)
        self.version = 0
        self._spools = Spools(spool, adopted)
        self.worker = worker
        self.boot = time_ns() // 1000
        self._links = [_Link(self, url, key, tls) for _ in range(connections)]
        self.refusal: str | None = None
        self._said: set[str] = set()

    @property
    def live(self) -> int:
        """Connections that are logged in."""
        return sum(link.is_live for link in self._links)

    async def run(self) -> None:
        """Until cancelled. Raises FencedError."""
        self._spools.start(self.outbox)
        try:
            async with asyncio.TaskGroup() as tasks:
                for link in self._links:
                    tasks.create_task(link.run())
        except BaseExceptionGroup as group:
            fenced = group.subgroup(FencedError)
            if fenced is None:
                raise
            raise FencedError(str(fenced.exceptions[0])) from group

    async def close(self) -> None:
        """After `run` has ended: what is held and on disk stays there for the next life."""
        await self._spools.close()

    @property
    def trouble(self) -> str | None:
        """Why the disk does not take what waits for the master."""
        return self._spools.trouble

    def known_of(self, exchange: str) -> Known:
        """What is kept of an exchange, on our disk or by the master, as far as we know by now."""
        return self._spools.known_of(exchange, [self.known.result()] if self.known.done() else [])

    def wake(self, stream: Stream) -> None:
        """This stream may have something to send, wherever it is."""
        for link in self._links:
            if stream in link.streams:
                link.wake.set()

    def _changed(self) -> None:
        """Other streams are due than before, perhaps ones of which no session has heard."""
        self.version += 1
        for link in self._links:
            link.wake.set()
        self.assign()
        self._spools.let_go()

    def hello(self) -> Hello:
        """What we are, what we still hold, and (until it was answered) what we want to know (wire.md, 5.3)."""
        streams = {stream.sender.name: stream.sender.oldest for stream in self.outbox.streams}
        return Hello(self.worker, self.boot, streams, [] if self.known.done() else self.exchanges)

    def welcomed(self, welcome: Welcome) -> None:
        acked = self.outbox.acked if self.known.done() else self.outbox.was_acked  # nothing was sent before the first WELCOME
        for stream in list(self.outbox.streams):
            acked(stream, len(stream.sender.acked(welcome.streams.get(stream.sender.name, 0))))
            self.wake(stream)
        if not self.known.done():
            self.known.set_result(welcome.known)

    def assign(self) -> None:
        """Give every stream that is due to its own connection if that lives, else to another."""
        live = [link for link in self._links if link.is_live]
        due = self.outbox.due
        for link in self._links:
            for stream in [each for each in link.streams if each not in due]:
                link.streams.discard(stream)
                stream.sender.detach()
        for stream in due:
            own = self._links[stream.lane % len(self._links)]
            target = own if own.is_live else live[stream.lane % len(live)] if live else None
            holder = next((link for link in self._links if stream in link.streams), None)
            if holder is target:
                continue
            if holder is not None:
                holder.streams.discard(stream)
                stream.sender.detach()
            if target is not None:
                target.streams.add(stream)
                # The master's mark is at least what we know to be acknowledged; it drops what it has had already.
                stream.sender.attach(stream.sender.oldest - 1)
                target.wake.set()

    def say(self, trouble: str | None) -> None:
        """Tell a person once that the master cannot be reached, for each reason, and once that it can again."""
        if trouble is None and self._said:
            self._said.clear()
            log.info("connected to the master", connections=len(self._links))
        elif trouble is not None and trouble not in self._said:
            self._said.add(trouble)
            log.error("no master", reason=trouble)


class _Link:
    """One connection to the master."""

    def __init__(self, pool: MasterPool, url: str, key: str, tls: SSLContext | None) -> None:
        self.streams: set[Stream] = set()
        self.wake = asyncio.Event()
        self.is_live = False
        self._announced = 0
        self._slow_until = 0.0
        self._pool = pool
        self._url = url
        self._key = key
        self._tls = tls
        self._wait = 0.0

    async def run(self) -> None:
        backoff = Backoff(Random(), base=0.1, cap=SLOWEST_RETRY, stable=10.0)  # noqa: S311 (jitter)
        while True:
            began = monotonic()
            trouble = await self._session()
            if not self._pool.live:
                self._pool.say(trouble)
            wait, self._wait = self._wait, 0.0
            await asyncio.sleep(wait + backoff.after_failure(monotonic() - began))

    async def _session(self) -> str:
        """Connect, log in, serve: why it ended."""
        try:
            async with connect(
                self._url,
                ssl=self._tls,
                compression=None,
                max_size=MAX_BATCH,
                open_timeout=LOGIN_WITHIN,
                ping_interval=PING_EVERY,
                ping_timeout=PONG_WITHIN,
                close_timeout=2.0,
                proxy=None,
            ) as socket:
                async with asyncio.timeout(LOGIN_WITHIN):
                    await self._log_in(socket)
                    await self._greet(socket)
                await self._serve(socket)
        except LoginRefusedError as error:
            self._pool.refusal = str(error)
            return self._pool.refusal
        except (ConnectionClosed, ControlError) as error:
            return f"{self._url}: {error}"
        except WebSocketException as error:
            return self._turned_away(error)
        except SSLError as error:
            return f"{self._url}: {error}; is its certificate of master.ca (or of an authority that this system knows)?"
        except (OSError, TimeoutError, UnicodeError) as error:  # the last: a name that is none
            return f"{self._url}: {str(error) or 'no answer in time'}; is the master running?"
        finally:
            self.is_live = False
            self._pool.assign()
        return f"{self._url}: closed"

    def _turned_away(self, error: WebSocketException) -> str:
        """No session came of it. Who failed too often waits as long as the answer says (wire.md, 4)."""
        if isinstance(error, InvalidStatus) and error.response.status_code == HTTPStatus.TOO_MANY_REQUESTS:
            after = error.response.headers.get("Retry-After", "")
            self._wait = min(float(after), LONGEST_WAIT) if after.isdecimal() else 0.0
            # Where ours were among them, what was wrong with them remains the reason.
            return self._pool.refusal or f"{self._url} refuses: too many failed logins from this address, by others"
        return f"{self._url}: {error}; is that the master's port?"

    async def _log_in(self, socket: ClientConnection) -> None:
        """Raises LoginRefusedError, ControlError."""
        if not await log_in(socket, "collector", self._pool.worker, self._key, self._expect):
            raise LoginRefusedError(f"{self._url}: the other side does not know the key; it is not our master")

    async def _greet(self, socket: ClientConnection) -> None:
        """HELLO and WELCOME: what we still hold, and what the master has (wire.md, 5.3)."""
        await self._say_hello(socket)
        self._pool.welcomed(self._expect(Welcome, await socket.recv()))

    async def _say_hello(self, socket: ClientConnection) -> None:
        self._announced = self._pool.version
        await socket.send(encode_control(self._pool.hello()))

    def _expect(self, kind: type[Expected], frame: str | bytes) -> Expected:
        message = decode_control(frame)
        self._heed(message)
        if isinstance(message, Refused):
            raise LoginRefusedError(f"{self._url} refuses: {message.reason}")
        if not isinstance(message, kind):
            raise ControlError(f"{type(message).__name__} where {kind.__name__} was expected")
        return message

    async def _serve(self, socket: ClientConnection) -> None:
        self.is_live = True
        self._pool.refusal = None
        self._pool.assign()
        self._pool.say(None)
        sending = asyncio.create_task(self._send(socket))
        try:
            async for frame in socket:
                self._take(frame)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _send(self, socket: ClientConnection) -> None:
        """Whatever the streams of this connection have to send, as far as their windows allow."""
        while True:
            self.wake.clear()
            while self._announced != self._pool.version:  # more may come while it is said
                await self._say_hello(socket)
            for stream in list(self.streams):
                while stream in self.streams and (batch := stream.sender.next_batch()) is not None:
                    await socket.send(batch.data)
                    if (pause := self._slow_until - monotonic()) > 0:
                        await asyncio.sleep(pause)
            await self.wake.wait()

    def _take(self, frame: str | bytes) -> None:
        """An acknowledgement, or word of a hole. Raises ControlError, FencedError."""
        message = decode_control(frame)
        self._heed(message)
        if isinstance(message, Welcome):
            self._pool.welcomed(message)
            return
        streams = {stream.sender.name: stream for stream in self._pool.outbox.streams}
        if isinstance(message, Ack):
            for name, seq in message.streams.items():
                if name in streams:
                    stream = streams[name]
                    self._pool.outbox.acked(stream, len(stream.sender.acked(seq)))
                    self._pool.wake(stream)
        elif isinstance(message, Nak) and message.stream in streams:
            streams[message.stream].sender.nak(message.want)
            self._pool.wake(streams[message.stream])
        elif isinstance(message, Slow):
            self._slow_until = monotonic() + min(message.seconds, SLOWEST_RETRY)
        elif isinstance(message, Refused):
            raise ControlError(message.reason)

    def _heed(self, message: Control) -> None:
        """Raises FencedError."""
        if isinstance(message, Fenced):
            raise FencedError(
                f"{self._url}: a newer process has taken the place of worker {self._pool.worker}; "
                "does another collector use this `name`?"
            )
