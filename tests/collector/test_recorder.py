"""What is recorded reads back, within its bounds, and a disk that refuses is nobody's end."""

from pathlib import Path

import pytest

from adapters.decode import Line, read
from collector import recorder
from collector.recorder import Recorder
from tests.disk import room_for
from tests.hearing import logs

REFUSED = "nothing more is recorded of this connection"


def recorded(path: Path) -> list[Line]:
    return list(read(path.read_text().splitlines()))


def test_what_is_recorded_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "raw" / "one.ndjson"
    made = Recorder(path)
    made.line("connect", None, url="wss://venue.example/ws")
    made.line("send", '{"op":"subscribe"}')
    made.line("recv", b'{"a":1}')
    made.line("recv", b"\x1f\x8b\xff")
    made.line("http", b"[]", url="https://venue.example/book", status=200)
    made.close()
    lines = recorded(path)
    assert [line.kind for line in lines] == ["connect", "send", "recv", "recv", "http"]
    assert [line.data for line in lines[2:]] == [b'{"a":1}', b"\x1f\x8b\xff", b"[]"]


def test_it_takes_no_more_than_two_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "MAX_BYTES", 1000)
    path = tmp_path / "one.ndjson"
    made = Recorder(path)
    for number in range(100):
        made.line("recv", b"%d" % number)
        made.flush()
    made.close()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["one.ndjson", "one.ndjson.1"]
    kept = [line.data for each in (tmp_path / "one.ndjson.1", path) for line in recorded(each)]
    assert kept == [b"%d" % number for number in range(100 - len(kept), 100)], "the newest, none of them missing"


def test_a_full_disk_ends_the_recording_and_is_said_once(tmp_path: Path) -> None:
    made = Recorder(tmp_path / "one.ndjson")
    with logs() as said, room_for(1000):
        for _ in range(100):
            made.line("recv", b"x" * 100)
            made.flush()
        made.close()
    assert [line["event"] for line in said] == [REFUSED]


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "raw").write_text("in the way")
    with logs() as said:
        made = Recorder(tmp_path / "raw" / "one.ndjson")
        made.line("recv", b"{}")
        made.close()
    assert [line["event"] for line in said] == [REFUSED]
