"""config.json as the master reads it: every fault in one line that begins with the key's path, and never a secret in it."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from master import settings
from master.auth import PLACEHOLDER_KEY
from master.settings import ConfigError, MasterSettings, load, path

CANARY = "canary-5a1fbb0c"


@pytest.fixture(autouse=True)
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither this machine's environment nor its secret files."""
    for name in ("COLLECTOR_MASTER__KEY", "COLLECTOR_SERVER__PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(settings, "SECRETS", tmp_path / "no-secrets")


def written(folder: Path, content: object) -> Path:
    file = folder / "config.json"
    file.touch(mode=0o600)
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


def faults(source: Path | dict[str, Any], **options: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(MasterSettings, source, **options)
    assert str(caught.value).splitlines() == list(caught.value.lines)
    return list(caught.value.lines)


class TestSources:
    def test_nothing_need_be_said(self) -> None:
        found = load(MasterSettings, {})
        assert (found.master.url, found.server.port, found.server.data) == ("ws://127.0.0.1:8766", 8766, Path("data"))
        assert found.master.key.get_secret_value() == PLACEHOLDER_KEY

    def test_the_collector_s_sections_are_not_the_master_s_business(self, tmp_path: Path) -> None:
        file = written(tmp_path, {"server": {"port": 9000}, "exchanges": "whatever", "debug": 7})
        assert load(MasterSettings, file).server.port == 9000

    def test_options_before_environment_before_secret_files_before_the_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = written(tmp_path, {"master": {"key": "of the file"}})

        def read(**options: Any) -> str:
            return load(MasterSettings, file, **options).master.key.get_secret_value()

        assert read() == "of the file"
        monkeypatch.setattr(settings, "SECRETS", tmp_path)
        (tmp_path / "COLLECTOR_MASTER__KEY").write_text("of the secret\n")
        assert read() == "of the secret"
        monkeypatch.setenv("COLLECTOR_MASTER__KEY", "of the environment")
        assert read() == "of the environment"
        assert read(master={"key": "of the options"}) == "of the options"

    def test_one_key_is_overridden_and_its_neighbours_stay(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLLECTOR_SERVER__PORT", "9001")
        found = load(MasterSettings, written(tmp_path, {"server": {"port": 9000, "retention_days": 3}}))
        assert (found.server.port, found.server.retention_days) == (9001, 3)

    def test_secrets_of_other_programs_are_left_alone(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(settings, "SECRETS", tmp_path)
        (tmp_path / "database_password").write_text("x")
        (tmp_path / "COLLECTOR_MASTER__KEY").write_text("mine")
        assert load(MasterSettings, {}).master.key.get_secret_value() == "mine"

    def test_secrets_as_kubernetes_lays_them_out(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "..2026_01_31").mkdir()
        (tmp_path / "..2026_01_31" / "COLLECTOR_MASTER__KEY").write_text("of the volume")
        (tmp_path / "..data").symlink_to("..2026_01_31")
        (tmp_path / "COLLECTOR_MASTER__KEY").symlink_to("..data/COLLECTOR_MASTER__KEY")
        monkeypatch.setattr(settings, "SECRETS", tmp_path)
        assert load(MasterSettings, {}).master.key.get_secret_value() == "of the volume"

    @pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
    def test_a_secret_that_this_user_may_not_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(settings, "SECRETS", tmp_path)
        (tmp_path / "COLLECTOR_MASTER__KEY").touch(mode=0)
        (line,) = faults({})
        assert line.startswith(f"{tmp_path / 'COLLECTOR_MASTER__KEY'}: Permission denied; ")


class TestFaults:
    @pytest.mark.parametrize(
        ("content", "line"),
        [
            ({"server": {"port": 70000}}, "server.port: input should be less than or equal to 65535, not 70000"),
            (
                {"server": {"port": "abc"}},
                "server.port: input should be a valid integer, unable to parse string as an integer, not 'abc'",
            ),
            ({"server": {"prot": 1}}, "server.prot: unknown key; known here: host, port, http_port, data, segment_mb, "),
            ({"server": {"segment_minutes": 0}}, "server.segment_minutes: input should be greater than 0, not 0"),
            ({"server": {"retention_days": 0}}, "server.retention_days: "),
            ({"server": []}, "server: "),
            ({"master": {"url": "http://x"}}, "master.url: should begin with ws:// or wss://, not 'http://x'"),
            ({"master": {"connections": 0}}, "master.connections: "),
        ],
    )
    def test_a_line_with_the_path(self, content: dict[str, Any], line: str) -> None:
        (found,) = faults(content)
        assert found.startswith(line)

    def test_all_of_them_at_once(self) -> None:
        found = faults({"server": {"port": -1, "retention_gb": 0, "nonsense": 1}, "master": {"connections": 1000}})
        assert sorted(line.partition(":")[0] for line in found) == [
            "master.connections",
            "server.nonsense",
            "server.port",
            "server.retention_gb",
        ]

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        assert faults(tmp_path / "none.json") == [
            f"{tmp_path / 'none.json'}: No such file or directory; --config names the file"
        ]

    def test_a_file_that_is_no_json_is_told_to_the_column(self, tmp_path: Path) -> None:
        (found,) = faults(written(tmp_path, '{"server":\n  {"port": 1,}}'))
        assert f"{tmp_path / 'config.json'}: line 2, column " in found

    @pytest.mark.parametrize("content", ["[]", "null", "7"])
    def test_a_file_that_is_no_object(self, tmp_path: Path, content: str) -> None:
        assert faults(written(tmp_path, content)) == [f"{tmp_path / 'config.json'}: a JSON object is expected"]

    def test_in_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLLECTOR_SERVER__PORT", "many")
        (found,) = faults({})
        assert found.startswith("server.port: ")

    def test_nothing_changes_after_it_was_checked(self) -> None:
        found = load(MasterSettings, {})
        with pytest.raises(ValueError, match="frozen"):
            found.server.port = 1

    @pytest.mark.parametrize(
        ("location", "text"),
        [((), "the file"), (("server",), "server"), (("exchanges", 0, "pairs", "trades", 3), "exchanges[0].pairs.trades[3]")],
    )
    def test_paths_are_written_as_people_write_them(self, location: tuple[int | str, ...], text: str) -> None:
        assert path(location) == text


class TestSecrets:
    """A key that was given is in no message, whatever else is wrong with it or beside it."""

    @pytest.mark.parametrize(
        "master",
        [
            {"key": CANARY, "connections": 0},
            {"key": CANARY, "kex": 1},
            {"Key": CANARY},
            {"key": [CANARY]},
            {"key": {"a": CANARY}},
            {"keys": CANARY},
            {"connections": [CANARY]},
            CANARY,
            [CANARY],
        ],
    )
    def test_in_the_file(self, master: object) -> None:
        assert CANARY not in "\n".join(faults({"master": master}))

    def test_a_key_that_is_a_number(self) -> None:
        assert faults({"master": {"key": 71190551}}) == ["master.key: a text is expected"]

    @pytest.mark.parametrize("name", ["COLLECTOR_MASTER", "COLLECTOR_MASTER__KEY__X", "COLLECTOR_MASTER__KEYS"])
    def test_in_the_environment(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        monkeypatch.setenv(name, CANARY)
        assert CANARY not in "\n".join(faults({}))

    def test_in_what_is_loaded(self) -> None:
        found = load(MasterSettings, {"master": {"key": CANARY}})
        assert CANARY not in f"{found!r} {found} {found.master!r} {found.model_dump_json()}"
        assert found.master.key.get_secret_value() == CANARY

    @pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
    def test_a_key_in_a_file_that_others_can_read_is_refused_with_what_to_do(self, tmp_path: Path, mode: int) -> None:
        file = written(tmp_path, {"master": {"key": CANARY}})
        file.chmod(mode)
        (line,) = faults(file)
        assert line.startswith(f"master.key: others can read {file}; ")
        assert all(way in line for way in ("COLLECTOR_MASTER__KEY", "no-secrets", f"chmod 600 {file}"))
        assert CANARY not in line
        file.chmod(0o600)
        assert load(MasterSettings, file).master.key.get_secret_value() == CANARY

    def test_one_that_is_not_in_use_there_is_no_matter(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        file = written(tmp_path, {"master": {"key": "an old one"}})
        file.chmod(0o644)
        monkeypatch.setenv("COLLECTOR_MASTER__KEY", CANARY)
        assert load(MasterSettings, file).master.key.get_secret_value() == CANARY

    @pytest.mark.parametrize("content", [{}, {"master": {}}, {"master": {"key": PLACEHOLDER_KEY}}])
    def test_the_placeholder_is_no_secret(self, tmp_path: Path, content: dict[str, Any]) -> None:
        file = written(tmp_path, content)
        file.chmod(0o644)
        assert load(MasterSettings, file).master.key.get_secret_value() == PLACEHOLDER_KEY

    def test_an_empty_key_is_none(self) -> None:
        (found,) = faults({"master": {"key": ""}})
        assert found.startswith("master.key: ")
