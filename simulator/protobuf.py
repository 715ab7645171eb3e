"""Protocol buffers as far as a sender needs them: varints, texts and nested messages, in the order they are given.

In proto3 a scalar with the value 0 or "" is absent.
"""

VARINT, LENGTH = 0, 2


def varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first; all but the last byte have the high bit. Negative numbers take 64 bits."""
    number &= (1 << 64) - 1
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def integer(field: int, number: int) -> bytes:
    """A field of type int32 or int64."""
    return varint(field << 3 | VARINT) + varint(number) if number else b""


def text(field: int, value: str) -> bytes:
    """A field of type string."""
    return message(field, value.encode()) if value else b""


def message(field: int, *parts: bytes) -> bytes:
    """A field that holds a message: there even if the message is empty."""
    body = b"".join(parts)
    return varint(field << 3 | LENGTH) + varint(len(body)) + body
