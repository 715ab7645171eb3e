"""A data directory is copied while its master runs, as docs/operations.md says, and another master goes on from the copy."""

import re
import subprocess
from pathlib import Path
from shutil import which

import pytest

from tests.master.making import STREAM, batch, trade
from tests.master.running import ask, collector, running
from tests.waiting import until

RUNBOOK = Path(__file__).parents[2] / "docs" / "operations.md"


def copied(data: Path, backup: Path) -> None:
    """As the runbook has it, with these two places."""
    (script,) = re.findall(r"```sh\n(rsync .*?)\npython ", RUNBOOK.read_text(), re.DOTALL)
    script = re.sub(r"\bdata/", f"{data}/", script.replace("backup/", f"{backup}/"))
    subprocess.run(("bash", "-euc", script), check=True, timeout=30)


@pytest.mark.skipif(which("rsync") is None, reason="rsync comes with Debian's package of that name")
async def test_a_copy_of_a_running_master_holds_everything_and_goes_on(tmp_path: Path) -> None:
    data, backup = tmp_path / "data", tmp_path / "backup"
    backup.mkdir()
    async with running(data, seals=True, segment_minutes=0.001) as master, collector(master, STREAM) as one:
        await one.send(batch(1, trade(1)))
        await one.acked(STREAM, 1)
        await until(lambda: [*data.glob("lake/trades/*/*.parquet")], "the first trade is sealed")
        await one.send(batch(2, trade(2)))
        await one.acked(STREAM, 2)
        copied(data, backup)
        await one.send(batch(3, trade(3)))
        await one.acked(STREAM, 3)
        copied(data, backup)
    assert ask(backup, "SELECT id FROM trades ORDER BY position") == [("1",), ("2",), ("3",)]
    async with running(backup) as master, collector(master) as one:
        assert await one.hello(STREAM) == {STREAM: 3}, "it knows what it has"
        await one.send(batch(4, trade(4)))
        await one.acked(STREAM, 4)
    assert ask(backup, "SELECT id FROM trades ORDER BY position") == [("1",), ("2",), ("3",), ("4",)]
