"""Names of venues to their adapters. A venue's file is imported when it is first asked for."""

from importlib import import_module

from adapters.adapter import ExchangeAdapter

_CLASSES = {
    "binance": "Binance",
    "binanceus": "BinanceUs",
    "bitfinex": "Bitfinex",
    "bitget": "Bitget",
    "bitrue": "Bitrue",
    "bitstamp": "Bitstamp",
    "bybit": "Bybit",
    "coinbase": "Coinbase",
    "cryptocom": "Cryptocom",
    "gateio": "Gateio",
    "htx": "Htx",
    "kraken": "Kraken",
    "kucoin": "Kucoin",
    "mexc": "Mexc",
    "okx": "Okx",
}

NAMES = tuple(sorted(_CLASSES))


class UnknownExchangeError(LookupError):
    """No adapter has this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"unknown exchange {name!r}; known are {', '.join(NAMES)}")


def adapter(name: str) -> type[ExchangeAdapter]:
    """The adapter class of a venue. Raises UnknownExchangeError."""
    if name not in _CLASSES:
        raise UnknownExchangeError(name)
    found: type[ExchangeAdapter] = getattr(import_module(f"adapters.{name}"), _CLASSES[name])
    return found
