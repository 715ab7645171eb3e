"""Worker processes: started, watched by pulse and exit, restarted with growing pauses and for ever, drained at the end."""

import asyncio
import os
import signal
import socket
from collections import Counter
from collections.abc import Coroutine
from random import Random
from time import monotonic, time_ns
from typing import Any

import aiomultiprocess
import msgspec
import uvloop
from aiomultiprocess.core import get_context
from aiomultiprocess.types import Unit
from msgspec.structs import replace

from collector.worker import DRAIN_WITHIN, FENCED, Assignment, Count, WorkerState, counts, decode_state, work
from master.backoff import Backoff
from master.log import logger
from master.parent import end_with_parent

log = logger("supervisor")

PULSE_WITHIN = 15.0
"""Seconds without a word after which a worker counts as hung, and is killed."""
LAST_WORD_WITHIN = 1.0
FIRST_PAUSE = 0.1
"""Seconds within which a worker that ended is started again, the first time; doubled each time that it does not last."""
MAX_REPORT = 16 << 20
_PARENT_GONE = 70


def _begin_child(parent: int) -> None:
    """First thing in a worker: end with the supervisor, and leave the terminal's Ctrl-C to it."""
    end_with_parent(signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(_PARENT_GONE)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class SupervisedProcess(aiomultiprocess.Process):  # type: ignore[misc]  # the library is not typed
    """aiomultiprocess' Process without its hidden manager process, and without polling for its end."""

    def __init__(self, assignment: Assignment, link: socket.socket) -> None:
        self.unit = Unit(
            target=work,
            args=(assignment, link),
            kwargs={},
            namespace=None,
            initializer=_begin_child,
            initargs=(os.getpid(),),
            loop_initializer=uvloop.new_event_loop,
        )
        self.aio_process = get_context().Process(
            target=aiomultiprocess.Process.run_async, args=(self.unit,), name=assignment.plan.name, daemon=False
        )

    async def ended(self) -> int:
        """Wait for the process to end; its exit code."""
        loop = asyncio.get_running_loop()
        sentinel = self.aio_process.sentinel
        gone = asyncio.Event()
        loop.add_reader(sentinel, gone.set)
        try:
            await gone.wait()
        finally:
            loop.remove_reader(sentinel)
        self.aio_process.join()  # at once: the sentinel may be ready a moment before the exit code is
        return int(self.aio_process.exitcode)


class Worker:
    """One worker of the plan, in ever new processes. `state`: the last word of the present one; `past`: what others counted."""

    def __init__(self, assignment: Assignment) -> None:
        self.name = assignment.plan.name
        self.state: WorkerState | None = None
        self.past: Counter[Count] = Counter()
        self.restarts = 0
        self.is_fenced = False
        self._assignment = assignment
        self._heard = 0.0
        self._heard_at: int | None = None

    @property
    def is_up(self) -> bool:
        return self.state is not None and monotonic() - self._heard < PULSE_WITHIN

    async def run(self, stop: asyncio.Event) -> None:
        """Keep the worker alive until `stop`; then let it drain, and end it."""
        backoff = Backoff(Random(), base=FIRST_PAUSE / 2, cap=60.0)  # noqa: S311 (jitter)
        while not stop.is_set():
            began = monotonic()
            code = await self._live(stop)
            if code == FENCED:
                self.is_fenced = True
                stop.set()
            if not stop.is_set():
                self.restarts += 1
                pause = backoff.after_failure(monotonic() - began)
                log.error("worker ended; will be restarted", worker=self.name, code=code, pause=round(pause, 2))
                await _either(stop.wait(), asyncio.sleep(pause))

    async def _live(self, stop: asyncio.Event) -> int:
        """One process from start to end: its exit code."""
        ours, theirs = socket.socketpair()
        process = SupervisedProcess(replace(self._assignment, missing_since=self._heard_at), theirs)
        process.start()
        theirs.close()
        self._heard = monotonic()
        reader, writer = await asyncio.open_connection(sock=ours, limit=MAX_REPORT)
        listening = asyncio.create_task(self._listen(reader))
        minding = asyncio.create_task(self._mind(process, stop))
        try:
            return await process.ended()
        finally:
            minding.cancel()
            await _either(listening, asyncio.sleep(LAST_WORD_WITHIN))
            listening.cancel()
            writer.close()
            if process.is_alive():
                process.kill()
            if not stop.is_set() and self.state is not None:
                self.past.update(counts(self.state))
                self.state = None

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        """Its reports, one JSON line each, until the link is closed."""
        while line := await reader.readline():
            try:
                self.state = decode_state.decode(line)
            except msgspec.MsgspecError:  # the last line of a killed process may be cut
                break
            self._heard, self._heard_at = monotonic(), time_ns() // 1000

    async def _mind(self, process: SupervisedProcess, stop: asyncio.Event) -> None:
        """Kill a worker that is silent for too long; at the end ask it to drain, and do not wait for ever."""
        while not stop.is_set():
            if monotonic() - self._heard >= PULSE_WITHIN:
                log.error("worker is hung; killing it", worker=self.name, pid=process.pid)
                process.kill()
                return
            await _either(stop.wait(), asyncio.sleep(1.0))
        process.terminate()
        await asyncio.sleep(DRAIN_WITHIN + 5.0)
        log.error("worker does not end; killing it", worker=self.name, pid=process.pid)
        process.kill()


async def _either(*awaitables: Coroutine[Any, Any, Any] | asyncio.Task[Any]) -> None:
    """Wait for the first of these; those made here are cancelled then."""
    tasks = [each if isinstance(each, asyncio.Task) else asyncio.ensure_future(each) for each in awaitables]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task, given in zip(tasks, awaitables, strict=True):
            if task is not given:
                task.cancel()


class Supervisor:
    """All workers of a plan."""

    def __init__(self, assignments: list[Assignment]) -> None:
        self.workers = [Worker(each) for each in assignments]

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set and every worker has drained and ended."""
        async with asyncio.TaskGroup() as tasks:
            for worker in self.workers:
                tasks.create_task(worker.run(stop))
