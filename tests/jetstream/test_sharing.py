"""Masters share exchanges: on paper by the clock of one observer, and for real with one of two killed."""

from collections import Counter
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from master.jetstream import claims
from master.jetstream.claims import Board, Bucket, Claim, Entry, LostError
from master.jetstream.settings import JetStreamSettings
from master.jetstream.streams import reconcile
from tests.jetstream.making import Source, sections, stored
from tests.jetstream.nats import Server, client, engine, needs_server, until_empty
from tests.master.running import ask, process, running
from tests.waiting import until

NAMES = ("a", "b", "c")
SOON = 0.5
EXCHANGES = tuple(f"exchange{number}" for number in range(30))


def late() -> float:
    return claims.LEASE + SOON


def board(name: str, **heard: float) -> Board:
    """`heard`: when each other master renewed its entry last."""
    made = Board(name, 1)
    for other, since in heard.items():
        made.saw(f"master.{other}", Entry(other, 1), 1, since)
    return made


class TestBoard:
    def test_all_masters_come_to_the_same_answer(self) -> None:
        boards = [board(name, **{other: 0.0 for other in NAMES if other != name}) for name in NAMES]
        shares = [each.wanted(EXCHANGES, SOON) for each in boards]
        assert sorted(exchange for share in shares for exchange in share) == sorted(EXCHANGES)
        assert all(len(share) > 3 for share in shares)

    def test_only_what_was_of_the_dead_moves(self) -> None:
        before, after = board("a", b=0.0, c=late()), board("a", b=0.0, c=late())
        was = {each: before.meant(each, SOON) for each in EXCHANGES}
        now = {each: after.meant(each, late()) for each in EXCHANGES}
        assert {each for each in EXCHANGES if was[each] != now[each]} == {each for each in EXCHANGES if was[each] == "b"}

    def test_nothing_is_taken_from_the_living(self) -> None:
        one = board("a", b=0.0)
        ours = one.wanted(EXCHANGES, SOON)
        for each in ours:
            one.saw(f"exchange.{each}", Entry("b", 1), 7, 0.0)
        assert one.wanted(EXCHANGES, SOON) == set()
        assert one.wanted(EXCHANGES, late()) == set(EXCHANGES)

    def test_an_entry_that_changes_is_alive_whatever_its_clock_says(self) -> None:
        one = board("a", b=0.0)
        one.saw("master.b", Entry("b", 1), 1, late())
        assert one.live(late()) == {"a"}
        one.saw("master.b", Entry("b", 1), 2, late())
        assert one.live(late() + SOON) == {"a", "b"}

    def test_a_twin_is_one_that_began_later(self) -> None:
        one = Board("a", 5)
        one.saw("master.a", Entry("a", 4), 1, 0.0)
        assert not one.has_twin(0.0)
        one.saw("master.a", Entry("a", 6), 2, 0.0)
        assert one.has_twin(0.0)
        assert not one.has_twin(late())

    @given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 9))))
    def test_marks_of_a_claim_only_rise(self, steps: list[tuple[str, int]]) -> None:
        claim = Claim(None, "x", {}, 0)  # type: ignore[arg-type]
        highest: Counter[str] = Counter()
        for stream, seq in steps:
            claim.reached(stream, seq)
            highest[stream] = max(highest[stream], seq)
        assert claim.marks == dict(highest)


@needs_server
async def test_who_was_replaced_can_write_nothing(nats: Server) -> None:
    async with client(nats) as link:
        await reconcile(link.js, JetStreamSettings(servers=(nats.url,)))
        first, second = Bucket(link.js, Board("a", 1)), Bucket(link.js, Board("b", 1))
        claim = await first.claim("okx", 0.0)
        claim.reached("11" * 16, 5)
        await claim.renew(0.0)
        await second.read(0.0)
        taken = await second.claim("okx", 0.0)
        assert taken.marks == {"11" * 16: 5}
        for attempt in (claim.renew, claim.release):
            try:
                await attempt(0.0)
            except LostError:
                continue
            raise AssertionError("a claim that was lost was written")


@needs_server
async def test_two_masters_of_which_one_is_killed(tmp_path: Path, nats: Server) -> None:
    """Each has its share; when one dies the other takes over, and what the dead one had acknowledged is not stored again."""
    exchanges = ("kraken", "okx", "binance", "bybit", "htx", "mexc")
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    async with (
        engine(nats.access, exchanges=exchanges, lanes=1) as one,
        running(ours, sections=sections(nats, name="alpha")),
        client(nats) as link,
    ):
        source = Source(one, *exchanges)

        async def all_acknowledged(trades: int) -> None:
            source.tell(trades)
            await until(lambda: one.outbox.held_events == 0)
            await until_empty(link)

        with process(theirs, sections(nats, name="delta")) as (other, _):
            while not set(stored(theirs)) - set(stored(ours)):
                await all_acknowledged(600)
            other.kill()
        held = len(stored(ours))
        await all_acknowledged(600)
    assert len(stored(ours)) - held >= 600
    taken = ask(ours, "SELECT DISTINCT exchange FROM trades")
    assert {name for (name,) in taken} == set(exchanges)
    for lake in (ours, theirs):
        assert ask(lake, "SELECT count(*), count(DISTINCT id) FROM trades")[0][0] == len(set(stored(lake)))
    both = Counter(stored(ours) + stored(theirs))
    assert set(both) == set(range(1, source.told + 1))
    assert ask(ours, "SELECT DISTINCT split_part(reason, ':', 1) FROM gaps") == [("stored by another master",)]
