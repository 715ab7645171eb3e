"""What probes and people are told of a collector: asked over HTTP at a monitor that shows whatever a test wants."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from collector.metrics import application
from collector.status import health, look_twice, remarks, show, summary
from master.probe import ProbeError
from tests.collector.test_metrics import Seen, exchange, picture, state

WELL = Seen(state(exchange(rejected={"trades X/Y": "not listed"})))
NO_MASTER = Seen(state(exchange(), master_connections=0))

Serve = Callable[[web.Application], Any]


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    """Serves an application: the configuration that leads there."""
    servers: list[TestServer] = []

    async def start(app: web.Application) -> Path:
        server = TestServer(app)
        servers.append(server)
        await server.start_server()
        file = tmp_path / "config.json"
        file.write_text(json.dumps({"monitor": {"host": "0.0.0.0", "port": server.port}}))
        return file

    yield start
    for server in servers:
        await server.close()


class TestHealth:
    @pytest.mark.parametrize(
        ("worker", "alive", "ready", "line"),
        [
            (WELL, 0, 0, "ok: 2 connections, 3 events waiting"),
            (NO_MASTER, 0, 1, "starting: worker host-0 has no connection to the master"),
            (Seen(None, is_up=False), 0, 1, "starting: worker host-0 is down; no exchange is collected"),
        ],
        ids=["well", "no master", "no worker yet"],
    )
    async def test_what_a_restart_would_not_bring_back_is_no_reason_for_one(
        self, serve: Serve, worker: Seen, alive: int, ready: int, line: str
    ) -> None:
        config = await serve(application(picture(worker)))
        assert await asyncio.to_thread(health, config, ready=False) == (alive, line)
        assert await asyncio.to_thread(health, config, ready=True) == (ready, line)

    async def test_another_program_on_its_port(self, serve: Serve) -> None:
        async def answer(_: web.Request) -> web.Response:
            return web.json_response({"status": "ok"})

        app = web.Application()
        app.router.add_get("/health", answer)
        code, line = await asyncio.to_thread(health, await serve(app), ready=False)
        assert code == 1
        assert line.startswith("not up: another program answers at port ")

    @pytest.mark.parametrize("port", [0, "no number"])
    def test_a_port_that_nobody_can_be_asked_at(self, tmp_path: Path, port: object) -> None:
        file = tmp_path / "config.json"
        file.write_text(json.dumps({"monitor": {"port": port}}))
        code, line = health(file, ready=False)
        assert code == 1
        assert line.startswith(f"not up: monitor.port is {port}, ")

    def test_nobody_there(self, tmp_path: Path) -> None:
        with pytest.raises(ProbeError, match=r"none\.json"):
            look_twice(tmp_path / "none.json")


class TestStatus:
    async def test_two_looks_give_a_rate(self, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
        worker = Seen(state(exchange()))
        config = await serve(application(picture(worker)))

        def a_second_later(_: float) -> None:
            worker.state = state(exchange(events={"trades": 110, "orderbooks": 5, "deltas": 0, "tickers": 2}))

        monkeypatch.setattr("collector.status.sleep", a_second_later)
        moments = iter([10.0, 12.0])
        monkeypatch.setattr("collector.status.monotonic", lambda: next(moments))
        seen, _ = await asyncio.to_thread(look_twice, config)
        assert seen["exchanges"]["kraken"]["events_per_second"] == 50

    async def test_everything_has_its_place(
        self, serve: Serve, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr("collector.status.LOOK_AGAIN", 0.0)
        down = Seen(None, "host-1", is_up=False, restarts=2)
        config = await serve(application(picture(WELL, down)))
        show(*await asyncio.to_thread(look_twice, config))
        rows = [line.split() for line in capsys.readouterr().out.splitlines()]
        assert rows[0] == ["starting:", "worker", "host-1", "is", "down"]
        assert ["kraken", "2/2", "3", "1", "0", "0", "0", "2/2", "1", "12", "17"] in rows
        assert ["host-0", "4711", "0", "5", "ok"] in rows
        assert ["host-1", "down", "2", "0", "ok"] in rows
        assert ["kraken", "rejected", "trades", "X/Y:", "not", "listed"] in rows

    def test_remarks(self) -> None:
        seen = picture(WELL).health()
        assert summary(seen).startswith("ok: ")
        assert list(remarks(seen))[1:] == [
            "waiting for the master: 3 events, 900 bytes",
            "for want of room: 2 dropped trades",
            "kraken rejected trades X/Y: not listed",
            "kraken errors: 1 FrameError",
        ]
