"""Which exchanges can be simulated. A venue is one file and one line here."""

from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from simulator.venue import Venue

VENUES = MappingProxyType(
    {
        "binance": "Binance",
        "kraken": "Kraken",
        "okx": "Okx",
        "kucoin": "Kucoin",
        "binanceus": "BinanceUs",
        "bybit": "Bybit",
        "bitfinex": "Bitfinex",
        "bitget": "Bitget",
        "gateio": "Gateio",
        "mexc": "Mexc",
        "coinbase": "Coinbase",
        "bitstamp": "Bitstamp",
        "cryptocom": "Cryptocom",
        "htx": "Htx",
        "bitrue": "Bitrue",
    },
)
"""Exchange name, which is also its module, to the class in it."""


def load(name: str) -> "type[Venue]":
    """The dialect of an exchange. ValueError, naming the known ones, where it has none."""
    if name not in VENUES:
        raise ValueError(f"unknown exchange {name!r}; known: {', '.join(VENUES)}")
    return cast("type[Venue]", getattr(import_module(f"simulator.{name}"), VENUES[name]))
