"""Wire number tokens to plain decimal text: as precise as the venue's, exponents expanded, trailing zeros kept.

No Decimal and no float is printed back: a number leaves as the digits it came with.
"""

from datetime import UTC, datetime
from typing import Annotated

from msgspec import Meta, Raw

from adapters.errors import NumberError

Natural = Annotated[int, Meta(ge=0, le=2**63 - 1)]
"""An id, a sequence or nanoseconds as a venue sends it: what 64 bits hold, so that whatever is written out can be read."""
Millis = Annotated[int, Meta(ge=0, lt=10**14)]
"""Unix milliseconds, bounded so that their microseconds fit 64 bits."""

ZEROS = frozenset({"0", *("0." + "0" * places for places in range(1, 41))})
"""Every plain spelling of nothing: an amount among these removes its level."""


def is_plain(text: str) -> bool:
    """ASCII digits with at most one point: the one form that events carry."""
    return text.encode().replace(b".", b"", 1).isdigit()  # cheaper than of text, where digits are of any script


def plain(token: str) -> str:
    """The same number as plain decimal text: `1e-7` -> `0.0000001`, `1.50E+3` -> `1500`, `"0.10"` stays. Raises NumberError."""
    if is_plain(token):
        return token
    if not token.isascii():  # there are decimal digits of many scripts
        raise NumberError(f"not a number: {token[:40]!r}")
    sign, digits = ("-", token[1:]) if token[:1] == "-" else ("", token)
    mantissa, e, exponent = digits.replace("E", "e").partition("e")
    whole, _, fraction = mantissa.partition(".")
    shift = exponent[1:] if exponent[:1] in ("+", "-") else exponent
    if not (whole + fraction).isdecimal() or bool(e) != shift.isdecimal() or len(shift) > 3:
        raise NumberError(f"not a number: {token[:40]!r}")
    return sign + _shifted(whole, fraction, int(exponent or "0"))


def unsigned(token: str) -> str:
    """The same for a price or an amount, which is never less than nothing. Raises NumberError."""
    text = plain(token)
    if text.startswith("-"):
        raise NumberError(f"less than nothing: {token[:40]!r}")
    return text


def _shifted(whole: str, fraction: str, places: int) -> str:
    if places >= 0:
        fraction = fraction.ljust(places, "0")
        whole, fraction = whole + fraction[:places], fraction[places:]
    else:
        whole = whole.rjust(1 - places, "0")
        whole, fraction = whole[:places], whole[places:] + fraction
    whole = whole.lstrip("0") or "0"
    return f"{whole}.{fraction}" if fraction else whole


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def micros(text: str) -> int:
    """RFC 3339 (`2023-10-06T17:35:55.440295Z`; finer digits are cut) to integer microseconds UTC. Raises NumberError."""
    try:
        since = datetime.fromisoformat(text) - _EPOCH
    except (ValueError, TypeError) as error:  # TypeError: a time without its zone
        raise NumberError(f"not a time: {text[:40]!r}") from error
    days = since.days
    if days < 0:
        raise NumberError(f"a time before all markets: {text[:40]!r}")
    return (days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def text(number: Raw) -> str | None:
    """A bare number as its wire token; None where the venue sends null, or nothing."""
    written = str(number, "utf-8")
    return None if written in ("", "null") else written


def unquoted(token: Raw) -> str:
    """A number that its venue sends quoted or bare, as plain decimal text. Raises NumberError."""
    number = str(token, "utf-8").strip('"')
    return number if is_plain(number) else plain(number)


def micros_of_seconds(token: str) -> int:
    """Unix seconds (`1762795433.9717445`; finer digits are cut) to integer microseconds UTC. Raises NumberError."""
    whole, _, fraction = plain(token).partition(".")
    if not whole.isdecimal() or len(whole) > 11:
        raise NumberError(f"not a time: {token[:40]!r}")
    return int(whole + fraction[:6].ljust(6, "0"))
