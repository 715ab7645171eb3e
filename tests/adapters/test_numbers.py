"""Numbers leave as the digits they came with: checked against decimal.Decimal, and times against datetime."""

import re
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from adapters.errors import NumberError
from adapters.numbers import ZEROS, is_plain, micros, micros_of_seconds, plain, unquoted, unsigned

PLAIN = re.compile(r"-?[0-9]+(\.[0-9]+)?")

digits = st.text("0123456789", min_size=1, max_size=25)
plain_texts = st.builds(lambda whole, fraction: whole + fraction, digits, st.just("") | digits.map(".{}".format))
exponents = st.builds(
    lambda e, sign, power: f"{e}{sign}{power}", st.sampled_from("eE"), st.sampled_from(["", "+", "-"]), st.integers(0, 60)
)
tokens = st.builds(lambda sign, text, exponent: sign + text + exponent, st.sampled_from(["", "-"]), plain_texts, exponents)


@given(plain_texts)
def test_plain_text_passes_as_it_is(text: str) -> None:
    assert is_plain(text)
    assert plain(text) == text


@given(tokens)
def test_an_exponent_is_expanded_to_the_same_value(token: str) -> None:
    text = plain(token)
    assert PLAIN.fullmatch(text)
    assert Decimal(text) == Decimal(token)


@given(tokens)
def test_a_number_is_the_same_quoted_or_bare(token: str) -> None:
    assert unquoted(Raw(token.encode())) == unquoted(Raw(f'"{token}"'.encode())) == plain(token)


@pytest.mark.parametrize("token", [b"", b'""', b"null", b"true", b"[]", b'"x"', b"\xd9\xa1"])
def test_what_is_neither_is_refused(token: bytes) -> None:
    with pytest.raises(NumberError):
        unquoted(Raw(token))


@given(tokens)
def test_an_expanded_number_is_as_precise_as_its_token(token: str) -> None:
    exponent = Decimal(token).as_tuple().exponent
    assert isinstance(exponent, int)
    assert len(plain(token).partition(".")[2]) == max(0, -exponent)


@given(st.floats(min_value=1e-300, max_value=1e300))
def test_what_json_writers_print_for_a_float_is_read_as_that_float(number: float) -> None:
    assert float(plain(repr(number))) == number


@pytest.mark.parametrize(
    ("token", "text"),
    [
        ("1e-7", "0.0000001"),
        ("1.50E+3", "1500"),
        ("1.2345e2", "123.45"),
        ("1.500e1", "15.00"),
        ("0.10", "0.10"),
        ("00.5e1", "5"),
        ("0e-8", "0.00000000"),
        ("-1.5e-1", "-0.15"),
        ("-3", "-3"),
    ],
)
def test_examples(token: str, text: str) -> None:
    assert plain(token) == text


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "-",
        "+1",
        "--1",
        "1e",
        "1e+",
        "e5",
        "1e5.0",
        "1.2.3",
        "1,5",
        "1_000",
        " 1",
        "1 ",
        "0x1",
        "NaN",
        "inf",
        "null",
        "1e1000",
        "1e-99999",
        "٣",
        "1.٣",
        "3e٣",
        "²",
        "1-",
        "1e--5",
    ],  # digits that are none of ours, sizes that are no price
)
def test_what_is_no_number_is_refused(token: str) -> None:
    assert not is_plain(token)
    with pytest.raises(NumberError):
        plain(token)


@given(st.text(max_size=12))
def test_any_text_gives_plain_digits_or_is_refused(text: str) -> None:
    try:
        result = plain(text)
    except NumberError:
        assert not is_plain(text)
    else:
        assert Decimal(result) == Decimal(text)
        assert re.fullmatch(r"-?[0-9]*\.?[0-9]*", result)


@given(tokens)
def test_a_price_or_an_amount_has_no_sign(token: str) -> None:
    if token.startswith("-"):
        with pytest.raises(NumberError):
            unsigned(token)
    else:
        assert unsigned(token) == plain(token)


def test_zeros_are_every_plain_spelling_of_nothing() -> None:
    assert {"0", "0.0", "0.00000000", "0." + "0" * 40} <= ZEROS
    assert all(Decimal(text) == 0 and is_plain(text) for text in ZEROS)


# Times -------------------------------------------------------------------------------------------------------------------

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
times = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1))  # noqa: DTZ001


@given(times, st.integers(-14 * 60, 14 * 60))
def test_a_time_in_any_zone_is_microseconds_utc(time: datetime, minutes: int) -> None:
    there = time.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    assert micros(there.isoformat()) == (there - EPOCH) // timedelta(microseconds=1)


@given(times)
def test_zulu_times_as_venues_write_them(time: datetime) -> None:
    expected = (time.replace(tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)
    assert micros(time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")) == expected
    assert micros(time.strftime("%Y-%m-%dT%H:%M:%S.%f987Z")) == expected, "finer digits are cut"


@pytest.mark.parametrize(
    "text", ["", "2023-10-06T17:35:55.440295", "yesterday", "1696613755", "2023-13-06T17:35:55Z", "0023-10-06T17:35:55Z"]
)
def test_what_is_no_time_of_these_days_or_has_no_zone_is_refused(text: str) -> None:
    with pytest.raises(NumberError):
        micros(text)


@given(st.integers(0, 99_999_999_999), st.integers(0, 999_999), st.text("0123456789", max_size=4))
def test_seconds_with_a_fraction_are_read_digit_by_digit(seconds: int, fraction: int, finer: str) -> None:
    assert micros_of_seconds(f"{seconds}.{fraction:06d}{finer}") == seconds * 1_000_000 + fraction
    assert micros_of_seconds(str(seconds)) == seconds * 1_000_000


@pytest.mark.parametrize("token", ["", "-1", "x", "999999999999", "1e12", "null", "1.2.3"])
def test_what_are_no_seconds_are_refused(token: str) -> None:
    with pytest.raises(NumberError):
        micros_of_seconds(token)
