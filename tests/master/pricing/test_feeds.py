"""Section `prices` of config.json: what may be left out, every fault with its path, and the configuration of the FTSO."""

from pathlib import Path
from typing import Any

import pytest

from collector.settings import load as load_collector
from master.pricing.feeds import PriceSettings
from master.settings import ConfigError, MasterSettings, load

REPOSITORY = Path(__file__).parents[3]
FTSO = REPOSITORY / "config.ftso.json"

FEEDS = """
    FLR SGB BTC XRP LTC XLM DOGE ADA ALGO ETH FIL ARB AVAX BNB POL SOL USDC USDT XDC TRX LINK ATOM DOT TON GRAM ICP SHIB USDS
    BCH NEAR LEO UNI ETC WIF BONK JUP ETHFI ENA PYTH HNT SUI PEPE QNT AAVE S ONDO TAO FET RENDER NOT RUNE TRUMP USDX HBAR PENGU
    HYPE APT PAXG BERA OP PUMP XPL MON NIGHT
"""
ELSEWHERE = {"bitmart"}
"""Exchanges that no adapter collects; a collector of the old wire may."""


def source(exchange: str, symbol: str) -> dict[str, str]:
    return {"exchange": exchange, "symbol": symbol}


def feed(name: str, *sources: dict[str, str], **more: Any) -> dict[str, Any]:
    return {"feed": {"category": 1, "name": name}, "sources": list(sources), **more}


class TestSection:
    def test_nothing_need_be_said(self) -> None:
        found = load(MasterSettings, {}).prices
        rules = found.rules()
        assert (rules.method, rules.decay, rules.stale_seconds) == ("weighted_median", 0.00005, 60.0)
        assert (rules.outlier_bps, rules.min_sources, rules.window_seconds) == (100.0, 1, 60.0)
        assert (found.record_seconds, found.feeds, found.conversion.assets) == (1.0, (), ("USDT", "USDC"))

    def test_a_feed_may_have_its_own_method_and_keeps_the_other_rules(self) -> None:
        found = load(MasterSettings, {"prices": {"method": "vwap", "min_sources": 2}}).prices
        assert (found.rules().method, found.rules("twap").method, found.rules("twap").min_sources) == ("vwap", "twap", 2)

    def test_conversions_have_rules_of_their_own(self) -> None:
        section = {"stale_seconds": 5, "outlier_bps": 50, "min_sources": 3, "conversion": {"min_sources": 2}}
        rules = load(MasterSettings, {"prices": section}).prices.conversion_rules()
        assert (rules.method, rules.stale_seconds, rules.outlier_bps, rules.min_sources) == ("median_filtered", 60.0, 100.0, 2)

    @pytest.mark.parametrize(
        ("section", "line"),
        [
            ({"metod": "vwap"}, "prices.metod: unknown key; known here: method, decay, stale_seconds, "),
            ({"method": "mean"}, "prices.method: input should be 'weighted_median', 'volume_weighted_median', 'vwap', "),
            ({"stale_seconds": 0}, "prices.stale_seconds: input should be greater than 0, not 0"),
            ({"window_seconds": 301}, "prices.window_seconds: input should be less than or equal to 300, not 301"),
            ({"min_sources": 0}, "prices.min_sources: input should be greater than or equal to 1, not 0"),
            (
                {"conversion": {"pairs": [source("kraken", "USDT/EUR")]}},
                "prices.conversion.pairs: USDT/EUR does not say what anything is in USD; write ASSET/USD, such as USDT/USD",
            ),
            ({"conversion": {"pair": []}}, "prices.conversion.pair: unknown key; known here: pairs, method, "),
            ({"feeds": [{"sources": []}]}, "prices.feeds[0].feed: field required"),
            (
                {"feeds": [{**feed("BTC/USD"), "source": []}]},
                "prices.feeds[0].source: unknown key; known here: feed, sources, method",
            ),
            (
                {"feeds": [feed("BTC/USD", {"exchange": "okx", "pair": "BTC/USDT", "symbol": "BTC/USDT"})]},
                "prices.feeds[0].sources[0].pair: unknown key; known here: exchange, symbol",
            ),
            (
                {"feeds": [feed("BTC/USD", source("okx", "BTCUSDT"))]},
                "prices.feeds[0].sources[0].symbol: 'BTCUSDT' is no symbol: write BASE/QUOTE, such as BTC/USDT",
            ),
            (
                {"feeds": [feed("BTC/USD", source("okx", "BTC/USDT:USDT"))]},
                "prices.feeds[0].sources[0].symbol: BTC/USDT:USDT is no spot market",
            ),
            (
                {"feeds": [feed("BTC/USD"), feed("ETH/USD", source("okx", "BTC/USDT"))]},
                "prices: feeds[1].sources[0]: BTC/USDT is no market of ETH; another name of it belongs into prices.aliases",
            ),
            (
                {"feeds": [feed("BTC/USD", source("binance", "BTC/FDUSD"))]},
                "prices: feeds[0].sources[0]: FDUSD is not converted to USD; add FDUSD/USD to prices.conversion.pairs",
            ),
            (
                {"feeds": [feed("BTC/EUR", source("kraken", "BTC/USD"))]},
                "prices: feeds[0].sources[0]: USD is not converted to EUR; such a feed has only sources of EUR",
            ),
            (
                {"feeds": [feed("BTC/USD", source("okx", "BTC/USDT"), source("okx", "BTC/USDT"))]},
                "prices: feeds[0].sources[0]: BTC/USDT of okx stands twice",
            ),
            ({"feeds": [feed("BTC/USD"), feed("BTC/USD")]}, "prices: feeds[0]: BTC/USD stands 2 times"),
        ],
    )
    def test_a_fault_is_one_line(self, section: dict[str, Any], line: str) -> None:
        with pytest.raises(ConfigError) as caught:
            load(MasterSettings, {"prices": section})
        assert len(caught.value.lines) == 1
        assert caught.value.lines[0].startswith(line)

    def test_the_collector_takes_the_section_and_finds_the_same_faults(self) -> None:
        content = {"exchanges": [{"name": "kraken", "pairs": {"trades": ["BTC/USD"]}}], "prices": {"method": "vwap"}}
        assert load_collector(content).prices.method == "vwap"
        with pytest.raises(ConfigError, match=r"^prices\.metod: unknown key"):
            load_collector({**content, "prices": {"metod": "vwap"}})


class TestFtso:
    def test_both_programs_read_it(self) -> None:
        assert load_collector(FTSO).prices == load(MasterSettings, FTSO).prices

    def test_it_has_the_64_feeds_in_their_order(self) -> None:
        feeds = load(MasterSettings, FTSO).prices.feeds
        assert [each.feed.name for each in feeds] == [f"{base}/USD" for base in FEEDS.split()]
        assert {each.feed.category for each in feeds} == {1}
        assert all(each.sources for each in feeds)

    def test_what_prices_need_is_collected_and_nothing_else(self) -> None:
        found = load_collector(FTSO)
        collected = {(exchange.name, symbol) for exchange in found.enabled for symbol in exchange.pairs.trades}
        needed = {(each.exchange, each.symbol) for feed in found.prices.feeds for each in feed.sources}
        needed |= {(each.exchange, each.symbol) for each in found.prices.conversion.pairs}
        assert {each for each in needed if each[0] not in ELSEWHERE} == collected

    def test_its_rules_are_those_of_the_example_provider(self) -> None:
        found = load(MasterSettings, FTSO).prices
        for rules in (found.rules(), found.conversion_rules()):
            assert (rules.method, rules.decay, rules.min_sources) == ("weighted_median", 0.00005, 1)
            assert rules.stale_seconds is rules.outlier_bps is None


@pytest.mark.parametrize(
    ("settings", "reads"),
    [
        ({}, False),
        ({"method": "vwap"}, True),
        ({"conversion": {"method": "twap"}}, True),
        ({"feeds": [{"feed": {"name": "BTC/USD"}, "sources": [], "method": "volume_weighted_median"}]}, True),
        ({"feeds": [{"feed": {"name": "BTC/USD"}, "sources": []}]}, False),
    ],
)
def test_whether_windows_are_read(settings: dict[str, Any], *, reads: bool) -> None:
    assert PriceSettings.model_validate(settings).reads_windows is reads
