"""The key ring: two keys of a role at most, a file that nobody else reads, and a master that follows it."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from master import keys
from master.__main__ import main
from master.auth import PLACEHOLDER_KEY, ROLES, join_key, split_key
from master.keys import KeyRing, KeyRingError, make, read, revoke
from tests.master.running import KEY
from tests.waiting import until_now

AT_ONCE = timedelta(0)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return keys.file_in(tmp_path / "data")


class TestFile:
    def test_what_was_made_is_there(self, file: Path) -> None:
        made = make(file, "collector", "Frankfurt", timedelta(days=30))
        assert read(file) == [made]
        assert (made.name, made.state) == ("Frankfurt", "live")
        assert made.expires is not None
        assert 0 <= made.expires - made.created <= 30 * 86_400_000_000

    def test_nobody_else_can_read_it(self, file: Path) -> None:
        before = os.umask(0)
        try:
            make(file, "collector")
            make(file, "collector")
        finally:
            os.umask(before)
        assert file.stat().st_mode & 0o777 == 0o600
        assert sorted(each.name for each in file.parent.iterdir()) == ["keys.json", "keys.lock"]

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
    def test_else_it_is_refused(self, file: Path, mode: int) -> None:
        make(file, "collector")
        file.chmod(mode)
        for attempt in (lambda: read(file), lambda: make(file, "admin"), lambda: KeyRing(file, KEY)):
            with pytest.raises(KeyRingError, match="others can read the keys; chmod 600"):
                attempt()

    def test_one_that_was_killed_while_it_wrote_is_in_nobody_s_way(self, file: Path) -> None:
        first = make(file, "collector")
        file.with_suffix(".writing").write_text("{")
        assert read(file) == [first]
        second = make(file, "collector")
        assert read(file) == [first, second]

    @pytest.mark.parametrize("content", ["", "{", "[]", '{"keys": [{"id": "k1"}]}', '{"keys": [{"id": 1, "key": "canary"}]}'])
    def test_what_is_no_key_ring_is_left_as_it_is(self, file: Path, content: str) -> None:
        file.parent.mkdir()
        file.touch(mode=0o600)
        file.write_text(content)
        with pytest.raises(KeyRingError, match=r"is no key ring .*; restore it, or move it away") as caught:
            make(file, "collector")
        assert "canary" not in str(caught.value)
        assert file.read_text() == content

    def test_a_folder_that_cannot_be_written_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "data").touch()
        with pytest.raises(KeyRingError, match=r"data/keys\.json: cannot be written"):
            make(keys.file_in(tmp_path / "data"), "collector")

    def test_many_at_once_lose_nothing(self, file: Path) -> None:
        with ThreadPoolExecutor(6) as pool:
            made = list(pool.map(lambda number: make(file, ROLES[number % 3]), range(6)))
        assert sorted(each.id for each in read(file)) == sorted(each.id for each in made)


class TestRotation:
    def test_a_third_live_key_of_a_role_is_refused_with_what_to_do(self, file: Path) -> None:
        first, second = make(file, "collector"), make(file, "collector")
        with pytest.raises(KeyRingError, match=rf"two live keys, {first.id} and {second.id}; .* keys revoke {first.id}"):
            make(file, "collector")
        make(file, "admin")
        revoke(file, first.id)
        make(file, "collector")
        assert [each.state for each in read(file)] == ["revoked", "live", "live", "live"]

    def test_an_expired_one_makes_room(self, file: Path) -> None:
        for _ in range(3):
            assert make(file, "collector", "", AT_ONCE).state == "expired"

    def test_a_revoked_one_is_forgotten_but_for_its_name(self, file: Path) -> None:
        made = make(file, "consumer", "dashboards")
        assert revoke(file, made.id).state == "revoked"
        assert made.key not in file.read_text()
        (kept,) = read(file)
        assert (kept.id, kept.name, kept.key) == (made.id, "dashboards", "")
        assert revoke(file, made.id) == kept, "twice is once"

    def test_a_key_that_is_not_there(self, file: Path) -> None:
        make(file, "collector")
        with pytest.raises(KeyRingError, match=r"there is no key k0 .*keys list shows them"):
            revoke(file, "k0")


class TestRing:
    def test_a_key_is_for_its_role_alone(self, file: Path) -> None:
        made = {role: make(file, role) for role in ROLES}
        ring = KeyRing(file, KEY)
        for role, key in made.items():
            assert [asked for asked in (*ROLES, "owner", "") if ring.secret(key.id, asked)] == [role]
            assert ring.secret(key.id, role) == key.key

    def test_the_shared_one_is_for_all_there_are(self, file: Path) -> None:
        ring = KeyRing(file, KEY)
        assert [asked for asked in (*ROLES, "owner", "") if ring.secret("", asked)] == list(ROLES)

    def test_revoked_expired_and_unknown_keys_have_no_secret(self, file: Path) -> None:
        gone, late = make(file, "collector"), make(file, "collector", "", AT_ONCE)
        revoke(file, gone.id)
        ring = KeyRing(file, KEY)
        assert [ring.secret(kid, "collector") for kid in (gone.id, late.id, "k00000000")] == [None, None, None]
        assert ring.live == []

    def test_follows_its_file(self, file: Path) -> None:
        ring = KeyRing(file, KEY)
        assert not ring.refresh()
        made = make(file, "collector")
        assert ring.secret(made.id, "collector") is None
        assert ring.refresh()
        assert not ring.refresh()
        assert ring.secret(made.id, "collector") == made.key
        revoke(file, made.id)
        assert ring.refresh()
        assert ring.secret(made.id, "collector") is None

    def test_keeps_what_it_had_when_the_file_cannot_be_read(self, file: Path) -> None:
        made = make(file, "collector")
        ring = KeyRing(file, KEY)
        file.chmod(0o644)
        for _ in range(2):
            with pytest.raises(KeyRingError, match="others can read"):
                ring.refresh()
        assert ring.secret(made.id, "collector") == made.key
        file.chmod(0o600)
        make(file, "collector")
        assert ring.refresh()

    def test_a_file_that_is_removed_takes_its_keys_with_it(self, file: Path) -> None:
        made = make(file, "collector")
        ring = KeyRing(file, KEY)
        file.unlink()
        assert ring.refresh()
        assert ring.secret(made.id, "collector") is None

    def test_the_placeholder_ends_with_the_first_key_and_does_not_come_back(self, file: Path) -> None:
        """Everybody knows it: a ring whose keys are all revoked must not open the door again."""
        ring = KeyRing(file, PLACEHOLDER_KEY)
        assert ring.secret("", "collector") == PLACEHOLDER_KEY
        made = make(file, "consumer")
        ring.refresh()
        assert ring.secret("", "collector") is None
        revoke(file, made.id)
        ring.refresh()
        assert ring.secret("", "collector") is None

    def test_a_key_of_the_ring_in_the_configuration_can_be_revoked(self, file: Path) -> None:
        """The master reads the same configuration as its collectors; it must not take their key for the shared one."""
        made = make(file, "collector")
        ring = KeyRing(file, join_key(made.id, made.key))
        revoke(file, made.id)
        ring.refresh()
        assert ring.secret("", "collector") is None
        assert ring.secret(made.id, "collector") is None

    def test_an_id_is_named_only_if_it_is_one(self, file: Path) -> None:
        made = make(file, "collector")
        ring = KeyRing(file, KEY)
        assert ring.describe(made.id) == f"collector key {made.id}, live"
        assert ring.describe("") == "the shared key"
        assert "canary" not in ring.describe("canary")

    def test_no_secret_is_in_any_text_of_it(self, file: Path) -> None:
        made = make(file, "collector")
        ring = KeyRing(file, KEY)
        assert made.key not in f"{made!r} {made} {ring.keys!r} {ring.live}"


class TestCommand:
    def run(self, file: Path, *words: str) -> int:
        return main(["keys", *words, "--data", str(file.parent)])

    def test_a_new_key_is_all_that_stands_on_standard_output(self, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.run(file, "new", "--role", "collector", "--name", "Tokyo", "--expires-days", "2") == 0
        said = capsys.readouterr()
        kid, secret = split_key(said.out.rstrip("\n"))
        (made,) = read(file)
        assert (made.id, made.key, made.name) == (kid, secret, "Tokyo")
        assert kid in said.err
        assert secret not in said.err

    def test_the_list_has_everything_but_keys(self, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
        made = [make(file, "collector", "Tokyo"), make(file, "admin", "", AT_ONCE), make(file, "consumer")]
        revoke(file, made[2].id)
        assert self.run(file, "list") == 0
        said = capsys.readouterr().out
        head, *lines = said.splitlines()
        assert head.split() == ["ID", "ROLE", "STATE", "CREATED", "EXPIRES", "NAME"]
        assert [line.split()[:3] for line in lines] == [
            [made[0].id, "collector", "live"],
            [made[1].id, "admin", "expired"],
            [made[2].id, "consumer", "revoked"],
        ]
        assert lines[0].endswith("never             Tokyo")
        assert not any(each.key in said for each in made)

    def test_revoked(self, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
        made = make(file, "collector")
        assert self.run(file, "revoke", made.id) == 0
        assert "is revoked" in capsys.readouterr().err
        assert read(file)[0].state == "revoked"

    @pytest.mark.parametrize(
        ("words", "code", "said"),
        [
            (["revoke", "k0"], 1, "there is no key k0"),
            (["new", "--role", "collector", "--expires-days", "0"], 2, "--expires-days: at least 1, not 0"),
        ],
    )
    def test_what_is_wrong_is_one_line(
        self, file: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, said: str
    ) -> None:
        assert self.run(file, *words) == code
        assert capsys.readouterr().err.startswith(said)

    def test_a_third_one_prints_none(self, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
        for _ in range(2):
            make(file, "collector")
        assert self.run(file, "new", "--role", "collector") == 1
        said = capsys.readouterr()
        assert said.out == ""
        assert "two live keys" in said.err

    def test_the_file_survives_a_command_that_is_killed(self, file: Path) -> None:
        """Whenever that happens: the ring is the old one or the new one, whole."""
        first = make(file, "admin")
        for _ in range(2):
            command = [sys.executable, "-m", "master", "keys", "new", "--role", "collector", "--data", str(file.parent)]
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
                until_now(lambda: running.poll() is not None or file.with_suffix(".writing").exists(), "the writing")
                running.kill()
            assert read(file)[0] == first
        assert json.loads(file.read_text())["keys"]
