"""The prices of all feeds as the market is now, and the answers of an FTSO value provider."""

from collections.abc import Container, Iterable, Iterator, Mapping

from msgspec import UNSET, Struct, UnsetType

from adapters import numbers
from adapters.events import Price
from master.live.market import Market
from master.pricing.feeds import USD, Feed, PriceSettings
from master.pricing.methods import Answer, Method, Quote, Rules, consolidate, quote_of

CRYPTO = 1
LONGEST_WINDOW = 3600
"""Seconds for which the market knows volumes."""


class UnknownFeedError(LookupError):
    """No feed has this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no feed is called {name!r}; GET /v1/feeds lists them")


class VolumeWindowError(ValueError):
    """Volumes of a time that is not known."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"window: from 1 to {LONGEST_WINDOW} seconds, not {seconds}")


class FeedId(Struct, frozen=True):
    category: int
    name: str


class FeedsRequest(Struct):
    """The body of every FTSO request."""

    feeds: list[FeedId]


class FeedValue(Struct):
    feed: FeedId
    value: float | UnsetType = UNSET
    """Absent where there is no price, as in the FTSO's example provider."""


class Volume(Struct):
    exchange: str
    volume: float
    """In USD."""


class FeedVolumes(Struct):
    feed: FeedId
    volumes: list[Volume]


class FeedInfo(Struct):
    """A row of /v1/feeds."""

    feed: str
    category: int
    method: Method
    sources: int


class LivePrice(Struct):
    """A row of /v1/prices/live."""

    feed: str
    price: float | None
    spread_bps: float | None
    confidence: float
    used: int
    refused: int
    method: Method
    reason: str | None


class _Feed(Struct, frozen=True):
    name: str
    category: int
    rules: Rules
    sources: tuple[tuple[str, str], ...]
    """(exchange, symbol)."""


class Prices:
    """Asked at any time; keeps nothing but which feeds there are."""

    def __init__(self, market: Market, settings: PriceSettings) -> None:
        self._market = market
        self._settings = settings
        self._conversions = {asset: self._conversion(asset) for asset in settings.conversion.assets}
        self._configured = {each.feed.name: self._feed(each) for each in settings.feeds}
        self._derived: dict[str, _Feed] = {}
        self._sources_seen = 0

    def feeds(self) -> list[str]:
        """Names of all feeds, in the order of the configuration, or of the alphabet where none is configured."""
        return list(self._feeds())

    def listing(self) -> list[FeedInfo]:
        return [FeedInfo(each.name, each.category, each.rules.method, len(each.sources)) for each in self._feeds().values()]

    def answer(self, feed: str, now: int) -> Answer:
        """The price of one feed, and what it is made of. Raises UnknownFeedError."""
        found = self._feeds().get(feed)
        if found is None:
            raise UnknownFeedError(feed)
        return self._answer(found, self._rates(now, {quote_of(symbol) for _, symbol in found.sources}), now)

    def live(self, now: int) -> list[LivePrice]:
        """A row for every feed, also for those that have no price."""
        return [
            LivePrice(
                *(each.feed, each.price, each.spread_bps, each.confidence),
                *(len(each.used), len(each.refused), each.method, each.reason),
            )
            for each in self._answers(now)
        ]

    def events(self, now: int) -> list[Price]:
        """What is to be kept: of every feed that has a price."""
        return [
            Price(
                *("", each.feed, None, now, text(each.price), each.method),
                *(len(each.used), len(each.refused), each.spread_bps, each.confidence),
            )
            for each in self._answers(now)
            if each.price is not None and each.spread_bps is not None
        ]

    def feed_values(self, feeds: Iterable[FeedId], now: int) -> list[FeedValue]:
        """One for each that was asked for, in that order; a feed that is unknown, or has no price, has no value."""
        known, rates = self._feeds(), self._rates(now)
        values = []
        for wanted in feeds:
            feed = known.get(wanted.name)
            price = None
            if feed is not None and feed.category == wanted.category:
                price = self._answer(feed, rates, now).price
            values.append(FeedValue(wanted, UNSET if price is None else price))
        return values

    def volumes(self, feeds: Iterable[FeedId], window: int, now: int) -> list[FeedVolumes]:
        """USD traded on each exchange in so many seconds, without what cannot be converted. Raises VolumeWindowError."""
        if not 1 <= window <= LONGEST_WINDOW:
            raise VolumeWindowError(window)
        known, rates = self._feeds(), self._rates(now)
        found = []
        for wanted in feeds:
            feed = known.get(wanted.name)
            volumes: list[Volume] = []
            if feed is not None and feed.category == wanted.category:
                volumes = self._volumes(feed, window, rates, now)
            found.append(FeedVolumes(wanted, volumes))
        return found

    def _volumes(self, feed: _Feed, window: int, rates: Mapping[str, Answer], now: int) -> list[Volume]:
        target = quote_of(feed.name)
        sums: dict[str, float] = {}
        for exchange, symbol in feed.sources:
            asset = quote_of(symbol)
            rate = 1.0 if asset == target else rates[asset].price
            if rate is not None:
                traded = self._market.volumes.window(exchange, symbol, now, window) * rate
                sums[exchange] = sums.get(exchange, 0.0) + traded
        return [Volume(exchange, volume) for exchange, volume in sums.items()]

    def _answers(self, now: int) -> Iterator[Answer]:
        """Those of all feeds, with the same conversions."""
        rates = self._rates(now)
        return (self._answer(feed, rates, now) for feed in self._feeds().values())

    def _answer(self, feed: _Feed, rates: Mapping[str, Answer], now: int) -> Answer:
        quotes = [self._quote(exchange, symbol) for exchange, symbol in feed.sources]
        return consolidate(feed.name, quotes, feed.rules, rates, now)

    def _rates(self, now: int, assets: Container[str] | None = None) -> dict[str, Answer]:
        """The price of these assets (None: of all) that can be converted to USD: that of a feed of real pairs, which needs no
        conversion."""
        chosen = (each for each in self._conversions.items() if assets is None or each[0] in assets)
        return {asset: self._answer(feed, {}, now) for asset, feed in chosen}

    def _quote(self, exchange: str, symbol: str) -> Quote:
        source = self._market.symbols.get(symbol, {}).get(exchange)
        trade = source.trade if source else None
        if source is None or trade is None:
            return Quote(exchange, symbol)
        # A venue's clock that is ahead of ours must not keep its last trade young.
        time = trade.received if trade.timestamp is None else min(trade.timestamp, trade.received)
        return Quote(exchange, symbol, trade.price, time, source.window)

    def _conversion(self, asset: str) -> _Feed:
        pair = f"{asset}/{USD}"
        sources = tuple((each.exchange, pair) for each in self._settings.conversion.pairs if each.symbol == pair)
        return _Feed(pair, CRYPTO, self._settings.conversion_rules(), sources)

    def _feed(self, configured: Feed) -> _Feed:
        sources = tuple((each.exchange, each.symbol) for each in configured.sources)
        return _Feed(configured.feed.name, configured.feed.category, self._settings.rules(configured.method), sources)

    def _feeds(self) -> Mapping[str, _Feed]:
        """Those of the configuration; where there are none, one for every base that the market has seen traded for USD."""
        if self._configured:
            return self._configured
        seen = sum(map(len, self._market.symbols.values()))
        if seen != self._sources_seen:
            self._derived, self._sources_seen = self._derive(), seen
        return self._derived

    def _derive(self) -> dict[str, _Feed]:
        quotes = {USD, *self._conversions}
        sources: dict[str, list[tuple[str, str]]] = {}
        for symbol, exchanges in self._market.symbols.items():
            base, _, quote = symbol.partition("/")
            if quote in quotes:  # no derivative: theirs goes on with the asset that settles it
                for asset in (base, *(asset for asset, alias in self._settings.aliases.items() if alias == base)):
                    sources.setdefault(f"{asset}/{USD}", []).extend((exchange, symbol) for exchange in exchanges)
        rules = self._settings.rules()
        return {name: _Feed(name, CRYPTO, rules, tuple(sorted(sources[name]))) for name in sorted(sources)}


def text(price: float) -> str:
    """A computed price as plain decimal text; twelve digits are more than its sources agree on."""
    return numbers.plain(f"{price:.12g}")
