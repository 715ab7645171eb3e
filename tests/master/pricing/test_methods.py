"""Prices: every method by hand, every refusal, and what holds of any quotes whatsoever."""

from dataclasses import dataclass, replace
from math import exp, inf
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace as changed

from adapters.numbers import plain
from master.live.window import TradeWindow
from master.pricing.methods import METHODS, Answer, Method, Quote, Rules, consolidate

NOW = 1_764_158_400_000_000
SECOND = 1_000_000
HALF_LIFE = 13.862943611198906
"""Seconds after which a price weighs half: ln 2 / 0.00005 milliseconds."""

RULES = Rules("weighted_median", 0.00005, stale_seconds=60.0, outlier_bps=None, min_sources=1, window_seconds=60.0)


@dataclass(frozen=True)
class Said:
    """What one source has said: its last price, and the trades (seconds ago, price, amount) before."""

    price: float
    age: float = 0.0
    window: tuple[tuple[float, float, float], ...] = ()
    asset: str = "USD"
    exchange: str = ""

    def quote(self, exchange: str) -> Quote:
        window = TradeWindow(300 * SECOND)
        for ago, price, amount in self.window:
            window.add(NOW - int(ago * SECOND), price, amount)
        time = NOW - round(self.age * SECOND)
        return Quote(self.exchange or exchange, f"BTC/{self.asset}", plain(repr(self.price)), time, window)


def quotes(*said: Said) -> list[Quote]:
    return [each.quote(f"venue{number}") for number, each in enumerate(said)]


def priced(*said: Said, rates: dict[str, Answer] | None = None, **rules: object) -> Answer:
    return consolidate("BTC/USD", quotes(*said), changed(RULES, **rules), rates or {}, NOW)


def rate(asset: str, price: float | None, *ages: float) -> Answer:
    """The answer of a conversion's own feed."""
    pairs = [Quote(f"bank{number}", f"{asset}/USD", str(price), NOW - round(age * SECOND)) for number, age in enumerate(ages)]
    return consolidate(f"{asset}/USD", pairs, RULES, {}, NOW)


def refusals(answer: Answer) -> dict[str, str]:
    return {each.exchange: each.reason for each in answer.refused}


class TestWeightedMedian:
    def test_the_newest_weighs_as_much_as_those_of_one_two_three_half_lives_together(self) -> None:
        # Weights from below: 1/8, 1/4, 1/2, 1; of 15/8 a half is 15/16. 1/8 + 1/4 + 1/2 = 7/8 is less, so it is the newest.
        ages = (3, 2, 1, 0)
        said = [Said(100.0 + number, age * HALF_LIFE) for number, age in enumerate(ages)]
        answer = priced(*said)
        assert answer.price == 103.0
        assert [each.weight for each in answer.used] == pytest.approx([1 / 15, 2 / 15, 4 / 15, 8 / 15], rel=1e-6)

    def test_the_first_price_from_below_that_reaches_a_half(self) -> None:
        # Weights from below 1, 1/2, 1/4: of 7/4 a half is 7/8, and 1 is more.
        assert priced(*(Said(100.0 + number, number * HALF_LIFE) for number in range(3))).price == 100.0

    @pytest.mark.parametrize("count", range(2, 41, 2))
    def test_of_an_even_number_alike_it_is_the_lower_one_in_the_middle(self, count: int) -> None:
        assert priced(*(Said(float(price), 7.3) for price in range(1, count + 1))).price == count / 2

    def test_a_trade_of_the_future_weighs_no_more_than_one_of_now(self) -> None:
        answer = priced(Said(100.0, -3600.0), Said(101.0), Said(102.0))
        assert [each.weight for each in answer.used] == pytest.approx([1 / 3] * 3)
        assert (answer.price, answer.used[0].age) == (101.0, 0.0)

    def test_where_every_weight_is_too_small_for_a_number_the_newest_wins(self) -> None:
        day = 86_400.0
        answer = priced(Said(100.0, 2 * day), Said(101.0, day), Said(102.0, 3 * day), stale_seconds=None)
        assert exp(-RULES.decay * day * 1e3) == 0.0
        assert (answer.price, [each.weight for each in answer.used]) == (101.0, [0.0, 1.0, 0.0])


class TestWindows:
    def test_volume_weighted_median(self) -> None:
        # Amounts 1, 2 + 1, 1: of 5 a half is 2.5, which 1 + 3 reaches.
        said = (Said(100.0, window=((5, 90.0, 1.0),)), Said(101.0, window=((9, 1.0, 2.0), (8, 1.0, 1.0))))
        answer = priced(*said, Said(102.0, window=((1, 102.0, 1.0),)), method="volume_weighted_median")
        assert answer.price == 101.0
        assert [each.weight for each in answer.used] == pytest.approx([0.2, 0.6, 0.2])

    def test_vwap_is_that_of_all_trades_together(self) -> None:
        # (100 * 1 + 102 * 3 + 104 * 1) / 5 = 510 / 5. The trade of 61 seconds ago is out of the window.
        one = Said(102.0, window=((61, 50.0, 9.0), (40, 100.0, 1.0), (3, 102.0, 3.0)))
        answer = priced(one, Said(104.0, window=((2, 104.0, 1.0),)), method="vwap")
        assert answer.price == pytest.approx(102.0)
        assert [(each.price, each.weight) for each in answer.used] == [(101.5, 0.8), (104.0, 0.2)]

    def test_twap_holds_each_price_until_the_next(self) -> None:
        # The first: 100 from before the window on for 30 s, 110 for 20 s, 120 for 10 s: (3000 + 2200 + 1200) / 60.
        # The second is first heard of 20 s ago: 90 for 5 s, 94 for 15 s: (450 + 1410) / 20.
        one = Said(120.0, window=((90, 100.0, 1.0), (30, 110.0, 5.0), (10, 120.0, 2.0)))
        two = Said(94.0, window=((20, 90.0, 1.0), (15, 94.0, 1.0)))
        answer = priced(one, two, method="twap")
        assert [each.price for each in answer.used] == pytest.approx([6400 / 60, 93.0])
        assert answer.price == pytest.approx((6400 / 60 + 93.0) / 2)

    def test_twap_of_a_single_trade_of_this_moment_or_of_the_future(self) -> None:
        assert priced(Said(101.0, window=((0, 101.0, 1.0),)), method="twap").price == 101.0
        assert priced(Said(101.0, window=((10, 100.0, 1.0), (-5, 101.0, 1.0))), method="twap").price == 100.0

    @pytest.mark.parametrize("method", ["volume_weighted_median", "vwap"])
    def test_a_source_without_trades_in_the_window_has_none_to_give(self, method: Method) -> None:
        answer = priced(
            Said(100.0, window=((61, 100.0, 1.0),)), Said(101.0, window=((1, 101.0, 1.0),)), method=method, stale_seconds=None
        )
        assert (answer.price, refusals(answer)) == (101.0, {"venue0": "no trade"})
        assert answer.refused[0].detail == "none to take in the last 60 s"


class TestMedianFiltered:
    def test_what_is_far_from_the_median_is_left_out_of_a_second_one(self) -> None:
        # The median of all is 101; 150 is 4851 bps from it, 100 is 99. Of 100 and 101 the middle is 100.5.
        answer = priced(Said(100.0), Said(101.0), Said(150.0), method="median_filtered", outlier_bps=100.0)
        assert (answer.price, refusals(answer)) == (100.5, {"venue2": "outlier"})
        assert answer.refused[0].detail == "4851.5 bps from the median 101, at most 100 allowed"
        assert answer.spread_bps == pytest.approx(1 / 100.5 * 1e4)
        assert [each.deviation_bps for each in answer.used] == pytest.approx([-0.5 / 100.5 * 1e4, 0.5 / 100.5 * 1e4])


class TestRefusals:
    def test_no_trade_has_come(self) -> None:
        answer = consolidate("BTC/USD", [Quote("kraken", "BTC/USD"), *quotes(Said(100.0))], RULES, {}, NOW)
        assert (answer.price, refusals(answer)) == (100.0, {"kraken": "no trade"})
        assert (answer.refused[0].raw, answer.refused[0].age) == (None, None)

    @pytest.mark.parametrize("price", [0.0, -1.0])
    def test_a_price_that_is_none(self, price: float) -> None:
        assert refusals(priced(Said(price))) == {"venue0": "no trade"}

    def test_stale_is_older_than_the_limit(self) -> None:
        answer = priced(Said(100.0, 60.0), Said(101.0, 60.1))
        assert (answer.price, refusals(answer)) == (100.0, {"venue1": "stale"})
        assert answer.refused[0].detail == "60.1 s old, at most 60 s allowed"
        assert answer.refused[0].age == 60.1

    def test_two_that_disagree_and_nobody_to_tell_who_is_right(self) -> None:
        answer = priced(Said(100.0), Said(110.0), outlier_bps=100.0)
        assert (answer.price, refusals(answer)) == (None, {"venue0": "outlier", "venue1": "outlier"})

    def test_too_few_are_left(self) -> None:
        """What is refused before does not count, and what is left is not used."""
        answer = priced(Said(100.0), Said(101.0), Said(102.0, 90.0), Said(150.0), min_sources=3, outlier_bps=200.0)
        assert answer.price is answer.spread_bps is None
        assert (answer.confidence, answer.used) == (0.0, [])
        assert answer.reason == "2 of 4 sources can be used, at least 3 needed"
        assert refusals(answer) == {"venue0": "too few", "venue1": "too few", "venue2": "stale", "venue3": "outlier"}

    def test_no_source_at_all(self) -> None:
        assert priced().reason == "0 of 0 sources can be used, at least 1 needed"


class TestConversion:
    def test_a_quote_is_converted_before_prices_are_compared(self) -> None:
        # 100 USD and 125 USDT at 0.8 are the same.
        answer = priced(Said(100.0), Said(125.0, asset="USDT"), rates={"USDT": rate("USDT", 0.8, 7.0, 2.0)}, outlier_bps=1.0)
        assert [(each.price, each.raw) for each in answer.used] == [(100.0, "100.0"), (100.0, "125.0")]
        (conversion,) = answer.conversions
        assert (conversion.asset, conversion.into, conversion.price) == ("USDT", "USD", 0.8)
        assert (conversion.sources, conversion.age) == (2, 2.0)

    def test_a_quote_without_a_price_is_never_one_to_one(self) -> None:
        answer = priced(
            Said(100.0), Said(100.0, asset="USDT"), Said(100.0, asset="EUR"), rates={"USDT": rate("USDT", 1.0, 61.0)}
        )
        assert refusals(answer) == {"venue1": "no conversion", "venue2": "no conversion"}
        assert [each.detail for each in answer.refused] == [
            "USDT/USD: 0 of 1 sources can be used, at least 1 needed",
            "EUR/USD: none of EUR to USD is configured",
        ]
        assert answer.conversions == []

    def test_what_needs_none_goes_on_without(self) -> None:
        assert priced(Said(100.0), rates={"USDT": rate("USDT", None)}).price == 100.0

    def test_a_conversion_that_no_used_source_needed_is_not_told(self) -> None:
        answer = priced(Said(100.0), Said(90.0, 61.0, asset="USDT"), rates={"USDT": rate("USDT", 1.0, 0.0)})
        assert (refusals(answer), answer.conversions) == ({"venue1": "stale"}, [])


class TestConfidence:
    def test_every_source_fresh_and_of_one_mind(self) -> None:
        assert priced(Said(100.0), Said(100.0), Said(100.0)).confidence == 1.0

    def test_one_source_alone_is_a_third(self) -> None:
        assert priced(Said(100.0)).confidence == pytest.approx(1 / 3)

    def test_by_hand(self) -> None:
        # Three of four used: 3/4. 100, 100 and 101 at a price of 100: 100 bps of at most 2 * 100: 1/2.
        # Ages of nothing, one and two half-lives: (1 + 1/2 + 1/4) / 3.
        said = (Said(100.0), Said(100.0, HALF_LIFE), Said(101.0, 2 * HALF_LIFE), Said(100.0, 90.0))
        answer = priced(*said, outlier_bps=100.0)
        assert answer.confidence == pytest.approx(3 / 4 * 1 / 2 * 1.75 / 3, rel=1e-6)


prices = st.floats(1e-6, 1e7)
trades = st.tuples(st.floats(0, 299), prices, st.floats(1e-6, 1e6))
sources = st.lists(
    st.builds(
        Said,
        price=prices,
        age=st.floats(-5, 120),
        window=st.lists(trades, max_size=3).map(tuple),
        asset=st.sampled_from(["USD", "USDT"]),
    ),
    min_size=1,
    max_size=6,
)
rules = st.builds(
    Rules,
    method=st.sampled_from(sorted(METHODS)),
    decay=st.sampled_from([0.0, 0.00005, 0.01]),
    stale_seconds=st.sampled_from([None, 60.0]),
    outlier_bps=st.sampled_from([None, 10.0, 5000.0]),
    min_sources=st.integers(1, 3),
    window_seconds=st.sampled_from([1.0, 60.0]),
)
RATES = {"USDT": rate("USDT", 0.99, 1.0)}


class TestProperties:
    @given(sources, rules)
    def test_of_every_answer(self, said: list[Said], rules: Rules) -> None:
        asked = quotes(*said)
        answer = consolidate("BTC/USD", asked, rules, RATES, NOW)
        told = [each.exchange for each in answer.used] + [each.exchange for each in answer.refused]
        assert sorted(told) == sorted(each.exchange for each in asked)
        assert 0.0 <= answer.confidence <= 1.0
        assert (answer.price is None) == (not answer.used) == (answer.reason is not None)
        if answer.price is None or answer.spread_bps is None:
            return
        assert len(answer.used) >= rules.min_sources
        assert sum(each.weight for each in answer.used) == pytest.approx(1.0)
        assert all(0.0 <= each.weight <= 1.0 for each in answer.used)
        lowest, highest = min(each.price for each in answer.used), max(each.price for each in answer.used)
        assert lowest * (1 - 1e-12) <= answer.price <= highest * (1 + 1e-12)
        assert 0.0 <= answer.spread_bps < inf

    @given(sources, rules, st.randoms(use_true_random=False))
    def test_the_order_of_the_sources_does_not_matter(self, said: list[Said], rules: Rules, random: Random) -> None:
        asked = quotes(*said)
        turned = list(asked)
        random.shuffle(turned)
        one, two = (consolidate("BTC/USD", each, rules, RATES, NOW) for each in (asked, turned))
        assert (one.price, one.spread_bps, one.confidence) == (two.price, two.spread_bps, two.confidence)
        assert refusals(one) == refusals(two)

    @given(sources, rules, st.sampled_from([0.25, 2.0, 1024.0]))
    def test_prices_that_are_twice_as_high_give_a_price_that_is(self, said: list[Said], rules: Rules, factor: float) -> None:
        scaled = [
            replace(
                each,
                price=each.price * factor,
                window=tuple((ago, price * factor, amount) for ago, price, amount in each.window),
            )
            for each in said
        ]
        one, two = (consolidate("BTC/USD", quotes(*each), rules, RATES, NOW) for each in (said, scaled))
        assert refusals(one) == refusals(two)
        assert two.price == (None if one.price is None else one.price * factor)
        assert (one.spread_bps, one.confidence) == (two.spread_bps, two.confidence)

    @given(
        st.lists(st.floats(99.95, 100.05), min_size=2, max_size=8), st.floats(0, 50), st.sampled_from([0.5, 0.98, 1.02, 3.0])
    )
    def test_one_that_is_far_off_is_refused_and_moves_nothing(self, near: list[float], age: float, factor: float) -> None:
        said = [Said(price, age) for price in near]
        answer = priced(*said, Said(100.0 * factor, 0.0), outlier_bps=100.0)
        assert refusals(answer) == {f"venue{len(near)}": "outlier"}
        assert answer.price == priced(*said, outlier_bps=100.0).price

    @given(
        st.lists(prices, min_size=1, max_size=9), st.floats(0.5, 2.0), st.sampled_from(["weighted_median", "median_filtered"])
    )
    def test_all_converted_is_the_price_converted(self, given: list[float], factor: float, method: Method) -> None:
        plain_ones = priced(*map(Said, given), method=method)
        converted = priced(
            *(Said(each, asset="USDT") for each in given), method=method, rates={"USDT": rate("USDT", factor, 0.0)}
        )
        assert plain_ones.price is not None
        assert converted.price == pytest.approx(plain_ones.price * factor, rel=1e-12)

    @given(st.lists(prices, min_size=1, max_size=9), st.floats(0, 50))
    def test_alike_in_age_it_is_the_lower_median(self, given: list[float], age: float) -> None:
        assert priced(*(Said(each, age) for each in given)).price == sorted(given)[(len(given) - 1) // 2]
