"""Who may come in: the login of wire.md section 4 over the keys there are, and the end of those whose key has gone."""

import asyncio
from collections import Counter
from http import HTTPStatus
from math import ceil
from time import monotonic
from typing import Literal

from msgspec import Struct
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from master import auth
from master.guard import Guard
from master.keys import KeyRing
from master.log import logger
from master.protocol import Accepted, Challenge, ControlError, Login, Refused, decode_control, encode_control
from master.settings import is_loopback

log = logger("door")

LOGIN_WITHIN = 5.0
LEAVE_WITHIN = 2.0
UNAUTHORISED = 4401
BROKEN = (1002, 1007, 1009)
"""Codes with which the library ends a connection whose frames are none, or too large."""


class Grant(Struct, frozen=True):
    """What a login has shown: the role, the name, and with which key ("" is the shared one)."""

    role: str
    id: str
    kid: str
    method: Literal["challenge", "legacy"]


class Door:
    """All who are in, and how they came in."""

    def __init__(self, ring: KeyRing, allow_legacy: bool | None = None) -> None:
        """`allow_legacy`: the login that sends the key, from everywhere or nowhere; None: where nobody can overhear it."""
        self.refused: Counter[str] = Counter()
        self.logins: Counter[tuple[str, str]] = Counter()
        self._ring = ring
        self._allow_legacy = allow_legacy
        self._guard = Guard()
        self._waiting: dict[ServerConnection, str] = {}
        self._inside: dict[ServerConnection, Grant] = {}
        self._decoy = auth.new_nonce()
        self.connection = _callers_at(self)

    # Before the login.

    def came(self, socket: ServerConnection) -> None:
        address = address_of(socket)
        if self._guard.enter(address):
            self._waiting[socket] = address
        else:
            self.refused["crowded"] += 1
            socket.transport.abort()

    def stopped_waiting(self, socket: ServerConnection) -> None:
        if (address := self._waiting.pop(socket, None)) is not None:
            self._guard.leave(address)

    def turned_away(self, socket: ServerConnection, _: Request) -> Response | None:
        """The answer to an address that has to pause, before anything is spent on it."""
        pause = self._guard.pause(address_of(socket), monotonic())
        if pause == 0.0:
            return None
        self.refused["throttled"] += 1
        response = socket.respond(HTTPStatus.TOO_MANY_REQUESTS, "too many failed logins\n")
        response.headers["Retry-After"] = str(ceil(pause))
        return response

    # The login.

    async def admit(self, socket: ServerConnection) -> Grant | None:
        """Let a connection log in, or send it away. Whoever is let in must be `left` in the end."""
        try:
            async with asyncio.timeout(LOGIN_WITHIN):
                grant = await self._log_in(socket)
        except auth.LoginError as error:
            self._failed(socket, "login", str(error))
            await _send_away(socket)
        except TimeoutError:
            self.refused["silent"] += 1
            await socket.close(UNAUTHORISED, "no login in time")
        except ConnectionClosed as error:
            if error.sent is not None and error.sent.code in BROKEN:
                self._failed(socket, "broken", error.sent.reason)
        else:
            self.logins[grant.role, grant.method] += 1
            self._inside[socket] = grant
            self._guard.trust(address_of(socket), monotonic())
            self.stopped_waiting(socket)
            return grant
        return None

    def left(self, socket: ServerConnection) -> None:
        del self._inside[socket]
        self._guard.trust(address_of(socket), monotonic())

    def _failed(self, socket: ServerConnection, how: str, reason: str) -> None:
        address = address_of(socket)
        self.refused[how] += 1
        log.warning("login refused", address=address, reason=reason)
        if pause := self._guard.failed(address, monotonic()):
            log.error("too many failed logins; the address has to wait", address=address, seconds=pause)

    async def _log_in(self, socket: ServerConnection) -> Grant:
        """Raises LoginError. An unknown role or key and a wrong one look the same from outside (wire.md, 4)."""
        opening = auth.decode_opening(_text(await socket.recv()))
        if opening.key is not None:
            return self._log_in_legacy(socket, opening.key, opening.role)
        nonce = auth.new_nonce()
        await socket.send(encode_control(Challenge(nonce)))
        login = _login(await socket.recv())
        secret = self._ring.secret(opening.kid, opening.role)
        # Whoever names a key that is none costs the same work, and learns nothing from the time it takes.
        is_right = auth.is_same(login.proof, auth.proof(secret or self._decoy, "client", opening, nonce))
        if secret is None or not is_right:
            raise auth.LoginError(f"wrong key or role ({self._ring.describe(opening.kid)})")
        await socket.send(encode_control(Accepted(auth.proof(secret, "server", opening, nonce))))
        return Grant(opening.role, opening.id, opening.kid, "challenge")

    def _log_in_legacy(self, socket: ServerConnection, key: str, role: str) -> Grant:
        kid, shown = auth.split_key(key)
        secret = self._ring.secret(kid, role)
        is_right = auth.is_same(shown, secret or self._decoy)
        if not self._may_be_legacy(socket):
            raise auth.LoginError("the old form from elsewhere, which anybody may have overheard; see server.allow_legacy")
        if secret is None or not is_right or role != "collector":
            raise auth.LoginError(f"wrong key or role (old form, {self._ring.describe(kid)})")
        return Grant(role, "", kid, "legacy")

    def _may_be_legacy(self, socket: ServerConnection) -> bool:
        if self._allow_legacy is not None:
            return self._allow_legacy
        return socket.transport.get_extra_info("sslcontext") is not None or is_loopback(address_of(socket))

    # After it.

    async def expel(self) -> None:
        """End the sessions whose key is no longer live."""
        gone = [each for each, grant in self._inside.items() if self._ring.secret(grant.kid, grant.role) is None]
        for socket in gone:
            log.warning("session ended: its key is no longer live", key=self._inside[socket].kid, address=address_of(socket))
        await asyncio.gather(*(self._expel(each) for each in gone))

    async def _expel(self, socket: ServerConnection) -> None:
        self.refused["expelled"] += 1
        try:
            async with asyncio.timeout(LEAVE_WITHIN):
                await _send_away(socket)
        except TimeoutError:
            socket.transport.abort()  # one that does not read must not stay for it


def _callers_at(door: Door) -> type[ServerConnection]:
    """Connections that the door knows of from their first moment, before the library does anything for them."""

    class Caller(ServerConnection):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            door.came(self)

        def connection_lost(self, exc: Exception | None) -> None:
            door.stopped_waiting(self)
            super().connection_lost(exc)

    return Caller


async def _send_away(socket: ServerConnection) -> None:
    try:
        await socket.send(encode_control(Refused("login refused", retry=False)))
        await socket.close(UNAUTHORISED, "login refused")
    except ConnectionClosed:
        pass


def _login(frame: str | bytes) -> Login:
    try:
        login = decode_control(frame)
    except ControlError as error:
        raise auth.LoginError("no login where one was expected") from error
    if not isinstance(login, Login):
        raise auth.LoginError("no login where one was expected")
    return login


def _text(frame: str | bytes) -> str:
    if isinstance(frame, bytes):
        raise auth.LoginError("the first frame is no login")
    return frame


def address_of(socket: ServerConnection) -> str:
    return str(socket.remote_address[0]) if socket.remote_address else "?"
