"""The master as a whole: how it starts, why it may refuse to, and how it ends."""

import asyncio
import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from master import keys, service
from master.__main__ import main
from master.auth import PLACEHOLDER_KEY, join_key
from master.journal import recover
from master.segments import SegmentWriter, path_of, segments_in
from master.service import Sealer, StartError, run
from master.settings import ConfigError, MasterSettings, load
from tests.hearing import events, logs
from tests.master.making import STREAM, batch, write_segment
from tests.master.running import (
    FOR_EVER,
    Process,
    address,
    ask,
    becomes_taken,
    collector,
    configuration,
    ids,
    process,
    reader_of,
    running,
)
from tests.waiting import PATIENCE, until, until_now


async def start(data: Path, **server: Any) -> None:
    """Start a master that is expected not to come up."""
    async with asyncio.timeout(PATIENCE):
        await run(load(MasterSettings, configuration(data, **server)), asyncio.Event())


class TestStart:
    async def test_it_leaves_word_where_it_listens_and_takes_it_back(self, data: Path) -> None:
        async with running(data) as found:
            assert found.pid == os.getpid()
            assert (await found.health())["status"] == "ok"
        assert address(data) is None

    async def test_the_placeholder_key_is_for_this_machine_only(self, data: Path) -> None:
        config = configuration(data, host="0.0.0.0", allow_plaintext=True)
        config["master"]["key"] = PLACEHOLDER_KEY
        with pytest.raises(ConfigError, match="the placeholder") as caught:
            async with asyncio.timeout(PATIENCE):
                await run(load(MasterSettings, config), asyncio.Event())
        (line,) = caught.value.lines
        assert line.startswith("server.host: 0.0.0.0")
        assert not data.exists(), "and nothing was begun"

    @pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
    async def test_where_it_is_good_for_a_try(self, data: Path, host: str) -> None:
        config = configuration(data, host=host)
        config["master"]["key"] = PLACEHOLDER_KEY
        stop = asyncio.Event()
        serving = asyncio.create_task(run(load(MasterSettings, config), stop))
        await until(lambda: serving.done() or address(data))
        stop.set()
        await serving

    async def test_two_masters_on_one_data_directory(self, data: Path) -> None:
        async with running(data):
            with pytest.raises(StartError, match="another master is using this data directory; stop it, or give --data"):
                await start(data)
            assert address(data) is not None, "the first one is as it was"
        async with running(data):
            pass

    @pytest.mark.parametrize("key", ["port", "http_port"])
    async def test_a_port_in_use_is_named_with_its_key(self, data: Path, tmp_path: Path, key: str) -> None:
        async with running(tmp_path / "first") as first:
            port = getattr(first, key)
            with pytest.raises(StartError, match=rf"127\.0\.0\.1:{port} is in use: .* set server\.{key} to another port"):
                await start(data, **{key: port})

    async def test_an_address_that_is_not_ours(self, data: Path) -> None:
        with pytest.raises(StartError, match=r"192\.0\.2\.1:0 cannot be listened on .*; see server\.host and server\.port"):
            await start(data, host="192.0.2.1", allow_plaintext=True)

    async def test_a_directory_that_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(
            StartError, match=r"cannot be used .*; make it readable and writable, or give --data another directory"
        ):
            await start(tmp_path / "file" / "data")

    async def test_a_disk_that_is_full_already(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(SegmentWriter, "__init__", full)
        with pytest.raises(StartError, match=r"cannot be used \(No space left on device\)"):
            await start(data)

    async def test_a_journal_that_cannot_be_read(self, data: Path) -> None:
        path_of(data / "journal", 1).mkdir(parents=True)
        with pytest.raises(StartError, match="Is a directory"):
            await start(data)

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["--config", "nowhere.json"], "nowhere.json: No such file or directory; --config names the file\n"),
            (["--config", "config.json", "--data", "config.json/x"], "config.json/x: cannot be used (Not a directory)"),
        ],
    )
    def test_on_the_command_line_it_is_one_message_and_code_2(
        self,
        tmp_path: Path,
        arguments: list[str],
        said: str,
        monkeypatch: pytest.MonkeyPatch,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Path("config.json").touch(mode=0o600)
        Path("config.json").write_text(json.dumps(configuration(tmp_path / "data")))
        monkeypatch.setattr("master.log._configure_structlog", lambda _: None)
        assert main(arguments) == 2
        heard = capfd.readouterr().err
        assert heard.startswith(said)
        assert "Traceback" not in heard


class TestRestart:
    async def test_only_a_first_life_asks_nothing_about_what_was_before(self, data: Path) -> None:
        async with running(data) as found, collector(found, STREAM) as one:
            await one.send(batch(1))
            await one.acked(STREAM, 1)
            await found.health()
            assert not reader_of(data)
        async with running(data):
            await until(lambda: reader_of(data), "it to ask what was before")

    async def test_everything_is_there_once_and_goes_on(self, data: Path) -> None:
        for life in range(3):
            async with running(data) as found, collector(found, STREAM) as one:
                await one.send(*(batch(seq) for seq in range(1, 10 * life + 11)))
                await one.acked(STREAM, 10 * life + 10)
        assert ids(data) == list(range(1, 31))
        assert recover(data / "journal").marks == {STREAM: 30}

    async def test_a_torn_tail_is_wanted_again(self, data: Path) -> None:
        path = write_segment(data / "journal", 1, [batch(1)])
        path.write_bytes(path.read_bytes() + batch(2).data[:-5])
        with logs() as said:
            async with running(data) as found, collector(found) as one:
                assert await one.hello(STREAM, oldest=2) == {STREAM: 1}
                await one.send(batch(2))
                await one.acked(STREAM, 2)
        assert ids(data) == [1, 2]
        assert "torn tail cut" in events(said)

    async def test_a_journal_that_is_gone_is_a_gap(self, data: Path) -> None:
        async with running(data) as found, collector(found) as one:
            await one.hello(STREAM, oldest=8)
            await one.send(batch(8))
            await one.acked(STREAM, 8)
        assert ask(data, "SELECT first_missing, last_missing FROM gaps") == [("1", "7")]


class TestSealing:
    async def test_closed_segments_become_parquet_while_it_runs(self, data: Path) -> None:
        async with running(data, seals=True, segment_minutes=0.05 / 60) as found, collector(found, STREAM) as one:
            for seq in range(1, 6):
                await one.send(batch(seq))
                await one.acked(STREAM, seq)
            only_one = "all but the open segment gone, and everything in the lake"
            await until(lambda: len(segments_in(data / "journal")) == 1 and ids_in_lake(data) == [1, 2, 3, 4, 5], only_one)
            assert ids(data) == [1, 2, 3, 4, 5]
        assert recover(data / "journal").marks == {STREAM: 5}, "the newest segment alone knows how far the stream is"

    async def test_what_an_earlier_life_left_is_sealed(self, data: Path) -> None:
        write_segment(data / "journal", 1, [batch(1)])
        async with running(data, seals=True):
            await until(lambda: ids_in_lake(data) == [1], "the old segment in the lake")
        assert ids(data) == [1]

    async def test_what_cannot_be_sealed_stays_and_is_said(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_segment(data / "journal", 1, [batch(1)])
        (data / "lake").mkdir()
        (data / "lake" / "trades").write_text("in the way")
        monkeypatch.setattr(service, "SEAL_RETRY", 0.01)
        with logs() as said:
            async with running(data, seals=True):
                await until(lambda: "cannot seal; the segments stay in the journal" in events(said), "a complaint")
                (data / "lake" / "trades").unlink()
                await until(lambda: ids_in_lake(data) == [1], "the second try")
        assert ids(data) == [1]

    async def test_where_no_process_can_be_had_it_is_tried_again(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_segment(data / "journal", 1, [batch(1)])
        monkeypatch.setattr(service, "SEAL_RETRY", 0.01)
        with logs() as said, monkeypatch.context() as patch:
            patch.setattr(sys, "executable", str(data / "nothing"))
            async with running(data, seals=True):
                await until(lambda: "cannot seal; the segments stay in the journal" in events(said), "a complaint")
                patch.undo()
                await until(lambda: ids_in_lake(data) == [1], "the next try")

    async def test_only_what_is_not_sealed_yet_is_handed_over(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        one, two = path_of(data / "journal", 1), path_of(data / "journal", 2)
        asked: list[list[Path]] = []

        async def tidy(_: Sealer, segments: list[Path]) -> bool:
            asked.append(segments)
            return len(asked) != 2  # the second try fails

        monkeypatch.setattr(Sealer, "_tidy", tidy)
        monkeypatch.setattr(service, "SEAL_RETRY", 0.01)
        sealer = Sealer(load(MasterSettings, configuration(data)), [one])
        sealing = asyncio.create_task(sealer.run())
        await until(lambda: len(asked) == 1)
        sealer.add(two)
        await until(lambda: len(asked) == 3)
        sealing.cancel()
        assert asked == [[one], [two], [two]]


def ids_in_lake(data: Path) -> list[int]:
    """Of what is Parquet already."""
    lake = str(data / "lake" / "trades" / "*" / "*.parquet")
    if not list((data / "lake" / "trades").glob("*/*.parquet")):
        return []
    return [int(found) for (found,) in ask(data, f"SELECT id FROM read_parquet('{lake}') ORDER BY position")]


def test_the_master_itself_loads_none_of_the_libraries_that_read_the_lake() -> None:
    """They are its children's: of a master that has just begun they would be half the memory, and a third of its start."""
    code = "import sys, master.service; print(*{'pyarrow', 'numpy', 'duckdb', 'nats'} & set(sys.modules))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.split() == []


class TestTidy:
    """The child that seals; also a command that a person may give at any time."""

    def tidy(self, data: Path, *segments: Path, days: int = FOR_EVER) -> int:
        return main(["tidy", "--data", str(data), f"--days={days}", "--bytes=1000000000", *map(str, segments)])

    def test_the_newest_segment_stays(self, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """It has the marks of all streams, and a running master writes to it."""
        older = write_segment(data / "journal", 1, [batch(1)])
        newest = write_segment(data / "journal", 2, [batch(2)], {STREAM: 1})
        assert self.tidy(data, older, newest) == 0
        assert segments_in(data / "journal") == [newest]
        assert "the newest segment stays" in capsys.readouterr().err
        assert ids(data) == [1, 2]

    def test_a_segment_that_is_sealed_already_is_passed_over(self, data: Path) -> None:
        older = write_segment(data / "journal", 1, [batch(1)])
        write_segment(data / "journal", 2, [batch(2)], {STREAM: 1})
        for _ in range(2):
            assert self.tidy(data, older) == 0
        assert ids(data) == [1, 2]

    def test_days_that_are_over_go(self, data: Path) -> None:
        older = write_segment(data / "journal", 1, [batch(1)])
        write_segment(data / "journal", 2, [batch(2)], {STREAM: 1})
        assert self.tidy(data, older, days=1) == 0, "the trades of these tests are older than that"
        assert ids(data) == [2]

    def test_two_at_once_take_turns(self, data: Path) -> None:
        """The child of a master that was killed may be at work when its successor's begins."""
        older = write_segment(data / "journal", 1, [batch(1)])
        write_segment(data / "journal", 2, [batch(2)], {STREAM: 1})
        command = [
            sys.executable,
            "-m",
            "master",
            "tidy",
            "--data",
            str(data),
            f"--days={FOR_EVER}",
            "--bytes=1000000000",
            str(older),
        ]
        with (data / "tidy.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with subprocess.Popen(command) as second:
                until_now(lambda: waits_for_a_lock(second.pid), "the second one waiting")
                assert older.exists()
                fcntl.flock(lock, fcntl.LOCK_UN)
                assert second.wait(PATIENCE) == 0
        assert ids(data) == [1, 2]


def waits_for_a_lock(pid: int) -> bool:
    """As the system lists those who wait: `1: -> FLOCK  ADVISORY  WRITE <pid> ...`."""
    return any("->" in line and f" {pid} " in line for line in Path("/proc/locks").read_text().splitlines())


class TestProcess:
    def test_asked_to_end_it_ends_well(self, data: Path) -> None:
        with process(data) as (started, _):
            code, said = started.end()
        assert code == 0
        assert '"event": "ended"' in said
        assert "Traceback" not in said
        assert address(data) is None

    def test_a_hangup_is_a_look_at_the_keys_and_no_end(self, data: Path) -> None:
        with process(data) as (started, found):
            made = keys.make(keys.file_in(data), "collector")
            started.popen.send_signal(signal.SIGHUP)
            asyncio.run(becomes_taken(found, join_key(made.id, made.key)))
            code, said = started.end()
        assert code == 0
        assert f'"live": ["{made.id}"]' in said
        assert made.key not in said

    def test_killed_it_leaves_nothing_in_the_way(self, data: Path) -> None:
        with process(data) as (started, first):
            started.kill()
            assert address(data) == first, "its last word lies there still"
        with process(data) as (again, second):
            assert second.pid != first.pid
            assert again.end()[0] == 0

    def test_a_second_one_says_why_it_does_not_start(self, data: Path) -> None:
        with process(data):
            second = Process(data, configuration(data))
            code, said = second.ended()
        assert code == 2
        assert said.splitlines()[-1].endswith("stop it, or give --data another one")
        assert "Traceback" not in said
