"""A configuration that changes while it runs: read anew when asked (SIGHUP) and when the file is another, checked whole, and
applied as far as that can be done; what cannot is named. SIGUSR2 puts new processes in the place of those that run as well.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from msgspec import Struct

from adapters.events import Channel
from collector.plan import ExchangePlan, WorkerPlan
from collector.settings import Settings
from master.log import logger
from master.settings import ConfigError

log = logger("reload")

LOOK_EVERY = 2.0
"""Seconds between two looks at the file; it counts when it is the same at two of them, so that nobody reads half of it."""
RENEWED = ("master", "debug")
"""Of these, those that new processes take up while the collector goes on."""
OF_PROCESSES = ("master", "jetstream", "name", "shard", "workers", "spool", "monitor", "debug")
"""Settings that are made into processes, and are theirs until they end."""


def applicable(running: Settings, fresh: Settings) -> tuple[Settings, list[str]]:
    """The fresh settings, with the running ones where a process would have to be another: and which of these differ."""
    stale = [name for name in OF_PROCESSES if getattr(running, name) != getattr(fresh, name)]
    stale += ["server.data"] if running.server.data != fresh.server.data else []
    split = {each.name: each.workers for each in running.enabled}
    exchanges = tuple(each.model_copy(update={"workers": split.get(each.name, each.workers)}) for each in fresh.exchanges)
    stale += [f"exchanges: workers of {new.name}" for new, kept in zip(fresh.exchanges, exchanges, strict=True) if new != kept]
    server = fresh.server.model_copy(update={"data": running.server.data})
    kept = {name: getattr(running, name) for name in OF_PROCESSES}
    return fresh.model_copy(update={**kept, "server": server, "exchanges": exchanges}), stale


Pair = tuple[str, Channel, str]
"""Exchange, channel, and symbol or pattern."""


class Difference(Struct, frozen=True):
    """From one plan to another. `changed`: exchanges in both whose options differ, so that connections are made anew."""

    began: tuple[str, ...]
    ended: tuple[str, ...]
    joined: frozenset[Pair]
    left: frozenset[Pair]
    changed: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.joined or self.left or self.changed)


def difference(before: Iterable[WorkerPlan], after: Iterable[WorkerPlan]) -> Difference:
    """What the second plan wants and the first does not, and the other way round."""
    old, new = _exchanges(before), _exchanges(after)
    had, has = _pairs(old), _pairs(new)
    return Difference(
        began=tuple(sorted({each.name for each in new} - {each.name for each in old})),
        ended=tuple(sorted({each.name for each in old} - {each.name for each in new})),
        joined=frozenset(has - had),
        left=frozenset(had - has),
        changed=tuple(sorted(name for name, terms in _terms(new).items() if _terms(old).get(name, terms) != terms)),
    )


def _exchanges(plans: Iterable[WorkerPlan]) -> list[ExchangePlan]:
    return [exchange for worker in plans for exchange in worker.exchanges]


def _pairs(exchanges: list[ExchangePlan]) -> set[Pair]:
    named = {(each.name, chunk.channel, symbol) for each in exchanges for chunk in each.chunks for symbol in chunk.symbols}
    return named | {(each.name, pattern.channel, pattern.pattern) for each in exchanges for pattern in each.patterns}


def _terms(exchanges: list[ExchangePlan]) -> dict[str, object]:
    return {each.name: (each.options, each.sizes, each.aliases, each.url, each.redundancy) for each in exchanges}


class Reload:
    """`read` gives the settings as they are now, `plan` what they come to beside what runs, `apply` lets that be collected."""

    def __init__(
        self,
        file: Path,
        running: Settings,
        read: Callable[[], Settings],
        plan: Callable[[Settings], tuple[list[WorkerPlan], list[WorkerPlan]]],
        apply: Callable[[list[WorkerPlan]], None],
        roll: Callable[[Settings], Coroutine[Any, Any, None]],
    ) -> None:
        self._file = file
        self._running = running
        self._read = read
        self._plan = plan
        self._apply = apply
        self._roll = roll
        self._known = self._seen = self._content()

    async def run(self, asked: asyncio.Event, renewed: asyncio.Event) -> None:
        """Until cancelled; `asked` is set by whoever wants it at once, `renewed` as well by whoever wants new processes."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY):
                    await asked.wait()
            content = await asyncio.to_thread(self._content)
            is_steady, self._seen = content == self._seen, content
            if asked.is_set() or (is_steady and content not in (None, self._known)):
                asked.clear()
                self._known = content
                is_renewed = renewed.is_set()
                renewed.clear()
                if await self._reload(is_renewed) and is_renewed:
                    await self._roll(self._running)

    def _content(self) -> bytes | None:
        try:
            return self._file.read_bytes()
        except OSError:  # an editor puts another in its place; whoever asks for it hears what is wrong
            return None

    async def _reload(self, is_renewed: bool) -> bool:
        """Whether the configuration is right, and applied."""
        try:
            fresh = await asyncio.to_thread(self._read)
        except ConfigError as error:
            log.error("the configuration is wrong; what runs goes on", file=str(self._file), faults=error.lines)
            return False
        running = self._running
        if is_renewed:
            running = running.model_copy(update={name: getattr(fresh, name) for name in RENEWED})
        settings, stale = applicable(running, fresh)
        if stale:
            log.warning("these settings need a restart; the others are applied", settings=stale)
        before, after = self._plan(settings)
        found = difference(before, after)
        self._running = settings
        if found:
            self._apply(after)
        log.info(
            "configuration read" if found else "configuration read; nothing of what is collected has changed",
            **{"pairs_joined": len(found.joined), "pairs_left": len(found.left), "exchanges_begun": found.began},
            **{"exchanges_ended": found.ended, "exchanges_changed": found.changed},
        )
        return True
