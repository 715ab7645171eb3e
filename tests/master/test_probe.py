"""The master's own question to itself: a line, and an exit code that a restart is decided by."""

import asyncio
import json
import shutil
from pathlib import Path

import pytest

from master import probe
from master.history.reader import Reader
from master.probe import ProbeError, Section, ask, health
from tests.master.running import running
from tests.master.test_tls import authority, files


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "config.json"
    file.write_text("{}")
    return file


class TestSection:
    def test_environment_before_the_file_before_what_is_usual(self, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        config.write_text('{"monitor": {"port": 9000}}')
        assert Section(config, "monitor").get("host", "usual") == "usual"
        assert Section(config, "monitor").get("port", "1") == "9000"
        monkeypatch.setenv("COLLECTOR_MONITOR__PORT", "9001")
        assert Section(config, "monitor").get("port", "1") == "9001"

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(ProbeError, match=r"none\.json: No such file or directory; --config"):
            Section(tmp_path / "none.json", "monitor")

    @pytest.mark.parametrize("content", ["", "{", "[]", '{"monitor": 7}', '{"monitor": null}'])
    def test_a_file_that_somebody_spoils_is_no_reason_to_call_a_program_dead(self, config: Path, content: str) -> None:
        config.write_text(content)
        assert Section(config, "monitor").get("port", "8768") == "8768"


class TestMaster:
    async def test_one_that_runs_and_one_that_ran(self, tmp_path: Path, config: Path) -> None:
        data = tmp_path / "data"
        async with running(data, host="0.0.0.0", allow_plaintext=True):
            announced = (data / "master.json").read_bytes()
            assert await asyncio.to_thread(health, config, data, ready=False) == (0, "ok")
        code, line = health(config, data, ready=False)
        assert (code, line[:8]) == (1, "not up: ")
        assert "master.json" in line
        (data / "master.json").write_bytes(announced)  # as one that was killed leaves it
        code, line = health(config, data, ready=False)
        assert code == 1
        assert line.startswith(f"not up: no answer at 127.0.0.1:{json.loads(announced)['http_port']} (")

    async def test_one_that_cannot_answer_questions_is_up_and_not_ready(
        self, tmp_path: Path, config: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data = tmp_path / "data"
        async with running(data):
            assert await asyncio.to_thread(health, config, data, ready=True) == (0, "ok")
            monkeypatch.setattr(Reader, "is_up", False)
            assert (await asyncio.to_thread(health, config, data, ready=False))[0] == 0
            code, line = await asyncio.to_thread(health, config, data, ready=True)
        assert code == 1
        assert line == "not ready: the process that answers questions is down; wait; it is started again by itself"

    @pytest.mark.skipif(shutil.which("openssl") is None, reason="certificates are made with the openssl command")
    async def test_over_tls_it_believes_the_master_s_own_certificate_alone(
        self, tmp_path: Path, config: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data, ours = tmp_path / "data", authority(tmp_path / "ours")
        pair, other = ours.certify("first"), ours.certify("second")
        async with running(data, **files(pair)):
            monkeypatch.setenv("COLLECTOR_SERVER__TLS_CERT", str(pair[0]))
            assert await asyncio.to_thread(health, config, data, ready=False) == (0, "ok")
            monkeypatch.setenv("COLLECTOR_SERVER__TLS_CERT", str(other[0]))
            code, line = await asyncio.to_thread(health, config, data, ready=False)
            assert code == 1
            assert "CERTIFICATE_VERIFY_FAILED" in line
            monkeypatch.delenv("COLLECTOR_SERVER__TLS_CERT")
            assert (await asyncio.to_thread(health, config, data, ready=False))[0] == 1


@pytest.mark.parametrize("said", [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n<p/>"])
async def test_another_program(said: bytes) -> None:
    async def speak(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        writer.close()

    async with await asyncio.start_server(speak, "127.0.0.1", 0) as server:
        with pytest.raises(ProbeError, match=r"no answer at 127\.0\.0\.1:"):
            await asyncio.to_thread(ask, "", server.sockets[0].getsockname()[1], "/health")


async def test_one_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "ANSWER_WITHIN", 0.05)
    let_go = asyncio.Event()

    async def hang(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await let_go.wait()
        writer.close()

    async with await asyncio.start_server(hang, "127.0.0.1", 0) as server:
        with pytest.raises(ProbeError, match="timed out"):
            await asyncio.to_thread(ask, "0.0.0.0", server.sockets[0].getsockname()[1], "/health")
        let_go.set()
