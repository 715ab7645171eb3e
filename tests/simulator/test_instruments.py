"""What is listed, and the text of numbers."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.binance import Binance
from simulator.binanceus import BinanceUs
from simulator.bitfinex import Bitfinex
from simulator.bitget import Bitget
from simulator.bitrue import Bitrue
from simulator.bitstamp import Bitstamp
from simulator.bybit import Bybit
from simulator.coinbase import Coinbase
from simulator.cryptocom import Cryptocom
from simulator.gateio import Gateio
from simulator.htx import Htx
from simulator.instruments import QUIET_PAIR, padded, rescaled, shortest, signed, trimmed
from simulator.kraken import Kraken
from simulator.kucoin import Kucoin
from simulator.mexc import Mexc
from simulator.okx import Okx
from simulator.venue import Venue

DIALECTS: list[type[Venue]] = [
    Binance,
    Kraken,
    Okx,
    Kucoin,
    BinanceUs,
    Bybit,
    Bitfinex,
    Bitget,
    Gateio,
    Mexc,
    Coinbase,
    Bitstamp,
    Cryptocom,
    Htx,
    Bitrue,
]
DOLLARS: set[type[Venue]] = {Kraken, BinanceUs, Bitfinex, Coinbase, Bitstamp, Cryptocom}
"""Who trades against the dollar itself."""
FTSO = (
    "FLR SGB BTC XRP LTC XLM DOGE ADA ALGO ETH FIL ARB AVAX BNB POL SOL USDC USDT XDC TRX LINK ATOM DOT TON GRAM ICP SHIB "
    "USDS BCH NEAR LEO UNI ETC WIF BONK JUP ETHFI ENA PYTH HNT SUI PEPE QNT AAVE S ONDO TAO FET RENDER NOT RUNE TRUMP USDX "
    "HBAR PENGU HYPE APT PAXG BERA OP PUMP XPL MON NIGHT"
)

numbers = st.integers(0, 10**16)
places = st.integers(0, 12)


@given(numbers, places, places)
def test_padded_text_is_exact_and_as_wide_as_asked(number: int, decimals: int, more: int) -> None:
    text = padded(decimals, decimals + more)(number)
    assert Decimal(text) == Decimal(number).scaleb(-decimals)
    assert len(text.partition(".")[2]) == decimals + more


@given(numbers, places)
def test_trimmed_text_is_exact_and_as_short_as_can_be(number: int, decimals: int) -> None:
    text = trimmed(decimals)(number)
    assert Decimal(text) == Decimal(number).scaleb(-decimals)
    assert "." not in text or text[-1] not in "0."
    assert text == "0" if number == 0 else text


@given(numbers, places, places)
def test_rescaled_text_cuts_off(number: int, decimals: int, shown: int) -> None:
    text = rescaled(number, decimals, shown)
    assert len(text.partition(".")[2]) == shown
    assert 0 <= Decimal(number).scaleb(-decimals) - Decimal(text) < Decimal(1).scaleb(-shown)
    assert Decimal(shortest(number, decimals, shown)) == Decimal(text)


def test_signed() -> None:
    assert [signed(padded(2, 2), number) for number in (-5, 0, 150)] == ["-0.05", "0.00", "1.50"]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_lists_are_generous(dialect: type[Venue]) -> None:
    instruments = {instrument.symbol: instrument for instrument in dialect.listing.instruments}
    quote = dialect.listing.quotes[0]
    for base in FTSO.split():
        assert f"{base}/{quote}" in instruments or base == quote
    halted = [instrument for instrument in instruments.values() if instrument.state]
    assert len(halted) == (0 if dialect is Bitfinex else 3), "Bitfinex lists what trades, and nothing else"
    assert instruments[QUIET_PAIR].state == ""
    assert not instruments[QUIET_PAIR].moves
    assert ("BTC/USD" in instruments) == (dialect in DOLLARS)
    assert "FOO/USDT" not in instruments


@pytest.mark.parametrize("dialect", DIALECTS)
def test_prices_are_sensible_and_have_room_for_a_book(dialect: type[Venue]) -> None:
    instruments = {instrument.symbol: instrument for instrument in dialect.listing.instruments}
    for symbol, low, high in (("BTC/USDT", 64000, 66000), ("ETH/USDT", 3100, 3300), ("DOGE/USDT", 0.11, 0.13)):
        instrument = instruments[symbol]
        assert low < float(instrument.price_text(instrument.price)) < high
    assert all(instrument.price >= 1000 for instrument in instruments.values())


@pytest.mark.parametrize(
    ("dialect", "symbol", "tick", "lot"),
    [
        (Binance, "BTC/USDT", "0.01000000", "0.00001000"),
        (Binance, "DOGE/USDT", "0.00001000", "1.00000000"),
        (Kraken, "BTC/USD", "0.1", "0.00000001"),
        (Okx, "BTC/USDT", "0.1", "0.00000001"),
        (Kucoin, "BTC/USDT", "0.1", "0.00000001"),
        (Kucoin, "ETH/USDT", "0.01", "0.0000001"),
        (Bybit, "DOGE/USDT", "0.00001", "0.1"),
        (Bitfinex, "BTC/USD", "1", "1e-8"),
        (Bitget, "BTC/USDT", "0.01", "0.000001"),
        (Coinbase, "BTC/USD", "0.01", "0.00000001"),
        (Coinbase, "DOGE/USD", "0.00001", "0.1"),
        (Bitstamp, "BTC/USD", "1", "0.00000001"),
        (BinanceUs, "BTC/USDT", "0.01000000", "0.00000100"),
        (Bitrue, "BTC/USDT", "0.01", "0.00001"),
        (Cryptocom, "BTC/USD", "0.01", "0.00001"),
        (Mexc, "BTC/USDT", "0.01", "0.00000001"),
        (Gateio, "BTC/USDT", "0.1", "0.000001"),
        (Htx, "BTC/USDT", "0.01", "1.0E-6"),
    ],
)
def test_grids_are_the_venues_own(dialect: type[Venue], symbol: str, tick: str, lot: str) -> None:
    instrument = next(instrument for instrument in dialect.listing.instruments if instrument.symbol == symbol)
    assert (instrument.tick, instrument.lot) == (tick, lot)
