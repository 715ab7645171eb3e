"""Topics and patterns, by hand-computed cases and against a slow rule."""

from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.events import Book, Event, Gap, Price
from master.streams.topics import CHANNELS, LONGEST_TOPIC, Pattern, TopicError, only
from tests.master.making import NOON, trade


def gap(channel: str, exchange: str = "kraken", symbol: str | None = "BTC/USD") -> Gap:
    return Gap(exchange, symbol, None, NOON, channel, "disconnected")


BOOK = Book("kraken", "BTC/USD", None, NOON, [], [], None)


class TestPattern:
    @pytest.mark.parametrize(
        ("text", "exchange", "symbol", "fits"),
        [
            ("trades:kraken:BTC/USD", "kraken", "BTC/USD", True),
            ("trades:kraken:BTC/USD", "kraken", "BTC/USDT", False),
            ("trades:*:BTC/USDT", "okx", "BTC/USDT", True),
            ("trades:*:BTC/USDT", "okx", "BTC/USDT:USDT", False),
            ("trades:*:BTC/USDT:USDT", "okx", "BTC/USDT:USDT", True),
            ("trades:kraken:*/USD", "kraken", "ETH/USD", True),
            ("trades:kraken:*/USD", "kraken", "USD/EUR", False),
            ("trades:kraken:BTC/*", "kraken", "BTC/EUR", True),
            ("trades:binance*:BTC/EUR", "binance_us", "BTC/EUR", True),
            ("trades:kraken:B.C/USD", "kraken", "BTC/USD", False),
            ("prices:BTC/USD", "", "BTC/USD", True),
            ("prices:*", "", "ETH/USD", True),
        ],
    )
    def test_fits(self, text: str, exchange: str, symbol: str, fits: bool) -> None:
        assert Pattern(text).fits(exchange, symbol) is fits

    @given(st.text("ab*.", min_size=1, max_size=6), st.text("ab.", max_size=6))
    def test_a_star_is_any_text_and_nothing_else_is_special(self, part: str, text: str) -> None:
        assert Pattern(f"trades:x:{part}").fits("x", text) is fnmatchcase(text, part)

    @pytest.mark.parametrize(
        ("text", "change"),
        [
            ("trade:kraken:BTC/USD", "one of trades, liquidations"),
            ("trades:kraken", "trades:EXCHANGE:SYMBOL"),
            ("trades::BTC/USD", "trades:EXCHANGE:SYMBOL"),
            ("trades:kraken:", "trades:EXCHANGE:SYMBOL"),
            ("trades", "trades:EXCHANGE:SYMBOL"),
            ("prices", "prices:FEED"),
            ("", "one of trades"),
            ("candles:1m:kraken", "candles:INTERVAL:EXCHANGE:SYMBOL"),
            ("candles:kraken:BTC/USD", "candles:INTERVAL:EXCHANGE:SYMBOL"),
            ("candles:1m::BTC/USD", "EXCHANGE all"),
            ("candles:1m:*:BTC/USD", "EXCHANGE all"),
            ("candles:1m:kraken:*/USD", "candles:1m:kraken:BTC/USD"),
            ("candles:2m:kraken:BTC/USD", "one of 1s, 1m, 5m, 15m, 1h, 4h, 1d"),
            ("candles:*:kraken:BTC/USD", "one of 1s"),
            ("trades:kraken:" + "X" * LONGEST_TOPIC, "characters"),
        ],
    )
    def test_a_wrong_one_is_told_what_would_be_right(self, text: str, change: str) -> None:
        with pytest.raises(TopicError) as error:
            Pattern(text)
        assert change in error.value.change

    @pytest.mark.parametrize(
        ("text", "event", "chooses"),
        [
            ("trades:kraken:*", trade(1), True),
            ("books:kraken:*", trade(1), False),
            ("books:kraken:*", BOOK, True),
            ("book_deltas:kraken:*", BOOK, True),
            ("book_deltas:kraken:*", gap("orderbooks"), True),
            ("book_deltas:kraken:*", gap("trades"), False),
            ("book_deltas:kraken:*", gap("delivery", exchange="", symbol=None), True),
            ("gaps:kraken:BTC/USD", gap("trades"), True),
            ("gaps:kraken:BTC/USD", gap("trades", symbol="ETH/USD"), False),
            ("gaps:kraken:BTC/USD", gap("trades", symbol=None), True),
            ("gaps:okx:BTC/USD", gap("trades", symbol=None), False),
            ("gaps:okx:BTC/USD", gap("delivery", exchange="", symbol=None), True),
            ("candles:1m:kraken:BTC/USD", trade(1), False),
            ("prices:BTC/USD", Price("", "BTC/USD", None, NOON, "1", "median", 1, 0, 0.0, 1.0), True),
        ],
    )
    def test_chooses(self, text: str, event: Event, chooses: bool) -> None:
        assert Pattern(text).chooses(event) is chooses


def test_candles_have_an_interval_and_symbols_may_have_colons() -> None:
    pattern = Pattern("candles:15m:all:BTC/USDT:USDT")
    assert (pattern.interval, pattern.exchange, pattern.symbol) == ("15m", "all", "BTC/USDT:USDT")
    assert Pattern("trades:okx:BTC/USDT:USDT").interval == ""


def test_what_is_kept_is_a_stream_and_what_is_not_a_view() -> None:
    assert {name for name, channel in CHANNELS.items() if channel.is_view} == {"books", "tickers", "prices", "candles"}


@pytest.mark.parametrize(
    ("values", "found"), [(["a", "a"], "a"), (["a", "b"], None), (["*"], None), (["a*"], None), (["a", "*"], None), ([], None)]
)
def test_only(values: list[str], found: str | None) -> None:
    assert only(values) == found
