"""Prices of the market as it is: feeds that are configured and feeds that are found, what is kept, and the FTSO's answers."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.events import Price, Trade
from adapters.numbers import is_plain
from master.live.market import Market
from master.pricing.prices import FeedId, FeedsRequest, Prices, UnknownFeedError, VolumeWindowError, text
from master.settings import MasterSettings, load

NOW = 1_764_158_400_000_000
SECOND = 1_000_000
FTSO = Path(__file__).parents[3] / "config.ftso.json"

BTC, ETH = FeedId(1, "BTC/USD"), FeedId(1, "ETH/USD")


class Desk:
    """A market into which trades are put, and the prices of it."""

    def __init__(self, prices: dict[str, Any] | Path | None = None) -> None:
        source = prices if isinstance(prices, Path) else {"prices": prices or {}}
        self.market = Market()
        self.prices = Prices(self.market, load(MasterSettings, source).prices)
        self.count = 0

    def trade(self, exchange: str, symbol: str, price: str, *, amount: str = "1", ago: float = 0.0) -> None:
        self.count += 1
        time = NOW - round(ago * SECOND)
        self.market.take([Trade(exchange, symbol, time, time + 250, str(self.count), price, amount, "buy")], self.count)


def feed(name: str, *sources: tuple[str, str]) -> dict[str, Any]:
    return {"feed": {"name": name}, "sources": [{"exchange": exchange, "symbol": symbol} for exchange, symbol in sources]}


def as_json(value: object) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value))


class TestFeeds:
    def test_without_any_configured_there_is_one_for_every_base_traded_for_dollars(self) -> None:
        desk = Desk()
        assert desk.prices.feeds() == []
        for exchange, symbol in (("okx", "ETH/USDT"), ("kraken", "BTC/USD"), ("okx", "BTC/USDC"), ("kraken", "USDT/USD")):
            desk.trade(exchange, symbol, "1")
        for symbol in ("ETH/BTC", "BTC/EUR", "BTC/USDT:USDT", "BTC/USD:BTC", "BTCUSDT"):
            desk.trade("kraken", symbol, "1")
        assert desk.prices.feeds() == ["BTC/USD", "ETH/USD", "USDT/USD"]
        desk.trade("binance", "BTC/USDT", "1")
        assert as_json(desk.prices.listing()) == [
            {"feed": "BTC/USD", "category": 1, "method": "weighted_median", "sources": 3},
            {"feed": "ETH/USD", "category": 1, "method": "weighted_median", "sources": 1},
            {"feed": "USDT/USD", "category": 1, "method": "weighted_median", "sources": 1},
        ]

    def test_an_asset_under_two_names_has_the_sources_of_both(self) -> None:
        desk = Desk({"aliases": {"TON": "GRAM"}})
        desk.trade("binance", "TON/USD", "3.10")
        desk.trade("okx", "GRAM/USD", "3.12")
        assert [each.symbol for each in desk.prices.answer("TON/USD", NOW).used] == ["TON/USD", "GRAM/USD"]
        assert [each.symbol for each in desk.prices.answer("GRAM/USD", NOW).used] == ["GRAM/USD"]

    def test_configured_feeds_are_those_and_no_others(self) -> None:
        desk = Desk(
            {"feeds": [{**feed("ETH/USD", ("okx", "ETH/USDT")), "method": "vwap"}, feed("BTC/USD", ("kraken", "BTC/USD"))]}
        )
        desk.trade("kraken", "BTC/USD", "70000.5")
        desk.trade("kraken", "SOL/USD", "150")
        assert desk.prices.feeds() == ["ETH/USD", "BTC/USD"]
        assert [each.method for each in desk.prices.listing()] == ["vwap", "weighted_median"]
        with pytest.raises(UnknownFeedError, match=r"no feed is called 'SOL/USD'; GET /v1/feeds lists them"):
            desk.prices.answer("SOL/USD", NOW)


class TestAnswer:
    def test_as_json(self) -> None:
        """USDT is 0.999 (the middle of three), so that 70070.07 USDT are 70000 and a hair."""
        desk = Desk({"feeds": [feed("BTC/USD", ("okx", "BTC/USDT"), ("kraken", "BTC/USD"), ("bybit", "BTC/USDT"))]})
        for exchange, price in (("kraken", "0.9990"), ("bitstamp", "0.9988"), ("coinbase", "0.9991")):
            desk.trade(exchange, "USDT/USD", price, ago=3.0)
        desk.trade("okx", "BTC/USDT", "70070.070", ago=2.0)
        desk.trade("kraken", "BTC/USD", "70007", ago=2.0)
        answer = as_json(desk.prices.answer("BTC/USD", NOW))
        used = answer.pop("used")
        confidence = answer.pop("confidence")
        assert answer == {
            "feed": "BTC/USD",
            "time": NOW,
            "price": pytest.approx(69999.99993),
            "method": "weighted_median",
            "spread_bps": pytest.approx((70007 - 69999.99993) / 69999.99993 * 1e4),
            "refused": [
                {
                    "exchange": "bybit",
                    "symbol": "BTC/USDT",
                    "reason": "no trade",
                    "detail": "none has come yet",
                    "raw": None,
                    "age": None,
                }
            ],
            "conversions": [{"from": "USDT", "to": "USD", "price": 0.999, "sources": 3, "age": 3.0}],
            "reason": None,
        }
        assert 0.5 < confidence < 2 / 3
        assert used[0] == {
            "exchange": "okx",
            "symbol": "BTC/USDT",
            "price": pytest.approx(69999.99993),
            "raw": "70070.070",
            "age": 2.0,
            "weight": 0.5,
            "deviation_bps": 0.0,
        }

    def test_a_clock_that_is_ahead_keeps_no_trade_young(self) -> None:
        desk = Desk()
        early = Trade("okx", "BTC/USD", NOW + 3600 * SECOND, NOW - 61 * SECOND, "1", "70000", "1", "buy")
        desk.market.take([early], 1)
        (refused,) = desk.prices.answer("BTC/USD", NOW).refused
        assert (refused.reason, refused.age) == ("stale", 61.0)

    def test_a_window_of_true_trades(self) -> None:
        # (100 * 1 + 104 * 3) / 4; of 61 seconds ago is out.
        desk = Desk({"method": "vwap"})
        for price, amount, ago in (("9", "1", 61.0), ("100", "1", 30.0), ("104", "3", 0.0)):
            desk.trade("kraken", "BTC/USD", price, amount=amount, ago=ago)
        assert desk.prices.answer("BTC/USD", NOW).price == 103.0


class TestKept:
    def test_an_event_for_every_feed_that_has_a_price(self) -> None:
        desk = Desk()
        desk.trade("kraken", "SHIB/USD", "0.0000085")
        desk.trade("okx", "SHIB/USD", "0.0000085")
        desk.trade("okx", "BTC/USDT", "70000")
        (event,) = desk.prices.events(NOW)
        assert (event.exchange, event.symbol, event.received, event.price) == ("", "SHIB/USD", NOW, "0.0000085")
        assert (event.method, event.sources, event.refused, event.spread_bps) == ("weighted_median", 2, 0, 0.0)
        assert msgspec.json.decode(msgspec.json.encode(event), type=Price) == event

    def test_live_has_a_row_for_those_too_that_have_none(self) -> None:
        desk = Desk()
        desk.trade("kraken", "ETH/USD", "3500.5")
        desk.trade("okx", "BTC/USDT", "70000")
        bitcoin, ether = as_json(desk.prices.live(NOW))
        assert (bitcoin["feed"], bitcoin["price"], bitcoin["used"], bitcoin["refused"]) == ("BTC/USD", None, 0, 1)
        assert bitcoin["reason"] == "0 of 1 sources can be used, at least 1 needed"
        assert (ether["feed"], ether["price"], ether["used"], ether["reason"]) == ("ETH/USD", 3500.5, 1, None)
        assert set(ether) == {"feed", "price", "spread_bps", "confidence", "used", "refused", "method", "reason"}

    @given(st.floats(1e-12, 1e12))
    def test_its_text_is_plain_and_precise(self, price: float) -> None:
        assert is_plain(text(price))
        assert float(text(price)) == pytest.approx(price, rel=1e-11)

    @pytest.mark.parametrize(
        ("price", "written"),
        [(0.1 + 0.2, "0.3"), (1e-9, "0.000000001"), (123456789012.0, "123456789012"), (2e15, "2000000000000000")],
    )
    def test_its_text_by_hand(self, price: float, written: str) -> None:
        assert text(price) == written


class TestFtso:
    def test_a_value_for_each_feed_that_has_one(self) -> None:
        desk = Desk()
        desk.trade("kraken", "BTC/USD", "71287.34")
        desk.trade("okx", "ETH/USDT", "3500")
        body = msgspec.json.decode(
            b'{"feeds": [{"category": 1, "name": "BTC/USD"}, {"category": 1, "name": "ETH/USD"}, '
            b'{"category": 2, "name": "BTC/USD"}, {"category": 1, "name": "NO/USD"}]}',
            type=FeedsRequest,
        )
        assert as_json(desk.prices.feed_values(body.feeds, NOW)) == [
            {"feed": {"category": 1, "name": "BTC/USD"}, "value": 71287.34},
            {"feed": {"category": 1, "name": "ETH/USD"}},
            {"feed": {"category": 2, "name": "BTC/USD"}},
            {"feed": {"category": 1, "name": "NO/USD"}},
        ]

    def test_the_numbers_of_the_example_provider(self) -> None:
        """By its rules: last trades, USDT by its own weighted median, weights by age however old, the lower one in the middle.

        USDT/USD: weights from below are exp(-0.5) = 0.607 (0.9985), 1 (0.9990), exp(-0.05) = 0.951 (0.9991); of 2.558 a half
        is 1.279, which 0.607 + 1 reaches: 0.9990. SGB/USD with 0.00400 an hour old: that weighs exp(-180), next to nothing,
        0.00410 * 0.9990 = 0.0040959 exp(-3) = 0.0498, 0.00500 exp(-10) = 0.00005: 0.0040959. When 0.00400 is new it weighs 1.
        """
        desk = Desk(FTSO)
        for exchange, price, ago in (("kraken", "0.9990", 0.0), ("coinbase", "0.9985", 10.0), ("bitstamp", "0.9991", 1.0)):
            desk.trade(exchange, "USDT/USD", price, ago=ago)
        desk.trade("kraken", "SGB/USD", "0.00500", ago=200.0)
        desk.trade("gateio", "SGB/USDT", "0.00410", ago=60.0)
        songbird = FeedId(1, "SGB/USD")
        desk.trade("bitstamp", "SGB/USD", "0.00400", ago=3600.0)
        assert desk.prices.feed_values([songbird], NOW)[0].value == 0.00410 * 0.9990
        desk.trade("bitstamp", "SGB/USD", "0.00400")
        (value, tether) = desk.prices.feed_values([songbird, FeedId(1, "USDT/USD")], NOW)
        assert (value.value, tether.value) == (0.00400, 0.9990)

    def test_volumes_in_dollars_of_each_exchange(self) -> None:
        # okx: 2 * 100 * 0.99 USDT and 1 * 50 USD; kraken's trade of two minutes ago is out of the window.
        sources = (("okx", "BTC/USDT"), ("okx", "BTC/USD"), ("kraken", "BTC/USD"), ("mexc", "BTC/USDC"))
        desk = Desk({"feeds": [feed("BTC/USD", *sources)]})
        desk.trade("coinbase", "USDT/USD", "0.99")
        desk.trade("okx", "BTC/USDT", "100", amount="2", ago=5.0)
        desk.trade("okx", "BTC/USD", "50", ago=5.0)
        desk.trade("kraken", "BTC/USD", "100", ago=120.0)
        desk.trade("mexc", "BTC/USDC", "100", amount="7")
        assert as_json(desk.prices.volumes([BTC, ETH], 60, NOW)) == [
            {
                "feed": {"category": 1, "name": "BTC/USD"},
                "volumes": [{"exchange": "okx", "volume": pytest.approx(248.0)}, {"exchange": "kraken", "volume": 0.0}],
            },
            {"feed": {"category": 1, "name": "ETH/USD"}, "volumes": []},
        ]
        assert desk.prices.volumes([BTC], 3600, NOW)[0].volumes[1].volume == 100.0

    @pytest.mark.parametrize("window", [0, -1, 3601])
    def test_volumes_of_a_time_that_is_not_known(self, window: int) -> None:
        with pytest.raises(VolumeWindowError, match=rf"window: from 1 to 3600 seconds, not {window}"):
            Desk().prices.volumes([BTC], window, NOW)
