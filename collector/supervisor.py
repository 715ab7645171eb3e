"""Worker processes: started, watched by pulse and exit, restarted with growing pauses and for ever, drained at the end."""

import asyncio
import os
import signal
import socket
from collections import Counter
from collections.abc import Callable, Coroutine
from random import Random
from time import monotonic, time_ns
from typing import Any

import aiomultiprocess
import msgspec
import uvloop
from aiomultiprocess.core import get_context
from aiomultiprocess.types import Unit
from msgspec.structs import replace

from collector.plan import WorkerPlan
from collector.successor import Finish, Order, Prepare, Release, Told
from collector.worker import (
    DRAIN_WITHIN,
    FAILED,
    FENCED,
    FINISH_WITHIN,
    MAX_LINE,
    Assignment,
    Count,
    WorkerState,
    counts,
    decode_state,
    work,
)
from master.backoff import Backoff
from master.log import logger
from master.parent import end_with_parent

log = logger("supervisor")
_encode = msgspec.json.Encoder().encode

PULSE_WITHIN = 15.0
"""Seconds without a word after which a worker counts as hung, and is killed."""
LAST_WORD_WITHIN = 1.0
FIRST_PAUSE = 0.1
"""Seconds within which a worker that ended is started again, the first time; doubled each time that it does not last."""
SECOND = "b"
"""Behind the name of a worker whose place was taken without a gap: both have a spool, and sessions with the master."""
SETTLED_WITHIN = 120.0
LOOK_EVERY = 0.1
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
        self._stop = asyncio.Event()
        self._drains_for: float | None = None
        self._process: SupervisedProcess | None = None
        self._link: asyncio.StreamWriter | None = None
        self._heard = 0.0
        self._heard_at: int | None = None

    @property
    def is_up(self) -> bool:
        return self.state is not None and monotonic() - self._heard < PULSE_WITHIN

    @property
    def pid(self) -> int | None:
        return None if self.state is None else self.state.pid

    @property
    def is_settled(self) -> bool:
        return self.state is not None and self.state.is_settled

    @property
    def plan(self) -> WorkerPlan:
        return self._assignment.plan

    def change(self, plan: WorkerPlan) -> None:
        """From now on it collects this, also where its process is one that is yet to come."""
        if plan != self.plan:
            self._assignment = replace(self._assignment, plan=plan)
            self.tell(plan)

    def tell(self, order: Order) -> None:
        """A process that is yet to come does not hear it."""
        if self._link is not None and not self._link.is_closing():
            self._link.write(_encode(order) + b"\n")

    def finish(self) -> None:
        """Let it end for its successor, and wait for its acknowledgements as long as that takes."""
        self._drains_for = FINISH_WITHIN
        self._stop.set()
        self.tell(Finish())

    def release(self, told: list[Told]) -> None:
        """The one whose place it takes has ended. A later process of it holds nothing."""
        self._assignment = replace(self._assignment, is_successor=False)
        self.tell(Release(told))

    def begin_anew(self, left: str) -> None:
        """Go on where the worker of this name ended, with what it left on disk."""
        spool = self._assignment.spool
        adopting = replace(spool, adopts=(left,)) if spool is not None else None
        self._assignment = replace(self._assignment, is_successor=False, spool=adopting)
        if self._process is not None:
            self._process.kill()

    @property
    def is_leaving(self) -> bool:
        return self._stop.is_set()

    def stop(self) -> None:
        """Let it drain and end."""
        self._stop.set()

    async def run(self) -> None:
        """Keep the worker alive until it is to stop; then let it drain, and end it."""
        stop = self._stop
        backoff = Backoff(Random(), base=FIRST_PAUSE / 2, cap=60.0)  # noqa: S311 (jitter)
        while not stop.is_set():
            began = monotonic()
            try:
                code = await self._live()
            except OSError as error:  # no memory, or as many processes or files as there may be
                log.error("no process can be started", worker=self.name, reason=str(error))
                code = FAILED
            if code == FENCED:
                self.is_fenced = True
                stop.set()
            if not stop.is_set():
                self.restarts += 1
                pause = backoff.after_failure(monotonic() - began)
                log.error("worker ended; will be restarted", worker=self.name, code=code, pause=round(pause, 2))
                await _either(stop.wait(), asyncio.sleep(pause))

    async def _live(self) -> int:
        """One process from start to end: its exit code. Raises OSError where the system has none to give."""
        ours, theirs = socket.socketpair()
        known = self._assignment
        process = SupervisedProcess(replace(known, missing_since=self._heard_at), theirs)
        try:
            process.start()
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        self._process = process
        self._heard = monotonic()
        reader, writer = await asyncio.open_connection(sock=ours, limit=MAX_LINE)
        self._link = writer
        if self.plan is not known.plan:
            self.tell(self.plan)
        listening = asyncio.create_task(self._listen(reader))
        minding = asyncio.create_task(self._mind(process))
        try:
            return await process.ended()
        finally:
            minding.cancel()
            await _either(listening, asyncio.sleep(LAST_WORD_WITHIN))
            listening.cancel()
            self._link = self._process = None
            writer.close()
            if process.is_alive():
                process.kill()
            if not self._stop.is_set() and self.state is not None:
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

    async def _mind(self, process: SupervisedProcess) -> None:
        """Kill a worker that is silent for too long; at the end ask it to drain, and do not wait for ever."""
        while not self._stop.is_set():
            if monotonic() - self._heard >= PULSE_WITHIN:
                log.error("worker is hung; killing it", worker=self.name, pid=process.pid)
                process.kill()
                return
            await _either(self._stop.wait(), asyncio.sleep(1.0))
        if self._drains_for is None:
            process.terminate()
        await asyncio.sleep((self._drains_for or DRAIN_WITHIN) + 5.0)
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
    """All workers of a plan. `past`: what those counted that are no more."""

    def __init__(self, assignments: list[Assignment]) -> None:
        self.workers = [Worker(each) for each in assignments]
        self.past: Counter[Count] = Counter()
        self._common = assignments[0]
        self._next: dict[str, WorkerPlan] = {}
        self._stop = asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None

    @property
    def plans(self) -> list[WorkerPlan]:
        """What runs, and is to."""
        return [*(each.plan for each in self.workers if not each.is_leaving), *self._next.values()]

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set and every worker has drained and ended."""
        self._stop = stop
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            for worker in self.workers:
                tasks.create_task(self._keep(worker))
            await stop.wait()
            for worker in self.workers:
                worker.stop()

    def change(self, plans: list[WorkerPlan]) -> None:
        """Let this be collected; a worker whose plan is the same hears nothing. Before `run` has ended."""
        wanted = {each.name: each for each in plans}
        self._next = {each.name: wanted.pop(each.name) for each in self.workers if each.is_leaving and each.name in wanted}
        for worker in self.workers:
            if worker.name in wanted:
                worker.change(wanted.pop(worker.name))
            else:
                worker.stop()
        for plan in wanted.values():
            self._begin(plan)

    def _begin(self, plan: WorkerPlan, *, is_successor: bool = False) -> Worker:
        spool = self._common.spool
        own = replace(spool, adopts=()) if spool is not None else None
        worker = Worker(replace(self._common, plan=plan, spool=own, is_successor=is_successor))
        self.workers.append(worker)
        if self._tasks is not None and not self._stop.is_set():
            self._tasks.create_task(self._keep(worker))
        return worker

    async def roll(self, common: Assignment) -> None:
        """Let new processes, which are told what `common` says, take the place of those that run, one after the other."""
        self._common = common
        for worker in [each for each in self.workers if not each.is_leaving]:
            if not await self._succeed(worker):
                return

    async def _succeed(self, old: Worker) -> bool:
        """A new process beside an old one, until it hears everything: then the old one ends, and it goes on."""
        old.tell(Prepare())
        if not await self._comes_true(lambda: old.state is not None and old.state.is_noting, old):
            log.error("the worker that is to go does not answer; what runs goes on", worker=old.name)
            return False
        name = old.name.removesuffix(SECOND) if old.name.endswith(SECOND) else old.name + SECOND
        new = self._begin(replace(old.plan, name=name), is_successor=True)
        if not await self._comes_true(lambda: old.is_settled and new.is_settled, old):
            log.error("the successor does not hear everything in time; what runs goes on", worker=old.name)
            new.stop()
            return False
        old.finish()
        while old in self.workers and (old.state is None or old.state.told is None):
            await asyncio.sleep(LOOK_EVERY)
        if old.state is not None and old.state.told is not None:
            new.release(old.state.told)
        else:
            log.error("a worker ended without a last word to its successor, which begins anew", worker=old.name)
            new.begin_anew(old.name)
        log.info("worker replaced", worker=old.name, by=new.name)
        return True

    async def _comes_true(self, is_so: Callable[[], bool], old: Worker) -> bool:
        """Whether it does in time, while the process of the old one lives."""
        process, deadline = old.pid, monotonic() + SETTLED_WITHIN
        while monotonic() < deadline and not self._stop.is_set():
            if old.is_leaving or old.pid is None or old.pid != process:
                return False
            if is_so():
                return True
            await asyncio.sleep(LOOK_EVERY)
        return False

    async def _keep(self, worker: Worker) -> None:
        """Until it has ended: because all do, because it has nothing to do any more, or because another took its place."""
        await worker.run()
        if worker.is_fenced:
            self._stop.set()
        elif not self._stop.is_set():
            self.workers.remove(worker)
            self.past.update(worker.past)
            self.past.update(counts(worker.state) if worker.state else ())
            if worker.name in self._next:
                self._begin(self._next.pop(worker.name))  # only now: two of one name would be in each other's way
