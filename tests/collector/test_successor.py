"""What one process has told, the next one does not: by number, or by name."""

from hypothesis import given
from hypothesis import strategies as st

from adapters.events import Event, Gap
from collector.successor import MOST_HELD, Holding, Notes, Sieve, Told
from tests.collector.making import BTC, ETH, book, ticker, trade

NAMED = "gateio"


def gap(first: int, last: int) -> Gap:
    return Gap("kraken", BTC, None, 1, "trades", "sequence", str(first), str(last), 1, 1)


def noted(exchange: str, events: list[Event]) -> list[Told]:
    out: list[Event] = []
    notes = Notes(exchange, out.append)
    for event in events:
        notes(event)
    assert out == events
    return notes.told


def sifted(told: list[Told], events: list[Event]) -> list[Event]:
    out: list[Event] = []
    sieve = Sieve(told, out.append)
    for event in events:
        sieve(event)
    return out


class TestSieve:
    @given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 20), st.sampled_from(["kraken", NAMED]))
    def test_two_that_hear_the_same_tell_it_once(self, begin: int, end: int, beyond: int, exchange: str) -> None:
        """The old process hears the trades before `end`, the new one those from `begin` to a later one, and both overlap."""
        trades = [trade(number, exchange=exchange) for number in range(41)]
        told, heard = trades[:end], trades[min(begin, end) : end + beyond]
        assert told + sifted(noted(exchange, list(told)), list(heard)) == trades[: end + beyond]

    def test_another_market_is_another_count(self) -> None:
        told = noted("kraken", [trade(7), trade(3, ETH)])
        assert sifted(told, [trade(7), trade(7, ETH), trade(8)]) == [trade(7, ETH), trade(8)]

    def test_a_hole_of_what_was_told_is_none(self) -> None:
        told = noted("kraken", [trade(7)])
        assert sifted(told, [gap(5, 6), gap(7, 8)]) == [gap(7, 8)]

    def test_what_only_the_new_one_heard_goes_out_where_there_are_no_numbers(self) -> None:
        told = noted(NAMED, [trade(1, exchange=NAMED), trade(3, exchange=NAMED)])
        assert sifted(told, [trade(number, exchange=NAMED) for number in (1, 2, 3)]) == [trade(2, exchange=NAMED)]


class TestHolding:
    def test_views_are_of_no_use_later(self) -> None:
        holding = Holding()
        put = holding.open("kraken", lambda _: None)
        for event in (trade(1), book(2), ticker(3), gap(4, 5)):
            put(event)
        assert holding.held == {"kraken": [trade(1), gap(4, 5)]}

    def test_it_has_an_end_and_says_so(self) -> None:
        holding = Holding()
        put = holding.open("kraken", lambda _: None)
        one = trade(1)
        for _ in range(MOST_HELD):
            put(one)
        assert not holding.is_full
        put(one)
        assert holding.is_full
        assert len(holding.held["kraken"]) == MOST_HELD
