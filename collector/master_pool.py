"""MasterPool: authenticated WebSocket connections to the master, over which the lanes of this process are sent.

Lane i prefers connection i, and moves to a live one when that dies. Safety does not depend on where a lane is (its numbers see
to that), only efficiency does. A master that is away stalls nothing here: batches wait in their lanes, connections try again.
"""

import asyncio
from random import Random
from time import monotonic, time_ns
from typing import TypeVar

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from collector.limits import Backoff
from collector.outbox import Lane, Outbox
from master import auth
from master.log import logger
from master.protocol import (
    MAX_BATCH,
    Accepted,
    Ack,
    Challenge,
    ControlError,
    Hello,
    Login,
    Nak,
    Refused,
    Welcome,
    decode_control,
    encode_control,
)

log = logger("master_pool")

Expected = TypeVar("Expected", Challenge, Accepted, Welcome)

LOGIN_WITHIN = 10.0
PING_EVERY = 10.0
PONG_WITHIN = 10.0
SLOWEST_RETRY = 15.0


class LoginRefusedError(Exception):
    """The master does not take us, and why; trying again at once is no use."""


class MasterPool:
    """Owns the Outbox of this process and gets it to the master."""

    def __init__(self, url: str, key: str, worker: str, connections: int) -> None:
        self.outbox = Outbox(connections, self.wake)
        self._boot = time_ns() // 1000
        self._links = [_Link(index, self, url, key, worker) for index in range(connections)]
        self._said: set[str] = set()

    @property
    def live(self) -> int:
        """Connections that are logged in."""
        return sum(link.is_live for link in self._links)

    @property
    def boot(self) -> int:
        return self._boot

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for link in self._links:
                tasks.create_task(link.run())

    def wake(self, lane: Lane) -> None:
        """This lane may have something to send, wherever it is."""
        for link in self._links:
            if lane in link.lanes:
                link.wake.set()

    def assign(self) -> None:
        """Give every lane to its own connection if that lives, else to another."""
        live = [link for link in self._links if link.is_live]
        for lane in self.outbox.lanes:
            own = self._links[lane.index]
            target = own if own.is_live else live[lane.index % len(live)] if live else None
            holder = next((link for link in self._links if lane in link.lanes), None)
            if holder is target:
                continue
            if holder is not None:
                holder.lanes.discard(lane)
                lane.sender.detach()
            if target is not None:
                target.lanes.add(lane)
                # The master's mark is at least what we know to be acknowledged; it drops what it has had already.
                lane.sender.attach(lane.sender.oldest - 1)
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

    def __init__(self, index: int, pool: MasterPool, url: str, key: str, worker: str) -> None:
        self.lanes: set[Lane] = set()
        self.wake = asyncio.Event()
        self.is_live = False
        self._index = index
        self._pool = pool
        self._url = url
        self._key = key
        self._worker = worker

    async def run(self) -> None:
        backoff = Backoff(Random(), base=0.1, cap=SLOWEST_RETRY, stable=10.0)  # noqa: S311 (jitter)
        while True:
            began = monotonic()
            trouble = await self._session()
            if not self._pool.live:
                self._pool.say(trouble)
            await asyncio.sleep(backoff.after_failure(monotonic() - began))

    async def _session(self) -> str:
        """Connect, log in, serve: why it ended."""
        try:
            async with connect(
                self._url,
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
            return str(error)
        except (ConnectionClosed, ControlError) as error:
            return f"{self._url}: {error}"
        except WebSocketException as error:
            return f"{self._url}: {error}; is that the master's port?"
        except (OSError, TimeoutError) as error:
            return f"{self._url}: {error or 'no answer in time'}; is the master running?"
        finally:
            self.is_live = False
            self._pool.assign()
        return f"{self._url}: closed"

    async def _log_in(self, socket: ClientConnection) -> None:
        """The challenge, both ways (wire.md, 4). Raises LoginRefusedError."""
        opening = auth.Opening("collector", id=self._worker, nonce=auth.new_nonce())
        await socket.send(auth.encode_opening(opening))
        challenge = self._expect(Challenge, await socket.recv())
        await socket.send(encode_control(Login(auth.proof(self._key, "client", opening, challenge.nonce))))
        accepted = self._expect(Accepted, await socket.recv())
        if not auth.is_same(accepted.proof, auth.proof(self._key, "server", opening, challenge.nonce)):
            raise LoginRefusedError(f"{self._url}: the other side does not know the key; it is not our master")

    async def _greet(self, socket: ClientConnection) -> None:
        """HELLO and WELCOME: what we still hold, and what the master has (wire.md, 5)."""
        outbox = self._pool.outbox
        streams = {lane.sender.name: lane.sender.oldest for lane in outbox.lanes}
        await socket.send(encode_control(Hello(self._worker, self._pool.boot, streams)))
        welcome = self._expect(Welcome, await socket.recv())
        for lane in outbox.lanes:
            outbox.acked(lane, lane.sender.acked(welcome.streams.get(lane.sender.name, 0)))
            self._pool.wake(lane)

    def _expect(self, kind: type[Expected], frame: str | bytes) -> Expected:
        message = decode_control(frame)
        if isinstance(message, Refused):
            raise LoginRefusedError(f"{self._url} refuses: {message.reason}")
        if not isinstance(message, kind):
            raise ControlError(f"{type(message).__name__} where {kind.__name__} was expected")
        return message

    async def _serve(self, socket: ClientConnection) -> None:
        self.is_live = True
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
        """Whatever the lanes of this connection have to send, as far as their windows allow."""
        while True:
            self.wake.clear()
            for lane in list(self.lanes):
                while lane in self.lanes and (batch := lane.sender.next_batch()) is not None:
                    await socket.send(batch.data)
            await self.wake.wait()

    def _take(self, frame: str | bytes) -> None:
        """An acknowledgement, or word of a hole. Raises ControlError."""
        message = decode_control(frame)
        lanes = {lane.sender.name: lane for lane in self._pool.outbox.lanes}
        if isinstance(message, Ack):
            for name, seq in message.streams.items():
                if name in lanes:
                    self._pool.outbox.acked(lanes[name], lanes[name].sender.acked(seq))
                    self._pool.wake(lanes[name])
        elif isinstance(message, Nak) and message.stream in lanes:
            lanes[message.stream].sender.nak(message.want)
            self._pool.wake(lanes[message.stream])
        elif isinstance(message, Refused):
            raise ControlError(message.reason)
