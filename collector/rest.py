"""REST of one venue, for all its connections in this process: paced inside the weight limit, the urgent first."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from heapq import heappop, heappush
from itertools import count
from random import Random
from time import monotonic, time_ns

import aiohttp

from adapters.effects import Answer, Fetch, Priority
from adapters.errors import FetchError
from adapters.venue import Limits
from collector.limits import Window
from master.log import logger

log = logger("rest")

Reply = Callable[[Answer | FetchError], None]
Route = Callable[[str], str]

AT_ONCE = 4
TIMEOUT = 15.0
MAX_BODY = 64 << 20
KEPT = 0.25
"""The part of the weight that is kept from past trades, so that a book in doubt never waits for them."""
LONGEST_BLOCK = 3600.0
"""Seconds that a Retry-After can hold us up; bans of days are asked about again every hour."""
_DEFAULT_BLOCK = 30.0


class RestClient:
    """`ask` queues a fetch; its reply comes once, later, from the loop. The same question by the same asker waits once."""

    def __init__(self, session: aiohttp.ClientSession, limits: Limits, route: Route, share: float = 1.0) -> None:
        self.refused = 0
        self._session = session
        self._limits = limits
        self._route = route
        self._weight = Window(limits.weight, share)
        self._kept = limits.weight.count * share * KEPT
        self._queue: list[tuple[int, int, Fetch, Reply, object]] = []
        self._waiting: dict[tuple[object, tuple[str, ...]], int] = {}
        self._order = count()
        self._wake = asyncio.Event()
        self._random = Random()  # noqa: S311 (jitter)

    def ask(self, fetch: Fetch, reply: Reply, asker: object) -> None:
        if (asker, fetch.key) in self._waiting:
            return
        self._waiting[asker, fetch.key] = number = next(self._order)
        heappush(self._queue, (int(fetch.priority), number, fetch, reply, asker))
        self._wake.set()

    def forget(self, asker: object) -> None:
        """Nobody waits for this asker's answers any more."""
        self._queue = [entry for entry in self._queue if entry[4] is not asker]
        self._queue.sort()
        self._waiting = {each: number for each, number in self._waiting.items() if each[0] is not asker}

    async def fetch(self, fetch: Fetch) -> Answer:
        """One fetch, awaited. Raises FetchError."""
        answered: asyncio.Future[Answer | FetchError] = asyncio.get_running_loop().create_future()
        self.ask(fetch, lambda answer: None if answered.done() else answered.set_result(answer), answered)
        answer = await answered
        if isinstance(answer, FetchError):
            raise answer
        return answer

    async def run(self) -> None:
        """Serve the queue until cancelled."""
        slots = asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as tasks:
            while True:
                await slots.acquire()
                entry = await self._next()
                task = tasks.create_task(self._serve(*entry))
                task.add_done_callback(lambda _: slots.release())

    async def _next(self) -> tuple[int, Fetch, Reply, object]:
        """The most urgent fetch, as soon as its weight may be spent."""
        while True:
            while not self._queue:
                self._wake.clear()
                await self._wake.wait()
            fetch = self._queue[0][2]
            kept = self._kept if fetch.priority is Priority.BACKFILL else 0.0
            delay = self._weight.delay(monotonic(), fetch.weight + kept)
            if delay == 0.0:
                _, number, fetch, reply, asker = heappop(self._queue)
                self._weight.spend(monotonic(), fetch.weight)
                return number, fetch, reply, asker
            # A little jitter: other processes behind this address wait for the same window. What is urgent ends the wait.
            self._wake.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(delay + self._random.uniform(0.0, 0.05)):
                    await self._wake.wait()

    async def _serve(self, number: int, fetch: Fetch, reply: Reply, asker: object) -> None:
        answer = await self._ask_venue(fetch)
        if self._waiting.get((asker, fetch.key)) == number:  # else it was forgotten, and perhaps asked anew
            del self._waiting[asker, fetch.key]
            reply(answer)

    async def _ask_venue(self, fetch: Fetch) -> Answer | FetchError:
        request = fetch.request
        try:
            async with self._session.request(
                request.method,
                self._route(request.url),
                headers=request.headers,
                timeout=aiohttp.ClientTimeout(total=TIMEOUT),
            ) as response:
                body = bytearray()
                async for part in response.content.iter_any():
                    body += part
                    if len(body) > MAX_BODY:
                        return FetchError(f"{request.url}: an answer of more than {MAX_BODY} bytes")
                received = time_ns() // 1000
        except (aiohttp.ClientError, TimeoutError, OSError, UnicodeError) as error:  # the last: sent on to a name that is none
            return FetchError(f"{request.url}: {type(error).__name__} {error}".rstrip())
        if response.status in self._limits.rest_statuses:
            self._block(response.headers.get("Retry-After"), request.url)
        if not 200 <= response.status < 300:
            return FetchError(f"{request.url}: HTTP {response.status} {body[:120].decode(errors='replace')}")
        return Answer(response.status, bytes(body), received)

    def _block(self, retry_after: str | None, url: str) -> None:
        asked = float(retry_after) if retry_after and retry_after.isdecimal() else _DEFAULT_BLOCK
        seconds = min(asked, LONGEST_BLOCK) * self._random.uniform(1.0, 1.1)
        self.refused += 1
        self._weight.block(monotonic() + seconds)
        log.warning("the venue asks for a pause", url=url, seconds=round(seconds))
