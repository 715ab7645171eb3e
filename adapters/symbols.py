"""Canonical symbols as in CCXT (`BTC/USDT`, `BTC/USDT:USDT`, `BTC/USD:BTC-261225`) and the instruments of a venue."""

import re
from collections.abc import Mapping

from msgspec import Struct

from adapters.errors import SymbolError

_CANONICAL = re.compile(r"([^\s/:]+)/([^\s/:]+)(?::([^\s/:-]+)(?:-(\d{6}))?)?")

QUOTES = (
    *("USDT", "USDC", "FDUSD", "TUSD", "USDP", "USDD", "USDE", "USD1", "BUSD", "PAX", "DAI", "UST", "USD"),
    *("RLUSD", "XUSD", "BFUSD", "PYUSD", "USDS", "USDQ", "USDR", "EURI", "AEUR", "EURC", "EURR"),
    *("EUR", "GBP", "TRY", "BRL", "JPY", "AUD", "ARS", "MXN", "ZAR", "PLN", "RON", "UAH", "CZK", "COP", "IDR", "KRW"),
    *("BTC", "ETH", "BNB", "XRP", "TRX", "DOGE", "DOT", "SOL", "KCS", "OKB", "HT", "VAI", "BIDR", "NGN", "RUB"),
    *("AED", "CAD", "CHF", "MNT", "BGB"),
)
"""Quote assets by which a delimiter-free native name is cut when no instrument list is at hand."""


class Symbol(Struct, frozen=True):
    base: str
    quote: str
    settle: str | None = None
    expiry: str | None = None

    @property
    def is_spot(self) -> bool:
        return self.settle is None


class Instrument(Struct, frozen=True):
    """One market as its venue lists it. Steps are plain decimal text in price and base units."""

    symbol: str
    native: str
    active: bool
    state: str
    price_step: str | None = None
    amount_step: str | None = None


def parse(symbol: str) -> Symbol:
    """`BASE/QUOTE[:SETTLE[-YYMMDD]]` to its parts. Raises SymbolError."""
    match = _CANONICAL.fullmatch(symbol)
    if match is None:
        raise SymbolError(f"{symbol!r} is no symbol: write BASE/QUOTE, such as BTC/USDT")
    return Symbol(*match.groups())


def spot(symbol: str) -> Symbol:
    """The same for a spot market. Raises SymbolError for any other, which a venue's spot name must never stand for."""
    parts = parse(symbol)
    if not parts.is_spot:
        raise SymbolError(f"{symbol} is no spot market")
    return parts


ALL = "all"


def is_pattern(text: str) -> bool:
    """Whether this stands for many symbols: `all`, `*/USDT`, `BTC/*`."""
    return text == ALL or "*" in text.split("/")


def fits(symbol: str, pattern: str) -> bool:
    """Whether a spot symbol is among those of a pattern."""
    if pattern == ALL:
        return True
    wanted, parts = pattern.split("/"), symbol.split("/")
    return len(wanted) == len(parts) and all(want in ("*", part) for want, part in zip(wanted, parts, strict=True))


def renamed(symbol: str, names: Mapping[str, str]) -> str:
    """The symbol with its assets under other names, where they have any: with {"TON": "GRAM"} TON/USDT becomes GRAM/USDT."""
    parts = parse(symbol)
    base, quote = names.get(parts.base, parts.base), names.get(parts.quote, parts.quote)
    return f"{base}/{quote}{symbol[len(parts.base) + 1 + len(parts.quote) :]}"


def cut(native: str, delimiter: str) -> str | None:
    """`BTC-USDT` to `BTC/USDT`; None where the name has not exactly two parts."""
    base, _, quote = native.partition(delimiter)
    return f"{base}/{quote}" if base and quote and delimiter not in quote else None


def split(native: str, quotes: tuple[str, ...] = QUOTES) -> str | None:
    """`BTCUSDT` to `BTC/USDT` by the known quote assets, the longest of them; None where none fits.

    A shorter one wins where it alone leaves a base of three letters that is no dollar: BNB/USD, not BN/BUSD; USDT/USD.
    """
    name = native.upper()
    cuts = [(name[: -len(quote)], quote) for quote in quotes if name.endswith(quote) and len(name) > len(quote)]
    likely = [(base, quote) for base, quote in cuts if len(base) > 2 and base != "USD"]
    base, quote = max(likely or cuts, key=lambda cut: len(cut[1]), default=("", ""))
    return f"{base}/{quote}" if base else None
