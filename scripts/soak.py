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

The exit status is 1 where anything is lost, doubled, reordered or altered, where a trade that a spool had when something was
killed is not stored as it was received, where more is acknowledged than is stored, where a market does not go on after the last
fault, or where a program hangs, ends by itself or leaves a process behind.
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
WORKERS = 2
LONGEST = 25.0
"""Seconds of a pause or a bad network: longer than any deadline between the programs."""
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
        print(f"{folder}: fewer than {LEAST_FREE >> 30} GB are free, so that old data might go; see --data", file=sys.stderr)
        return 2
    if any(folder.iterdir()):
        print(
            f"{folder}: is not empty, and what an earlier run has stored would be judged with it; see --data", file=sys.stderr
        )
        return 2
    code = 1
    try:
        code = asyncio.run(run(options, folder))
    except* SceneError as failed:
        for error in failed.exceptions:
            print(f"failed: {error}", file=sys.stderr)
    return code


async def run(options: argparse.Namespace, folder: Path) -> int:
    vitals = Vitals()
    async with scene(folder, options.markets, options.rate, WORKERS) as stage:
        agent = Agent(stage, Random(options.seed), min(LONGEST, spacing(options) * 0.9), lambda what: say(stage, what))
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(watch(stage, vitals))
            await harm(options, agent)
            watching.cancel()
        say(stage, "all faults are over")
        verdict = await stage.finish()
        for line in (*vitals.lines(), *(f"WRONG: {each}" for each in verdict.complaints(stage.tape))):
            say(stage, line)
        say(stage, f"faults: {', '.join(f'{name} {count}' for name, count in sorted(agent.done.items()))}")
    print(json.dumps(last_line(verdict, agent.kills, vitals.largest_growth())))
    return 0 if verdict.is_good else 1


def spacing(options: argparse.Namespace) -> float:
    """Seconds from one kill to the next."""
    return float(options.seconds * (1 - 2 * QUIET_SHARE) / max(1, options.kills))


async def harm(options: argparse.Namespace, agent: Agent) -> None:
    """Kills evenly over the time, and meanwhile one bad network after the other, each followed by a good one."""
    quiet, began = options.seconds * QUIET_SHARE, monotonic()
    await asyncio.sleep(quiet)
    async with asyncio.TaskGroup() as tasks:
        if options.kills:
            tasks.create_task(_disturb(agent, began + options.seconds - quiet, spacing(options) / 3))
        for number in range(options.kills):
            await asyncio.sleep(max(0.0, began + quiet + (number + 0.5) * spacing(options) - monotonic()))
            await agent.kill()
    await asyncio.sleep(max(0.0, began + options.seconds - monotonic()))


async def _disturb(agent: Agent, until: float, pause: float) -> None:
    while monotonic() < until:
        await agent.disturb()
        await asyncio.sleep(pause)


async def watch(stage: Scene, vitals: Vitals) -> None:
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
            say(stage, f"{stage.acked:,} acked, {health['waiting']:,} waiting, lost to pressure: {health['losses']}")
        await asyncio.sleep(SAMPLE_EVERY)


def last_line(verdict: Verdict, kills: int, growth: float) -> dict[str, float]:
    counted = {name: getattr(verdict, name) for name in ("issued", "acked", "stored", "lost", "doubled", "reordered", "gaps")}
    return {**counted, "lost": verdict.lost + verdict.altered, "kills": kills, "rss_growth_mb": round(growth, 1)}


def say(stage: Scene, line: str) -> None:
    print(f"{stage.seconds:7.1f} s  {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
