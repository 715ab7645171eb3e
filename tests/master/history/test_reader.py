"""The child that answers: it may be killed, hang or be asked too much, and whoever asks is told; it outlives nobody."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from master.history import reader as reader_module
from master.history.questions import Question, QuestionError
from master.history.reader import MOST_WAITING, BusyError, Reader, ReaderError, SlowError
from master.lake import seal
from tests.e2e.programs import is_alive
from tests.master.making import batch, trade, write_segment
from tests.waiting import PATIENCE, until, until_now

TRADES = Question("trades")


@pytest.fixture
async def idle(tmp_path: Path) -> AsyncIterator[Reader]:
    seal(write_segment(tmp_path / "journal", 1, [batch(1)]), tmp_path / "lake")
    write_segment(tmp_path / "journal", 2, [batch(2)])
    one = Reader(tmp_path)
    yield one
    await one.close()


@pytest.fixture
async def reader(idle: Reader, monkeypatch: pytest.MonkeyPatch) -> Reader:
    """With a child, which it has in a moment although nobody asks."""
    monkeypatch.setattr(reader_module, "READY_AFTER", 0.0)
    idle.start()
    await until(lambda: idle.pid is not None, "a child")
    return idle


async def ids(reader: Reader) -> list[str]:
    return [row["id"] for row in json.loads((await reader.ask(TRADES)).body)["rows"]]


def pid_of(reader: Reader) -> int:
    assert reader.pid is not None
    return reader.pid


async def test_the_first_question_starts_the_child(idle: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "READY_AFTER", 10 * PATIENCE)
    idle.start()
    assert idle.pid is None
    assert await ids(idle) == ["1", "2"]


async def test_it_answers_and_sees_what_comes_and_what_is_wrong(reader: Reader, tmp_path: Path) -> None:
    assert await ids(reader) == ["1", "2"]
    write_segment(tmp_path / "journal", 3, [batch(3)])
    assert await asyncio.gather(*(ids(reader) for _ in range(5))) == [["1", "2", "3"]] * 5
    with pytest.raises(QuestionError) as raised:
        await reader.ask(Question("trades", limit=0))
    assert raised.value.field == "limit"
    large = [trade(number) for number in range(5000)]
    write_segment(tmp_path / "journal", 4, [batch(4, *large)])
    assert (await reader.ask(Question("trades", limit=5000))).rows == 5000, "more than a pipe holds"
    assert os.getpriority(os.PRIO_PROCESS, pid_of(reader)) > os.getpriority(os.PRIO_PROCESS, 0)


async def test_killed_in_the_middle_of_a_question_the_next_one_has_an_answer(reader: Reader) -> None:
    assert await ids(reader) == ["1", "2"]
    first = pid_of(reader)
    os.kill(first, signal.SIGSTOP)
    asking = asyncio.create_task(ids(reader))
    later = asyncio.create_task(ids(reader))
    await asyncio.sleep(0)
    os.kill(first, signal.SIGKILL)
    with pytest.raises(ReaderError, match="ask again"):
        await asking
    assert await later == ["1", "2"]
    assert pid_of(reader) != first
    assert not is_alive(first)


async def test_one_that_dies_again_and_again_is_started_later_and_later(reader: Reader) -> None:
    for _ in range(2):  # the first time it starts again at once
        asking = asyncio.create_task(ids(reader))
        await until(lambda: reader.pid is not None, "a child")
        os.kill(pid_of(reader), signal.SIGKILL)
        with pytest.raises(ReaderError, match="died"):
            await asking
    with pytest.raises(ReaderError, match="starts again in"):
        await ids(reader)


async def test_a_question_that_takes_too_long_is_given_up_and_so_is_the_child(reader: Reader) -> None:
    assert await ids(reader) == ["1", "2"]
    hung = pid_of(reader)
    os.kill(hung, signal.SIGSTOP)
    reader.within = 0.1
    with pytest.raises(SlowError):
        await ids(reader)
    assert not is_alive(hung)
    reader.within = 30.0
    assert await ids(reader) == ["1", "2"]


async def test_what_its_child_did_not_foresee_costs_one_question(reader: Reader, tmp_path: Path) -> None:
    assert await ids(reader) == ["1", "2"]
    pid = pid_of(reader)
    planted = tmp_path / "lake" / "trades" / "date=2025-11-26" / "no number.parquet"
    planted.touch()
    with pytest.raises(ReaderError, match="failed at this: ValueError"):
        await ids(reader)
    planted.unlink()
    assert await ids(reader) == ["1", "2"]
    assert pid_of(reader) == pid


async def test_what_it_did_not_foresee_itself_costs_one_question_and_the_child(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await ids(reader) == ["1", "2"]
    pid = pid_of(reader)
    with monkeypatch.context() as planting:
        planting.setattr(reader_module, "_replies", None)
        with pytest.raises(ReaderError, match="ask again"):
            await ids(reader)
    assert not is_alive(pid), "its next answer would be taken for that of another question"
    assert await ids(reader) == ["1", "2"]


async def test_too_many_questions_are_turned_away_and_the_rest_are_answered(reader: Reader) -> None:
    os.kill(pid_of(reader), signal.SIGSTOP)
    asked = [asyncio.create_task(ids(reader)) for _ in range(MOST_WAITING)]
    await asyncio.sleep(0)
    with pytest.raises(BusyError):
        await reader.ask(TRADES)
    asked[0].cancel()  # it is being answered: its answer is nobody else's
    asked[1].cancel()
    os.kill(pid_of(reader), signal.SIGCONT)
    assert await asyncio.gather(*asked[2:]) == [["1", "2"]] * (MOST_WAITING - 2)


async def test_whoever_waits_at_the_end_is_told(reader: Reader) -> None:
    pid = pid_of(reader)
    asking = [asyncio.create_task(reader.ask(TRADES)) for _ in range(2)]
    await asyncio.sleep(0)
    await reader.close()
    for each in asking:
        with pytest.raises(ReaderError, match="ends"):
            await each
    assert not is_alive(pid)


PARENT = """
import asyncio, sys
from pathlib import Path
from master.history.questions import Question
from master.history.reader import Reader

async def main():
    reader = Reader(Path(sys.argv[1]))
    reader.start()
    asking = asyncio.create_task(reader.ask(Question("trades")))
    while reader.pid is None:
        await asyncio.sleep(0.01)
    print(reader.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.mark.parametrize("state", ["starting", "at work"])
def test_it_does_not_outlive_a_master_that_was_killed(tmp_path: Path, state: str) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        child = int(parent.stdout.readline())
    if state == "at work":
        until_now(lambda: "pyarrow" in Path(f"/proc/{child}/maps").read_text(), "the engine to be loaded")
        os.kill(child, signal.SIGSTOP)  # it cannot notice the end of its pipe
    parent.kill()
    parent.wait()
    until_now(lambda: not is_alive(child), "the child's end")
