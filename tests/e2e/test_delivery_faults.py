"""Real programs that are killed, cut off and out of room: everything is stored once and in order, or a gap names it."""

import asyncio
import json
import resource
import subprocess
import sys
from asyncio.subprocess import PIPE
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random

import pytest

from tests.e2e.programs import ROOT
from tests.faults.oracle import Verdict
from tests.faults.proxy import Corrupting, Cutting, Delaying, Slicing, Swallowing, Throttling
from tests.faults.scene import Scene, is_well, scene
from tests.waiting import until

MARKETS, RATE = 20, 2000


async def more_acked(on: Scene, than: int) -> None:
    await on.until(lambda _: on.acked > than + RATE // 4, "it goes on")


def all_of_it(verdict: Verdict, on: Scene) -> None:
    """Nobody died, so that not even a gap is excused."""
    assert verdict.is_good, list(verdict.complaints(on.tape))
    assert verdict.gaps == 0
    assert verdict.stored == verdict.issued > RATE
    assert verdict.acked == verdict.records


async def test_five_kills_of_the_soak(tmp_path: Path) -> None:
    options = ("--seconds", "8", "--rate", str(RATE), "--markets", str(MARKETS), "--kills", "5", "--seed", "4", "--json")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "scripts/soak.py", *options, "--data", str(tmp_path)), cwd=ROOT, stdout=PIPE, stderr=PIPE
    )
    output, said = await process.communicate()
    assert process.returncode == 0, said.decode()
    last = json.loads(output.splitlines()[-1])
    assert list(last) == ["issued", "acked", "stored", "lost", "doubled", "reordered", "gaps", "kills", "rss_growth_mb"]
    assert last["kills"] == 5
    assert last["issued"] == last["stored"] + last["gaps"]


# Networks -----------------------------------------------------------------------------------------------------------------


async def cut(on: Scene) -> None:
    before = on.line.accepted
    on.line.up = Cutting(50_000)
    await until(lambda: on.line.accepted > before + 5, "connections are cut, and made again")


async def swallow(on: Scene) -> None:
    on.line.up = on.line.down = Swallowing()
    await on.until(lambda health: health["waiting"] > RATE // 2, "events wait")


async def refuse(on: Scene) -> None:
    on.line.refuse()
    on.line.reset()
    await on.until(lambda health: not any(each["master_connections"] for each in health["workers"]), "nobody gets through")


async def throttle(on: Scene) -> None:
    on.line.up = Throttling(10_000)
    await on.until(lambda health: health["waiting"] > RATE // 2, "events wait")


async def acknowledge_late(on: Scene) -> None:
    """As a master does whose disk takes its time to sync."""
    on.line.down = Delaying(0.5)
    await on.until(lambda health: health["waiting"] > RATE // 4, "events wait")


async def slice_up(on: Scene) -> None:
    before = on.acked
    on.line.up = on.line.down = Slicing(100)
    await more_acked(on, before)


async def corrupt(on: Scene) -> None:
    on.line.up = corrupting = Corrupting(Random(1), 0.2)
    await until(lambda: corrupting.struck > 20, "bits flip")


async def test_a_bad_network_loses_nothing(tmp_path: Path) -> None:
    async with scene(tmp_path, MARKETS, RATE) as on:
        await on.until(is_well, "everything is connected")
        for fault in (cut, swallow, refuse, throttle, acknowledge_late, slice_up, corrupt):
            await fault(on)
            before = on.acked
            await on.line.heal()
            await more_acked(on, before)
        all_of_it(await on.finish(), on)


# Disks --------------------------------------------------------------------------------------------------------------------


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """A disk of its own, where this user may mount one: whether it is."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)]
    is_mounted = sys.platform == "linux" and subprocess.run(mount, check=False, capture_output=True).returncode == 0
    try:
        yield is_mounted
    finally:
        if is_mounted:
            subprocess.run(["umount", folder], check=True)


def fill(file: Path) -> None:
    with suppress(OSError), file.open("wb", buffering=0) as taking:
        while True:
            taking.write(bytes(4096))


@contextmanager
def largest_file(pid: int, size: int) -> Iterator[None]:
    """No file of that process can grow above `size` meanwhile."""
    soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))


async def no_room(on: Scene, before: int) -> int:
    """Whatever takes the room, the master says so, and takes nothing that it cannot keep: how often it has said so."""
    said = "cannot write; nothing is acknowledged until there is room"
    await until(lambda: len(on.master.logged(said)) > before, "the master says so")
    await on.until(lambda health: health["waiting"] > RATE // 2, "events wait")
    return len(on.master.logged(said))


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="limits of another process need Linux")
async def test_a_master_without_room_loses_nothing(tmp_path: Path) -> None:
    """A file that may not grow; and, where this user may mount one, a disk that another program fills."""
    with small_disk(tmp_path / "data") as is_mounted:
        async with scene(tmp_path, MARKETS, RATE, environment={"COLLECTOR_SERVER__SEGMENT_MB": "64"}) as on:
            await more_acked(on, on.acked)
            with largest_file(on.master.pid, 50_000):  # fewer than the journal has
                said = await no_room(on, 0)
            await more_acked(on, on.acked)
            if is_mounted:
                other = on.on.data / "another program's"
                fill(other)
                await no_room(on, said)
                other.unlink()
            all_of_it(await on.finish(), on)


# Clocks -------------------------------------------------------------------------------------------------------------------

FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)


@pytest.mark.skipif(FAKETIME is None, reason="needs libfaketime (Debian: apt-get install faketime)")
async def test_a_clock_that_jumps_loses_nothing(tmp_path: Path) -> None:
    clock = tmp_path / "clock"
    clock.write_text("+0")
    faked = {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    async with scene(tmp_path, MARKETS, RATE, environment=faked) as on:
        for jump in ("+3h", "-3h", "+0"):
            await more_acked(on, on.acked)
            clock.write_text(jump)
        await more_acked(on, on.acked)
        all_of_it(await on.finish(), on)
        days = on.on.rows("SELECT count(DISTINCT date_trunc('hour', received)) FROM trades")[0][0]
        assert days >= 3, "the clock did jump"


# Twins --------------------------------------------------------------------------------------------------------------------


async def test_of_two_collectors_of_one_name_the_newer_goes_on(tmp_path: Path) -> None:
    async with scene(tmp_path, MARKETS, RATE) as on:
        await more_acked(on, on.acked)
        older = on.collector
        await on.begin_collector("another machine's spool")
        code, _ = await older.ended()
        assert code == 1
        assert older.logged("another process has taken over; this collector ends")
        assert not older.logged("worker ended; will be restarted"), "nor does it fight for its place"
        verdict = await on.finish()
        assert verdict.is_good, list(verdict.complaints(on.tape))
