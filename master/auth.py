"""Login: a mutual HMAC challenge, so that the key itself never crosses the wire; and the plain form of older collectors.

The first frame is URL-encoded pairs in both: `key=<KEY>&role=collector` in the old form, `v=1&role=collector&id=..&nonce=..` in
the new. The proofs bind role, id and both nonces, so that none of them can be replayed, reflected or altered (wire.md, 4).
"""

import hmac
from hashlib import sha256
from secrets import token_hex
from typing import Literal
from urllib.parse import parse_qsl, urlencode

from msgspec import Struct

NONCE_BYTES = 32
PLACEHOLDER_KEY = "YOUR_MASTER_KEY"
"""The key of the shipped configuration: good for a try on one machine, refused elsewhere."""


class LoginError(Exception):
    """The first frame is no login."""


class Opening(Struct, frozen=True):
    """A first frame. `key` is given in the old form only, `id` and `nonce` in the new."""

    role: str
    key: str | None = None
    id: str = ""
    nonce: str = ""


def new_nonce() -> str:
    return token_hex(NONCE_BYTES)


def encode_opening(opening: Opening) -> str:
    return urlencode({"v": "1", "role": opening.role, "id": opening.id, "nonce": opening.nonce})


def decode_opening(frame: str) -> Opening:
    """Raises LoginError."""
    try:
        fields = dict(parse_qsl(frame, strict_parsing=True, max_num_fields=8))
    except ValueError as error:
        raise LoginError("the first frame is no login") from error
    if fields.get("v") == "1" and {"role", "id", "nonce"} <= fields.keys() and "key" not in fields:
        return Opening(fields["role"], None, fields["id"], fields["nonce"])
    if "v" not in fields and {"key", "role"} <= fields.keys():
        return Opening(fields["role"], fields["key"])
    raise LoginError("the first frame is no login")


def proof(key: str, by: Literal["client", "server"], opening: Opening, server_nonce: str) -> str:
    """Hex HMAC-SHA256 with which `by` shows that it has the key."""
    message = "\n".join(("cm.v1", by, opening.role, opening.id, opening.nonce, server_nonce))
    return hmac.new(key.encode(), message.encode(), sha256).hexdigest()


def is_same(one: str, other: str) -> bool:
    """Comparison whose duration tells nothing."""
    return hmac.compare_digest(one.encode(), other.encode())
