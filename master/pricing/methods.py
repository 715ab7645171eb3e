"""The price of a feed, made of the trades of many exchanges. Pure: quotes, rules and the time go in, an answer comes out.

A source is looked at in this order: it has a trade; its quote is converted; it is not stale; it is no outlier. Enough of them
must be left, and only they make the price, its spread and its confidence.

A method is two functions. The first takes from each source one price and one weight, the second makes one price of them all:

| method | price of a source | its weight | together |
|---|---|---|---|
| weighted_median | last trade | exp(-decay * age in ms) | first by price where the weights reach a half |
| volume_weighted_median | last trade | amount traded in the window | the same |
| vwap | sum(price * amount) / sum(amount) of the window | amount traded in the window | weighted mean |
| twap | mean over the window, each price until the next trade | 1 | mean |
| median_filtered | last trade | 1 | median; of an even number the mean of both in the middle |
"""

from collections.abc import Callable, Mapping, Sequence
from math import exp, fsum, inf
from statistics import median
from typing import Literal

from msgspec import Struct

from master.live.window import TradeWindow

Method = Literal["weighted_median", "volume_weighted_median", "vwap", "twap", "median_filtered"]
Reason = Literal["no trade", "no conversion", "stale", "outlier", "too few"]

NOTHING = (0.0, 0.0)
"""Price and weight of a source that has none to give."""
NO_TRADES = TradeWindow(0)
ALMOST_HALF = 0.5 - 1e-12
"""Where weights that are a half on paper are a hair less as floats."""
ENOUGH = 3
"""Sources below which no majority can tell which of them is wrong."""
WIDE_BPS = 100.0
"""The outlier limit by which agreement is measured where there is none."""


class Rules(Struct, frozen=True):
    """How the price of a feed is made; the meaning and the default of each is in feeds.PriceSettings."""

    method: Method
    decay: float
    stale_seconds: float | None
    outlier_bps: float | None
    min_sources: int
    window_seconds: float


class Quote(Struct):
    """What one source has to say: the price of its last trade in the venue's own text (None while there is none), the time of
    that trade (microseconds UTC), and the window of trades that ends with it."""

    exchange: str
    symbol: str
    raw: str | None = None
    time: int = 0
    window: TradeWindow = NO_TRADES


class Used(Struct):
    """A source that made the price. `price` is what the method took of it, converted; `raw` and `age` (seconds) are of its last
    trade. The weights of all add up to 1. `deviation_bps` is from the price of the feed, with its sign."""

    exchange: str
    symbol: str
    price: float
    raw: str
    age: float
    weight: float
    deviation_bps: float = 0.0


class Refused(Struct):
    """A source that did not, and why."""

    exchange: str
    symbol: str
    reason: Reason
    detail: str
    raw: str | None
    age: float | None


class Conversion(Struct, rename={"asset": "from", "into": "to"}):
    """The price by which quotes were converted, of so many sources; `age` is that of the newest, in seconds."""

    asset: str
    into: str
    price: float
    sources: int
    age: float


class Answer(Struct):
    """The price of a feed at `time` (microseconds UTC), or None and the `reason`. Every source is either used or refused.

    `spread_bps` is (highest - lowest) / price of those used.

    `confidence` is coverage * agreement * freshness, each from 0 to 1:
    coverage is the share of sources that were used, a feed of less than three counting as if it had three;
    agreement falls from 1 to 0 as the spread grows to twice the outlier limit (100 bps where there is none);
    freshness is the mean of exp(-decay * age in ms) of those used.
    """

    feed: str
    time: int
    price: float | None
    method: Method
    spread_bps: float | None
    confidence: float
    used: list[Used]
    refused: list[Refused]
    conversions: list[Conversion]
    reason: str | None


def quote_of(symbol: str) -> str:
    """USDT of BTC/USDT."""
    return symbol.partition("/")[2]


def consolidate(feed: str, quotes: Sequence[Quote], rules: Rules, rates: Mapping[str, Answer], now: int) -> Answer:
    """One price of all these quotes. `rates` has the answer of `USDT/USD` under `USDT`, and so on, for every quote that is not
    the feed's own."""
    target = quote_of(feed)
    used: list[Used] = []
    refused: list[Refused] = []
    for quote in quotes:
        found = _examined(quote, target, rules, rates, now)
        if isinstance(found, Used):
            used.append(found)
        else:
            refused.append(found)
    used, outliers = _agreeing(used, rules.outlier_bps)
    refused += outliers
    if len(used) < rules.min_sources:
        reason = f"{len(used)} of {len(quotes)} sources can be used, at least {rules.min_sources} needed"
        refused += (_refusal(each, "too few", reason) for each in used)
        return Answer(feed, now, None, rules.method, None, 0.0, [], refused, [], reason)
    _normalise(used)
    price = METHODS[rules.method].together(used)
    for each in used:
        each.deviation_bps = (each.price - price) / price * 1e4
    spread = (max(each.price for each in used) - min(each.price for each in used)) / price * 1e4
    confidence = _confidence(used, len(quotes), spread, rules)
    conversions = _conversions(used, target, rates)
    return Answer(feed, now, price, rules.method, spread, confidence, used, refused, conversions, None)


def _examined(quote: Quote, target: str, rules: Rules, rates: Mapping[str, Answer], now: int) -> Used | Refused:
    """The source with its own price and weight, if nothing is wrong with it that it alone can tell."""
    about = (quote.exchange, quote.symbol)
    if quote.raw is None:
        return Refused(*about, "no trade", "none has come yet", None, None)
    age = max(now - quote.time, 0) / 1e6
    asset = quote_of(quote.symbol)
    rate = 1.0
    if asset != target:
        conversion = rates.get(asset)
        if conversion is None or conversion.price is None:
            why = f"none of {asset} to {target} is configured" if conversion is None else conversion.reason or ""
            return Refused(*about, "no conversion", f"{asset}/{target}: {why}", quote.raw, age)
        rate = conversion.price
    if rules.stale_seconds is not None and age > rules.stale_seconds:
        return Refused(*about, "stale", f"{age:.1f} s old, at most {rules.stale_seconds:g} s allowed", quote.raw, age)
    price, weight = METHODS[rules.method].of_source(quote, rules, now)
    if not 0 < price < inf:
        return Refused(*about, "no trade", f"none to take in the last {rules.window_seconds:g} s", quote.raw, age)
    return Used(*about, price * rate, quote.raw, age, weight)


def _agreeing(used: list[Used], limit: float | None) -> tuple[list[Used], list[Refused]]:
    """Those within so many basis points of the median of all, and the others."""
    if limit is None or len(used) < 2:
        return used, []
    middle = median(each.price for each in used)
    kept: list[Used] = []
    outliers: list[Refused] = []
    for each in used:
        deviation = abs(each.price - middle) / middle * 1e4
        if deviation <= limit:
            kept.append(each)
        else:
            detail = f"{deviation:.1f} bps from the median {middle:.10g}, at most {limit:g} allowed"
            outliers.append(_refusal(each, "outlier", detail))
    return kept, outliers


def _refusal(used: Used, reason: Reason, detail: str) -> Refused:
    return Refused(used.exchange, used.symbol, reason, detail, used.raw, used.age)


def _normalise(used: list[Used]) -> None:
    """Weights that add up to 1. Where all are too small for a float, the newest source is the only one that counts."""
    total = fsum(each.weight for each in used)
    if total == 0:
        newest = min(used, key=lambda each: (each.age, each.price))
        newest.weight = total = 1.0
    for each in used:
        each.weight /= total


def _confidence(used: list[Used], configured: int, spread_bps: float, rules: Rules) -> float:
    coverage = len(used) / max(configured, ENOUGH)
    agreement = 1 - spread_bps / (2 * (rules.outlier_bps or WIDE_BPS))
    freshness = fsum(exp(-rules.decay * each.age * 1e3) for each in used) / len(used)
    return coverage * max(agreement, 0.0) * freshness


def _conversions(used: list[Used], target: str, rates: Mapping[str, Answer]) -> list[Conversion]:
    """Those that the used sources needed, in order of the assets."""
    assets = {quote_of(each.symbol) for each in used} - {target}
    found = ((asset, rates[asset]) for asset in sorted(assets))
    return [
        Conversion(asset, target, rate.price, len(rate.used), min(each.age for each in rate.used))
        for asset, rate in found
        if rate.price is not None
    ]


def _last(quote: Quote) -> float:
    return float(quote.raw or 0)


def _decayed(quote: Quote, rules: Rules, now: int) -> tuple[float, float]:
    return _last(quote), exp(-rules.decay * max(now - quote.time, 0) / 1e3)


def _alike(quote: Quote, _: Rules, __: int) -> tuple[float, float]:
    return _last(quote), 1.0


def _by_volume(quote: Quote, rules: Rules, now: int) -> tuple[float, float]:
    _, volume = quote.window.traded(_beginning(rules, now))
    return (_last(quote), volume) if volume > 0 else NOTHING


def _vwap(quote: Quote, rules: Rules, now: int) -> tuple[float, float]:
    value, volume = quote.window.traded(_beginning(rules, now))
    return (value / volume, volume) if volume > 0 else NOTHING


def _twap(quote: Quote, rules: Rules, now: int) -> tuple[float, float]:
    return quote.window.mean_price(_beginning(rules, now), now), 1.0


def _beginning(rules: Rules, now: int) -> int:
    return now - int(rules.window_seconds * 1e6)


def _weighted_median(used: list[Used]) -> float:
    """The first price, from below, at which the weights so far are a half of all. Nothing is interpolated."""
    reached = 0.0
    ordered = sorted((each.price, each.weight) for each in used)
    for price, weight in ordered:
        reached += weight
        if reached >= ALMOST_HALF:
            return price
    return ordered[-1][0]


def _mean(used: list[Used]) -> float:
    return fsum(each.price * each.weight for each in used)


def _median(used: list[Used]) -> float:
    return median(each.price for each in used)


class _Functions(Struct, frozen=True):
    of_source: Callable[[Quote, Rules, int], tuple[float, float]]
    """(price, weight), or NOTHING."""
    together: Callable[[list[Used]], float]
    reads_window: bool = False


METHODS: dict[Method, _Functions] = {
    "weighted_median": _Functions(_decayed, _weighted_median),
    "volume_weighted_median": _Functions(_by_volume, _weighted_median, reads_window=True),
    "vwap": _Functions(_vwap, _mean, reads_window=True),
    "twap": _Functions(_twap, _mean, reads_window=True),
    "median_filtered": _Functions(_alike, _median),
}
