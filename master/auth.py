"""Login: a mutual HMAC challenge, so that the key itself never crosses the wire; and the plain form of older collectors.

The first frame is URL-encoded pairs in both: `key=<KEY>&role=collector` in the old form, `v=1&role=collector&id=..&nonce=..` in
the new. The proofs bind role, id, both nonces and the key's id, so that none of them can be replayed, reflected or altered
(wire.md, 4).
"""

import hmac
import re
from hashlib import sha256
from secrets import token_hex
from typing import Literal, get_args
from urllib.parse import parse_qsl, urlencode

from msgspec import Struct

NONCE_BYTES = 32
PLACEHOLDER_KEY = "YOUR_MASTER_KEY"
"""The key of the shipped configuration: good for a try on one machine, refused elsewhere."""

Role = Literal["collector", "consumer", "admin"]
"""A collector sends batches, a consumer reads, an admin manages."""
ROLES: tuple[Role, ...] = get_args(Role)

_OF_A_RING = re.compile(r"(k[0-9a-f]{8})\.([0-9a-f]{64})")


class LoginError(Exception):
    """The first frame is no login, or what it claims was not shown."""


class Opening(Struct, frozen=True):
    """A first frame. `key` is given in the old form only; `id`, `nonce` and `kid` (the key's, or "") in the new."""

    role: str
    key: str | None = None
    id: str = ""
    nonce: str = ""
    kid: str = ""


def new_nonce() -> str:
    return token_hex(NONCE_BYTES)


def new_key() -> tuple[str, str]:
    """An id and a secret for a key ring."""
    return f"k{token_hex(4)}", token_hex(32)


def join_key(kid: str, secret: str) -> str:
    """Both parts as people copy them."""
    return f"{kid}.{secret}"


def split_key(text: str) -> tuple[str, str]:
    """The id and the secret of a configured key; the id is "" where it is not of a key ring."""
    found = _OF_A_RING.fullmatch(text)
    return (found[1], found[2]) if found else ("", text)


def encode_opening(opening: Opening) -> str:
    fields = {"v": "1", "role": opening.role, "id": opening.id, "nonce": opening.nonce}
    return urlencode(fields | {"kid": opening.kid} if opening.kid else fields)


def decode_opening(frame: str) -> Opening:
    """Raises LoginError."""
    try:
        pairs = parse_qsl(frame, strict_parsing=True, max_num_fields=8)
    except ValueError as error:
        raise LoginError("the first frame is no login") from error
    fields = dict(pairs)
    # A line feed in a field would let two openings have one proof; a field given twice may be read in two ways.
    if len(fields) == len(pairs) and all(value.isprintable() for value in fields.values()):
        if fields.get("v") == "1" and {"role", "id", "nonce"} <= fields.keys() and "key" not in fields:
            return Opening(fields["role"], None, fields["id"], fields["nonce"], fields.get("kid", ""))
        if "v" not in fields and {"key", "role"} <= fields.keys():
            return Opening(fields["role"], fields["key"])
    raise LoginError("the first frame is no login")


def proof(key: str, by: Literal["client", "server"], opening: Opening, server_nonce: str) -> str:
    """Hex HMAC-SHA256 with which `by` shows that it has the key."""
    lines = ["cm.v1", by, opening.role, opening.id, opening.nonce, server_nonce]
    if opening.kid:
        lines.append(opening.kid)
    return hmac.new(key.encode(), "\n".join(lines).encode(), sha256).hexdigest()


def is_same(one: str, other: str) -> bool:
    """Comparison whose duration tells nothing."""
    return hmac.compare_digest(one.encode(), other.encode())
