"""One process: the exchanges of its plan, an outbox and its connections to the master, and a link to the supervisor."""

import asyncio
import gc
import os
import signal
import socket
from collections import Counter, deque
from contextlib import suppress
from logging import DEBUG, INFO
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from adapters.backfill import Resume
from collector.engine import Engine, FencedError
from collector.exchange import ExchangeState
from collector.exchanges import Exchanges, running
from collector.outbox import IN_MEMORY
from collector.plan import WorkerPlan
from collector.spool import Spool, SpoolError, SpoolPlan, SpoolTakenError
from collector.successor import Holding, Order, Post, Told
from master.jetstream.access import Access
from master.log import configure, logger

log = logger("worker")

REPORT_EVERY = 0.5
DRAIN_WITHIN = 10.0
MASTER_WITHIN = 2.0
"""Seconds that a new worker waits for the master's word on what is stored already; later it goes without."""
FINISH_WITHIN = 60.0
"""The same as DRAIN_WITHIN where a successor goes on meanwhile."""
TAKEN_AGAIN = 0.2
"""Seconds between looks at a spool that another process has."""
MAX_LINE = 16 << 20
"""Bytes of a plan or a report on the link."""
FAILED, FENCED = 1, 76
"""Exit codes: something was wrong here; another process has taken this worker's place."""


class Assignment(Struct, frozen=True):
    """Everything a worker process is told. `jetstream`: the way there and lanes of each exchange, where it is in the place of
    the master's own port. The key passes through memory only: never an argument, never the environment."""

    plan: WorkerPlan
    master_url: str
    master_key: str
    master_connections: int
    master_ca: Path | None
    jetstream: tuple[Access, int] | None
    simulator: str | None
    debug: bool
    record_to: Path | None = None
    spool: SpoolPlan | None = None
    missing_since: int | None = None
    is_successor: bool = False


class WorkerState(Struct):
    """What a worker tells its supervisor twice a second. Counts are since its start. `ended`: exchanges of an earlier plan;
    `is_noting`: what is told from now on, for a successor; `told`: by one that went, what that was."""

    name: str
    pid: int
    exchanges: list[ExchangeState]
    acked: dict[str, int] = {}
    waiting: int = 0
    waiting_bytes: int = 0
    master_connections: int = 0
    losses: dict[str, int] = {}
    spool_trouble: str | None = None
    ended: list[ExchangeState] = []
    is_settled: bool = False
    is_noting: bool = False
    told: list[Told] | None = None
    room: int = IN_MEMORY
    """Bytes that may wait: of the spool, or of memory where there is none or its disk refuses."""


Count = tuple[str, str, str]
"""Exchange ("" for the whole process), what is counted, and its label."""

RISING = ("gaps", "frames", "sessions", "refused", "stray", "repeated")
"""The fields of an ExchangeState that are single counts."""


def counts(state: WorkerState) -> Counter[Count]:
    """Everything of a worker's state that only ever rises."""
    total: Counter[Count] = Counter({(name, "acked", ""): number for name, number in state.acked.items()})
    total.update({("", "losses", reason): number for reason, number in state.losses.items()})
    for exchange in (*state.exchanges, *state.ended):
        total.update({(exchange.name, "events", channel): number for channel, number in exchange.events.items()})
        total.update({(exchange.name, "errors", kind): number for kind, number in exchange.errors.items()})
        total.update({(exchange.name, what, ""): getattr(exchange, what) for what in RISING})
    return total


decode_state: msgspec.json.Decoder[WorkerState] = msgspec.json.Decoder(WorkerState)
_decode_order: msgspec.json.Decoder[Order] = msgspec.json.Decoder(Order)
_encode = msgspec.json.Encoder().encode


async def work(assignment: Assignment, link: socket.socket) -> None:
    """The whole life of a worker process: until SIGTERM, or until its supervisor is gone; then it drains."""
    configure(level=DEBUG if assignment.debug else INFO, component=assignment.plan.name)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    reader, writer = await asyncio.open_connection(sock=link, limit=MAX_LINE)
    orders: deque[Order] = deque()
    watching = asyncio.create_task(_watch(reader, stop, orders))
    pool = await _pool(assignment)
    sending = asyncio.create_task(pool.run())
    gc.freeze()  # what the imports made is not looked through again
    try:
        await _collect(assignment, pool, sending, stop, writer, orders)
    except FencedError as error:
        log.critical("another process has taken over; this collector ends", reason=str(error))
        raise SystemExit(FENCED) from error
    finally:
        watching.cancel()
        sending.cancel()
        await asyncio.gather(watching, sending, return_exceptions=True)
        await pool.close()


async def _collect(
    assignment: Assignment,
    pool: Engine,
    sending: asyncio.Task[None],
    stop: asyncio.Event,
    writer: asyncio.StreamWriter,
    orders: deque[Order],
) -> None:
    """Run the exchanges, obey and report until `stop`; then hand over what is held. Raises FencedError."""
    stopping = asyncio.create_task(stop.wait())
    # A moment's patience, so that the first trades can tell what is missing before them.
    either: list[asyncio.Future[Any]] = [pool.known, stopping, sending]
    await asyncio.wait(either, timeout=MASTER_WITHIN, return_when=asyncio.FIRST_COMPLETED)
    resume = {plan.name: _resume(pool, plan.name, assignment.missing_since) for plan in assignment.plan.exchanges}
    holding = Holding() if assignment.is_successor else None
    collecting = running(
        *(assignment.plan.exchanges, holding or pool.outbox, assignment.simulator),
        *({} if holding else resume, assignment.record_to),
    )
    async with collecting as exchanges:
        post = Post(exchanges, pool.outbox, holding, stop)
        if holding is None and not pool.known.done():
            pool.known.add_done_callback(lambda _: _resume_late(pool, exchanges))
        while not stop.is_set() and not sending.done():
            while orders:
                post.obey(orders.popleft())
            post.look()
            if post.holds_too_much:
                log.critical("too much is held; this successor ends")
                raise SystemExit(FAILED)
            _report(writer, replace(_state(assignment, exchanges, pool), is_noting=post.is_noting))
            await asyncio.wait([stopping, sending], timeout=REPORT_EVERY, return_when=asyncio.FIRST_COMPLETED)
        last = _state(assignment, exchanges, pool)
    stopping.cancel()
    if sending.done():
        sending.result()  # only now: out of the exchanges' group it would come as one of several errors
    last = replace(_counted_to_the_end(last, exchanges), told=post.told)
    if last.told is not None:
        _report(writer, last)
    if not await pool.outbox.drain(DRAIN_WITHIN if last.told is None else FINISH_WITHIN):
        log.error("ended with events that the master did not acknowledge in time", events=pool.outbox.held_events)
    _report(writer, replace(last, acked=dict(pool.outbox.acked_events), waiting=pool.outbox.held_events))
    with suppress(ConnectionError):
        await writer.drain()


def _resume(pool: Engine, exchange: str, missing_since: int | None) -> Resume:
    """Where the earlier process ended: at the newest event that its spool or the master has, else when it was last heard of."""
    known = pool.known_of(exchange)
    return Resume(known.since or missing_since, known.trades)


def _resume_late(pool: Engine, exchanges: Exchanges) -> None:
    for exchange in exchanges:
        exchange.resumed(pool.known_of(exchange.name).trades)


def _report(writer: asyncio.StreamWriter, state: WorkerState) -> None:
    if not writer.is_closing():  # a supervisor that is gone is no reason not to drain
        writer.write(_encode(state) + b"\n")


async def _pool(assignment: Assignment) -> Engine:
    """The way to the master, with what an earlier life has left on disk. What the other way needs is not imported."""
    plan = assignment.spool
    own = await _own_spool(plan, assignment.plan.name) if plan is not None else None
    adopted = [await _left_spool(plan, name) for name in plan.adopts] if plan is not None else []
    name, exchanges = assignment.plan.name, tuple(each.name for each in assignment.plan.exchanges)
    left = tuple(each for each in adopted if each is not None)
    quota = plan.max_bytes if plan is not None else IN_MEMORY
    if assignment.jetstream is not None:
        from collector.jetstream import JetStream  # noqa: PLC0415

        return JetStream(*assignment.jetstream, name, exchanges, spool=own, adopted=left, quota=quota)
    from collector.master_pool import MasterPool  # noqa: PLC0415

    return MasterPool(
        *(assignment.master_url, assignment.master_key, name, assignment.master_connections),
        ca=assignment.master_ca,
        spool=own,
        adopted=left,
        quota=quota,
        exchanges=exchanges,
    )


async def _own_spool(plan: SpoolPlan, worker: str) -> Spool | None:
    """None where the disk is of no use. A process that was orphaned and drains still has it for a moment."""
    deadline = monotonic() + DRAIN_WITHIN + 2.0
    while True:
        try:
            return await asyncio.to_thread(Spool, plan.folder / worker, plan.fsync_seconds)
        except SpoolTakenError as error:
            if monotonic() > deadline:
                log.critical("cannot start", reason=str(error))
                raise SystemExit(FAILED) from error
            await asyncio.sleep(TAKEN_AGAIN)
        except SpoolError as error:
            log.critical("no spool: what waits for the master is in memory only", reason=str(error))
            return None


async def _left_spool(plan: SpoolPlan, worker: str) -> Spool | None:
    """None where another process has it, which will empty it, or where it cannot be read."""
    try:
        return await asyncio.to_thread(Spool, plan.folder / worker, plan.fsync_seconds)
    except SpoolTakenError:
        return None
    except SpoolError as error:
        log.critical("what a worker left cannot be read", worker=worker, reason=str(error))
        return None


def _counted_to_the_end(last: WorkerState, exchanges: Exchanges) -> WorkerState:
    """The state before the end, with the counts after it: while connections close, frames still come."""
    rising = ("events", "errors", *RISING)
    ended = [exchange.state() for exchange in exchanges]
    return replace(
        last,
        exchanges=[
            replace(before, **{name: getattr(after, name) for name in rising})
            for before, after in zip(last.exchanges, ended, strict=True)
        ],
    )


async def _watch(reader: asyncio.StreamReader, stop: asyncio.Event, orders: deque[Order]) -> None:
    """Orders, one JSON line each; a supervisor that is gone closes the link."""
    while line := await reader.readline():
        orders.append(_decode_order.decode(line))
    stop.set()


def _state(assignment: Assignment, exchanges: Exchanges, pool: Engine) -> WorkerState:
    outbox = pool.outbox
    return WorkerState(
        name=assignment.plan.name,
        pid=os.getpid(),
        exchanges=[replace(exchange.state(), lag_ms=outbox.lags.get(exchange.name)) for exchange in exchanges],
        acked=dict(outbox.acked_events),
        waiting=outbox.held_events,
        waiting_bytes=outbox.held_bytes,
        master_connections=pool.live,
        losses=dict(outbox.losses),
        spool_trouble=pool.trouble,
        ended=exchanges.ended,
        is_settled=all(exchange.is_settled for exchange in exchanges),
        room=outbox.room,
    )
