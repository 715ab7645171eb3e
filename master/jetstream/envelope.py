"""One event as one message: JSON as in docs/wire.md, or Protobuf as in market.proto."""

from collections.abc import Callable
from typing import Any, Literal

import msgspec

from adapters.events import Event
from master.jetstream import market_pb2
from master.jetstream.subjects import KINDS

Encode = Callable[[Event], bytes]

_COMMON = ("exchange", "symbol", "timestamp", "received")
_LEVELS = ("bids", "asks")


def _field_names(kind: type) -> tuple[str, ...]:
    return tuple(name for name in kind.__struct_fields__ if name not in _COMMON)  # type: ignore[attr-defined]


_NAMES = {kind: _field_names(kind) for kind in KINDS}
_to_json: Encode = msgspec.json.Encoder().encode


def _to_protobuf(event: Event) -> bytes:
    """Fields that are None stay absent, which the library makes of them by itself."""
    kind = type(event)
    body: dict[str, Any] = {name: getattr(event, name) for name in _NAMES[kind]}
    for side in _LEVELS:
        if side in body:
            body[side] = [{"price": price, "amount": amount} for price, amount in body[side]]
    whole: dict[str, Any] = {name: getattr(event, name) for name in _COMMON} | {KINDS[kind]: body}
    message: bytes = market_pb2.Event(**whole).SerializeToString()
    return message


_ENCODERS: dict[str, Encode] = {"json": _to_json, "protobuf": _to_protobuf}


def encoder(envelope: Literal["json", "protobuf"]) -> Encode:
    return _ENCODERS[envelope]
