"""Section `prices` of config.json: which feeds there are, and how their prices are made."""

from collections import Counter
from typing import Annotated, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from adapters.errors import SymbolError
from adapters.symbols import parse, spot
from master.pricing.methods import METHODS, Method, Rules
from master.section import Section

USD = "USD"


def _spot(symbol: str) -> str:
    try:
        spot(symbol)
    except SymbolError as error:
        raise ValueError(str(error)) from error
    return symbol


Spot = Annotated[str, AfterValidator(_spot)]


class SourceId(Section):
    """A market: the exchange by our name for it, and the symbol."""

    exchange: str
    symbol: Spot


class FeedName(Section):
    category: int = Field(default=1, ge=0, le=255, description="of the FTSO: 1 crypto, 2 FX, 3 commodity, 4 stock")
    name: Spot = Field(description="BASE/QUOTE, such as BTC/USD")


class Feed(Section):
    feed: FeedName
    sources: tuple[SourceId, ...]
    method: Method | None = Field(default=None, description="another one than prices.method")


_USDT = ("kraken", "bitstamp", "coinbase", "cryptocom", "bitfinex")
_USDC = ("kraken", "bitstamp", "cryptocom", "bitfinex", "binanceus")  # Coinbase has no such market: there USDC is USD


class Conversions(Section):
    """How a quote such as USDT becomes USD: as the price of a feed of its own, made of real USD pairs."""

    pairs: tuple[SourceId, ...] = Field(
        default=(
            *(SourceId(exchange=each, symbol="USDT/USD") for each in _USDT),
            *(SourceId(exchange=each, symbol="USDC/USD") for each in _USDC),
        ),
        description="a quote of which there is no pair here is never converted",
    )
    method: Method = "median_filtered"
    stale_seconds: float | None = Field(default=60.0, gt=0, description="age at which a pair is left out; null: never")
    outlier_bps: float | None = Field(default=100.0, gt=0, description="distance from the median; null: none is too far")
    min_sources: int = Field(default=1, ge=1)

    @field_validator("pairs")
    @classmethod
    def _are_to_usd(cls, pairs: tuple[SourceId, ...]) -> tuple[SourceId, ...]:
        for each in pairs:
            if parse(each.symbol).quote != USD:
                raise ValueError(f"{each.symbol} does not say what anything is in {USD}; write ASSET/{USD}, such as USDT/{USD}")
        return pairs

    @property
    def assets(self) -> tuple[str, ...]:
        """The quotes that can be converted, each once."""
        return tuple(dict.fromkeys(parse(each.symbol).base for each in self.pairs))


class PriceSettings(Section):
    """How the master makes one price of many exchanges' trades; docs/prices.md says it at length."""

    method: Method = "weighted_median"
    decay: float = Field(default=0.00005, ge=0, description="a price weighs exp(-decay * its age in milliseconds)")
    stale_seconds: float | None = Field(
        default=60.0,
        gt=0,
        description="age of its last trade at which a source is refused; null: never, as the FTSO's example provider has it",
    )
    outlier_bps: float | None = Field(
        default=100.0, gt=0, description="distance from the median at which a source is refused; null: never"
    )
    min_sources: int = Field(default=1, ge=1, description="of how many sources a price is made at least")
    window_seconds: float = Field(default=60.0, gt=0, le=300, description="of vwap, twap and volume_weighted_median")
    record_seconds: float = Field(default=1.0, gt=0, description="time between the prices that are kept")
    conversion: Conversions = Conversions()
    aliases: dict[str, str] = Field(default={}, description='assets that exchanges also list as another: {"TON": "GRAM"}')
    feeds: tuple[Feed, ...] = Field(
        default=(), description="none: a feed BASE/USD of every base that is traded in USD or what converts to it"
    )

    def rules(self, method: Method | None = None) -> Rules:
        """Of a feed, which may have its own method."""
        return self._rules(method or self.method, self.stale_seconds, self.outlier_bps, self.min_sources)

    @property
    def reads_windows(self) -> bool:
        """Whether any feed's method looks at more than last trades."""
        methods = {self.method, self.conversion.method, *(each.method for each in self.feeds if each.method)}
        return any(METHODS[method].reads_window for method in methods)

    def conversion_rules(self) -> Rules:
        own = self.conversion
        return self._rules(own.method, own.stale_seconds, own.outlier_bps, own.min_sources)

    def _rules(self, method: Method, stale: float | None, outlier: float | None, least: int) -> Rules:
        return Rules(method, self.decay, stale, outlier, least, self.window_seconds)

    def names(self, asset: str) -> tuple[str, ...]:
        """What exchanges call it."""
        alias = self.aliases.get(asset)
        return (asset,) if alias is None else (asset, alias)

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        counts = Counter(each.feed.name for each in self.feeds)
        for index, feed in enumerate(self.feeds):
            if counts[feed.feed.name] > 1:
                raise ValueError(f"feeds[{index}]: {feed.feed.name} stands {counts[feed.feed.name]} times")
            for position, source in enumerate(feed.sources):
                if fault := self._fault(feed, source):
                    raise ValueError(f"feeds[{index}].sources[{position}]: {fault}")
        return self

    def _fault(self, feed: Feed, source: SourceId) -> str | None:
        """Why this source cannot tell the price of this feed."""
        wanted, given = parse(feed.feed.name), parse(source.symbol)
        if given.base not in self.names(wanted.base):
            return f"{source.symbol} is no market of {wanted.base}; another name of it belongs into prices.aliases"
        if wanted.quote not in (given.quote, USD):
            return f"{given.quote} is not converted to {wanted.quote}; such a feed has only sources of {wanted.quote}"
        if given.quote not in (wanted.quote, *self.conversion.assets):
            return f"{given.quote} is not converted to {USD}; add {given.quote}/{USD} to prices.conversion.pairs"
        if feed.sources.count(source) > 1:
            return f"{source.symbol} of {source.exchange} stands twice"
        return None
