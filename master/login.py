"""The login from the side of whoever comes, a collector or a consumer: the challenge, both ways (docs/wire.md, 4)."""

from typing import Protocol, TypeVar

from msgspec import Struct
from websockets.asyncio.client import ClientConnection

from master import auth
from master.protocol import Accepted, Challenge, Login, encode_control

Expected = TypeVar("Expected", bound=Struct)


class Expect(Protocol):
    """Reads a frame that has to be of this kind; raises what its side of the login says of another one."""

    def __call__(self, kind: type[Expected], frame: str | bytes) -> Expected: ...


async def log_in(socket: ClientConnection, role: auth.Role, name: str, key: str, expect: Expect) -> bool:
    """Whether the other side has shown that it knows the key too. Raises what `expect` does, and ConnectionClosed."""
    kid, secret = auth.split_key(key)
    opening = auth.Opening(role, id=name, nonce=auth.new_nonce(), kid=kid)
    await socket.send(auth.encode_opening(opening))
    challenge = expect(Challenge, await socket.recv())
    await socket.send(encode_control(Login(auth.proof(secret, "client", opening, challenge.nonce))))
    accepted = expect(Accepted, await socket.recv())
    return auth.is_same(accepted.proof, auth.proof(secret, "server", opening, challenge.nonce))
