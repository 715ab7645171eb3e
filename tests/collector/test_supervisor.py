"""A supervisor on a machine that has nothing left to give; with real processes it is in tests/e2e/test_processes.py."""

import asyncio
import errno
from typing import NoReturn

import pytest

from collector import supervisor
from collector.plan import WorkerPlan
from collector.supervisor import SupervisedProcess, Worker
from collector.worker import Assignment
from tests.hearing import logs
from tests.waiting import until


async def test_where_no_process_can_be_had_it_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_: SupervisedProcess) -> NoReturn:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(SupervisedProcess, "start", start)
    monkeypatch.setattr(supervisor, "FIRST_PAUSE", 0.01)
    worker = Worker(Assignment(WorkerPlan("w", ()), "ws://127.0.0.1:9", "key", 1, None, None, None, debug=False))
    with logs() as said:
        running = asyncio.create_task(worker.run())
        await until(lambda: worker.restarts >= 3, "three attempts")
        worker.stop()
        await running
    reasons = [line["reason"] for line in said if line["event"] == "no process can be started"]
    assert "Resource temporarily unavailable" in reasons[0]
