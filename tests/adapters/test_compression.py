"""Compressed frames: whole, or an error."""

import gzip

import pytest

from adapters.compression import LARGEST, unzipped
from adapters.errors import FrameError

MESSAGE = b'{"ping":1790134045107}'
FRAME = gzip.compress(MESSAGE, mtime=0)


def test_a_frame_is_unpacked() -> None:
    assert unzipped(FRAME) == MESSAGE


@pytest.mark.parametrize("text", [MESSAGE, b"", b"\x1f"])
def test_what_is_no_gzip_passes(text: bytes) -> None:
    assert unzipped(text) == text


@pytest.mark.parametrize("length", range(2, len(FRAME)))
def test_a_frame_that_is_cut_is_an_error(length: int) -> None:
    with pytest.raises(FrameError):
        unzipped(FRAME[:length])


def test_a_frame_with_one_wrong_byte_is_an_error() -> None:
    for position in range(10, len(FRAME)):  # the header before has bytes without meaning
        with pytest.raises(FrameError):
            unzipped(FRAME[:position] + bytes([FRAME[position] ^ 1]) + FRAME[position + 1 :])


@pytest.mark.parametrize("more", [b"more", FRAME])
def test_more_than_one_message_is_an_error(more: bytes) -> None:
    with pytest.raises(FrameError):
        unzipped(FRAME + more)


def test_a_message_larger_than_any_sane_one_is_an_error() -> None:
    with pytest.raises(FrameError):
        unzipped(gzip.compress(b" " * (LARGEST + 1), mtime=0))
