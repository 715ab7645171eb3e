"""Canonical symbols, and native names cut by rule."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.errors import SymbolError
from adapters.symbols import QUOTES, Symbol, cut, fits, is_pattern, parse, renamed, split, spot

assets = st.text(st.characters(whitelist_categories=["Lu", "Nd", "Lo"]), min_size=1, max_size=8)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("BTC/USDT", Symbol("BTC", "USDT")),
        ("AAPLx/USD", Symbol("AAPLx", "USD")),
        ("BTC/USDT:USDT", Symbol("BTC", "USDT", "USDT")),
        ("BTC/USD:BTC", Symbol("BTC", "USD", "BTC")),
        ("BTC/USDT:USDT-261225", Symbol("BTC", "USDT", "USDT", "261225")),
        ("币安人生/USDT", Symbol("币安人生", "USDT")),
    ],
)
def test_the_forms_of_a_symbol(text: str, parts: Symbol) -> None:
    assert parse(text) == parts
    assert parts.is_spot == (":" not in text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "BTC",
        "BTCUSDT",
        "BTC-USDT",
        "/USDT",
        "BTC/",
        "BTC/USDT:",
        "BTC/USDT:USDT-25",
        "B TC/USDT",
        "BTC/USDT/X",
        "BTC/USDT\n",
    ],
)
def test_what_is_no_symbol_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(SymbolError, match="write BASE/QUOTE"):
        parse(text)


def test_a_spot_name_never_stands_for_another_market() -> None:
    assert spot("BTC/USDT") == Symbol("BTC", "USDT")
    with pytest.raises(SymbolError):
        spot("BTC/USDT:USDT")


@given(assets, assets)
def test_a_symbol_is_parsed_to_what_it_was_made_of(base: str, quote: str) -> None:
    assert parse(f"{base}/{quote}") == Symbol(base, quote)


@pytest.mark.parametrize(
    ("native", "symbol"),
    [
        ("BTCUSDT", "BTC/USDT"),
        ("btcusdt", "BTC/USDT"),
        ("ETHBTC", "ETH/BTC"),
        ("USDTTRY", "USDT/TRY"),
        ("USDCUSDT", "USDC/USDT"),
        ("BTCFDUSD", "BTC/FDUSD"),
        ("BTCTUSD", "BTC/TUSD"),
        ("BTCRLUSD", "BTC/RLUSD"),
        ("USDTUSD", "USDT/USD"),
        ("BNBUSD", "BNB/USD"),
        ("HNTUSD", "HNT/USD"),
        ("OMGBUSD", "OMG/BUSD"),
        ("OGUSDT", "OG/USDT"),
        ("USDT", None),
        ("XYZ", None),
        ("", None),
    ],
)
def test_a_name_without_a_delimiter_is_cut_at_its_longest_quote(native: str, symbol: str | None) -> None:
    assert split(native) == symbol


@given(st.text("ABCXYZ01", min_size=1, max_size=6), st.sampled_from(QUOTES))
def test_a_cut_name_is_the_same_letters(base: str, quote: str) -> None:
    symbol = split(base + quote)
    assert symbol is not None
    assert symbol.replace("/", "") == base + quote


@pytest.mark.parametrize(
    ("native", "symbol"),
    [("BTC-USDT", "BTC/USDT"), ("BTC-USDT-SWAP", None), ("BTC", None), ("-USDT", None), ("BTC-", None), ("", None)],
)
def test_a_name_with_a_delimiter_has_exactly_two_parts(native: str, symbol: str | None) -> None:
    assert cut(native, "-") == symbol


@pytest.mark.parametrize(
    ("pattern", "fitting", "others"),
    [
        ("all", ["BTC/USDT", "X/Y"], []),
        ("*/USDT", ["BTC/USDT"], ["BTC/USD", "USDT/BTC", "BTC/USDT:USDT"]),
        ("BTC/*", ["BTC/USDT", "BTC/EUR"], ["WBTC/USDT", "ETH/BTC"]),
        ("*/*", ["BTC/USDT"], []),
    ],
)
def test_a_pattern_stands_for_the_pairs_that_fit(pattern: str, fitting: list[str], others: list[str]) -> None:
    assert is_pattern(pattern)
    assert [symbol for symbol in [*fitting, *others] if fits(symbol, pattern)] == fitting


@pytest.mark.parametrize("symbol", ["BTC/USDT", "ALL/USDT", "A*B/USDT"])
def test_a_pair_is_no_pattern(symbol: str) -> None:
    assert not is_pattern(symbol)


def test_an_asset_has_its_other_name_on_either_side_and_nowhere_else() -> None:
    names = {"TON": "GRAM"}
    assert [renamed(each, names) for each in ("TON/USDT", "BTC/TON", "TONX/USDT", "TON/TON:TON")] == [
        *("GRAM/USDT", "BTC/GRAM", "TONX/USDT", "GRAM/GRAM:TON")
    ]
