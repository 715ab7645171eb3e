"""The words of all workers as one picture: sums, totals that outlive restarts, and text that Prometheus reads."""

from collections import Counter
from dataclasses import dataclass, field
from typing import cast

import pytest
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client.parser import text_string_to_metric_families

from collector import metrics
from collector.exchange import ExchangeState
from collector.metrics import Picture, application
from collector.supervisor import Worker
from collector.worker import Count, WorkerState, counts


def exchange(name: str = "kraken", **changes: object) -> ExchangeState:
    state = ExchangeState(
        name=name,
        connections=2,
        connections_wanted=2,
        pairs={"requested": 0, "acked": 0, "live": 3, "quiet": 1, "rejected": 0},
        rejected={},
        events={"trades": 10, "orderbooks": 5, "deltas": 0, "tickers": 2},
        gaps=1,
        books=2,
        books_synced=2,
        frames=100,
        sessions=3,
        refused=0,
        errors={"FrameError": 1},
        stray=0,
        repeated=4,
        lag_ms=12.5,
    )
    for name_, value in changes.items():
        setattr(state, name_, value)
    return state


def state(*exchanges: ExchangeState, name: str = "host-0", **changes: object) -> WorkerState:
    made = WorkerState(name, 4711, list(exchanges), {"kraken": 17}, 3, 900, 5, {"dropped trades": 2})
    for name_, value in changes.items():
        setattr(made, name_, value)
    return made


@dataclass
class Seen:
    """A worker as the picture sees it."""

    state: WorkerState | None = None
    name: str = "host-0"
    past: Counter[Count] = field(default_factory=Counter)
    restarts: int = 0
    is_up: bool = True

    def restart(self) -> None:
        """What the supervisor does when its process has ended."""
        if self.state is not None:
            self.past.update(counts(self.state))
        self.state, self.restarts = None, self.restarts + 1


def picture(*workers: Seen) -> Picture:
    return Picture(cast("list[Worker]", list(workers)))


def samples(of: Picture) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(of.exposition().decode())
        for sample in family.samples
    }


KRAKEN = ("exchange", "kraken")


class TestHealth:
    def test_of_one_worker(self) -> None:
        found = picture(Seen(state(exchange()))).health()
        assert found["status"] == "ok"
        assert (found["acked"], found["waiting"], found["waiting_bytes"]) == (17, 3, 900)
        assert found["losses"] == {"dropped trades": 2}
        assert found["workers"] == [
            {"name": "host-0", "pid": 4711, "up": True, "restarts": 0, "master_connections": 5, "spool_trouble": None}
        ]
        entry = found["exchanges"]["kraken"]
        assert (entry["connections"], entry["connections_wanted"], entry["books"], entry["books_synced"]) == (2, 2, 2, 2)
        assert entry["events"] == {"trades": 10, "orderbooks": 5, "deltas": 0, "tickers": 2}
        assert (entry["gaps"], entry["sessions"], entry["repeated"], entry["lag_ms"]) == (1, 3, 4, 12.5)
        assert entry["errors"] == {"FrameError": 1}
        assert entry["pairs"]["live"] == 3

    def test_parts_of_an_exchange_are_added_up(self) -> None:
        parts = [exchange(rejected={"trades X/Y": "not listed"}), exchange(lag_ms=None, rejected={"trades Y/Z": "halted"})]
        found = picture(
            *(Seen(state(part, name=f"host-{index}"), f"host-{index}") for index, part in enumerate(parts))
        ).health()
        entry = found["exchanges"]["kraken"]
        assert (entry["connections"], entry["books"], entry["gaps"], entry["events"]["trades"]) == (4, 4, 2, 20)
        assert entry["pairs"] == {"live": 6, "quiet": 2}
        assert entry["rejected"] == {"trades X/Y": "not listed", "trades Y/Z": "halted"}
        assert entry["lag_ms"] == 12.5
        assert found["acked"] == 34

    def test_exchanges_are_told_apart(self) -> None:
        found = picture(Seen(state(exchange("okx", gaps=7), exchange("kraken")))).health()
        assert list(found["exchanges"]) == ["kraken", "okx"]
        assert [each["gaps"] for each in found["exchanges"].values()] == [1, 7]

    @pytest.mark.parametrize(
        ("worker", "trouble"),
        [
            (Seen(state(exchange()), is_up=False), "worker host-0 is down"),
            (Seen(state(exchange(), master_connections=0)), "worker host-0 has no connection to the master"),
            (Seen(state(exchange(), spool_trouble="no space left")), "worker host-0 cannot spool: no space left"),
            (Seen(state(exchange(connections=1))), "kraken has 1 of 2 connections"),
            (Seen(state()), "no exchange is collected"),
        ],
        ids=["hung", "no master", "no disk", "a connection is missing", "nothing to do"],
    )
    def test_what_is_missing_is_starting_at_first_and_then_degraded(
        self, worker: Seen, trouble: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        one = picture(worker)
        assert (one.health()["status"], one.health()["trouble"]) == ("starting", [trouble])
        monkeypatch.setattr(metrics, "STARTING", -1.0)
        assert one.health()["status"] == "degraded"

    def test_all_that_is_missing_is_told(self) -> None:
        found = picture(
            Seen(None, is_up=False), Seen(state(exchange(), name="host-1", master_connections=0), "host-1")
        ).health()
        assert found["trouble"] == ["worker host-0 is down", "worker host-1 has no connection to the master"]

    def test_one_worker_of_many_is_enough(self) -> None:
        assert picture(Seen(state(exchange())), Seen(None, "host-1", is_up=False)).health()["status"] == "starting"


class TestRestarts:
    """What rises never falls, though the process that counted it is gone."""

    def test_totals_are_of_all_lives(self) -> None:
        worker = Seen(state(exchange()))
        one = picture(worker)
        for life in range(1, 4):
            found = one.health()
            assert found["acked"] == 17 * life
            assert found["losses"] == {"dropped trades": 2 * life}
            entry = found["exchanges"]["kraken"]
            assert (entry["events"]["trades"], entry["gaps"], entry["errors"]) == (10 * life, life, {"FrameError": life})
            assert (entry["connections"], entry["books"]) == (2, 2), "but what stands is of this life only"
            assert found["workers"][0]["restarts"] == life - 1
            worker.restart()
            worker.state = state(exchange())

    def test_no_counter_falls_while_the_worker_is_away(self) -> None:
        worker = Seen(state(exchange()))
        one = picture(worker)
        before = samples(one)
        worker.restart()
        after = samples(one)
        for key, value in before.items():
            if key[0].endswith("_total"):
                assert after[key] >= value, key


class TestExposition:
    def test_prometheus_reads_it(self) -> None:
        found = samples(picture(Seen(state(exchange()), restarts=2)))
        assert found["collector_up", ()] == 1
        assert found["collector_waiting_events", ()] == 3
        assert found["collector_waiting_bytes", ()] == 900
        assert found["collector_worker_restarts_total", ()] == 2
        assert found["collector_connections", (KRAKEN,)] == 2
        assert found["collector_books_synced", (KRAKEN,)] == 2
        assert found["collector_lag_seconds", (KRAKEN,)] == pytest.approx(0.0125)
        assert found["collector_subscriptions", (KRAKEN, ("state", "live"))] == 3
        assert found["collector_events_total", (("channel", "trades"), KRAKEN)] == 10
        assert found["collector_errors_total", (KRAKEN, ("kind", "FrameError"))] == 1
        assert found["collector_gaps_total", (KRAKEN,)] == 1
        assert found["collector_losses_total", (("reason", "dropped trades"),)] == 2

    def test_what_alerts_ask(self) -> None:
        silent = {"trades BTC/USD": 900.0}
        parts = [
            exchange(books_recovering=1, recovering_for=4.0, silent=1, silent_for=silent),
            exchange(books_recovering=2, recovering_for=90.5),
        ]
        one = picture(
            *(Seen(state(part, room=900 * number), str(number)) for number, part in enumerate(parts, 1)),
        )
        entry = one.health()["exchanges"]["kraken"]
        assert (entry["books_recovering"], entry["recovering_for"], entry["silent_for"]) == (3, 90.5, silent)
        found = samples(one)
        assert found["collector_books_recovering", (KRAKEN,)] == 3
        assert found["collector_recovering_seconds", (KRAKEN,)] == 90.5
        assert found["collector_silent_pairs", (KRAKEN,)] == 1
        assert found["collector_room_used_ratio", ()] == 1.0, "of the fullest worker: 900 of 900 bytes, and of 1800"

    def test_what_never_happened_is_there_as_zero(self) -> None:
        """Prometheus takes the first value of a counter as its beginning: one that comes with the first gap hides that gap."""
        worker = Seen(state(exchange(gaps=0), losses={}))
        worker.restart()
        worker.state = state(exchange(gaps=0), losses={})
        found = samples(picture(worker))
        assert found["collector_gaps_total", (KRAKEN,)] == 0
        assert found["collector_losses_total", (("reason", "dropped trades"),)] == 0

    def test_acknowledged_events(self) -> None:
        found = samples(picture(Seen(state(exchange()))))
        assert sum(value for (name, _), value in found.items() if name == "collector_acked_events_total") == 17

    def test_each_sample_once(self) -> None:
        text = picture(*(Seen(state(exchange(), exchange("okx"))) for _ in range(3))).exposition().decode()
        lines = [line.rpartition(" ")[0] for line in text.splitlines() if line and not line.startswith("#")]
        assert len(lines) == len(set(lines))

    def test_an_exchange_without_a_lag_has_none(self) -> None:
        assert ("collector_lag_seconds", (KRAKEN,)) not in samples(picture(Seen(state(exchange(lag_ms=None)))))

    def test_before_any_worker_has_spoken(self) -> None:
        assert samples(picture(Seen(None, is_up=False)))["collector_up", ()] == 0


async def test_over_http() -> None:
    async with TestClient(TestServer(application(picture(Seen(None, is_up=False))))) as client:
        async with client.get("/health") as answer:
            assert answer.status == 200, "whether it is well is in the body: a restart would help nobody"
            assert (await answer.json())["status"] == "starting"
        async with client.get("/metrics") as answer:
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            assert "collector_up 0.0" in await answer.text()


def test_counts_hold_everything_that_rises() -> None:
    found = counts(state(exchange()))
    assert found["kraken", "acked", ""] == 17
    assert found["", "losses", "dropped trades"] == 2
    assert found["kraken", "events", "trades"] == 10
    assert found["kraken", "errors", "FrameError"] == 1
    for what in ("gaps", "frames", "sessions", "refused", "stray", "repeated"):
        assert found["kraken", what, ""] == getattr(exchange(), what)
