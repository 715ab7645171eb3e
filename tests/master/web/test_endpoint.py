"""What may be asked: parameters read as their types say, and every mistake named."""

from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta, Struct

from master.history.questions import moment
from master.web.endpoint import Time, read
from master.web.http import ApiError


class Asked(Struct):
    symbol: Annotated[str, Meta(description="a symbol")]
    depth: Annotated[int, Meta(ge=1, le=10, description="1 to 10")] = 5
    form: Annotated[Literal["a", "b"], Meta(description="a, b")] = "a"
    start: Annotated[Time | None, Meta(description="a time")] = None
    exchange: Annotated[str | None, Meta(description="an exchange")] = None


def test_what_is_left_out_is_as_the_type_says() -> None:
    assert read(Asked, [("symbol", "BTC/USD")]) == Asked("BTC/USD", 5, "a", None, None)
    assert read(Asked, [("symbol", "BTC/USD"), ("exchange", ""), ("depth", "")]) == Asked("BTC/USD")


def test_what_is_given() -> None:
    given = [("symbol", "null"), ("depth", "10"), ("form", "b"), ("start", "1970-01-01T00:00:01Z"), ("exchange", "kraken")]
    assert read(Asked, given) == Asked("null", 10, "b", Time(1_000_000), "kraken")


@pytest.mark.parametrize(
    ("given", "detail", "change"),
    [
        ([], "symbol is missing", "symbol: a symbol"),
        ([("symbol", "")], "symbol is missing", "symbol: a symbol"),
        ([("symbol", "X"), ("depth", "11")], "depth: '11' is not understood", "depth: 1 to 10"),
        ([("symbol", "X"), ("depth", "ten")], "depth: 'ten' is not understood", "depth: 1 to 10"),
        ([("symbol", "X"), ("form", "c")], "form: 'c' is not understood", "form: a, b"),
        ([("symbol", "X"), ("start", "noon")], "start: 'noon' is not understood", "start: a time"),
        ([("symbol", "X"), ("symbol", "Y")], "symbol is given twice", "give it once"),
        (
            [("symbol", "X"), ("symbols", "Y")],
            "'symbols' is no parameter of this path",
            "known here: symbol, depth, form, start, exchange",
        ),
        (
            [("depth", "0"), ("form", "c")],
            "depth: '0' is not understood; form: 'c' is not understood; symbol is missing",
            "depth: 1 to 10; form: a, b; symbol: a symbol",
        ),
    ],
)
def test_every_mistake_is_named(given: list[tuple[str, str]], detail: str, change: str) -> None:
    with pytest.raises(ApiError) as caught:
        read(Asked, given)
    assert (caught.value.status, caught.value.detail, caught.value.change) == (400, detail, change)


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("0", 0),
        ("1764158400000000", 1_764_158_400_000_000),
        ("2025-11-26T12:00:00Z", 1_764_158_400_000_000),
        ("2025-11-26T12:00:00", 1_764_158_400_000_000),
        ("2025-11-26T13:00:00.000001+01:00", 1_764_158_400_000_001),
        ("2025-11-26", 1_764_115_200_000_000),
        ("1969-12-31T23:59:59Z", -1_000_000),
        ("253402300799999999", 253_402_300_799_999_999),
    ],
)
def test_a_time(text: str, micros: int) -> None:
    assert moment(text) == micros


@pytest.mark.parametrize("text", ["253402300800000000", "9" * 5000, "-1", "1.5", "1e9", "2025-02-30", "12:00", "٣"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (whatever it says, `read` says it better)
        moment(text)


@given(st.text(max_size=30))
def test_no_text_is_more_than_a_mistake(text: str) -> None:
    for name in Asked.__struct_fields__:
        try:
            found = read(Asked, [("symbol", "X"), (name, text)] if name != "symbol" else [("symbol", text)])
        except ApiError:
            continue
        else:
            assert 1 <= found.depth <= 10
            assert found.form in ("a", "b")
            assert found.start is None or -(2**63) < found.start < 2**63
