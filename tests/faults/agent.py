"""Who does the harm: kills, pauses and bad networks in an order that a seed decides. What it has killed it starts again."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from random import Random

from tests.e2e.programs import is_alive
from tests.faults.proxy import Corrupting, Cutting, Delaying, Slicing, Swallowing, Throttling
from tests.faults.scene import Scene, of_scene, trades
from tests.waiting import until

Act = Callable[[], Awaitable[None]]


class Agent:
    """`longest`: seconds that a pause or a bad network may last; `say` is told what is done. `done`: what was, and how often;
    `kills`: how many of it were kills and pauses."""

    def __init__(self, scene: Scene, random: Random, longest: float, say: Callable[[str], None]) -> None:
        self.done: Counter[str] = Counter()
        self._say = say
        self.kills = 0
        self._scene = scene
        self._random = random
        self._longest = longest
        self._kills: dict[str, Act] = {
            "kill a worker": self._kill_worker,
            "kill the master": self._kill_master,
            "kill the supervisor": self._kill_supervisor,
            "kill the whole collector": self._kill_collector,
            "kill everything": self._kill_everything,
            "stop a worker": self._stop_worker,
            "stop the master": lambda: self._stop(self._scene.master.pid),
            "stop the supervisor": lambda: self._stop(self._scene.collector.pid),
        }
        self._networks: dict[str, Act] = {
            "cut": self._cut,
            "reset": self._reset,
            "refuse": self._refuse,
            "swallow": self._swallow,
            "throttle": self._throttle,
            "delay": self._delay,
            "slice": self._slice,
            "corrupt": self._corrupt,
        }
        self._queue: list[str] = []

    async def kill(self) -> None:
        """Kill or stop somebody, and start again what is dead. Each way comes up before any comes again. Whoever only starts
        up is not worth it: trades must flow; and every other time the master is out of reach, so that some of them wait."""
        await self._scene.until(trades, "trades flow")
        if not self._queue:
            self._queue = self._random.sample(list(self._kills), len(self._kills))
        name = self._queue.pop()
        if self.done[name] % 2 == 0:
            self._scene.line.refuse()
            self._scene.line.reset()
            await self._scene.until(lambda health: health["waiting"], "trades wait")
        await self._scene.note_spooled()
        self.kills += 1
        await self._do(name, self._kills[name])
        await self._scene.line.listen()

    async def disturb(self) -> None:
        """Let the network be bad for a while, in one way."""
        name = self._random.choice(list(self._networks))
        await self._do(name, self._networks[name])
        await self._scene.line.heal()

    async def _do(self, name: str, act: Act) -> None:
        self.done[name] += 1
        self._say(name)
        await act()

    async def _while(self) -> None:
        await asyncio.sleep(self._random.uniform(0.1, 1.0) * self._longest)

    # Kills and pauses.

    async def _some_worker(self) -> int:
        health = await self._scene.until(lambda health: any(each["pid"] for each in health["workers"]), "a worker")
        return int(self._random.choice([each["pid"] for each in health["workers"] if each["pid"]]))

    async def _kill_worker(self) -> None:
        _kill(await self._some_worker())

    async def _kill_master(self) -> None:
        await self._scene.master.end(signal.SIGKILL)
        await self._scene.begin_master()

    async def _kill_supervisor(self) -> None:
        """Its workers drain and end by themselves, while their successors begin."""
        await self._scene.health()
        await self._scene.collector.end(signal.SIGKILL)
        await self._scene.begin_collector()

    async def _kill_collector(self) -> None:
        """As where a machine or a container goes: nobody drains."""
        await self._scene.health()
        gone = [pid for pid in of_scene(self._scene.on.folder) if pid != self._scene.master.pid]
        await self._all_gone(gone)
        await self._scene.begin_collector()

    async def _kill_everything(self) -> None:
        await self._scene.health()
        await self._all_gone(of_scene(self._scene.on.folder))
        await self._scene.begin_master()
        await self._scene.begin_collector()

    async def _all_gone(self, pids: list[int]) -> None:
        for pid in pids:
            _kill(pid)
        await until(lambda: not any(map(is_alive, pids)), "the killed are gone")

    async def _stop_worker(self) -> None:
        await self._stop(await self._some_worker())

    async def _stop(self, pid: int) -> None:
        _kill(pid, signal.SIGSTOP)
        try:
            await self._while()
        finally:
            _kill(pid, signal.SIGCONT)

    # Networks.

    async def _cut(self) -> None:
        self._scene.line.up = Cutting(self._random.randrange(200_000))
        await self._while()

    async def _reset(self) -> None:
        for _ in range(self._random.randint(1, 5)):
            self._scene.line.reset(self._random.randrange(10))
            await asyncio.sleep(0.1)

    async def _refuse(self) -> None:
        self._scene.line.refuse()
        self._scene.line.reset()
        await self._while()

    async def _swallow(self) -> None:
        self._scene.line.up = Swallowing()
        self._scene.line.down = Swallowing()
        await self._while()

    async def _throttle(self) -> None:
        self._scene.line.up = Throttling(self._random.choice((10_000, 100_000, 1_000_000)))
        await self._while()

    async def _delay(self) -> None:
        self._scene.line.up = Delaying(self._random.uniform(0.01, 0.5))
        self._scene.line.down = Delaying(self._random.uniform(0.01, 0.5))
        await self._while()

    async def _slice(self) -> None:
        self._scene.line.up = self._scene.line.down = Slicing()
        await self._while()

    async def _corrupt(self) -> None:
        self._scene.line.up = Corrupting(self._random, 0.05)
        self._scene.line.down = Corrupting(self._random, 0.05)
        await self._while()


def _kill(pid: int, how: signal.Signals = signal.SIGKILL) -> None:
    """Its end may have come meanwhile: a worker that is stopped for long, for one, is killed by its supervisor."""
    with suppress(ProcessLookupError):
        os.kill(pid, how)
