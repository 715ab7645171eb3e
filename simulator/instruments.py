"""What is listed: assets with a price, and the rules by which a venue makes instruments of them.

Prices and amounts are integers inside the simulator (ticks and lots); text is made here and nowhere else, so no float
ever reaches a frame.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

QUIET_PAIR = "XTZ/USDT"
"""Listed and trading at every venue, and never moving: one snapshot, then silence."""

LEVELS = 1500
"""Levels a side of a full book: more than the 1000 of a Binance snapshot, so that a limited snapshot is really limited."""

# US dollars. The bases of the FTSO feeds and the quiet one.
ASSETS: Mapping[str, float] = MappingProxyType(
    {
        "BTC": 65000.0, "ETH": 3200.0, "XRP": 2.21, "SOL": 152.0, "DOGE": 0.12, "ADA": 0.64, "BNB": 612.0, "LTC": 84.3,
        "XLM": 0.27, "LINK": 14.6, "AVAX": 24.1, "DOT": 4.35, "SHIB": 0.00002, "TRX": 0.27, "BCH": 492.0, "UNI": 7.4,
        "ATOM": 4.6, "ETC": 18.4, "FIL": 2.9, "NEAR": 2.6, "ICP": 5.3, "ALGO": 0.21, "HBAR": 0.17, "AAVE": 246.0,
        "APT": 5.1, "SUI": 3.1, "ARB": 0.36, "OP": 0.67, "POL": 0.24, "TON": 3.1, "FLR": 0.018, "SGB": 0.0043,
        "XDC": 0.061, "GRAM": 3.1, "USDC": 0.9998, "USDT": 1.0002, "USDS": 0.9997, "USDX": 0.9961, "LEO": 9.1, "WIF": 0.84,
        "BONK": 0.0000212, "JUP": 0.46, "ETHFI": 1.12, "ENA": 0.34, "PYTH": 0.118, "HNT": 2.7, "PEPE": 0.0000112, "QNT": 104.0,
        "S": 0.33, "ONDO": 0.79, "TAO": 352.0, "FET": 0.66, "RENDER": 3.6, "NOT": 0.0019, "RUNE": 1.45, "TRUMP": 9.3,
        "PENGU": 0.0151, "HYPE": 38.2, "PAXG": 3350.0, "BERA": 2.1, "PUMP": 0.0037, "XPL": 0.41, "MON": 0.029, "NIGHT": 0.052,
        "XTZ": 0.71,
    }
)  # fmt: skip
RETIRED: Mapping[str, float] = MappingProxyType({"LUNA": 0.18, "FTT": 0.92, "WAVES": 1.31})
"""Listed here and there, and traded nowhere."""

PRICES: Mapping[str, float] = MappingProxyType({**ASSETS, **RETIRED})
QUOTES: Mapping[str, float] = MappingProxyType(
    {"USD": 1.0, "USDT": 1.0002, "USDC": 0.9998, "FDUSD": 0.9983, "EUR": 1.0812, "BTC": 65000.0}
)
ACTIVITY: Mapping[str, float] = MappingProxyType({"BTC": 12.0, "ETH": 8.0, "XRP": 4.0, "SOL": 4.0, "DOGE": 3.0})
"""Weight of an instrument in the event rate of its venue, by base; every other base has 1."""

LEAST_TICKS = 1000  # a price of fewer ticks leaves no room for a book

Text = Callable[[int], str]


def padded(decimals: int, shown: int) -> Text:
    """Text of `n / 10**decimals` with exactly `shown` decimals (`shown >= decimals`): `61837.63000000`."""
    if shown == 0:
        return str
    zeros = "0" * (shown - decimals)
    if decimals == 0:
        return lambda n: f"{n}.{zeros}"

    def text(n: int) -> str:
        digits = str(n)
        if len(digits) <= decimals:
            digits = digits.zfill(decimals + 1)
        return f"{digits[:-decimals]}.{digits[-decimals:]}{zeros}"

    return text


def trimmed(decimals: int) -> Text:
    """Shortest plain text of `n / 10**decimals`: `30236`, `0.0002`, `0`."""
    whole = padded(decimals, decimals)
    return str if decimals == 0 else lambda n: whole(n).rstrip("0").rstrip(".")


@dataclass(frozen=True, slots=True)
class Instrument:
    """One listed pair of one venue. `price` is the first mid price in ticks; `state` is the venue's word when it does
    not trade, else empty."""

    base: str
    quote: str
    price: int
    price_decimals: int
    amount_decimals: int
    price_text: Text = field(repr=False, compare=False)
    amount_text: Text = field(repr=False, compare=False)
    state: str = ""

    @property
    def symbol(self) -> str:
        return f"{self.base}/{self.quote}"

    @property
    def moves(self) -> bool:
        """Whether it trades at all: a halted pair and the quiet pair never do."""
        return not self.state and self.symbol != QUIET_PAIR

    @property
    def tick(self) -> str:
        return self.price_text(1)

    @property
    def lot(self) -> str:
        return self.amount_text(1)


@dataclass(frozen=True, eq=False)
class Listing:
    """The rules of one venue's list, which is made of them once.

    quotes: in order of preference. digits: significant digits of a price, `fine` by base where the venue is finer.
    price_decimals: the most it prints. lots: decimals of an amount, given the decimal magnitude of the price.
    text: makes the number style of the venue from (decimals): padded to a fixed count, to the tick, or trimmed.
    halted: pair of a retired asset -> the venue's word for listed and not trading.
    """

    quotes: tuple[str, ...]
    halted: Mapping[str, str]
    price_decimals: int
    lots: Callable[[int], int]
    text: Callable[[int], Text]
    digits: int = 5
    fine: Mapping[str, int] = field(default_factory=lambda: {"BTC": 6, "ETH": 6})

    @cached_property
    def instruments(self) -> tuple[Instrument, ...]:
        """Every pair of the venue: all assets against all its quotes, where the price has enough ticks for a book, and
        the halted ones."""
        return tuple(self._instruments())

    def _instruments(self) -> Iterator[Instrument]:
        for quote in self.quotes:
            for base in ASSETS:
                instrument = self._instrument(base, quote)
                stable = quote == "BTC" and base.startswith("USD")
                if base != quote and not stable and instrument.price >= LEAST_TICKS:
                    yield instrument
        for pair in self.halted:
            yield self._instrument(*pair.split("/"))

    def _instrument(self, base: str, quote: str) -> Instrument:
        price, state = PRICES[base] / QUOTES[quote], self.halted.get(f"{base}/{quote}", "")
        magnitude = math.floor(math.log10(price)) + 1
        digits = self.fine.get(base, self.digits)
        decimals = min(max(digits - magnitude, 0), self.price_decimals)
        lots = self.lots(math.floor(math.log10(PRICES[base])) + 1)
        return Instrument(base, quote, round(price * 10**decimals), decimals, lots, self.text(decimals), self.text(lots), state)


def signed(text: Text, number: int) -> str:
    """Text of a number that may be below zero."""
    return text(number) if number >= 0 else "-" + text(-number)


def rescaled(number: int, decimals: int, shown: int) -> str:
    """Text of `number / 10**decimals` with exactly `shown` decimals, cut off where it has more."""
    if decimals > shown:
        return padded(shown, shown)(number // 10 ** (decimals - shown))
    return padded(decimals, shown)(number)


def shortest(number: int, decimals: int, most: int = 8) -> str:
    """Shortest plain text of `number / 10**decimals`, cut off after `most` decimals."""
    text = rescaled(number, decimals, min(decimals, most))
    return text.rstrip("0").rstrip(".") if "." in text else text
