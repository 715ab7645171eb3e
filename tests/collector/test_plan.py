"""From the configuration to connections and processes: every pair exactly once, and an exchange's limits in one place."""

from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters import registry
from adapters.events import CHANNELS
from collector.plan import BOOK_WEIGHT, Chunk, Pattern, Shard, WorkerPlan, chunks, part_of, parts, plan
from collector.settings import Chunking, Exchange, Orderbook, Pairs, Settings
from master.jetstream.settings import JetStreamSettings

BASES = [f"C{number}" for number in range(40)]
SYMBOLS = tuple(f"{base}/USDT" for base in BASES)


def exchange(
    name: str = "binance", trades: int = 0, books: int = 0, tickers: int = 0, workers: int = 1, **sizes: int
) -> Exchange:
    pairs = Pairs(trades=SYMBOLS[:trades], orderbooks=SYMBOLS[:books], tickers=SYMBOLS[:tickers])
    return Exchange(name=name, pairs=pairs, chunking=Chunking(**sizes), workers=workers)


counts = st.integers(0, 40)
sizes = st.none() | st.integers(1, 50)
exchanges = st.builds(
    lambda name, trades, books, tickers, workers, of_trades, of_books: Exchange(
        name=name,
        pairs=Pairs(trades=SYMBOLS[:trades], orderbooks=SYMBOLS[:books], tickers=SYMBOLS[:tickers]),
        chunking=Chunking(trades_per_connection=of_trades, orderbooks_per_connection=of_books),
        workers=workers,
    ),
    st.sampled_from(registry.NAMES),
    *(counts, counts, counts),
    st.integers(1, 6),
    *(sizes, sizes),
)
configurations = st.lists(exchanges, max_size=4, unique_by=lambda each: each.name)


class TestChunks:
    def test_each_channel_by_its_own_size(self) -> None:
        found = list(chunks(exchange(trades=5, books=3, trades_per_connection=2, orderbooks_per_connection=1)))
        assert [(chunk.channel, len(chunk.symbols)) for chunk in found] == [
            ("trades", 2),
            ("trades", 2),
            ("trades", 1),
            *[("orderbooks", 1)] * 3,
        ]

    def test_an_empty_list_means_none(self) -> None:
        assert list(chunks(exchange())) == []

    @pytest.mark.parametrize("name", registry.NAMES)
    def test_without_a_size_it_is_the_venue_s_habit(self, name: str) -> None:
        usual = registry.adapter(name).venue.per_connection
        for chunk in chunks(exchange(name, trades=40, books=40, tickers=40)):
            assert len(chunk.symbols) <= usual[chunk.channel]

    def test_a_book_weighs_more_than_a_trade_stream(self) -> None:
        assert (
            Chunk("binance", "orderbooks", SYMBOLS[:3]).weight == BOOK_WEIGHT * Chunk("binance", "trades", SYMBOLS[:3]).weight
        )


class TestParts:
    def test_whole(self) -> None:
        (whole,) = parts(exchange(trades=40, trades_per_connection=10))
        assert (len(whole.chunks), whole.share) == (4, 1.0)

    def test_split_by_the_hash_of_the_symbol_with_a_share_of_the_limits_each(self) -> None:
        found = parts(exchange(trades=40, books=40, trades_per_connection=10, workers=3))
        assert [part.share for part in found] == [1 / 3] * 3
        for each in found:
            assert {part_of(symbol, 3) for chunk in each.chunks for symbol in chunk.symbols} == {each.part}
        assert min(len(each.chunks[0].symbols) for each in found) >= 8, "evenly, more or less"

    def test_parts_without_pairs_are_left_out(self) -> None:
        (only,) = parts(exchange(trades=1, workers=5))
        assert (only.part, only.share) == (part_of(SYMBOLS[0], 5), 0.2)

    def test_of_nothing(self) -> None:
        assert parts(exchange(workers=3)) == []

    def test_options_come_along(self) -> None:
        book = Orderbook(depth=5, update_interval_ms=250, mode="deltas")
        made = Exchange(name="okx", pairs=Pairs(trades=SYMBOLS[:1]), orderbook=book, url="wss://other")
        (part,) = parts(made)
        assert (part.options.depth, part.options.interval, part.options.mode) == (5, 0.25, "deltas")
        assert part.url == "wss://other"

    def test_a_second_line_costs_as_much_as_the_first(self) -> None:
        once, twice = (
            exchange(trades=20, trades_per_connection=10),
            Exchange(name="okx", redundancy=2, pairs=Pairs(trades=SYMBOLS[:20])),
        )
        (single,), (double,) = parts(once), parts(twice)
        assert (single.redundancy, double.redundancy) == (1, 2)
        assert double.weight == 2 * single.weight


class TestPatterns:
    def test_what_only_the_list_names_waits_for_it(self) -> None:
        pairs = Pairs(trades=("BTC/EUR", "C1/USDT", "*/USDT"), orderbooks=("BTC/EUR",))
        (whole,) = parts(Exchange(name="binance", pairs=pairs, chunking=Chunking(trades_per_connection=7)))
        assert [(chunk.channel, chunk.symbols) for chunk in whole.chunks] == [
            ("trades", ("BTC/EUR",)),
            ("orderbooks", ("BTC/EUR",)),
        ], "C1/USDT comes with the pattern"
        assert (whole.patterns, whole.size("trades")) == ((Pattern("trades", "*/USDT"),), 7)
        assert whole.weight > 300

    @given(st.integers(1, 5), st.sets(st.sampled_from(SYMBOLS)), st.integers(1, 10))
    def test_each_listed_pair_joins_exactly_one_part_once(self, workers: int, listed: set[str], size: int) -> None:
        pairs = Pairs(trades=("*/USDT", "C1/*"), orderbooks=("BTC/*",))
        chunking = Chunking(trades_per_connection=size)
        found = parts(Exchange(name="binance", pairs=pairs, chunking=chunking, workers=workers))
        joined = [part.recut((), listed) for part in found]
        together = [chunk for chunks in joined for chunk in chunks]
        assert sorted(symbol for chunk in together for symbol in chunk.symbols) == sorted(listed)
        assert {chunk.channel for chunk in together} <= {"trades"}
        assert all(len(chunk.symbols) <= size for chunk in together)
        assert [part.recut(chunks, listed) for part, chunks in zip(found, joined, strict=True)] == joined
        assert [part.recut(chunks) for part, chunks in zip(found, joined, strict=True)] == joined, "delisted ones may come back"


def pairs_of(found: Iterable[Chunk]) -> Counter[tuple[str, str]]:
    return Counter((chunk.channel, symbol) for chunk in found for symbol in chunk.symbols)


class TestRecut:
    @given(exchanges.filter(lambda each: each.workers == 1), exchanges)
    def test_what_is_wanted_is_there_once_and_what_can_stay_stays(self, before: Exchange, after: Exchange) -> None:
        running = list(chunks(before))
        after = after.model_copy(update={"name": before.name, "workers": 1})
        for new in parts(after):
            found = new.recut(running)
            assert pairs_of(found) == pairs_of(chunks(after))
            wanted = set(pairs_of(chunks(after)))
            for each in running:
                is_wanted = {(each.channel, symbol) for symbol in each.symbols} <= wanted
                assert (each in found) == (is_wanted and len(each.symbols) <= new.size(each.channel))
            assert all(len(each.symbols) <= new.size(each.channel) for each in found)

    def test_who_leaves_makes_room_for_who_joins(self) -> None:
        running = [Chunk("okx", "trades", ("A/USDT", "B/USDT")), Chunk("okx", "trades", ("C/USDT", "D/USDT"))]
        wanted = ("A/USDT", "C/USDT", "D/USDT", "E/USDT", "F/USDT")
        (new,) = parts(Exchange(name="okx", pairs=Pairs(trades=wanted), chunking=Chunking(trades_per_connection=2)))
        assert [each.symbols for each in new.recut(running)] == [("A/USDT", "E/USDT"), ("C/USDT", "D/USDT"), ("F/USDT",)]

    def test_a_connection_that_is_too_full_keeps_what_it_may(self) -> None:
        running = [Chunk("okx", "trades", SYMBOLS[:5])]
        (new,) = parts(exchange("okx", trades=5, trades_per_connection=3))
        assert [each.symbols for each in new.recut(running)] == [SYMBOLS[:3], SYMBOLS[3:5]]

    def test_a_connection_can_stay_as_long_as_its_terms_are_the_same(self) -> None:
        (one,), (other,) = (
            parts(Exchange(name="okx", pairs=Pairs(trades=SYMBOLS[:1]), orderbook=book))
            for book in (Orderbook(), Orderbook(depth=5))
        )
        assert one.terms("trades") == other.terms("trades")
        assert one.terms("orderbooks") != other.terms("orderbooks")


class TestShards:
    @given(configurations, st.integers(1, 7), st.integers(1, 4))
    def test_every_pair_is_in_exactly_one_shard_whatever_others_there_are(
        self, configured: list[Exchange], shards: int, fewer: int
    ) -> None:
        found: Counter[tuple[str, str, str]] = Counter()
        for part in range(shards):
            of_shard = [each for made in configured for each in parts(made, Shard(part, shards))]
            found.update((each.name, *pair) for each in of_shard for pair in pairs_of(each.chunks).elements())
            for each in of_shard:
                assert {part_of(symbol, shards) for chunk in each.chunks for symbol in chunk.symbols} <= {part}
        assert found == Counter(
            (each.name, channel, symbol) for each in configured for channel in CHANNELS for symbol in each.pairs.of(channel)
        )

    @given(st.integers(1, 5), st.integers(2, 5))
    def test_all_workers_of_a_shard_have_something_to_do(self, shards: int, workers: int) -> None:
        """The number of shards and that of workers may have a common divisor."""
        many = Pairs(trades=tuple(f"C{number}/USDT" for number in range(600)))
        found = parts(Exchange(name="binance", pairs=many, workers=workers), Shard(0, shards))
        loads = [each.weight for each in found]
        assert len(loads) == workers
        assert min(loads) * 3 > max(loads)
        assert [each.share for each in found] == [1 / workers] * workers, "another shard has another address"


class TestPlan:
    @given(configurations, st.integers(1, 8), st.none() | st.integers(1, 8))
    def test_every_pair_exactly_once(self, configured: list[Exchange], cores: int, workers: int | None) -> None:
        planned = plan(Settings(exchanges=tuple(configured), workers=workers), cores, "host")
        found = Counter(
            (chunk.exchange, chunk.channel, symbol)
            for worker in planned
            for part in worker.exchanges
            for chunk in part.chunks
            for symbol in chunk.symbols
        )
        assert found == Counter(
            (each.name, channel, symbol) for each in configured for channel in CHANNELS for symbol in each.pairs.of(channel)
        )

    @given(configurations, st.integers(1, 8))
    def test_an_exchange_is_in_one_worker_unless_it_is_split(self, configured: list[Exchange], cores: int) -> None:
        planned = plan(Settings(exchanges=tuple(configured)), cores, "host")
        for each in configured:
            of_exchange = [(worker.name, part) for worker in planned for part in worker.exchanges if part.name == each.name]
            assert len(of_exchange) <= each.workers
            assert all(part.share == 1 / each.workers for _, part in of_exchange)
            if len(of_exchange) <= len(planned):
                assert len({name for name, _ in of_exchange}) == len(of_exchange), "no two parts of it share a worker"

    @given(configurations, st.integers(1, 8), st.none() | st.integers(1, 8))
    def test_no_more_workers_than_asked_for_and_none_without_work(
        self, configured: list[Exchange], cores: int, workers: int | None
    ) -> None:
        planned = plan(Settings(exchanges=tuple(configured), workers=workers), cores, "host")
        assert len(planned) <= (workers or cores)
        assert all(worker.exchanges for worker in planned)
        assert [worker.name for worker in planned] == [f"host-{index}" for index in range(len(planned))]

    @given(configurations, st.integers(1, 4))
    def test_the_load_is_spread(self, configured: list[Exchange], cores: int) -> None:
        """No worker has more than its even part and one exchange besides."""
        unsplit = [each.model_copy(update={"workers": 1}) for each in configured]
        planned = plan(Settings(exchanges=tuple(unsplit)), cores, "host")
        if planned:
            loads = [sum(part.weight for part in worker.exchanges) for worker in planned]
            heaviest = max(part.weight for worker in planned for part in worker.exchanges)
            assert max(loads) <= sum(loads) / len(loads) + heaviest

    @given(configurations, st.integers(1, 8))
    def test_the_same_configuration_gives_the_same_plan(self, configured: list[Exchange], cores: int) -> None:
        settings = Settings(exchanges=tuple(configured))
        assert plan(settings, cores, "host") == plan(settings, cores, "host")

    def test_with_fewer_workers_than_parts_they_are_spread_all_the_same(self) -> None:
        planned = plan(Settings(exchanges=(exchange(trades=40, trades_per_connection=10, workers=4),)), 2, "host")
        assert [len(worker.exchanges) for worker in planned] == [2, 2]

    def test_what_is_not_enabled_is_not_planned(self) -> None:
        off = exchange(trades=3).model_copy(update={"enabled": False})
        assert plan(Settings(exchanges=(off,)), 2, "host") == []


def homes(planned: list[WorkerPlan]) -> dict[tuple[str, int], str]:
    return {(each.name, each.part): worker.name for worker in planned for each in worker.exchanges}


class TestAgain:
    @given(configurations, configurations, st.integers(1, 4))
    def test_what_runs_stays_where_it_is(self, before: list[Exchange], after: list[Exchange], cores: int) -> None:
        split = {each.name: each.workers for each in before}
        after = [each.model_copy(update={"workers": split.get(each.name, each.workers)}) for each in after]
        running = plan(Settings(exchanges=tuple(before)), cores, "host")
        planned = plan(Settings(exchanges=tuple(after)), cores, "host", running)
        afresh = plan(Settings(exchanges=tuple(after)), cores, "host")
        assert sorted(homes(planned)) == sorted(homes(afresh)), "all that is wanted"
        for part in homes(running).keys() & homes(planned).keys():
            assert homes(running)[part] == homes(planned)[part]
        assert all(worker.exchanges for worker in planned)
        assert len(planned) <= max(cores, len(running))

    def test_a_new_exchange_goes_to_a_process_of_its_own_where_there_may_be_one(self) -> None:
        running = plan(Settings(exchanges=(exchange("okx", trades=3),)), 2, "host")
        both = Settings(exchanges=(exchange("kraken", trades=40), exchange("okx", trades=3), exchange("htx", trades=1)))
        planned = plan(both, 2, "host", running)
        assert homes(planned) == {("okx", 0): "host-0", ("htx", 0): "host-0", ("kraken", 0): "host-1"}

    def test_where_exchanges_have_lanes_of_their_own_a_new_one_has_a_process_of_its_own(self) -> None:
        running = plan(Settings(exchanges=(exchange("okx", trades=3), exchange("htx", trades=3))), 2, "host")
        nats = JetStreamSettings(servers=("nats://127.0.0.1:4222",))
        again = Settings(exchanges=(exchange("okx", trades=3), exchange("kraken", trades=1)), jetstream=nats)
        assert homes(plan(again, 2, "host", running)) == {("okx", 0): homes(running)["okx", 0], ("kraken", 0): "host-2"}
