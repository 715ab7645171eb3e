"""A consumer in Python: what it subscribes to, as it comes, over as many connections as it takes.

    async with Client("ws://127.0.0.1:8766", key) as client:
        async for message in client.subscribe("trades:*:BTC/USDT"):
            ...

After a broken connection streams go on where they were: each event of them is told once, in order. Whoever keeps the cursor of
the last message (`Events.cursor`) with what became of it may go on from there in another process. What a slow reader does not
take in time is asked for again when it is ready: nothing piles up here.

`python -m master.client URL TOPIC...` prints the messages, one JSON object a line; the key is COLLECTOR_MASTER__KEY.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from http import HTTPStatus
from random import Random
from ssl import SSLContext, SSLError
from typing import Self

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from master.auth import PLACEHOLDER_KEY, LoginError
from master.log import logger
from master.login import Expected, log_in
from master.protocol import MAX_BATCH, ControlError, Refused, decode_control
from master.streams.consumers import Bye, Error, Events, Lost, Snapshot, Subscribe, Subscribed, Views, decode_answer, encode
from master.tls import trusting

log = logger("client")

ANSWER_WITHIN = 10.0
PING_EVERY = 20.0
CLOSE_WITHIN = 2.0
FIRST_PAUSE = 0.2
LONGEST_PAUSE = 30.0

Message = Subscribed | Snapshot | Views | Events | Lost
"""Subscribed comes again after each new connection, and so does the snapshot of views."""


class SubscriptionError(Exception):
    """The master does not do what was asked for; `error` has its code, and what to change."""

    def __init__(self, error: Error) -> None:
        super().__init__(f"{error.code}: {error.detail} (right would be: {error.change})")
        self.error = error


class ConnectError(Exception):
    """There is no session with the master, and why; a later try may succeed, after `pause` seconds."""

    def __init__(self, message: str, pause: float = 0.0) -> None:
        super().__init__(message)
        self.pause = pause


class Client:
    """One subscription, as long as it is wanted; for another one make another Client."""

    def __init__(self, url: str, key: str, *, name: str = "consumer", tls: SSLContext | None = None) -> None:
        """`key`: `<kid>.<secret>`, or the shared one. `tls`: for `wss://` where the system's authorities are not the ones to
        believe (`master.tls.trusting`)."""
        self._url = url
        self._key = key
        self._name = name
        self._tls = trusting(None) if tls is None and url.startswith("wss:") else tls
        self._socket: ClientConnection | None = None
        self._is_used = False
        self._random = Random()  # noqa: S311 (jitter)

    async def __aenter__(self) -> Self:
        """Log in. Raises LoginError, ConnectError."""
        self._socket = await self._connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._disconnect()

    async def subscribe(
        self, *topics: str, cursor: str | None = None, conflate_ms: int | None = None
    ) -> AsyncIterator[Message]:
        """What the topics bring, without end; first what was since the cursor, if there is one. Connects again where it must.

        Raises SubscriptionError, LoginError."""
        if self._is_used:
            raise RuntimeError("this Client has a subscription already; make another Client")
        self._is_used = True
        failures = 0
        while True:
            try:
                socket = self._socket = self._socket or await self._connect()
                await socket.send(encode(Subscribe(1, list(topics), cursor, conflate_ms)), text=True)
                async for frame in socket:
                    message = _read(frame)
                    if message is None:
                        continue
                    failures = 0
                    if isinstance(message, Events) or (isinstance(message, Subscribed) and message.streams):
                        cursor = message.cursor
                    elif isinstance(message, Lost):
                        cursor = message.until
                    yield message
                trouble = ConnectError(f"{self._url}: closed")
            except ConnectionClosed as error:
                trouble = ConnectError(f"{self._url}: {error}")
            except ConnectError as error:
                trouble = error
            await self._disconnect()
            failures += 1
            pause = trouble.pause + self._random.uniform(0.0, min(LONGEST_PAUSE, FIRST_PAUSE * 2.0**failures))
            log.warning("no connection; streams go on from their cursor", reason=str(trouble), seconds=round(pause, 1))
            await asyncio.sleep(pause)

    async def _disconnect(self) -> None:
        socket, self._socket = self._socket, None
        if socket is not None:
            await socket.close()

    async def _connect(self) -> ClientConnection:
        """Raises ConnectError, LoginError."""
        try:
            socket = await connect(
                self._url,
                compression=None,
                max_size=MAX_BATCH,
                open_timeout=ANSWER_WITHIN,
                ping_interval=PING_EVERY,
                ping_timeout=PING_EVERY,
                close_timeout=CLOSE_WITHIN,
                proxy=None,
                ssl=self._tls,
            )
            try:
                async with asyncio.timeout(ANSWER_WITHIN):
                    await self._log_in(socket)
            except BaseException:
                await socket.close()
                raise
        except SSLError as error:
            raise ConnectError(f"{self._url}: {error}; is its certificate of an authority that `tls` believes?") from error
        except (OSError, TimeoutError, UnicodeError) as error:  # the last: a name that is none
            raise ConnectError(f"{self._url}: {str(error) or 'no answer in time'}; is the master running?") from error
        except InvalidStatus as error:
            raise _turned_away(self._url, error) from error
        except (WebSocketException, ControlError) as error:
            raise ConnectError(f"{self._url}: {error}; is that the master's port?") from error
        return socket

    async def _log_in(self, socket: ClientConnection) -> None:
        """Raises LoginError, ControlError."""
        if not await log_in(socket, "consumer", self._name, self._key, self._expect):
            raise LoginError(f"{self._url}: the other side does not know the key; it is not the master")

    def _expect(self, kind: type[Expected], frame: str | bytes) -> Expected:
        message = decode_control(frame)
        if isinstance(message, Refused):
            raise LoginError(f"{self._url}: {message.reason}; the key has to be one of role consumer or admin, and live")
        if not isinstance(message, kind):
            raise ControlError(f"{type(message).__name__} where {kind.__name__} was expected")
        return message


def _turned_away(url: str, error: InvalidStatus) -> ConnectError:
    response = error.response
    if response.status_code != HTTPStatus.TOO_MANY_REQUESTS:
        return ConnectError(f"{url}: {error}; is that the master's port?")
    after = response.headers.get("Retry-After", "")
    pause = min(float(after), LONGEST_PAUSE) if after.isdecimal() else 0.0
    return ConnectError(f"{url}: too many failed logins from this address", pause)


def _read(frame: str | bytes) -> Message | None:
    """None: nothing to tell. Raises SubscriptionError, LoginError, ConnectError."""
    try:
        message = decode_answer(frame)
    except msgspec.MsgspecError as error:
        raise ConnectError(f"a message that cannot be read: {error}") from error
    if isinstance(message, Error):
        raise SubscriptionError(message)
    if isinstance(message, Refused):
        raise LoginError(f"{message.reason}; the key is no longer live")
    if isinstance(message, Bye):
        raise ConnectError(f"the master has ended the session: {message.reason}")
    return message if isinstance(message, Message) else None


async def _print(url: str, *topics: str) -> None:
    key = os.environ.get("COLLECTOR_MASTER__KEY", PLACEHOLDER_KEY)
    async with Client(url, key) as client:
        async for message in client.subscribe(*topics):
            sys.stdout.buffer.write(encode(message) + b"\n")
            sys.stdout.flush()


def main(arguments: list[str]) -> int:
    if len(arguments) < 2:
        print("python -m master.client URL TOPIC...", file=sys.stderr)  # noqa: T201
        return 2
    try:
        asyncio.run(_print(*arguments))
    except (LoginError, ConnectError, SubscriptionError) as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    except (KeyboardInterrupt, BrokenPipeError):
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
