"""Data stops while its connection lives: nothing breaks, and yet it is seen."""

import pytest

import simulator
from collector import exchange as collected
from collector import pace
from tests.e2e.collecting import collecting, is_synced
from tests.waiting import until


async def test_markets_that_stand_still_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collected, "LOOK_EVERY", 0.01)
    monkeypatch.setattr(pace, "LEARNED", 10)
    monkeypatch.setattr(pace, "FLOOR", 0.3)
    async with simulator.serve(["kraken"], rate=2000) as sim, collecting(sim, "kraken") as (exchange, _):
        await until(lambda: is_synced(exchange) and exchange.state().frames > 1000, "all books, and the pace of every market")
        sim.pause()
        state = None

        def all_are_silent() -> bool:
            nonlocal state
            state = exchange.state()
            return state.silent == 6

        await until(all_are_silent, "three trades, two books and a ticker that stand still")
        assert state is not None
        assert (state.connections, state.books_synced) == (3, 2), "while connections live, and no book is in doubt"
        assert set(state.silent_for) >= {"trades BTC/USD", "orderbooks ETH/USD", "tickers BTC/USD"}
        sim.resume()
        await until(lambda: exchange.state().silent == 0, "they go on")
