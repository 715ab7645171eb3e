"""Lines come and go before their venue ends them, and one that is alone is in nobody's way."""

import pytest

import simulator
from adapters.events import Gap
from collector import chunk, lines
from collector.exchange import Exchange
from collector.feed import Feed
from tests.e2e.collecting import PAIRS, Memory, collecting, is_synced
from tests.waiting import until

NAME = "binance"


def feeds(exchange: Exchange) -> list[Feed]:
    return [feed for each in exchange._chunks for feed in each.lines.feeds]


def are_alone(exchange: Exchange, memory: Memory) -> bool:
    """Whether what the feeds say goes out without a step between."""
    return all(feed.put == memory.events.append and feed.adapter.live.fills_holes for feed in feeds(exchange))


@pytest.mark.parametrize("redundancy", [1, 2])
async def test_sessions_end_one_after_the_other_and_nothing_is_missing(
    redundancy: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunk, "APART", 0.5)
    monkeypatch.setattr(lines, "LINGER", 0.2)
    facts = {NAME: {"session": 5.0, "notice": 3.5}}
    async with (
        simulator.serve([NAME], rate=600, facts=facts) as sim,
        collecting(sim, NAME, redundancy=redundancy) as (exchange, memory),
    ):
        # On a slow machine the first successor may run already.
        await until(lambda: is_synced(exchange) and are_alone(exchange, memory) == (redundancy == 1), "all books synced")
        first = feeds(exchange)
        await until(lambda: not set(first) & set(feeds(exchange)), "each connection was replaced")
        if redundancy == 1:
            await until(lambda: are_alone(exchange, memory), "alone again")
        sim.pause()
        assert not [event for event in memory.events if isinstance(event, Gap)]
        assert exchange.state().gaps == 0
        told = exchange.state().events
        for symbol in PAIRS[NAME]:
            ids = [int(each.id) for each in memory.trades(symbol)]
            assert ids == list(range(ids[0], ids[-1] + 1)), f"{symbol}: whole, in order, and each trade once"
        assert told["trades"] == sum(len(memory.trades(symbol)) for symbol in PAIRS[NAME])


async def test_all_lines_are_wanted_and_each_pair_is_shown_once() -> None:
    async with simulator.serve([NAME], rate=300) as sim, collecting(sim, NAME, redundancy=2) as (exchange, _):
        await until(lambda: exchange.state().connections == 3, "the first line of each chunk")
        state = exchange.state()
        assert (state.connections_wanted, sum(state.pairs.values())) == (6, 6)
