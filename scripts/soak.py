"""Runs a venue, a collector and a master under load, kills and disturbs them, and judges what is in the lake at the end.

Real processes: a venue that sends numbered trades whose content is a function of the number, `python -m collector` with two
workers, `python -m master`, and a proxy between them that cuts, swallows, throttles and corrupts. The last line on standard
output says:

  issued     trades that happened from the first to the last one sent to a subscriber, of all markets
  acked      events that the collector counts as acknowledged: its /health, asked twice a second, summed over its lives. What
             was acknowledged in the last moments of a life that was killed is not known, so that the true number is higher.
             Gap records are events too.
  stored     trades in the lake
  lost       trades that are neither stored, with their very content, nor named by a gap record
  doubled    trades that are stored more than once
  reordered  live trades stored behind one of the same market that happened later
  gaps       trades that are not stored, and that a gap record names
  kills      processes killed or stopped
  rss_growth_mb  of the program that grew most: the median of its last third less that of its first, without the first seconds
             of each life

The exit status is 1 where anything is lost, doubled, reordered or altered, where more is acknowledged than is stored, where a
market does not go on after the last fault, or where a program hangs, ends by itself or leaves a process behind.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from random import Random
from shutil import disk_usage
from statistics import median
from time import monotonic

from msgspec import Struct

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.faults.agent import Agent  # noqa: E402 (the project is run from its folder, not installed)
from tests.faults.oracle import Verdict  # noqa: E402
from tests.faults.scene import Scene, SceneError, scene  # noqa: E402

SAMPLE_EVERY = 0.5
REPORT_EVERY = 10.0
WARM_UP = 5.0
"""Seconds of a process's life that do not count for its growth."""
QUIET_SHARE = 0.1
"""Of the time: without faults, at the beginning and at the end."""
LEAST_FREE = 5 << 30


class Sample(Struct, frozen=True):
    at: float
    age: float
    rss_mb: float
    files: int


class Vitals:
    """Memory and file descriptors of every program over time, by its part in the play."""

    def __init__(self) -> None:
        self.samples: dict[str, list[Sample]] = {}
        self._born: dict[int, float] = {}

    def look(self, part: str, pid: int) -> None:
        with suppress(OSError, StopIteration):
            status = (Path("/proc") / str(pid) / "status").read_text().splitlines()
            rss = next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
            files = sum(1 for _ in (Path("/proc") / str(pid) / "fd").iterdir())
            now = monotonic()
            age = now - self._born.setdefault(pid, now)
            self.samples.setdefault(part, []).append(Sample(now, age, rss / 1024, files))

    def growth(self, part: str, what: str) -> float:
        """From the first third of the time to the last, medians; 0 where there is too little to say so."""
        grown = [each for each in self.samples[part] if each.age >= WARM_UP]
        third = len(grown) // 3
        if not third:
            return 0.0
        return float(
            median(getattr(each, what) for each in grown[-third:]) - median(getattr(each, what) for each in grown[:third])
        )

    def largest_growth(self) -> float:
        return max((self.growth(part, "rss_mb") for part in self.samples), default=0.0)

    def lines(self) -> Iterable[str]:
        for part, samples in self.samples.items():
            yield (
                f"{part:12} rss {samples[-1].rss_mb:6.1f} MB (most {max(each.rss_mb for each in samples):6.1f}, "
                f"growth {self.growth(part, 'rss_mb'):+5.1f}), files {samples[-1].files:3d} "
                f"(most {max(each.files for each in samples):3d}, growth {self.growth(part, 'files'):+.0f})"
            )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long faults happen (default: %(default)s)")
    parser.add_argument("--rate", type=int, default=2000, help="trades a second (default: %(default)s)")
    parser.add_argument("--markets", type=int, default=40, help="(default: %(default)s)")
    parser.add_argument("--kills", type=int, default=10, help="processes to kill or stop (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="decides the faults (default: %(default)s)")
    parser.add_argument("--data", type=Path, help="where to keep data and logs (default: a temporary folder)")
    parser.add_argument("--json", action="store_true", help="nothing but the last line on standard output")
    options = parser.parse_args()
    if options.data is None:
        with tempfile.TemporaryDirectory(prefix="soak-") as folder:
            return play(options, Path(folder))
    options.data.mkdir(parents=True, exist_ok=True)
    return play(options, options.data)


def play(options: argparse.Namespace, folder: Path) -> int:
    if disk_usage(folder).free < LEAST_FREE:
        say(f"{folder}: less than {LEAST_FREE >> 30} GB are free; give --data another place, since retention would interfere")
        return 2
    try:
        return asyncio.run(run(options, folder))
    except (SceneError, AssertionError, TimeoutError) as error:
        say(f"failed: {error or type(error).__name__}")
        return 1


async def run(options: argparse.Namespace, folder: Path) -> int:
    vitals = Vitals()
    async with scene(folder, options.markets, options.rate) as stage:
        agent = Agent(
            stage, Random(options.seed), longest=max(0.5, options.seconds * (1 - 2 * QUIET_SHARE) / (options.kills + 1) / 3)
        )
        watching = asyncio.create_task(watch(stage, agent, vitals))
        try:
            await harm(options, agent)
            watching.cancel()
            verdict = await stage.finish()
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
    for line in (*vitals.lines(), *(f"WRONG {each}" for each in verdict.examples)):
        say(line)
    say(f"faults: {', '.join(f'{name} {count}' for name, count in sorted(agent.done.items()))}")
    if verdict.acked > verdict.records:
        say(f"WRONG {verdict.acked} acknowledged, {verdict.records} in the lake")
    print(json.dumps(last_line(verdict, agent.kills, vitals.largest_growth())))
    return 0 if verdict.is_good else 1


async def harm(options: argparse.Namespace, agent: Agent) -> None:
    """By turns a kill and a bad network, evenly over the time."""
    began, quiet = monotonic(), options.seconds * QUIET_SHARE
    space = (options.seconds - 2 * quiet) / max(1, options.kills)
    for number in range(options.kills):
        await asyncio.sleep(max(0.0, began + quiet + number * space - monotonic()))
        say(f"{monotonic() - began:6.1f} s  {await agent.kill()}")
        await asyncio.sleep(max(0.0, began + quiet + (number + 0.5) * space - monotonic()))
        say(f"{monotonic() - began:6.1f} s  {await agent.disturb()}")
    await asyncio.sleep(max(0.0, began + options.seconds - monotonic()))


async def watch(stage: Scene, agent: Agent, vitals: Vitals) -> None:
    """Look at all programs twice a second, and tell a person now and then."""
    said = monotonic()
    while True:
        health = await stage.health()
        vitals.look("master", stage.master.pid)
        vitals.look("supervisor", stage.collector.pid)
        for number, worker in enumerate(health["workers"] if health else ()):
            if worker["pid"]:
                vitals.look(f"worker {number}", worker["pid"])
        if health and monotonic() - said >= REPORT_EVERY:
            said = monotonic()
            say(f"         {stage.acked:,} acked, {health['waiting']:,} waiting, lost to pressure: {health['losses']}")
        await asyncio.sleep(SAMPLE_EVERY)


def last_line(verdict: Verdict, kills: int, growth: float) -> dict[str, float]:
    counted = {name: getattr(verdict, name) for name in ("issued", "acked", "stored", "lost", "doubled", "reordered", "gaps")}
    return {**counted, "lost": verdict.lost + verdict.altered, "kills": kills, "rss_growth_mb": round(growth, 1)}


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
